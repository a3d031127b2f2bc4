// The data of a version: as text, as JSON, or as bytes.

import { choices, el, fill } from "./dom.js";
import { bytes as size, visible } from "./text.js";

/** Most characters of a text, and bytes of a dump, that are shown. */
const MOST_TEXT = 200000;
const MOST_BYTES = 16384;

/** The bytes of base64. */
export function decode(base64) {
  const binary = atob(base64 ?? "");
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

/** The text of bytes; `null` if they are no UTF-8. */
export function textOf(data) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

/** JSON with a line for each value, its numbers and texts as they were sent; `null` if the text is none. */
export function pretty(text) {
  if (text === null || text.length > MOST_TEXT || !/^\s*[[{]/.test(text)) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, 50))}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/gs)) {
    if (token === "{" || token === "[") {
      depth += 1;
      out += token + line();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      // an object or a list without anything stays on one line
      out = /[{[]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token;
    } else if (token === ",") out += token + line();
    else out += token === ":" ? ": " : token;
  }
  return out;
}

/** Bytes in lines of sixteen. */
export function dump(data, most = MOST_BYTES) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, most); at += 16) {
    const row = data.subarray(at, Math.min(at + 16, most));
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, "0"));
    const letters = Array.from(row, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·"));
    const wide = `${hex.slice(0, 8).join(" ")}  ${hex.slice(8).join(" ")}`.padEnd(49);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${wide} ${letters.join("")}`);
  }
  return lines.join("\n");
}

/** A part of JSON by its kind, for its colour. */
function coloured(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/gs)) {
    if (found.index > at) parts.push(text.slice(at, found.index));
    const kind = found[1] ? "key" : found[0].startsWith("\"") ? "string" : "literal";
    parts.push(el("span", { class: `json-${kind}` }, visible(found[0], "\n")));
    at = found.index + found[0].length;
  }
  parts.push(text.slice(at));
  return parts;
}

/** What is shown of data in a form. */
function shown(data, form) {
  const text = textOf(data);
  if (data.length === 0) return el("p", { class: "muted" }, "No bytes.");
  if (form === "json") {
    const json = pretty(text);
    if (json === null) return el("p", { class: "muted" }, "This is no JSON.");
    return el("pre", { class: "data", tabIndex: 0 }, json.length < 50000 ? coloured(json) : visible(json, "\n\t"));
  }
  if (form === "text" && text !== null) {
    return [el("pre", { class: "data", tabIndex: 0 }, visible(text.slice(0, MOST_TEXT), "\n\t")),
      text.length > MOST_TEXT && el("p", { class: "muted" }, `The first ${MOST_TEXT} characters.`)];
  }
  return [form === "text" && el("p", { class: "muted" }, "These bytes are no UTF-8."),
    el("pre", { class: "data hex", tabIndex: 0 }, dump(data)),
    data.length > MOST_BYTES && el("p", { class: "muted" }, `The first ${size(MOST_BYTES)} of ${size(data.length)}.`)];
}

let preferred = null;

/** Data with buttons for its form. */
export function dataView(data) {
  const text = textOf(data);
  const best = pretty(text) !== null ? "json" : text === null ? "hex" : "text";
  const form = preferred === "hex" || (preferred === "text" && text !== null) ? preferred : best;
  const body = el("div", {}, shown(data, form));
  const buttons = choices("Form of the data", [["text", "Text"], ["json", "JSON"], ["hex", "Hex"]], form, (chosen) => {
    preferred = chosen;
    fill(body, shown(data, chosen));
  });
  return el("div", { class: "data-view" }, el("div", { class: "bar" }, buttons,
    el("span", { class: "muted num" }, size(data.length))), body);
}
