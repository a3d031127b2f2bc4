// Texts of others as people read them, and numbers, sizes and times.

import { el } from "./dom.js";

// control characters, and those that are not seen or that turn the direction: bidi, zero width, tags, private use
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0]/u;
const HIDDEN_ALL = new RegExp(HIDDEN.source, "gu");

function mark(char) {
  const code = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return el("span", { class: "hidden-char", title: "a character that has no shape of its own" }, `U+${code}`);
}

/** A text of others: what cannot be seen in it is shown by its number. `keep` is left as it is. */
export function visible(text, keep = "") {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(HIDDEN_ALL)) {
    if (keep.includes(found[0])) continue;
    if (found.index > at) parts.push(text.slice(at, found.index));
    parts.push(mark(found[0]));
    at = found.index + found[0].length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return el("bdi", { dir: "ltr" }, parts);
}

/** The same as a text alone, for labels and titles. */
export function plain(text) {
  return text.replace(HIDDEN_ALL, (char) => `\u27e8U+${char.codePointAt(0).toString(16).toUpperCase()}\u27e9`);
}

export const number = (value) => Number(value).toLocaleString("en");

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  let value = count;
  do {
    value /= 1024;
    unit += 1;
  } while (value >= 1024 && unit < units.length - 1);
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A time in ms as a short text. */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${seconds < 10 ? Math.floor(seconds * 10) / 10 : Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

// how far the clock of the node is ahead of this one, in ms
let ahead = 0;

/** Learns the node's time from an answer. Its header has whole seconds. */
export function learnTime(response) {
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (Number.isNaN(date)) return;
  const offset = date + 500 - Date.now();
  ahead = Math.abs(offset) > 2000 ? offset : 0;
}

/** The time of the node in ms. */
export const now = () => Date.now() + ahead;

/** How long ago a time in ms was, as an element that goes on to count. */
export function ago(ms) {
  return el("time", { class: "age", data: { at: ms }, title: exact(ms), dateTime: iso(ms) }, ageText(ms));
}

function ageText(ms) {
  const age = now() - ms;
  return age < 1000 ? "now" : `${duration(Math.floor(age / 1000) * 1000)} ago`;
}

/** How long it is until a time in ms, as an element that goes on to count down. */
export function until(ms) {
  return el("span", { class: "until", data: { until: ms }, title: exact(ms) }, untilText(ms));
}

const untilText = (ms) => (ms > now() ? duration(ms - now()) : "over");

const iso = (ms) => (Number.isFinite(ms) && Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString() : "");

/** A time in ms in full. */
export const exact = (ms) => iso(ms).replace("T", " ").replace("Z", " UTC");

/** A time of day in ms. */
export const clock = (ms) => iso(ms).slice(11, 23);

setInterval(() => {
  for (const node of document.querySelectorAll("time[data-at]")) node.textContent = ageText(Number(node.dataset.at));
}, 1000);
setInterval(() => {
  for (const node of document.querySelectorAll(".until[data-until]")) {
    const left = Number(node.dataset.until);
    node.textContent = untilText(left);
    node.closest("[data-ttl]")?.classList.toggle("soon", left - now() < 3000);
  }
}, 200);

/** Compares two texts by their bytes in UTF-8, as the node orders names. */
export function compare(a, b) {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    let x = a.charCodeAt(at);
    let y = b.charCodeAt(at);
    if (x === y) continue;
    // halves of a pair stand for characters behind all others
    if (x >= 0xd800 && x < 0xe000) x += 0x10000;
    if (y >= 0xd800 && y < 0xe000) y += 0x10000;
    return x - y;
  }
  return a.length - b.length;
}
