// A list of any length: only the rows that can be seen are elements.

import { el, fill } from "./dom.js";

const BEYOND = 8;

/** A virtual list. `draw(index)` makes the element of a row; all rows have the height of `--row`. */
export class VirtualList {
  constructor({ draw, label, role = "list", onSeen }) {
    this.draw = draw;
    this.onSeen = onSeen;
    this.count = 0;
    this.height = 36;
    this.inner = el("div", { class: "list-inner" });
    this.node = el("div", { class: "list", role, "aria-label": label, tabIndex: 0 }, this.inner);
    this.node.addEventListener("scroll", () => this.schedule(), { passive: true });
    this.sizes = new ResizeObserver(() => this.schedule());
    this.sizes.observe(this.node);
  }

  /** There are so many rows now, and all of them may look different. */
  update(count) {
    this.count = count;
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.render();
    });
  }

  render() {
    const style = getComputedStyle(this.node);
    this.height = Number.parseFloat(style.getPropertyValue("--row")) || 36;
    const view = this.node.clientHeight || 600;
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - BEYOND);
    const last = Math.min(this.count, Math.ceil((this.node.scrollTop + view) / this.height) + BEYOND);
    this.inner.style.height = `${this.count * this.height}px`;
    const rows = [];
    for (let at = first; at < last; at += 1) {
      const row = this.draw(at);
      row.style.top = `${at * this.height}px`;
      rows.push(row);
    }
    fill(this.inner, rows);
    this.onSeen?.(first, last);
  }

  /** Scrolls so far that a row can be seen. */
  show(at) {
    const [top, bottom] = [at * this.height, (at + 1) * this.height];
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    else if (bottom > this.node.scrollTop + this.node.clientHeight) {
      this.node.scrollTop = bottom - this.node.clientHeight;
    }
    this.schedule();
  }

  /** Rows that fit. */
  page() {
    return Math.max(1, Math.floor(this.node.clientHeight / this.height) - 1);
  }

  end() {
    this.sizes.disconnect();
  }
}
