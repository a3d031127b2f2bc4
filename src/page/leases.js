// The leases that are held, with their time to live.

import { askJson, may, query, readable, within } from "./api.js";
import { cell, el, empty, fill, head } from "./dom.js";
import { ago, now, number, until, visible } from "./text.js";
import { releaseDialog } from "./write.js";

const EVERY_MS = 1000;
const MOST = 500;

export function leasesView(main, route) {
  const { namespace } = route;
  const ended = new AbortController();
  let drawn = "";
  const body = el("div", {}, el("p", { class: "loading" }, "Loading…"));
  fill(main, el("section", { class: "card page", "aria-label": "Leases" },
    el("div", { class: "bar" }, el("h1", {}, "Leases")), body));

  async function load() {
    try {
      const parts = await Promise.all(readable(namespace).map((prefix) => askJson(
        `${within(namespace, "leases")}?${query({ prefix })}`, { signal: ended.signal })));
      show(parts.flatMap((part) => part.leases));
    } catch (error) {
      if (error.name === "AbortError") return;
      drawn = "";
      fill(body, el("p", { class: "fault", role: "alert" }, error.message));
    }
  }

  function show(leases) {
    const at = now();
    // a renewal moves the end only, so that nothing is drawn again under the hand of its reader
    const key = JSON.stringify(leases.map(({ expires_in_ms: _, ...rest }) => rest)) || "none";
    if (key === drawn) {
      for (const lease of leases) {
        const row = body.querySelector(`[data-key="${CSS.escape(keyOf(lease))}"] .until`);
        if (row) row.dataset.until = String(at + lease.expires_in_ms);
      }
      return;
    }
    drawn = key;
    if (leases.length === 0) {
      fill(body, empty("No lease is held", "A lease is a lock that expires. To hold one while a command runs:",
        `vwatch lock${namespace ? ` --namespace ${namespace}` : ""} deploy/site -- sleep 60`));
      return;
    }
    fill(body, el("table", { class: "rows" },
      head("Path", "Holder", "Ends in", "Held since", "Waiting", el("span", { class: "sr" }, "Actions")),
      el("tbody", {}, leases.slice(0, MOST).map((lease) => row(lease, at)))),
    leases.length > MOST && el("p", { class: "muted" }, `and ${number(leases.length - MOST)} more`));
  }

  const keyOf = (lease) => `${lease.token} ${lease.path}`;

  function row(lease, at) {
    const slots = lease.slots ? `${lease.claim} of ${lease.slots} slots` : "";
    return el("tr", { "data-ttl": "", "data-key": keyOf(lease) },
      cell("Path", el("strong", {}, visible(lease.path || "all names")),
        lease.prefix && el("span", { class: "tag" }, "and below"), slots && el("span", { class: "tag" }, slots)),
      cell("Holder", lease.holder ? visible(lease.holder) : el("span", { class: "muted" }, "no label")),
      cell("Ends in", until(at + lease.expires_in_ms)),
      cell("Held since", ago(Date.parse(lease.since))),
      cell("Waiting", el(lease.waiting > 0 ? "strong" : "span", { class: "num" }, number(lease.waiting))),
      cell("", may("lease", namespace, lease.path) && el("button", {
        type: "button", class: "small release",
        onclick: () => releaseDialog({ namespace, lease }).then(load),
      }, "Release")));
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
