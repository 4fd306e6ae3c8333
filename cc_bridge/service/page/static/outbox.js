// Messages on their way to the service. Owns: those that it has not accepted yet, in localStorage, each with the key by
// which the service knows it again. So a message is sent once, whatever breaks in between, also after a reload. What has
// no room there lives as long as the page, and is sent like the others.

import * as api from "./api.js";
import { store, stored, unique } from "./dom.js";

const KEY = "cc-bridge.outbox";
const TAKEN_BACK = "cc-bridge.outbox.taken-back"; // keys: another tab may have such a message on its way
const MOST_TAKEN_BACK = 100;
const PAUSE = 3_000;

const keptOnes = () => listed(KEY).filter((message) => message && message.key && message.name);

export class Outbox {
  #busy = false;
  #timer = 0;
  #waiting = [];
  #takenBack = new Set();

  /** Nothing is sent: it is not known who is signed in. */
  isHeld = true;

  /** `onChange()`: the list is another one. `onAccepted(message, turn)`, `onRefused(message, error)`. */
  constructor({ onChange, onAccepted, onRefused }) {
    Object.assign(this, { onChange, onAccepted, onRefused });
    this.messages = keptOnes();
    // Another tab has sent something, or taken it back.
    addEventListener("storage", (event) => {
      if (event.key !== KEY && event.key !== null) return;
      this.#merge();
      this.onChange();
    });
    addEventListener("online", () => this.send());
  }

  of(name) {
    return this.messages.filter((message) => message.name === name);
  }

  /** Keep a message and send it. Returns it. */
  add(name, prompt) {
    const message = { key: unique(), name, prompt, at: Date.now() };
    this.#keep(message);
    this.messages.push(message);
    this.onChange();
    this.send();
    return message;
  }

  /** Not to be sent after all. */
  remove(key) {
    this.#takenBack.add(key);
    this.#drop(key);
    store(TAKEN_BACK, [...listed(TAKEN_BACK), key].slice(-MOST_TAKEN_BACK));
  }

  /** Forget them all: they are of somebody who has gone. */
  clear() {
    this.messages = [];
    store(KEY, null);
    store(TAKEN_BACK, null);
    this.onChange();
  }

  /** Send what waits, one after the other; call it also when the service is back. */
  send() {
    if (this.#busy || this.isHeld) return;
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
    this.#merge();
    while (this.messages.length && navigator.onLine !== false && !this.isHeld) {
      const message = this.messages[0];
      try {
        const turn = await api.command(message.name, message.prompt, message.key);
        if (this.#wasTakenBack(message.key)) { // while it was on its way
          await api.endTurn(message.name, turn.id).catch(() => null);
          this.#drop(message.key);
        } else {
          this.#drop(message.key);
          this.onAccepted(message, turn);
        }
      } catch (error) {
        if (error.status === 0 || error.status === 401 || error.status === 429 || error.status >= 500) {
          this.onChange();
          this.#later();
          return;
        }
        this.#drop(message.key);
        this.onRefused(message, error);
      }
      this.#merge();
    }
    if (this.messages.length) this.#later();
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.send(), PAUSE);
  }

  #wasTakenBack(key) {
    return this.#takenBack.has(key) || listed(TAKEN_BACK).includes(key);
  }

  /** What all tabs have kept, and what only this one has; in the order in which it was written. */
  #merge() {
    const known = new Map(this.messages.map((message) => [message.key, message]));
    const kept = keptOnes().filter((message) => !this.#wasTakenBack(message.key));
    const keys = new Set(kept.map((message) => message.key));
    const unkept = this.messages.filter((message) => message.unkept && !keys.has(message.key));
    this.messages = [...kept.map((message) => known.get(message.key) ?? message), ...unkept];
    this.messages.sort((one, other) => (one.at ?? 0) - (other.at ?? 0));
  }

  /** What was kept before stays kept, whatever has no room now. */
  #keep(message) {
    if (!store(KEY, [...listed(KEY), message])) message.unkept = true;
  }

  #drop(key) {
    this.messages = this.messages.filter((message) => message.key !== key);
    const kept = listed(KEY);
    const left = kept.filter((message) => message?.key !== key);
    if (left.length < kept.length) store(KEY, left.length ? left : null);
    this.onChange();
  }
}

function listed(key) {
  const found = stored(key, []);
  return Array.isArray(found) ? found : [];
}
