// Where the reader is, in the fragment of the address: `#names?ns=team&in=routes%2F&name=routes%2Fa`.

import { query } from "./api.js";

export const VIEWS = ["names", "watchers", "cluster", "leases", "activity"];

/** The place that the address names. */
export function place() {
  const [view, rest] = location.hash.slice(1).split("?", 2);
  const parameters = new URLSearchParams(rest ?? "");
  return {
    view: VIEWS.includes(view) ? view : "names",
    namespace: parameters.get("ns") ?? "",
    in: parameters.get("in") ?? "",
    name: parameters.get("name") ?? undefined,
  };
}

/** The address of a place. */
export function link(view, { namespace, in: within, name } = {}) {
  const rest = query({ ns: namespace || undefined, in: within || undefined, name });
  return `#${view}${rest ? `?${rest}` : ""}`;
}

export function go(view, to) {
  location.hash = link(view, to);
}
