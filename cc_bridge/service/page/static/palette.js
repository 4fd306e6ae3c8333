// Ctrl-K: go to a conversation, or do something, by typing a part of its name. Owns: nothing but the open dialog.

import { byId, el, plain } from "./dom.js";

export class Palette {
  #found = [];
  #chosen = 0;

  /** `entries()`: what there is at this moment, as `{label, about, run}`. */
  constructor(entries) {
    this.entries = entries;
    this.dialog = byId("palette");
    this.input = byId("palette-input");
    this.results = byId("palette-list");
    this.input.addEventListener("input", () => this.#draw());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        if (this.dialog.open) this.dialog.close();
        else this.open();
      }
    });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  open() {
    if (document.querySelector("dialog[open]")) return;
    this.input.value = "";
    this.dialog.showModal();
    this.#draw();
    this.input.focus();
  }

  // Private

  #draw() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.#found = this.entries().filter((entry) => words.every((word) => `${entry.label} ${entry.about ?? ""}`.toLowerCase().includes(word))).slice(0, 60);
    this.results.replaceChildren(...this.#found.map((entry, number) => el("li", {
      id: `palette-${number}`, role: "option", class: "offer", "aria-selected": "false", onclick: () => this.#run(entry),
    }, el("span", { class: "offer-name" }, plain(entry.label)), el("span", { class: "offer-about" }, plain(entry.about ?? "")))));
    byId("palette-none").hidden = this.#found.length > 0;
    this.#choose(0);
  }

  #choose(number) {
    if (!this.#found.length) return this.input.removeAttribute("aria-activedescendant");
    this.#chosen = (number + this.#found.length) % this.#found.length;
    Array.from(this.results.children).forEach((node, at) => node.setAttribute("aria-selected", String(at === this.#chosen)));
    this.results.children[this.#chosen].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", `palette-${this.#chosen}`);
  }

  #key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.#choose(this.#chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (this.#found.length) this.#run(this.#found[this.#chosen]);
    }
  }

  #run(entry) {
    this.dialog.close();
    entry.run();
  }
}
