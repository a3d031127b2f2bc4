// Makes elements. Texts are only ever set as texts: nothing here reads markup.

/**
 * An element. `props` are properties, `on…` handlers, and attributes (with a dash, or `role`); children may be texts.
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "data") Object.assign(node.dataset, value);
    else if (key.includes("-") || key === "role" || key === "for" || key === "scope") node.setAttribute(key, value);
    else node[key] = value;
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(node, child);
    else if (child !== undefined && child !== null && child !== false) node.append(child);
  }
}

/** Replaces what is in an element. */
export function fill(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Shows a short line for some seconds. */
export function toast(text, kind = "") {
  const line = el("div", { class: `toast ${kind}` }, text);
  byId("toasts").append(line);
  setTimeout(() => line.remove(), 6000);
}

/** A view that has nothing to show says so, and what to type. */
export function empty(title, text, ...commands) {
  return el("div", { class: "empty" },
    el("h2", {}, title),
    text && el("p", {}, text),
    commands.map((command) => el("pre", { class: "command" }, command)));
}

/**
 * A dialog with a form. `send` gets the form, and returns a text if it failed; the dialog stays open then.
 * Resolves to whether it was sent.
 */
export function dialog({ title, body, action, danger, cancel = true, send }) {
  return new Promise((resolve) => {
    const fault = el("p", { class: "fault", role: "alert", hidden: true });
    const button = el("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
    const close = (sent) => {
      frame.close();
      frame.remove();
      resolve(sent);
    };
    const form = el("form", {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        const wrong = await send(form);
        button.disabled = false;
        if (!wrong) return close(true);
        fault.textContent = wrong;
        fault.hidden = false;
      },
    },
    el("h2", { id: "dialog-title" }, title), body, fault,
    el("div", { class: "actions" },
      cancel && el("button", { type: "button", onclick: () => close(false) }, "Cancel"), button));
    const frame = el("dialog", { "aria-labelledby": "dialog-title" }, form);
    frame.addEventListener("cancel", (event) => {
      event.preventDefault();
      if (cancel) close(false);
    });
    document.body.append(frame);
    frame.showModal();
  });
}

/** A cell of a table, whose label stands beside it where the table has no room for a head. */
export const cell = (label, ...content) => el("td", { "data-label": label }, el("div", {}, content));

/** The head of a table. */
export const head = (...titles) => el("thead", {},
  el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title))));

/** A field of a form, with its label. */
export function field(label, control, hint) {
  return el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", {}, hint));
}

/** Buttons of which one is chosen. */
export function choices(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) => el("button", {
    type: "button", "aria-pressed": String(value === chosen), data: { value },
    onclick: (event) => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
      choose(value);
    },
  }, text));
  return el("div", { class: "choices", role: "group", "aria-label": label }, buttons);
}
