// What waits above the composer: messages that the service has and that have not begun, and those it does not have yet.

import * as api from "./api.js";
import { byId, el, iconButton, plain, toast } from "./dom.js";

const textOf = (prompt) => (typeof prompt === "string" ? prompt : (prompt ?? []).map((block) => block.text ?? `[${block.title || block.type}]`).join(" "));

export class Queue {
  #turns = [];
  #editing = null;

  constructor({ outbox, conversation }) {
    this.outbox = outbox;
    this.conversation = conversation;
    this.place = byId("queue");
    this.isOffline = false;
  }

  /** The turns that wait in the service. */
  set(turns) {
    this.#turns = [...turns].sort((one, other) => one.number - other.number);
    this.draw();
  }

  get length() {
    return this.#turns.length;
  }

  draw() {
    if (this.#editing) return; // not under somebody's fingers
    const unsent = this.outbox.of(this.conversation.name).filter((message) => !message.isShown || this.isOffline);
    const rows = [
      ...this.#turns.map((turn) => this.#row(textOf(turn.prompt), "Waits", {
        edit: turn.state === "stored" && typeof turn.prompt === "string" ? (text) => this.#change(turn, text) : null,
        remove: () => this.#withdraw(turn),
      })),
      ...unsent.map((message) => this.#row(textOf(message.prompt), this.isOffline ? "Sent when the service is back" : "Sending", {
        edit: null,
        remove: () => { this.outbox.remove(message.key); this.conversation.withdraw(message.key); },
      })),
    ];
    this.place.hidden = rows.length === 0;
    this.place.querySelector("ul").replaceChildren(...rows);
  }

  // Private

  #row(text, state, { edit, remove }) {
    const shown = el("span", { class: "queue-text" }, plain(text.slice(0, 500)));
    const row = el("li", { class: "queued" }, el("span", { class: "queue-state", text: state }), shown);
    if (edit) row.append(iconButton("edit", "Edit this message", () => this.#edit(row, text, edit)));
    row.append(iconButton("close", "Take this message back", remove));
    return row;
  }

  #edit(row, text, save) {
    this.#editing = row;
    const area = el("textarea", { value: text, rows: Math.min(6, text.split("\n").length + 1), "aria-label": "Message" });
    const done = () => { this.#editing = null; this.draw(); };
    const form = el("form", { class: "queue-edit" }, area,
      el("div", { class: "row" },
        el("button", { type: "button", class: "button", text: "Cancel", onclick: done }),
        el("button", { type: "submit", class: "button primary", text: "Save" })));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await save(area.value);
      done();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); done(); }
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
    });
    row.replaceChildren(form);
    area.focus();
  }

  async #change(turn, text) {
    try {
      await api.changeTurn(turn.instance, turn.id, text);
    } catch (error) {
      toast(error.status === 409 ? "Too late: it has begun." : error.message, true);
    }
    await this.conversation.refresh();
  }

  async #withdraw(turn) {
    try {
      await api.endTurn(turn.instance, turn.id);
    } catch (error) {
      toast(error.message, true);
    }
    await this.conversation.refresh();
  }
}
