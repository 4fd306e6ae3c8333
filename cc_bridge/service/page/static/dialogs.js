// Questions that the page asks: one dialog, filled anew each time. Owns: nothing.

import * as api from "./api.js";
import { byId, el, plain } from "./dom.js";

/**
 * Ask for some fields. `fields`: `{name, label, value, hint, options, required, pattern}`. `save(values)` may throw: its
 * message is shown, and the dialog stays. Resolves to what `save` returned, or null.
 */
export function ask({ title, text = "", fields = [], action, isDangerous = false, save }) {
  const dialog = byId("dialog");
  const error = el("p", { class: "error-text", role: "alert", hidden: true });
  const submit = el("button", { type: "submit", class: `button ${isDangerous ? "danger" : "primary"}`, text: action });
  const cancel = el("button", { type: "button", class: "button", text: "Cancel", onclick: () => dialog.close() });
  const controls = fields.map((field) => control(field));
  const form = el("form", { method: "dialog" },
    el("h2", { id: "dialog-title", text: title }), text && el("p", { class: "hint" }, plain(text)),
    ...controls.map(({ node }) => node), error, el("div", { class: "row end" }, cancel, submit));
  dialog.replaceChildren(form);
  return new Promise((resolve) => {
    let result = null;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      error.hidden = true;
      try {
        result = (await save(Object.fromEntries(controls.map(({ name, input }) => [name, input.value.trim()])))) ?? true;
        dialog.close();
      } catch (problem) {
        error.textContent = problem.message;
        error.hidden = false;
        submit.disabled = false;
      }
    });
    dialog.addEventListener("close", () => resolve(result), { once: true });
    dialog.showModal();
    (controls[0]?.input ?? cancel).focus();
    controls[0]?.input.select?.();
  });
}

function control({ name, label, value = "", hint = "", options, required = false, pattern }) {
  const id = `field-${name}`;
  const input = options
    ? el("select", { id }, ...options.map(([option, text]) => el("option", { value: option, selected: option === value }, plain(text))))
    : el("input", { id, type: "text", value, required, autocomplete: "off", pattern, "aria-describedby": hint ? `${id}-hint` : undefined });
  const node = el("div", { class: "field" }, el("label", { htmlFor: id, text: label }), input, hint && el("p", { class: "hint", id: `${id}-hint`, text: hint }));
  return { name, input, node };
}

/** A new conversation: its name, or null. */
export async function newConversation(taken) {
  const templates = await api.templates().catch(() => []);
  return ask({
    title: "New conversation",
    action: "Create",
    fields: [
      { name: "title", label: "Title", value: "", hint: "What it is about. It can be changed." },
      ...(templates.length > 1 ? [{
        name: "template", label: "Template", value: templates[0].name, options: templates.map(({ name }) => [name, name]),
      }] : []),
    ],
    async save({ title, template = templates[0]?.name ?? "default" }) {
      const name = free(title || "conversation", taken);
      await api.create({ name, template, ...(title ? { title } : {}) });
      return name;
    },
  });
}

export const renameConversation = (instance) => ask({
  title: "Rename", action: "Save", fields: [{ name: "title", label: "Title", value: instance.title || instance.name, required: true }],
  save: ({ title }) => api.rename(instance.name, title),
});

export const forkConversation = (instance, taken) => ask({
  title: "Fork", action: "Fork", text: "A second conversation that goes on from here; this one stays as it is.",
  fields: [{ name: "name", label: "Name of the new one", value: free(`${instance.name}-fork`, taken), required: true, pattern: "[a-z0-9][a-z0-9_.\\-]*" }],
  async save({ name }) {
    await api.fork(instance.name, name);
    return name;
  },
});

export const removeConversation = (instance) => ask({
  title: "Delete this conversation?", action: "Delete", isDangerous: true,
  text: `${instance.title || instance.name} ends, and what was said in it is deleted. Its workspace stays.`,
  save: () => api.remove(instance.name),
});

/** What the context is full of, and what was spent. */
export async function showUsage(instance) {
  const [context, usage] = await Promise.all([api.context(instance.name).catch(() => null), api.usage(instance.name).catch(() => null)]);
  const dialog = byId("dialog");
  const close = el("button", { type: "button", class: "button", text: "Close", onclick: () => dialog.close() });
  const rows = (context?.categories ?? []).map((part) => el("tr", {},
    el("th", { scope: "row" }, plain(part.name)), el("td", { text: part.tokens.toLocaleString() })));
  dialog.replaceChildren(el("div", {},
    el("h2", { id: "dialog-title", text: "Context and cost" }),
    context
      ? el("p", { text: `${context.total_tokens.toLocaleString()} of ${context.max_tokens.toLocaleString()} tokens (${Math.round(context.percentage)} %), ${context.model}.` })
      : el("p", { class: "hint", text: "The context is known while Claude Code is awake." }),
    rows.length > 0 && el("table", { class: "facts-table" }, el("tbody", {}, ...rows)),
    usage && el("p", { text: `${usage.usage.turns} turns, ${usage.usage.tokens.toLocaleString()} tokens, $${usage.usage.cost_usd.toFixed(2)} so far.` }),
    el("div", { class: "row end" }, close)));
  dialog.showModal();
  close.focus();
}

/** A name that an instance may have, made of a title, and that no other one has. */
function free(title, taken) {
  const base = title.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40) || "conversation";
  for (let number = 1; ; number++) {
    const name = number === 1 ? base : `${base}-${number}`;
    if (!taken.includes(name)) return name;
  }
}
