// Where a message is written. Owns: the draft, of each conversation, in localStorage; the list of completions.

import * as api from "./api.js";
import { Attachments } from "./attachments.js";
import { announce, byId, el, plain, store, stored, storedKeys, toast } from "./dom.js";

const DRAFT = "cc-bridge.draft.";
const draftKey = (name) => `${DRAFT}${name}`;
const isTouch = matchMedia("(pointer: coarse)");

export class Composer {
  #name = "";
  #commands = new Map(); // by conversation
  #offered = [];
  #chosen = 0;
  #sending = false;
  #asked = 0;

  /** `onSend(name, prompt)`, `onStop()`, `onTyping(name)`: somebody begins to write. */
  constructor({ onSend, onStop, onTyping }) {
    this.onSend = onSend;
    this.onTyping = onTyping;
    this.onStop = onStop;
    this.isRunning = false;
    this.form = byId("composer");
    this.area = byId("prompt");
    this.offers = byId("offers");
    this.button = byId("send");
    this.stopButton = byId("stop");
    this.attachments = new Attachments({ onChange: () => this.#changed() });
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.#send(); });
    this.stopButton.addEventListener("click", () => this.onStop());
    this.area.addEventListener("input", () => { this.#changed(); this.#offer(); this.onTyping(this.#name); });
    this.area.addEventListener("keydown", (event) => this.#key(event));
    this.area.addEventListener("blur", () => setTimeout(() => document.activeElement !== this.area && this.#close(), 150));
    this.area.addEventListener("paste", (event) => {
      if (!event.clipboardData.files.length) return;
      event.preventDefault();
      this.attachments.add(event.clipboardData.files);
    });
  }

  /** Write to this conversation; what was begun there is there again. */
  open(name) {
    this.#name = name;
    this.area.value = stored(draftKey(name), "");
    this.attachments.clear();
    this.#close();
    this.#changed();
    if (!isTouch.matches) this.area.focus();
  }

  /** Forget what was begun, everywhere. */
  forget() {
    storedKeys(DRAFT).forEach((key) => store(key, null));
    this.area.value = "";
    this.attachments.clear();
    this.#changed();
  }

  setRunning(isRunning) {
    if (isRunning === this.isRunning) return; // this is said with every word of an answer
    this.isRunning = isRunning;
    this.stopButton.hidden = !isRunning;
    this.#drawButton();
  }

  /** Add to what is written. */
  insert(text) {
    this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
    this.area.focus();
    this.#changed();
  }

  // Private

  async #send() {
    const text = this.area.value.trim();
    if (this.#sending || !this.#name || (!text && this.attachments.isEmpty)) return;
    const name = this.#name;
    this.#sending = true;
    this.#changed();
    try {
      const prompt = this.attachments.isEmpty ? text : await this.attachments.prompt(name, text);
      store(draftKey(name), null);
      if (name === this.#name) {
        this.area.value = "";
        this.attachments.clear();
      }
      this.onSend(name, prompt);
    } catch (error) {
      toast(`The message was not sent. ${error.message}`, true);
    } finally {
      this.#sending = false;
      this.#close();
      this.#changed();
    }
  }

  #changed() {
    store(draftKey(this.#name), this.area.value || null);
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, innerHeight * 0.4)}px`;
    this.#drawButton();
  }

  #drawButton() {
    this.button.disabled = this.#sending || !this.#name || (!this.area.value.trim() && this.attachments.isEmpty);
    const label = this.isRunning ? "Send when the answer is complete" : "Send";
    this.button.title = label;
    this.button.setAttribute("aria-label", label);
  }

  #key(event) {
    if (event.isComposing) return;
    if (this.#offered.length && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault();
      this.#choose(this.#chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (this.#offered.length && event.key === "Escape") {
      event.preventDefault();
      this.#close();
    } else if (this.#offered.length && event.key === "Enter" && this.#needed()) {
      event.preventDefault();
      this.#take(this.#offered[this.#chosen]);
    } else if (event.key === "Enter" && !event.shiftKey && !isTouch.matches) {
      event.preventDefault();
      this.#send();
    }
  }

  // Completions: slash commands at the beginning, files of the workspace after an @

  #word() {
    const before = this.area.value.slice(0, this.area.selectionStart);
    const slash = /^\/([\w:-]*)$/.exec(before);
    if (slash) return { kind: "/", text: slash[1] };
    const file = /(?:^|\s)@([\w./-]*)$/.exec(before);
    return file ? { kind: "@", text: file[1] } : null;
  }

  /** Enter completes what is not whole yet; a whole command is sent. */
  #needed() {
    const word = this.#word();
    return word !== null && this.#offered[this.#chosen].insert.trim() !== word.text;
  }

  async #offer() {
    const word = this.#word();
    const asked = ++this.#asked;
    if (!word || !this.#name) return this.#close();
    const found = await (word.kind === "/" ? this.#slash(word.text) : this.#files(word.text)).catch(() => []);
    if (asked !== this.#asked) return;
    this.#offered = found.slice(0, 50);
    this.offers.replaceChildren(...this.#offered.map((offer, number) => el("li", {
      id: `offer-${number}`, role: "option", "aria-selected": "false", class: "offer",
      onpointerdown: (event) => { event.preventDefault(); this.#take(offer); },
    }, el("span", { class: "offer-name" }, plain(offer.label)), el("span", { class: "offer-about" }, plain(offer.about)))));
    this.offers.hidden = !this.#offered.length;
    if (this.#offered.length) {
      this.#choose(0);
      announce(`${this.#offered.length} completions.`);
    } else this.#close();
  }

  async #slash(text) {
    if (!this.#commands.has(this.#name)) this.#commands.set(this.#name, await api.slashCommands(this.#name));
    return this.#commands.get(this.#name)
      .filter((command) => command.name.toLowerCase().includes(text.toLowerCase()))
      .sort((one, other) => other.name.startsWith(text) - one.name.startsWith(text))
      .map((command) => ({
        label: `/${command.name} ${command.argument_hint ?? ""}`, about: command.description ?? "", insert: `${command.name} `,
      }));
  }

  async #files(text) {
    const directory = text.includes("/") ? text.slice(0, text.lastIndexOf("/")) : "";
    const found = await api.files(this.#name, directory);
    return found.entries
      .map(({ path, kind }) => {
        const isDirectory = kind === "directory";
        return { label: path, about: isDirectory ? "folder" : "", insert: isDirectory ? `${path}/` : `${path} ` };
      })
      .filter((file) => file.label.toLowerCase().includes(text.toLowerCase()));
  }

  #choose(number) {
    this.#chosen = (number + this.#offered.length) % this.#offered.length;
    Array.from(this.offers.children).forEach((node, at) => node.setAttribute("aria-selected", String(at === this.#chosen)));
    this.offers.children[this.#chosen].scrollIntoView({ block: "nearest" });
    this.area.setAttribute("aria-activedescendant", `offer-${this.#chosen}`);
  }

  #take(offer) {
    const word = this.#word();
    if (!word) return;
    const end = this.area.selectionStart;
    this.area.setRangeText(offer.insert, end - word.text.length, end, "end");
    this.#close();
    this.#changed();
    if (offer.insert.endsWith("/")) this.#offer();
  }

  #close() {
    this.#asked++;
    this.#offered = [];
    this.offers.hidden = true;
    this.area.removeAttribute("aria-activedescendant");
  }
}
