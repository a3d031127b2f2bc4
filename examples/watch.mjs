// Watches all names under a prefix at one or more vwatch nodes, and prints a line for each change.
//
//     node watch.mjs PREFIX URL [URL ...]     for example: routes/ http://127.0.0.1:8080
//
// For Node.js 18 or newer, with nothing but what it has. `watch` also runs in Deno, in Bun, and in a browser whose page
// comes from the same origin as the nodes.

const HEARTBEAT = 2; // seconds; a node without news shows that often that it lives
const PATIENCE = (2 * HEARTBEAT + 5) * 1000; // ms without a sign of life until it is left
const MAX_DELETES = 10000; // deletes that are kept, so that names that come and go do not fill the memory

/** Calls changed(name, version, data) for each change; version and data are null for a delete. It never ends. */
export async function watch(prefix, urls, changed) {
  const nodes = urls.map((url) => url.replace(/\/$/, ""));
  // not all clients at the same node
  nodes.push(...nodes.splice(0, Math.floor(Math.random() * nodes.length)));
  // versions and revisions of what is known, and revisions of the last deletes, by name; what is known and not told
  // since the beginning
  const state = { known: new Map(), seen: new Map(), deletes: new Map(), untold: new Set(), cursor: null };
  for (let failures = 0; ; ) {
    let why, retryAfter = 0;
    try {
      ({ why, retryAfter } = await follow(nodes[0], prefix, state, changed, () => (failures = 0)));
    } catch (error) {
      why = error.name === "AbortError" ? "no sign of life" : error.message;
    }
    console.error(`${nodes[0]}: ${why}: trying the next node`);
    nodes.push(nodes.shift());
    const longest = Math.min(5000, 100 * 2 ** Math.min(failures++, 10));
    await new Promise((resume) => setTimeout(resume, retryAfter * 1000 + Math.random() * longest));
  }
}

/** Follows the stream of a node until it ends. */
async function follow(node, prefix, state, changed, isWell) {
  const query = new URLSearchParams({ prefix, heartbeat: `${HEARTBEAT}s`, data: "text" });
  if (state.cursor !== null) query.set("since", state.cursor);
  const giveUp = new AbortController();
  let alarm = setTimeout(() => giveUp.abort(), PATIENCE);
  try {
    const headers = { Accept: "application/x-ndjson" };
    const answer = await fetch(`${node}/v1/watch?${query}`, { headers, signal: giveUp.signal });
    const code = answer.headers.get("x-vwatch-error");
    if (answer.status !== 200 || !answer.headers.get("content-type")?.startsWith(headers.Accept)) {
      if (code === "bad-cursor" || code === "other-scope") beginAgain(state);
      const after = Number(answer.headers.get("retry-after")) || 0;
      await answer.body?.cancel();
      return { why: `status ${answer.status} ${code ?? "and not from a node"}`, retryAfter: Math.min(after, 60) };
    }
    let text = "", events = [];
    for await (const bytes of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
      clearTimeout(alarm);
      alarm = setTimeout(() => giveUp.abort(), PATIENCE);
      const lines = (text + bytes).split("\n");
      text = lines.pop();
      if (text.length > 4 << 20) throw new Error("a line is too long");
      for (const line of lines) {
        const event = JSON.parse(line);
        if (event.type === "error") return { why: event.message, retryAfter: 0 };
        if (event.type !== "progress") {
          events.push(event);
          continue;
        }
        // all events of a write, and then the cursor: what a stream that breaks has told before is told again
        events.forEach((event) => apply(event, state, changed));
        events = [];
        state.cursor = event.cursor;
        isWell();
      }
    }
    return { why: "the node ends the stream", retryAfter: 0 };
  } finally {
    clearTimeout(alarm);
    giveUp.abort();
  }
}

/** The next stream tells all that stands. What it does not tell is gone. */
function beginAgain(state) {
  state.cursor = null;
  state.untold = new Set(state.known.keys());
  state.seen.clear();
  state.deletes.clear();
}

function apply(event, state, changed) {
  const { known, seen, deletes } = state;
  const gone = (name) => known.delete(name) && changed(name, null, null);
  switch (event.type) {
    case "put":
    case "delete":
      state.untold?.delete(event.name);
      // at another node an older state may be told before the newer one arrives there
      if (event.revision < (seen.get(event.name) ?? deletes.get(event.name) ?? 0)) return;
      deletes.delete(event.name);
      if (event.type === "delete") {
        seen.delete(event.name);
        // the newest one is the last one
        deletes.set(event.name, event.revision);
        if (deletes.size > MAX_DELETES) deletes.delete(deletes.keys().next().value);
        gone(event.name);
        break;
      }
      seen.set(event.name, event.revision);
      if (known.get(event.name) !== event.version) {
        known.set(event.name, event.version);
        changed(event.name, event.version, event.data);
      }
      break;
    case "synced":
      state.untold?.forEach(gone);
      state.untold = null;
      break;
    case "reset":
      beginAgain(state);
  }
}

/** The chunks of a stream; not all browsers can iterate over it. */
async function* chunks(stream) {
  const reader = stream.getReader();
  for (let next; !(next = await reader.read()).done; ) yield next.value;
}

if (globalThis.process?.argv?.[1]?.endsWith("watch.mjs")) {
  const [prefix, ...urls] = process.argv.slice(2);
  if (urls.length === 0) {
    console.error("usage: node watch.mjs PREFIX URL [URL ...]");
    process.exit(2);
  }
  await watch(prefix, urls, (name, version, data) => {
    console.log(version === null ? `${name} deleted` : `${name} ${version} ${data}`);
  });
}
