// Messages on their way to the service. Owns: those that it has not accepted yet, in localStorage, each with the key by
// which the service knows it again. So a message is sent once, whatever breaks in between, also after a reload.

import * as api from "./api.js";
import { store, stored, unique } from "./dom.js";

const KEY = "cc-bridge.outbox";
const PAUSE = 3_000;

export class Outbox {
  #busy = false;
  #timer = 0;
  #waiting = [];

  /** `onChange()`: the list is another one. `onAccepted(message, turn)`, `onRefused(message, error)`. */
  constructor({ onChange, onAccepted, onRefused }) {
    Object.assign(this, { onChange, onAccepted, onRefused });
    this.messages = stored(KEY, []).filter((message) => message && message.key && message.name);
    // Another tab has sent something, or taken it back.
    addEventListener("storage", (event) => {
      if (event.key !== KEY) return;
      this.messages = stored(KEY, []);
      this.onChange();
    });
    addEventListener("online", () => this.send());
  }

  of(name) {
    return this.messages.filter((message) => message.name === name);
  }

  /** Keep a message and send it. Returns it. */
  add(name, prompt) {
    const message = { key: unique(), name, prompt };
    this.messages.push(message);
    this.#save();
    this.send();
    return message;
  }

  /** Not to be sent after all. */
  remove(key) {
    this.messages = this.messages.filter((message) => message.key !== key);
    this.#save();
  }

  /** Send what waits, one after the other; call it also when the service is back. */
  send() {
    if (this.#busy) return;
    clearTimeout(this.#timer);
    this.#busy = true;
    // One tab at a time sends: the key would keep a second one from counting, the order of two could be another.
    const work = () => this.#sendAll();
    const done = navigator.locks ? navigator.locks.request("cc-bridge-outbox", work) : work();
    done.finally(() => {
      this.#busy = false;
      this.#waiting.splice(0).forEach((resolve) => resolve());
    });
  }

  /** When nothing is on its way: it was accepted, or the service is away. */
  settled() {
    return this.#busy ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve();
  }

  // Private

  async #sendAll() {
    const lost = this.messages; // too long to be kept: they are in memory only
    const kept = stored(KEY, []);
    this.messages = [...kept, ...lost.filter((message) => message.unkept && !kept.some((other) => other.key === message.key))];
    while (this.messages.length && navigator.onLine !== false) {
      const message = this.messages[0];
      try {
        const turn = await api.command(message.name, message.prompt, message.key);
        if (!this.messages.some((other) => other.key === message.key)) { // taken back while it was on its way
          await api.endTurn(message.name, turn.id).catch(() => null);
          this.onChange();
          continue;
        }
        this.remove(message.key);
        this.onAccepted(message, turn);
      } catch (error) {
        if (error.status === 0 || error.status === 401 || error.status === 429 || error.status >= 500) {
          this.onChange();
          this.#timer = setTimeout(() => this.send(), PAUSE);
          return;
        }
        this.remove(message.key);
        this.onRefused(message, error);
      }
    }
    if (this.messages.length) this.#timer = setTimeout(() => this.send(), PAUSE);
  }

  #save() {
    this.messages.forEach((message) => delete message.unkept);
    if (!store(KEY, this.messages)) {
      // Big attachments have no room there. The rest is kept, these live as long as the page.
      const small = this.messages.filter((message) => JSON.stringify(message).length < 100_000);
      this.messages.filter((message) => !small.includes(message)).forEach((message) => { message.unkept = true; });
      store(KEY, small);
    }
    this.onChange();
  }
}
