// One name: its data, and its history with the difference of any two versions.

import { askJson, may, pathOf, query } from "./api.js";
import { dataView, decode } from "./data.js";
import { diffTable } from "./diff.js";
import { el, empty, fill } from "./dom.js";
import { onEvents } from "./feed.js";
import { link } from "./route.js";
import { ago, bytes, exact, plain, until, visible } from "./text.js";
import { deleteDialog, revertDialog, writeDialog } from "./write.js";

const PAGE = 64;

export function nameView(node, route) {
  const { namespace, name } = route;
  let entries = [];
  let complete = true;
  let compared = [];
  let shownAt = null;
  let fault = null;
  const ended = new AbortController();

  const read = (before) => askJson(
    `${pathOf(namespace, "history", name)}?${query({ limit: PAGE, before })}`, { signal: ended.signal });

  async function load() {
    try {
      const history = await read();
      entries = history.versions;
      complete = history.complete;
      fault = null;
      const isThere = (revision) => entries.some((entry) => entry.revision === revision);
      compared = compared.filter(isThere);
      if (!isThere(shownAt)) shownAt = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      entries = [];
      fault = error;
    }
    draw();
  }

  async function loadOlder() {
    const older = await read(entries.at(-1).revision).catch(() => null);
    if (!older) return;
    entries = entries.concat(older.versions);
    complete = older.complete || older.versions.length === 0;
    draw();
  }

  function compare(revision) {
    const others = compared.filter((one) => one !== revision);
    compared = compared.includes(revision) ? others : [...others, revision].slice(-2);
    draw();
  }

  const head = () => {
    const present = entries[0];
    const actions = el("div", { class: "actions" },
      may("write", namespace, name) && el("button", {
        type: "button", class: "primary", id: "write",
        onclick: () => writeDialog({ namespace, name, current: decode(present?.data) }),
      }, "Write"),
      may("delete", namespace, name) && present?.type === "put" && el("button", {
        type: "button", id: "delete", onclick: () => deleteDialog({ namespace, name }),
      }, "Delete"));
    return el("div", { class: "name-head" },
      el("a", { class: "back", href: link("names", { namespace, in: route.in }) }, "‹ Names"),
      el("h1", { class: "subject", title: plain(name.slice(0, 500)) }, visible(name)),
      actions);
  };

  const facts = (present) => el("dl", { class: "facts" },
    fact("Version", el("code", {}, visible(present.version))),
    fact("Written", ago(present.revision / 1000)),
    fact("Revision", el("span", { class: "num" }, String(present.revision))),
    present.expires && fact("Ends in", until(present.expires / 1000)));

  const fact = (term, value) => el("div", {}, el("dt", {}, term), el("dd", {}, value));

  const what = (entry) => (entry.type === "delete"
    ? el("span", { class: "gone" }, entry.expired ? "ended" : "deleted")
    : el("code", {}, visible(entry.version.slice(0, 120))));

  function timeline() {
    const items = entries.map((entry, at) => el("li", { class: `${entry.type} ${at === 0 ? "present" : ""}` },
      el("div", { class: "moment" }, what(entry), ago(entry.revision / 1000)),
      el("div", { class: "moment muted" },
        el("span", { class: "num" }, exact(entry.revision / 1000)),
        entry.type === "put" && el("span", { class: "num" }, bytes(decode(entry.data).length))),
      el("div", { class: "moment" },
        entry.type === "put" && el("button", {
          type: "button", class: "small", "aria-pressed": String(shownAt === entry.revision),
          onclick: () => {
            shownAt = shownAt === entry.revision ? null : entry.revision;
            draw();
          },
        }, "Show"),
        el("button", {
          type: "button", class: "small compare", "aria-pressed": String(compared.includes(entry.revision)),
          onclick: () => compare(entry.revision),
        }, "Compare"),
        at > 0 && may(entry.type === "delete" ? "delete" : "write", namespace, name) && el("button", {
          type: "button", class: "small revert",
          onclick: () => revertDialog({ namespace, name, entry, data: decode(entry.data) }),
        }, "Revert")),
      shownAt === entry.revision && entry.type === "put" && dataView(decode(entry.data))));
    return el("section", { class: "card", "aria-label": "History" },
      el("h2", {}, "History"),
      entries.length > 1 && compared.length < 2 && el("p", { class: "muted hint" },
        compared.length === 0 ? "Choose two versions to compare." : "Choose one more."),
      compared.length === 2 && difference(),
      el("ol", { class: "timeline" }, items),
      complete
        ? el("p", { class: "muted hint" }, "Nothing older was dropped.")
        : el("button", { type: "button", class: "small", onclick: loadOlder }, "Look for older ones"));
  }

  function difference() {
    const [old, fresh] = compared
      .map((revision) => entries.find((entry) => entry.revision === revision))
      .sort((a, b) => a.revision - b.revision);
    const title = (entry) => [what(entry), " ", el("span", { class: "muted num" }, exact(entry.revision / 1000))];
    return el("div", { class: "difference", id: "difference" },
      diffTable(decode(old.data), decode(fresh.data), [title(old), title(fresh)]));
  }

  function draw() {
    // what the reader has the focus on is there again afterwards
    const focus = document.activeElement;
    const buttons = () => [...node.querySelectorAll("button, a, pre")];
    const at = node.contains(focus) ? buttons().indexOf(focus) : -1;
    const present = entries[0];
    fill(node, el("article", { class: "name" },
      el("section", { class: "card" }, head(),
        fault && (fault.status === 404
          ? empty("Nothing is kept of this name", "It was never written, or its past is forgotten.")
          : el("p", { class: "fault", role: "alert" }, fault.message)),
        present?.type === "delete" && el("p", { class: "deleted" },
          present.expired ? "This value has ended " : "This name was deleted ", ago(present.revision / 1000), "."),
        present?.type === "put" && [facts(present), dataView(decode(present.data))]),
      entries.length > 0 && timeline()));
    if (at >= 0) buttons()[at]?.focus({ preventScroll: true });
  }

  const stop = onEvents((events) => {
    if (events?.some((event) => event.name === name || event.type === "reset" || event.type === "skipped")) {
      load().then(() => node.firstChild?.classList.add("flash-once"));
    }
  });
  fill(node, el("p", { class: "loading" }, "Loading…"));
  load();
  return {
    reload: load,
    end() {
      stop();
      ended.abort();
    },
  };
}
