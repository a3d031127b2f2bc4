// The readers that wait: for what, how many, and since when.

import { ask, query, within } from "./api.js";
import { cell, el, empty, fill, head } from "./dom.js";
import { link } from "./route.js";
import { ago, number, visible } from "./text.js";

const PAGE = 200;
const EVERY_MS = 2000;

const FOR = {
  change: "another version than", creation: "a first value", upstream: "the answer of the upstream",
  "last-sync": "a write of at least",
};

export function watchersView(main, route) {
  const { namespace } = route;
  let limit = PAGE;
  let prefix = "";
  let drawn = "";
  const ended = new AbortController();
  const input = el("input", {
    type: "search", placeholder: "Prefix", "aria-label": "Only names with this prefix", spellcheck: false,
    oninput: () => {
      prefix = input.value;
      load();
    },
  });
  const body = el("div", {}, el("p", { class: "loading" }, "Loading…"));
  fill(main, el("section", { class: "card page", "aria-label": "Watchers" },
    el("div", { class: "bar" }, el("h1", {}, "Watchers"), input), body));

  async function load() {
    try {
      const response = await ask(
        `${within(namespace, "watchers")}?${query({ limit, prefix })}`, { signal: ended.signal });
      const text = await response.text();
      const hasMore = response.headers.has("Link");
      // what is the same is not drawn again: a reader may have the focus on it
      if (text + hasMore !== drawn) show(JSON.parse(text).watchers, hasMore);
      drawn = text + hasMore;
    } catch (error) {
      if (error.name === "AbortError") return;
      drawn = "";
      fill(body, el("p", { class: "fault", role: "alert" }, error.message));
    }
  }

  function show(watchers, hasMore) {
    if (watchers.length === 0) {
      fill(body, empty("No reader waits here", "A reader that waits for a name appears at once:",
        `vwatch watch${namespace ? ` --namespace ${namespace}` : ""} hello`));
      return;
    }
    const total = watchers.reduce((sum, one) => sum + one.watchers, 0);
    const most = Math.max(...watchers.map((one) => one.watchers));
    fill(body,
      el("p", { class: "sum" }, el("strong", { class: "num" }, number(total)),
        total === 1 ? " reader waits" : " readers wait",
        ` for ${number(new Set(watchers.map((one) => one.name)).size)} names${hasMore ? ", and there are more" : ""}.`),
      el("table", { class: "rows" }, head("Name", "Waits for", "Readers", "Since"),
        el("tbody", {}, watchers.map((one) => el("tr", {},
          cell("Name",
            el("a", { href: link("names", { namespace, name: one.name }) }, visible(one.name.slice(0, 200)))),
          cell("Waits for", FOR[one.waiting_for] ?? one.waiting_for, " ",
            one.version && el("code", {}, visible(one.version.slice(0, 80))), one.last_sync ?? ""),
          cell("Readers", meter(one.watchers, most)),
          cell("Since", ago(Date.parse(one.since))))))),
      hasMore && el("button", {
        type: "button",
        onclick: () => {
          limit = Math.min(10000, limit * 5);
          load();
        },
      }, "Show more"));
  }

  load();
  const timer = setInterval(() => document.hidden || load(), EVERY_MS);
  return {
    reload: load,
    end() {
      clearInterval(timer);
      ended.abort();
    },
  };
}

function meter(count, most) {
  const bar = el("span", { class: "meter", "aria-hidden": "true" }, el("span"));
  bar.firstChild.style.width = `${Math.max(2, (100 * count) / most)}%`;
  return [el("span", { class: "num" }, number(count)), bar];
}
