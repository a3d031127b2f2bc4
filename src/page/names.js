// The names as a tree by `/`, a level at a time, live.

import { ask, may, query, readable, within } from "./api.js";
import { byId, el, empty, fill } from "./dom.js";
import { onEvents } from "./feed.js";
import { VirtualList } from "./list.js";
import { go } from "./route.js";
import { ago, compare, plain, visible } from "./text.js";
import { writeDialog } from "./write.js";

const PAGE = 5000;
const FLASH_MS = 1600;

/** One level: the names and prefixes below a prefix, as far as they were read. */
class Level {
  constructor(prefix) {
    this.prefix = prefix;
    this.items = [];
    this.next = null;
    this.state = "new";
    /** The newest change of each name since the part that is under way was asked for. */
    this.missed = new Map();
  }

  /** Where an item is, or would be. */
  find(key) {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.items[middle].key, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Whether nothing is left below a prefix that was opened. */
const isEmpty = (level) => level?.state === "ready" && !level.next && level.items.length === 0;

const itemOf = (json) => ("name" in json
  ? { key: json.name, version: json.version, at: Date.parse(json["last-sync"]) }
  : { key: json.prefix, isPrefix: true });

export function namesView(main, route) {
  const { namespace } = route;
  const levels = new Map();
  const open = new Set();
  const flashes = new Map();
  const drawn = new WeakMap();
  let rows = [];
  let focused = 0;
  const roots = route.in ? [route.in] : readable(namespace);
  const ended = new AbortController();

  // the levels above a name that is linked to are open
  for (let at = route.name?.indexOf("/") ?? -1; at >= 0 && open.size < 32; at = route.name.indexOf("/", at + 1)) {
    open.add(route.name.slice(0, at + 1));
  }

  const levelOf = (prefix) => {
    let level = levels.get(prefix);
    if (!level) levels.set(prefix, (level = new Level(prefix)));
    return level;
  };

  async function load(level) {
    if (level.state === "loading" || (level.state === "ready" && !level.next)) return;
    const path = level.next ?? `${within(namespace, "versions")}?${query({
      prefix: level.prefix, delimiter: "/", limit: PAGE, "keys-only": "" })}`;
    level.state = "loading";
    try {
      const response = await ask(path, { signal: ended.signal });
      const { versions } = await response.json();
      level.items.push(...versions.map(itemOf));
      level.next = /<([^>]*)>;\s*rel="next"/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
      level.state = "ready";
      for (const event of level.missed.values()) apply(level, event);
    } catch (error) {
      if (error.name === "AbortError") return;
      level.state = "failed";
      level.fault = error.message;
    }
    level.missed.clear();
    flatten();
  }

  /** Makes the rows that stand below each other of the levels that are open. */
  function flatten() {
    rows = [];
    const add = (level, depth) => {
      for (const item of level.items) {
        if (item.isPrefix && isEmpty(levels.get(item.key))) continue;
        rows.push({ item, level, depth });
        if (item.isPrefix && open.has(item.key)) add(levelOf(item.key), depth + 1);
      }
      if (level.state !== "ready" || level.next) rows.push({ more: true, level, depth });
    };
    for (const root of roots) add(levelOf(root), 0);
    focused = Math.min(focused, Math.max(0, rows.length - 1));
    list.update(rows.length);
    const nothing = rows.length === 0;
    none.hidden = !nothing;
    list.node.hidden = nothing;
    count();
  }

  function count() {
    const loaded = rows.filter((row) => row.item && !row.item.isPrefix).length;
    const more = rows.some((row) => row.more);
    tally.textContent = `${loaded.toLocaleString("en")}${more ? "+" : ""} names shown`;
  }

  function draw(at) {
    const { item, level, depth, more } = rows[at];
    const common = {
      class: "row", role: "treeitem", "aria-level": depth + 1, "aria-selected": String(at === focused),
      id: `row-${at}`,
    };
    let row;
    if (more) {
      const text = level.state === "failed" ? level.fault : "Loading…";
      row = el("div", { ...common, class: "row muted" }, el("span", { class: "key" }, text),
        level.state === "failed"
          && el("button", { type: "button", class: "small", onclick: () => load(level) }, "Again"));
    } else {
      const label = item.key.slice(level.prefix.length) || item.key;
      const isOpen = item.isPrefix && open.has(item.key);
      if (item.isPrefix) common["aria-expanded"] = String(isOpen);
      const flash = flashes.get(item.key);
      row = el("div", common,
        el("span", { class: `twist ${item.isPrefix ? (isOpen ? "open" : "shut") : "leaf"}` }),
        el("span", { class: "key", title: plain(item.key.slice(0, 300)) }, visible(label.slice(0, 300))),
        !item.isPrefix && el("span", { class: "version" }, visible((item.version ?? "").slice(0, 80))),
        !item.isPrefix && ago(item.at));
      row.classList.toggle("prefix", Boolean(item.isPrefix));
      row.classList.toggle("chosen", item.key === route.name && !item.isPrefix);
      if (flash) {
        row.classList.add("flash");
        // a row that is drawn again goes on where it was
        row.style.animationDelay = `${Math.round(flash - performance.now())}ms`;
      }
    }
    row.classList.toggle("focused", at === focused && document.activeElement === list.node);
    row.style.setProperty("--depth", String(depth));
    drawn.set(row, rows[at]);
    return row;
  }

  function seen(first, last) {
    for (let at = first; at < Math.min(last, rows.length); at += 1) {
      if (rows[at].more && rows[at].level.state !== "failed") load(rows[at].level);
    }
    list.node.setAttribute("aria-activedescendant", `row-${focused}`);
  }

  function toggle(key, to = !open.has(key)) {
    if (to) {
      open.add(key);
      load(levelOf(key));
    } else open.delete(key);
    flatten();
  }

  /** Opens what a row is: by its own, because the rows above it may have changed since it was drawn. */
  function choose({ item, level, more }) {
    if (more) return load(level);
    const at = rows.findIndex((row) => row.item === item);
    if (at >= 0) focused = at;
    if (item.isPrefix) toggle(item.key);
    else go("names", { ...route, name: item.key });
  }

  const moves = {
    ArrowDown: () => focused + 1, ArrowUp: () => focused - 1, Home: () => 0, End: () => rows.length - 1,
    PageDown: () => focused + list.page(), PageUp: () => focused - list.page(),
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { item, depth } = rows[focused] ?? {};
    if (moves[event.key]) focused = Math.max(0, Math.min(rows.length - 1, moves[event.key]()));
    else if ((event.key === "Enter" || event.key === " ") && rows[focused]) choose(rows[focused]);
    else if (event.key === "ArrowRight" && item?.isPrefix && !open.has(item.key)) toggle(item.key, true);
    else if (event.key === "ArrowRight") focused = Math.min(rows.length - 1, focused + 1);
    else if (event.key === "ArrowLeft" && item?.isPrefix && open.has(item.key)) toggle(item.key, false);
    else if (event.key === "ArrowLeft") {
      while (focused > 0 && rows[focused].depth >= depth && depth > 0) focused -= 1;
    } else return;
    event.preventDefault();
    list.show(focused);
  }

  /** Takes a change over into the levels that were read. */
  function change(event) {
    for (const level of levels.values()) {
      if (level.state === "new" || !event.name.startsWith(level.prefix)) continue;
      // a part that is under way may have been read before it: it is taken over behind that part
      if (level.state === "loading") level.missed.set(event.name, event);
      else apply(level, event);
    }
  }

  function apply(level, event) {
    const { name } = event;
    const slash = name.indexOf("/", level.prefix.length);
    const key = slash < 0 ? name : name.slice(0, slash + 1);
    const at = level.find(key);
    const item = level.items[at]?.key === key ? level.items[at] : null;
    // what is beyond the part that was read comes with the next page
    const isKnown = at < level.items.length || !level.next;
    if (slash < 0 && event.type === "delete") {
      if (item) level.items.splice(at, 1);
    } else if (slash < 0) {
      const fresh = { key, version: event.version, at: event.revision / 1000 };
      if (item) Object.assign(item, fresh);
      else if (isKnown) level.items.splice(at, 0, fresh);
    } else if (!item && isKnown && event.type === "put") level.items.splice(at, 0, { key, isPrefix: true });
    flashes.set(key, performance.now());
  }

  const stop = onEvents((events) => {
    if (!events) return;
    const known = events.filter((event) => event.type === "put" || event.type === "delete");
    if (events.some((event) => event.type === "reset" || event.type === "skipped")) return reload();
    if (known.length === 0) return;
    known.forEach(change);
    flatten();
    setTimeout(() => {
      for (const [key, since] of flashes) if (performance.now() - since >= FLASH_MS) flashes.delete(key);
      list.schedule();
    }, FLASH_MS);
  });

  /** Reads all levels that are open again, for example after a while without a node. */
  function reload() {
    levels.clear();
    flatten();
  }

  const list = new VirtualList({ draw, label: "Names", role: "tree", onSeen: seen });
  list.node.addEventListener("keydown", onKey);
  list.node.addEventListener("focus", () => list.schedule());
  list.node.addEventListener("blur", () => list.schedule());
  list.inner.addEventListener("click", (event) => {
    if (event.target.closest("button")) return;
    // a row that was drawn again between press and release is another element
    const under = () => document.elementFromPoint(event.clientX, event.clientY)?.closest(".row");
    const row = drawn.get(event.target.closest(".row") ?? under());
    if (row) choose(row);
  });
  const tally = el("span", { class: "muted num", id: "tally" });
  const none = el("div", { class: "list", hidden: true }, roots.length === 0
    ? empty("No names for you", "This token may read no names of this namespace.")
    : empty(route.in ? "No names begin so" : "No names yet", "Write one, and it appears here:",
      `vwatch put${namespace ? ` --namespace ${namespace}` : ""} hello world`));
  const prefix = el("input", {
    type: "search", value: route.in, placeholder: "Prefix, such as routes/", spellcheck: false, autocapitalize: "off",
    autocomplete: "off", id: "prefix", "aria-label": "Show names with this prefix",
  });
  const form = el("form", {
    class: "prefix-form", role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      go("names", { ...route, in: prefix.value, name: undefined });
    },
  }, prefix, el("button", { type: "submit" }, "Show"));
  const start = ["", route.in, ...roots].find((one) => one !== undefined && may("write", namespace, one));
  const add = start !== undefined && el("button", {
    type: "button", class: "primary", id: "new-name",
    onclick: () => writeDialog({ namespace, name: route.in || start }),
  }, "New name");
  const tree = el("section", { class: "tree card", "aria-label": "Tree of names" },
    el("div", { class: "bar" }, form, add), list.node, none, el("div", { class: "foot" }, tally,
      el("span", { class: "muted keys" }, "↑ ↓ move · → open · ← close · Enter show")));
  const isWide = route.name === undefined ? "" : "with-name";
  fill(main, el("div", { class: `names ${isWide}` }, tree, el("div", { id: "detail" })));
  flatten();

  return {
    detail: byId("detail"),
    chosen(next) {
      Object.assign(route, next);
      main.firstChild.classList.toggle("with-name", route.name !== undefined);
      list.schedule();
    },
    accepts: (next) => next.namespace === namespace && (next.in ?? "") === (route.in ?? ""),
    reload,
    end() {
      stop();
      ended.abort();
      list.end();
    },
  };
}
