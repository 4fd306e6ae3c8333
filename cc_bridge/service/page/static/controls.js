// Model, permission mode and context of the conversation that is open. Owns: what was asked about them last.

import * as api from "./api.js";
import { byId, el, plain, toast } from "./dom.js";

const MODES = [
  ["default", "Ask for permission"],
  ["acceptEdits", "Accept edits"],
  ["plan", "Plan only"],
  ["dontAsk", "Deny what is not allowed"],
  ["auto", "Decide by itself"],
];
const ALIASES = ["default", "opus", "sonnet", "haiku"];

export class Controls {
  #name = "";

  constructor() {
    this.model = byId("model");
    this.mode = byId("mode");
    this.meter = byId("context");
    this.mode.replaceChildren(...MODES.map(([value, text]) => el("option", { value, text })));
    this.model.addEventListener("change", () => this.#set(this.model, (value) => api.setModel(this.#name, value === "default" ? null : value)));
    this.mode.addEventListener("change", () => this.#set(this.mode, (value) => api.setMode(this.#name, value)));
  }

  /** Show those of this conversation, as far as they are known without waking anybody. */
  async open(name, instance) {
    this.#name = name;
    this.#models("", ALIASES);
    this.meter.hidden = true;
    this.mode.value = "default";
    if (!name) return;
    const [model, mode] = await Promise.all([api.model(name).catch(() => null), api.mode(name).catch(() => null)]);
    if (name !== this.#name) return;
    this.#models(model?.model ?? "", ALIASES);
    this.#know(this.mode, mode?.mode);
    if (instance && instance.state !== "asleep") this.refresh(); // asking wakes who sleeps
  }

  /** After a turn: how full the context is. */
  async refresh() {
    const name = this.#name;
    const context = await api.context(name).catch(() => null);
    if (!context || name !== this.#name || !(context.max_tokens > 0)) return;
    this.meter.hidden = false;
    this.meter.querySelector(".meter-text").textContent = `${Math.round(context.percentage)} %`;
    this.meter.setAttribute("aria-label", `Context ${Math.round(context.percentage)} % full. Show context and cost`);
    this.meter.querySelector("circle.full").style.strokeDashoffset = String(100 - Math.min(context.percentage, 100));
    this.meter.classList.toggle("high", context.percentage > 80);
  }

  /** The stream has told of another mode. */
  setMode(mode) {
    this.#know(this.mode, mode);
  }

  // Private

  #models(current, models) {
    const names = [...new Set([...models, ...(current ? [current] : [])])];
    this.model.replaceChildren(...names.map((name) => el("option", { value: name }, plain(pretty(name)))));
    this.model.value = current || "default";
  }

  #know(select, value) {
    if (!value) return;
    if (![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, plain(value)));
    select.value = value;
  }

  async #set(select, save) {
    select.disabled = true;
    try {
      const said = await save(select.value);
      this.#know(select, said?.mode ?? (select.value === "default" ? "" : said?.model));
    } catch (error) {
      toast(error.message, true);
    } finally {
      select.disabled = false;
      select.focus();
    }
  }
}

const pretty = (name) => (name === "default" ? "Default model" : name.replace(/^claude-/, "").replace(/-20\d{6}$/, ""));
