// The page: which view is shown, what its reader may do, and whether its node answers.

import { activityView, forget } from "./activity.js";
import { askJson, learnSession, may, onRefusal, query, session, signIn, signOut } from "./api.js";
import { cluster, clusterView, onCluster, otherPages, watchCluster } from "./cluster.js";
import { byId, dialog, el, field, fill } from "./dom.js";
import { feed, follow, onEvents } from "./feed.js";
import { leasesView } from "./leases.js";
import { nameView } from "./name.js";
import { namesView } from "./names.js";
import { go, link, place } from "./route.js";
import { ago, exact, plain, visible } from "./text.js";
import { watchersView } from "./watchers.js";

const main = byId("main");
const SIMPLE = { watchers: watchersView, cluster: clusterView, leases: leasesView, activity: activityView };

let shown = null;
let detail = null;
let shownFor = {};

function show() {
  const route = place();
  for (const one of document.querySelectorAll("#views a")) {
    const view = one.getAttribute("href").slice(1).split("?")[0];
    one.href = link(view, { namespace: route.namespace });
    if (view === route.view) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  if (route.namespace !== feed.namespace) {
    forget();
    follow(route.namespace);
  }
  byId("namespace").value = route.namespace;
  detail?.end();
  detail = null;
  const isSame = shown && shownFor.view === route.view && route.view === "names" && shown.accepts(route);
  if (isSame) shown.chosen(route);
  else {
    shown?.end();
    shown = route.view === "names" ? namesView(main, route) : SIMPLE[route.view](main, route);
  }
  if (route.view === "names") {
    if (route.name === undefined) fill(shown.detail);
    else detail = nameView(shown.detail, route);
  }
  if (route.view !== shownFor.view) scrollTo(0, 0);
  shownFor = route;
  document.title = route.name === undefined ? "vwatch" : `${plain(route.name).slice(0, 60)} – vwatch`;
}

// --- the reader

let asking = false;

async function askForToken(why) {
  if (asking) return;
  asking = true;
  const secret = el("input", {
    type: "password", name: "token", required: true, autocomplete: "off", placeholder: "vwt_…", spellcheck: false,
    id: "token",
  });
  await dialog({
    title: "This node needs a token",
    body: [why && el("p", {}, why), field("Token", secret),
      el("p", { class: "muted" },
        "The page does not keep it: it is exchanged for a session that ends after 12 hours.")],
    action: "Sign in", cancel: session.token !== null,
    send: async () => {
      try {
        await signIn(secret.value.trim());
        return undefined;
      } catch (error) {
        return error.message;
      } finally {
        secret.value = "";
      }
    },
  });
  asking = false;
  await begin();
}

async function begin() {
  try {
    await learnSession();
  } catch (error) {
    if (error.status === 0) {
      setTimeout(begin, 1000);
      return drawState();
    }
    if (error.status === 401) return undefined;
  }
  drawSign();
  await learnNamespaces();
  shown?.end();
  shown = null;
  forget();
  follow(place().namespace);
  show();
  return undefined;
}

onRefusal(async (refused) => {
  if (asking) return;
  if (refused.code === "unknown-session") {
    // so that what is open without a token is open again
    await signOut().catch(() => {});
    Object.assign(session, { token: null, grants: null, ends: null });
    if (await learnSession().then(() => true, () => false)) return begin();
  } else if (refused.code !== "no-token" && refused.code !== "token-ended" && session.token === null) return;
  askForToken(refused.code === "no-token" ? "" : "The session has ended.");
});

function drawSign() {
  const button = byId("sign");
  button.hidden = session.token === null;
  const isKnown = session.token !== null && session.token !== "anonymous";
  button.textContent = isKnown ? "Sign out" : "Sign in";
  button.title = isKnown ? `${plain(session.token)}${session.ends ? `, until ${exact(session.ends / 1000)}` : ""}` : "";
  document.body.classList.toggle("read-only", session.port !== "server");
}

byId("sign").addEventListener("click", async () => {
  if (session.token === "anonymous") return askForToken("");
  await signOut().catch(() => {});
  location.reload();
  return undefined;
});

// --- namespaces

async function learnNamespaces() {
  const known = new Set([place().namespace].filter(Boolean));
  for (const grant of session.grants ?? []) if (grant.namespace && grant.namespace !== "*") known.add(grant.namespace);
  if (may("observe")) {
    const answer = await askJson(`/v1/ns?${query({ limit: 1000 })}`).catch(() => ({ namespaces: [] }));
    for (const one of answer.namespaces) known.add(one.namespace);
  }
  const select = byId("namespace");
  fill(select, el("option", { value: "" }, "no namespace"),
    [...known].sort().map((one) => el("option", { value: one }, one)));
  select.value = place().namespace;
  byId("namespace-label").hidden = known.size === 0;
}

byId("namespace").addEventListener("change", (event) => go(place().view, { namespace: event.target.value }));

// --- the node

let lostSince = null;

/** Whether the node answers, and what to do if it does not. */
function drawState() {
  const id = cluster.view?.node.node_id;
  const isLost = cluster.fault?.status === 0 || feed.state === "lost";
  const pill = byId("node");
  const isWhole = !cluster.view || (cluster.view.agreement.agree && cluster.view.members.dead.length === 0);
  const kind = isLost ? "bad" : isWhole ? "good" : "warn";
  pill.className = `pill ${kind}`;
  const text = isLost ? "no answer" : id ?? location.host;
  if (byId("node-text").textContent !== text) fill(byId("node-text"), visible(text));
  if (!isLost) {
    byId("banner").hidden = true;
    if (lostSince !== null) {
      lostSince = null;
      shown?.reload();
      detail?.reload();
    }
    return;
  }
  if (lostSince !== null && cluster.fault?.status !== 0) return;
  if (lostSince === null) lostSince = feed.state === "lost" ? feed.since : Date.now();
  const pages = otherPages();
  const banner = byId("banner");
  if (!banner.hidden && banner.dataset.of === String(pages.length)) return;
  banner.dataset.of = String(pages.length);
  banner.hidden = false;
  fill(banner, el("strong", {}, id ? ["The node ", visible(id)] : "This node", " does not answer"),
    ", since ", ago(lostSince), ". The page goes on when it is back.",
    pages.length > 0 && el("span", { class: "others" }, " Other nodes: ",
      pages.slice(0, 8).map((one, at) => [at > 0 ? ", " : "", el("a", { href: one.href }, visible(one.id))])));
}

/** A stream that the node refused for good begins again, unless it takes a token that the reader has to bring. */
async function beginFeedAgain() {
  if (feed.state !== "refused" || asking) return;
  try {
    await askJson("/v1/session");
    follow(place().namespace);
  } catch (error) {
    if (error.status !== 401) setTimeout(beginFeedAgain, 2000);
  }
}

onCluster(drawState);
onEvents((events) => {
  if (events !== null) return;
  drawState();
  if (feed.state === "refused") setTimeout(beginFeedAgain, 300);
});

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => shown && show());

begin();
watchCluster();
