// Changes: each asks first, and says what the node answered.

import { ask, pathOf, query } from "./api.js";
import { textOf } from "./data.js";
import { dialog, el, field, toast } from "./dom.js";
import { go } from "./route.js";
import { plain, visible } from "./text.js";

/** The request of a change. Returns what went wrong as a text. */
async function change(path, options, done) {
  try {
    const response = await ask(path, options);
    toast(done(response), "good");
    return undefined;
  } catch (error) {
    return error.message || "The node refused.";
  }
}

const versionOf = (response) => (response.headers.get("ETag") ?? "").replace(/^"|"$/g, "");

/** Asks for data, and writes it. Of a name that exists `current` has its data. */
export function writeDialog({ namespace, name, current }) {
  const isNew = current === undefined;
  const text = isNew ? "" : textOf(current);
  // a field for text has LF only: what ended in CR LF does so again
  const isCrLf = text !== null && /\r\n/.test(text) && !/[\r\n]/.test(text.replaceAll("\r\n", ""));
  const hint = text === null ? "The present data is no text: this replaces it."
    : !isCrLf && text.includes("\r") ? "Its lines end in different ways: what is written has LF only." : undefined;
  const nameField = el("input", {
    name: "name", value: name, required: true, spellcheck: false, autocapitalize: "off",
  });
  const data = el("textarea", { name: "data", rows: 8, spellcheck: false, value: text ?? "" });
  const version = el("input", { name: "version", placeholder: "made from the data", spellcheck: false });
  const expires = el("input", { name: "expires", placeholder: "never, or 10s, 1h", spellcheck: false });
  return dialog({
    title: isNew ? "New name" : "Write a version",
    body: [
      isNew ? field("Name", nameField) : el("p", { class: "subject" }, visible(name)),
      field("Data", data, hint),
      el("div", { class: "pair" }, field("Version", version), field("Ends after", expires)),
      !isNew && el("p", { class: "muted" }, "Readers that wait for a change wake at once."),
    ],
    action: "Write",
    send: async () => {
      const target = isNew ? nameField.value : name;
      const body = isCrLf ? data.value.replaceAll("\n", "\r\n") : data.value;
      const wrong = await change(
        `${pathOf(namespace, "versions", target)}?${query({
          version: version.value || undefined, expires: expires.value || undefined })}`,
        { method: "PUT", body: new TextEncoder().encode(body) },
        (response) => `Written as ${plain(versionOf(response))}`);
      if (!wrong && isNew) go("names", { namespace, name: target });
      return wrong;
    },
  });
}

export function deleteDialog({ namespace, name }) {
  return dialog({
    title: "Delete this name?",
    body: [el("p", { class: "subject" }, visible(name)),
      el("p", { class: "muted" }, "Readers that wait for a change are told. Its history stays until it is compacted.")],
    action: "Delete", danger: true,
    send: () => change(pathOf(namespace, "versions", name), { method: "DELETE" }, () => "Deleted"),
  });
}

/** Writes an old version again, or the delete that it was. */
export function revertDialog({ namespace, name, entry, data }) {
  const isDelete = entry.type === "delete";
  return dialog({
    title: isDelete ? "Delete it, as at that time?" : "Write this version again?",
    body: [el("p", { class: "subject" }, visible(name)),
      !isDelete && el("p", {}, "Version ", el("code", {}, visible(entry.version)),
        ` with ${data.length} bytes becomes the present one.`),
      el("p", { class: "muted" }, "It is a new write: readers wake, and the history has one entry more.")],
    action: "Revert", danger: isDelete,
    send: () => (isDelete
      ? change(pathOf(namespace, "versions", name), { method: "DELETE" }, () => "Deleted")
      : change(`${pathOf(namespace, "versions", name)}?${query({ version: entry.version })}`,
        { method: "PUT", body: data }, (response) => `Written as ${plain(versionOf(response))}`)),
  });
}

export function releaseDialog({ namespace, lease }) {
  return dialog({
    title: "Release this lease?",
    body: [el("p", { class: "subject" }, visible(lease.path || "all names"), lease.prefix ? " and all below" : ""),
      el("p", {}, "Its holder ", el("code", {}, visible(lease.holder || "without a label")),
        " is not told before its next renewal.")],
    action: "Release", danger: true,
    send: () => change(`${pathOf(namespace, "leases", lease.path)}?${query({
      token: lease.token, prefix: lease.prefix ? "true" : undefined })}`, { method: "DELETE" }, () => "Released"),
  });
}
