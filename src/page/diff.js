// Two versions side by side.

import { dump, pretty, textOf } from "./data.js";
import { el } from "./dom.js";
import { visible } from "./text.js";

/** Most lines of each side, and most changes between them that are looked for. */
const MOST_LINES = 4000;
const MOST_CHANGES = 800;

/** The lines of data: of JSON a value a line, of a text its own, of other bytes sixteen. */
function lines(data, form) {
  const text = form === "bytes" ? dump(data) : form === "json" ? pretty(textOf(data)) : textOf(data);
  const all = text === "" ? [] : text.split("\n");
  return all.length > MOST_LINES ? [...all.slice(0, MOST_LINES), "…"] : all;
}

/** The form in which both can be compared. */
function formOf(a, b) {
  const texts = [a, b].map(textOf);
  if (texts.includes(null)) return "bytes";
  return texts.every((text) => pretty(text) !== null) ? "json" : "text";
}

/**
 * The shortest way from one list of lines to another (Myers, 1986), as pairs `[a, b]` of indices; one of them is
 * `null` where a line is only on one side. Beyond a number of changes all lines in the middle count as changed.
 */
export function compareLines(a, b) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  const most = Math.min(a.length, b.length) - start;
  while (end < most && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const same = (from, count, shift) => Array.from({ length: count }, (_, i) => [from + i, from + i + shift]);
  const middle = shortest(a.slice(start, a.length - end), b.slice(start, b.length - end));
  return [...same(0, start, 0),
    ...middle.map(([x, y]) => [x === null ? null : x + start, y === null ? null : y + start]),
    ...same(a.length - end, end, b.length - a.length)];
}

function shortest(a, b) {
  const all = a.length + b.length;
  const most = Math.min(all, MOST_CHANGES);
  const reach = new Map([[1, 0]]);
  const trace = [];
  for (let changes = 0; changes <= most; changes += 1) {
    trace.push(new Map(reach));
    for (let k = -changes; k <= changes; k += 2) {
      const down = k === -changes || (k !== changes && (reach.get(k - 1) ?? -1) < (reach.get(k + 1) ?? -1));
      let x = down ? reach.get(k + 1) ?? 0 : (reach.get(k - 1) ?? 0) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length);
    }
  }
  return [...a.map((_, i) => [i, null]), ...b.map((_, i) => [null, i])];
}

function walkBack(trace, x, y) {
  const pairs = [];
  for (let changes = trace.length - 1; changes >= 0; changes -= 1) {
    const reach = trace[changes];
    const k = x - y;
    const down = k === -changes || (k !== changes && (reach.get(k - 1) ?? -1) < (reach.get(k + 1) ?? -1));
    const before = down ? k + 1 : k - 1;
    const from = changes === 0 ? 0 : reach.get(before) ?? 0;
    while (x > from && y > from - before && x > 0 && y > 0) {
      x -= 1;
      y -= 1;
      pairs.push([x, y]);
    }
    if (changes === 0) break;
    if (down) pairs.push([null, (y -= 1)]);
    else pairs.push([(x -= 1), null]);
  }
  return pairs.reverse();
}

/** Rows of two sides: lines that were replaced stand beside each other. */
function rowsOf(pairs) {
  const rows = [];
  let gone = [];
  let come = [];
  const close = () => {
    for (let i = 0; i < Math.max(gone.length, come.length); i += 1) {
      rows.push([gone[i] ?? null, come[i] ?? null, true]);
    }
    gone = [];
    come = [];
  };
  for (const [x, y] of pairs) {
    if (x === null) come.push(y);
    else if (y === null) gone.push(x);
    else {
      close();
      rows.push([x, y, false]);
    }
  }
  close();
  return rows;
}

/** A line, with what differs from the other one marked. */
function marked(line, other, kind) {
  if (other === undefined) return visible(line, "\t");
  let start = 0;
  while (start < line.length && start < other.length && line[start] === other[start]) start += 1;
  let end = 0;
  while (end < line.length - start && end < other.length - start
    && line[line.length - 1 - end] === other[other.length - 1 - end]) end += 1;
  if (start + end < line.length / 4) return visible(line, "\t");
  const part = (from, to) => visible(line.slice(from, to), "\t");
  const last = line.length - end;
  return [part(0, start), el("mark", { class: kind }, part(start, last)), part(last)];
}

const CONTEXT = 3;

/** A table with two sides. Lines that are equal and far from a change are left out. */
export function diffTable(a, b, titles) {
  const form = formOf(a, b);
  const [left, right] = [lines(a, form), lines(b, form)];
  const rows = rowsOf(compareLines(left, right));
  const near = new Set();
  rows.forEach(([, , changed], at) => {
    if (changed) for (let i = at - CONTEXT; i <= at + CONTEXT; i += 1) near.add(i);
  });
  const body = el("tbody");
  let skipped = 0;
  const skip = () => {
    if (skipped > 0) body.append(el("tr", { class: "skipped" }, el("td", { colSpan: 4 }, `${skipped} equal lines`)));
    skipped = 0;
  };
  const side = (text, at, other, kind) => [
    el("td", { class: "line-number num" }, at === null ? "" : String(at + 1)),
    el("td", { class: `line ${at === null ? "none" : kind}` }, at === null ? "" : marked(text, other, kind))];
  rows.forEach(([x, y, changed], at) => {
    if (!near.has(at)) {
      skipped += 1;
      return;
    }
    skip();
    const both = changed && x !== null && y !== null;
    body.append(el("tr", { class: changed ? "changed" : "" },
      side(left[x], x, both ? right[y] : undefined, changed ? "gone" : ""),
      side(right[y], y, both ? left[x] : undefined, changed ? "come" : "")));
  });
  skip();
  if (near.size === 0) return el("p", { class: "muted" }, "Both have the same data.");
  return el("div", { class: "diff-scroll", tabIndex: 0, role: "region", "aria-label": "Difference" },
    el("table", { class: "diff" },
      el("colgroup", {}, ["number", "", "number", ""].map((kind) => el("col", { class: kind }))),
      el("thead", {}, el("tr", {}, titles.map((title) => el("th", { colSpan: 2, scope: "col" }, title)))), body));
}
