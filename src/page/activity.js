// What happens now: the stream of changes, with its rates.

import { el, empty, fill } from "./dom.js";
import { feed, onEvents } from "./feed.js";
import { VirtualList } from "./list.js";
import { link } from "./route.js";
import { clock, number, plain, visible } from "./text.js";

/** Most events that are kept, and most seconds of rates. */
const MOST = 5000;
const SECONDS = 60;

// they are kept when the reader looks at another view
const log = [];
const rates = new Array(SECONDS).fill(0);
let second = Math.floor(performance.now() / 1000);

/** Rates are of this page's seconds. */
function tick() {
  const at = Math.floor(performance.now() / 1000);
  for (; second < at; second += 1) {
    rates.shift();
    rates.push(0);
  }
}

onEvents((events) => {
  if (!events) return;
  tick();
  const changes = events.filter((event) => event.type !== "synced");
  rates[SECONDS - 1] += changes.length;
  log.push(...changes.slice(-MOST));
  if (log.length > MOST) log.splice(0, log.length - MOST);
});

/** Forgets what was told of another namespace. */
export function forget() {
  log.length = 0;
  rates.fill(0);
}

export function activityView(main, route) {
  const { namespace } = route;
  let prefix = "";
  let paused = null;
  let rows = [];
  const input = el("input", {
    type: "search", placeholder: "Prefix", "aria-label": "Only names with this prefix", spellcheck: false, id: "filter",
    oninput: () => {
      prefix = input.value;
      draw();
    },
  });
  const pause = el("button", {
    type: "button", "aria-pressed": "false", id: "pause",
    onclick: () => {
      paused = paused ? null : log.slice();
      pause.setAttribute("aria-pressed", String(paused !== null));
      pause.textContent = paused ? "Go on" : "Pause";
      draw();
    },
  }, "Pause");
  const rate = el("p", { class: "sum num", id: "rate" });
  const chart = el("div", { class: "chart", "aria-hidden": "true" }, rates.map(() => el("span")));
  const nothing = el("div", {}, empty("Nothing has happened since this page was opened", "Write something:",
    `vwatch put${namespace ? ` --namespace ${namespace}` : ""} hello "it is $(date)"`));
  const list = new VirtualList({ draw: row, label: "Changes, the newest first" });
  fill(main, el("section", { class: "card page activity", "aria-label": "Activity" },
    el("div", { class: "bar" }, el("h1", {}, "Activity"), input, pause), rate, chart, list.node, nothing));

  function row(at) {
    const event = rows[at];
    const time = el("span", { class: "num muted" }, clock(event.told));
    const kind = event.type === "put" ? (event.refresh ? "refresh" : event.created ? "create" : "update")
      : event.expired ? "end" : event.type;
    const line = el("div", { class: `row event ${kind}`, role: "listitem" }, time, el("span", { class: "kind" }, kind));
    if (event.name !== undefined) {
      const name = event.name.slice(0, 300);
      const href = link("names", { namespace, name: event.name });
      line.append(el("a", { class: "key", href, title: plain(name) }, visible(name)));
    } else line.append(el("span", { class: "key" }, event.reason ?? event.names?.join(", ") ?? ""));
    line.append(el("span", { class: "version" }, visible((event.version ?? "").slice(0, 80))));
    return line;
  }

  function draw() {
    rows = (paused ?? log).filter((event) => (event.name ?? "").startsWith(prefix)).reverse();
    list.update(rows.length);
    list.node.hidden = rows.length === 0;
    nothing.hidden = rows.length > 0;
  }

  function drawRates() {
    tick();
    const most = Math.max(1, ...rates);
    [...chart.children].forEach((bar, at) => {
      bar.style.height = `${Math.round((100 * rates[at]) / most)}%`;
    });
    const minute = rates.reduce((sum, one) => sum + one, 0);
    const state = { lost: " The stream is broken; the browser tries again.", denied: " This token may read no names." };
    rate.textContent = `${number(rates[SECONDS - 2])} changes in the last second, ${number(minute)} in the last minute.`
      + (state[feed.state] ?? "");
  }

  const stop = onEvents((events) => {
    if (events && !paused) draw();
  });
  draw();
  drawRates();
  const timer = setInterval(drawRates, 1000);
  return {
    reload() {},
    end() {
      stop();
      clearInterval(timer);
      list.end();
    },
  };
}
