// The one stream of changes that all views share: an EventSource on `/v1/watch`.

import { query, readable, within } from "./api.js";
import { now } from "./text.js";

const listeners = new Set();
let source = null;
let waiting = [];
let frame = 0;

/** The state of the stream, and when it was lost in ms. */
export const feed = { state: "closed", since: now(), namespace: "", events: 0 };

/** Calls back with the events of each frame, and with `null` when the state of the stream changes. */
export function onEvents(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = (events) => listeners.forEach((listener) => listener(events));

function become(state) {
  if (feed.state === state) return;
  feed.state = state;
  feed.since = now();
  tell(null);
}

// the events that arrive between two frames are told together: a page that is not seen is told nothing meanwhile
function arrive(event) {
  waiting.push(event);
  if (waiting.length > 20000) waiting.splice(0, 10000, { type: "skipped" });
  if (frame) return;
  frame = document.hidden ? setTimeout(flush, 500) : requestAnimationFrame(flush);
}

function flush() {
  frame = 0;
  const events = waiting;
  waiting = [];
  tell(events);
}

/** Begins to read what changes in a namespace. */
export function follow(namespace) {
  stop();
  feed.namespace = namespace;
  const prefixes = readable(namespace).slice(0, 64);
  if (prefixes.length === 0) return become("denied");
  const mode = namespace.startsWith("log.") ? "all" : "latest";
  const own = new EventSource(
    `${within(namespace, "watch")}?${query({ prefix: prefixes, since: "now", data: "none", mode })}`);
  source = own;
  become("opening");
  own.onopen = () => source === own && become("open");
  own.onerror = () => source === own && become(own.readyState === EventSource.CLOSED ? "refused" : "lost");
  own.onmessage = (message) => {
    if (source !== own) return;
    become("open");
    const event = JSON.parse(message.data);
    if (event.type === "progress") return;
    if (event.type === "error") {
      own.close();
      return become("refused");
    }
    feed.events += 1;
    event.told = now();
    arrive(event);
  };
}

/** Ends the stream. */
export function stop() {
  source?.close();
  source = null;
  become("closed");
}
