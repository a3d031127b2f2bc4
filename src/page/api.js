// Requests to this node, and what its token allows. Everything here is the public interface: curl can do the same.

import { learnTime } from "./text.js";

/** What the sender may do: see `GET /v1/session`. */
export const session = { port: "server", token: null, grants: null, ends: null };

/** The answer of a request that was refused. `status` is 0 if there was none. */
export class Refused extends Error {
  constructor(status, code, text) {
    super(text);
    this.status = status;
    this.code = code;
  }
}

const listeners = new Set();

/** Calls back when requests need a token, or have an answer again. */
export const onRefusal = (listener) => listeners.add(listener);

/** Sends a request. Throws [`Refused`] unless its status is one of 2xx. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "no-answer", "This node does not answer.");
  }
  learnTime(response);
  if (response.ok) return response;
  const text = (await response.text().catch(() => "")).trim();
  const refused = new Refused(response.status, response.headers.get("X-Vwatch-Error") ?? "", text);
  if (response.status === 401) for (const listener of listeners) listener(refused);
  throw refused;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** The path of a resource in a namespace. */
export function within(namespace, resource) {
  return namespace ? `/v1/ns/${encodeURIComponent(namespace)}/${resource}` : `/v1/${resource}`;
}

/** The path of a name. Each slash is escaped, so that no part of it is taken for `..`. */
export function pathOf(namespace, resource, name) {
  return `${within(namespace, resource)}/${encodeURIComponent(name.toWellFormed())}`;
}

export function query(values) {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) parameters.append(key, one);
  }
  return parameters.toString();
}

/** Whether the token grants a verb for a name or, without one, for the node. */
export function may(verb, namespace, name) {
  if (["write", "delete", "lease", "admin"].includes(verb) && session.port !== "server") return false;
  if (session.grants === null) return true;
  return session.grants.some((grant) => grant.verbs.includes(verb)
    && (name === undefined || grant.namespace === "*"
      || (grant.namespace === namespace && name.startsWith(grant.prefix))));
}

/** The prefixes of a namespace that the token may read; all names are one that is empty. */
export function readable(namespace) {
  if (session.grants === null) return [""];
  const granted = session.grants
    .filter((grant) => grant.verbs.includes("read") && ["*", namespace].includes(grant.namespace))
    .map((grant) => grant.prefix)
    .sort();
  return granted.filter((prefix, at) => !granted.slice(0, at).some((other) => prefix.startsWith(other)));
}

/** Learns what the sender may do. */
export async function learnSession(options) {
  Object.assign(session, await askJson("/v1/session", options));
}

/** Exchanges a token for a session: the browser keeps a cookie that scripts cannot read, and the page keeps nothing. */
export async function signIn(secret) {
  await learnSession({ method: "POST", headers: { Authorization: `Bearer ${secret}` } });
}

export const signOut = () => ask("/v1/session", { method: "DELETE" });
