// The cluster as this node sees it.

import { askJson, may } from "./api.js";
import { cell, el, empty, fill, head } from "./dom.js";
import { ago, bytes, duration, now, number, visible } from "./text.js";

const EVERY_MS = 1000;

/** The last view of the cluster, and why there is no newer one. */
export const cluster = { view: null, fault: null, at: 0 };

const listeners = new Set();

export function onCluster(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Asks for the view of the cluster, and tells it. */
export async function refreshCluster() {
  if (!may("observe")) {
    cluster.fault = { status: 403, message: "This token may not see the cluster: it needs the verb observe." };
  } else {
    try {
      cluster.view = await askJson("/v1/cluster", { signal: AbortSignal.timeout(5000) });
      cluster.fault = null;
      cluster.at = now();
    } catch (error) {
      cluster.fault = error.status === undefined ? { status: 0, message: "This node does not answer." } : error;
    }
  }
  listeners.forEach((listener) => listener());
}

/** The pages of the other nodes. */
export function otherPages() {
  return (cluster.view?.members.live ?? []).filter((one) => one.server)
    .map((one) => ({ id: one.node_id, href: `${location.protocol}//${one.server}/` }));
}

/** Asks again and again while the page is seen. */
export function watchCluster() {
  refreshCluster();
  setInterval(() => document.hidden || refreshCluster(), EVERY_MS);
}

export function clusterView(main) {
  const body = el("div", { class: "page" });
  fill(main, body);
  const draw = () => {
    if (!cluster.view) {
      fill(body, cluster.fault ? el("p", { class: "fault", role: "alert" }, cluster.fault.message)
        : el("p", { class: "loading" }, "Loading…"));
      return;
    }
    // a link that has the focus keeps it
    const focus = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const { view } = cluster;
    fill(body, el("h1", { class: "sr" }, "Cluster"), sentence(view), nodes(view), tiles(view), heard(view));
    const again = [...body.querySelectorAll("a")].find((one) => focus && one.getAttribute("href") === focus);
    again?.focus({ preventScroll: true });
  };
  const stop = onCluster(draw);
  draw();
  return { reload: refreshCluster, end: stop };
}

/** Whether discovery, gossip and requests see the same nodes, large and in colour. */
function sentence({ agreement, members }) {
  const { dns, gossip, data, agree, sentences } = agreement;
  const dead = members.dead.length;
  const isAlone = agree && gossip === 1 && dns <= 1;
  const kind = agree ? (dead > 0 ? "warn" : "good") : "bad";
  const counts = isAlone ? "This node is alone."
    : `Discovery names ${dns}, gossip sees ${gossip}, ${data} answer: ${agree ? "they agree." : "they do not agree."}`;
  return el("section", { class: `sentence ${kind}`, id: "sentence", role: "status" },
    el("p", { class: "large" }, counts),
    dead > 0 && el("p", {},
      `${dead === 1 ? "One node has" : `${dead} nodes have`} died or left in the last 15 minutes.`),
    sentences.length > 0 && el("ul", {}, sentences.map((one) => el("li", {}, visible(one)))));
}

const short = (digest) => (digest ? `${digest.slice(0, 8)}…` : "");

function nodes({ node, members }) {
  const own = {
    ...node, isOwn: true, same_set: true, lag: 0, clock_offset_us: 0,
    kind: node.standing === "ready" ? "good" : "warn", word: node.standing,
  };
  const live = members.live.map((one) => {
    const isWhole = one.state === "ready" && !one.dirty;
    return { ...one, kind: one.error ? "bad" : isWhole ? "good" : "warn", word: one.error ? "fails" : one.state };
  });
  const dead = members.dead.map((one) => ({
    ...one, kind: "bad", word: one.state === "leaving" ? "left" : "dead", isDead: true,
  }));
  const all = [own, ...live, ...dead].sort((a, b) => a.node_id.localeCompare(b.node_id, "en", { numeric: true }));
  return el("section", { class: "card", "aria-label": "Nodes" },
    el("table", { class: "rows nodes" },
      head("Node", "State", "Region", "Set", "Lag", "Clock", "Answered", "Key", "Last error"),
      el("tbody", {}, all.map(nodeRow))));
}

function nodeRow(one) {
  const address = one.isDead ? visible(one.server)
    : one.isOwn ? el("span", { class: "muted" }, visible(one.server))
      : el("a", { href: `${location.protocol}//${one.server}/` }, visible(one.server));
  const offset = one.clock_offset_us === null || one.clock_offset_us === undefined ? "–"
    : `${one.clock_offset_us >= 0 ? "+" : "−"}${(Math.abs(one.clock_offset_us) / 1000).toFixed(1)} ms`;
  return el("tr", { class: one.kind, data: { node: one.node_id } },
    cell("Node", el("strong", {}, visible(one.node_id)), one.isOwn && el("span", { class: "tag" }, "this node"),
      el("div", { class: "small" }, address)),
    cell("State", el("span", { class: `state ${one.kind}` }, el("span", { class: "dot" }), one.word)),
    cell("Region", visible(one.region || "–")),
    cell("Set", el("code", { title: one.set.digest }, short(one.set.digest)),
      el("div", { class: "small" }, one.isDead ? "" : one.same_set
        ? el("span", { class: "muted" }, `${number(one.set.records)} records`)
        : el("span", { class: "differs" }, `${number(one.set.records)} records, differs`))),
    cell("Lag", el("span", { class: "num" }, one.lag === null ? "–" : number(one.lag)), one.dirty ? " repairs" : ""),
    cell("Clock", el("span", { class: "num" }, one.isDead ? "–" : one.isOwn ? "here" : offset)),
    cell("Answered", el("span", { class: "num" }, one.isOwn ? "here"
      : Number.isFinite(one.answered_ms_ago) ? `${duration(one.answered_ms_ago)} ago` : "–")),
    cell("Key", el("code", {}, visible((one.seal_key ?? "–").slice(0, 8)))),
    cell("Last error", one.error ? el("span", { class: "error" }, visible(one.error)) : "–"));
}

function tiles({ node, history, feeds, leases, protocol, fill: upstream }) {
  const genesis = node.set.genesis;
  return el("section", { class: "tiles", "aria-label": "Figures of this node" },
    tile("Names", number(node.values), `${bytes(node.bytes)} with deletes, ${number(node.tombstones)} of them`),
    tile("History", `${history.versions} versions`,
      `${bytes(history.bytes)} of ${bytes(history.max_bytes)} for older ones`),
    tile("Watches", number(feeds.parked), "of many names wait here"),
    tile("Leases", number(leases.known),
      leases.voters ? `${leases.live_voters} of ${leases.voters} voters live` : "no voters"),
    tile("Set", genesis ? ago(genesis.started / 1000) : "joining",
      genesis?.provisional ? "provisional" : "since it began"),
    tile("vwatch", node.version, `peer protocol in common: ${protocol.common ?? "none"}`),
    upstream && tile("Upstream", upstream.cut_off_ms === null ? "answers" : "cut off",
      `${number(upstream.names)} names are filled`));
}

const tile = (title, figure, text) => el("div", { class: "tile" },
  el("h2", {}, title), el("p", { class: "figure num" }, figure), el("p", { class: "muted" }, text));

const KINDS = { "this node": "own", member: "good", answers: "warn", silent: "bad", unusable: "bad" };

/** What this node hears of the addresses that discovery names. */
function heard({ node, discovery }) {
  if (discovery.addresses.length === 0) {
    if (discovery.targets.length > 0) return null;
    return empty("A cluster of one",
      "A node that knows others replicates with them. To try three on this machine:", "vwatch dev");
  }
  const nameOf = (one) => (one.is === "this node" ? node.node_id : one.node);
  return el("section", { class: "card", "aria-label": "Addresses" },
    el("h2", {}, "What ", visible(node.node_id), " hears"),
    el("ul", { class: "heard" }, discovery.addresses.map((one) => el("li", { class: KINDS[one.is] ?? "" },
      el("span", { class: "dot" }), el("strong", {}, visible(nameOf(one) ?? one.address)),
      el("span", { class: "muted" }, nameOf(one) ? ` ${one.address}` : "", ` ${one.is}`),
      one.why && el("p", {}, visible(one.why))))),
    discovery.left_off > 0 && el("p", { class: "muted" }, `and ${number(discovery.left_off)} more`));
}
