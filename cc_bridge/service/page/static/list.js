// The list of conversations. Owns: what the service has said about each, and what is searched for.

import * as api from "./api.js";
import { byId, el, plain, store, stored } from "./dom.js";

const TOUCHED = "cc-bridge.touched";
const MOST_SHOWN = 300; // more are found by searching

const STATES = {
  busy: ["Answering", "busy"],
  permission: ["Needs permission", "ask"],
  idle: ["Ready", "idle"],
  asleep: ["Asleep", "asleep"],
};

export const stateOf = (instance) => STATES[instance?.state] ?? ["", ""];
export const titleOf = (instance) => instance?.title || instance?.name || "";

export class List {
  #instances = new Map();
  #rows = new Map();
  #unread = new Set();
  #drawn = 0;
  #touched = stored(TOUCHED, {});

  /** `onOpen(name)`: somebody wants this one. `onChange(instance)`: it does something else now. */
  constructor({ onOpen, onChange }) {
    this.onOpen = onOpen;
    this.onChange = onChange;
    this.current = "";
    this.place = byId("conversations");
    this.search = byId("search");
    this.search.addEventListener("input", () => this.draw());
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.place.querySelector("a")?.focus();
      if (event.key === "Enter") this.place.querySelector("a")?.click();
    });
    this.place.addEventListener("keydown", (event) => {
      const links = [...this.place.querySelectorAll("a")];
      const at = links.indexOf(document.activeElement);
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (at < 0 || !step) return;
      event.preventDefault();
      (links[at + step] ?? (step < 0 ? this.search : links[at])).focus();
    });
  }

  get all() {
    return [...this.#instances.values()].sort((one, other) => this.#time(other) - this.#time(one) || one.name.localeCompare(other.name));
  }

  get(name) {
    return this.#instances.get(name);
  }

  async load() {
    const found = await api.instances();
    this.#instances = new Map(found.map((instance) => [instance.name, instance]));
    this.draw();
    found.forEach((instance) => this.onChange(instance));
  }

  /** A message of the stream. */
  hear({ type, ...instance }) {
    if (type === "removed") this.#instances.delete(instance.name);
    else this.#set(instance);
    this.#drawSoon();
  }

  open(name) {
    this.current = name;
    this.#unread.delete(name);
    this.draw();
  }

  /** Something was said that nobody has looked at. */
  markUnread(name) {
    if (name !== this.current || document.hidden) this.#unread.add(name);
    this.#drawSoon();
  }

  draw() {
    const wanted = this.search.value.trim().toLowerCase();
    const shown = this.all.filter((one) => `${one.title} ${one.name} ${one.project}`.toLowerCase().includes(wanted));
    const rows = shown.slice(0, MOST_SHOWN).map((instance) => this.#row(instance));
    const hasFocus = this.place.contains(document.activeElement) ? document.activeElement : null;
    this.place.replaceChildren(...rows);
    hasFocus?.focus();
    const more = shown.length - rows.length;
    byId("no-conversations").hidden = shown.length > 0 && !more;
    byId("no-conversations").textContent = more ? `${more} more: search for them.` : wanted ? "Nothing is called so." : "No conversation yet.";
  }

  // Private

  #set(instance) {
    const before = this.#instances.get(instance.name);
    this.#instances.set(instance.name, instance);
    if (before && before.turn !== instance.turn) this.#touch(instance.name);
    if (before?.state === "busy" && instance.state !== "busy" && instance.name !== this.current) this.#unread.add(instance.name);
    this.onChange(instance, before);
  }

  /** Something happens there now. The service keeps no such times: each browser remembers what it has seen. */
  #touch(name) {
    this.#touched[name] = Date.now();
    const newest = Object.entries(this.#touched).sort((one, other) => other[1] - one[1]).slice(0, 300);
    store(TOUCHED, Object.fromEntries(newest));
  }

  #time(instance) {
    return Math.max(this.#touched[instance.name] ?? 0, Date.parse(instance.created) || 0);
  }

  #drawSoon() {
    if (this.#drawn) return;
    this.#drawn = setTimeout(() => { this.#drawn = 0; this.draw(); }, 60);
  }

  #row(instance) {
    let row = this.#rows.get(instance.name);
    if (!row) {
      const link = el("a", { class: "conversation", href: `/c/${encodeURIComponent(instance.name)}` });
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        this.onOpen(instance.name);
      });
      row = el("li", {}, link);
      this.#rows.set(instance.name, row);
    }
    const [label, look] = stateOf(instance);
    const link = row.firstChild;
    if (instance.name === this.current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.classList.toggle("unread", this.#unread.has(instance.name));
    const seen = `${titleOf(instance)}|${label}|${instance.waiting}|${this.#unread.has(instance.name)}|${ago(this.#time(instance))}`;
    if (row.dataset.seen === seen) return row;
    row.dataset.seen = seen;
    const about = [label, instance.waiting ? `${instance.waiting} waiting` : "", this.#unread.has(instance.name) ? "new" : ""].filter(Boolean).join(" · ");
    link.replaceChildren(
      el("span", { class: `dot ${look}`, "aria-hidden": "true" }),
      el("span", { class: "conversation-title" }, plain(titleOf(instance))),
      el("span", { class: "conversation-about" }, plain([about, ago(this.#time(instance))].filter(Boolean).join(" · "))));
    return row;
  }
}

function ago(when) {
  const seconds = (Date.now() - when) / 1000;
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return new Date(when).toLocaleDateString([], { day: "numeric", month: "short" });
}
