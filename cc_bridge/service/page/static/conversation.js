// The conversation that is open. Owns: its turns, in order, each once; where somebody is scrolled to.

import * as api from "./api.js";
import { byId, el, announce } from "./dom.js";
import { pacer } from "./stream.js";
import { TurnView } from "./turn.js";

const NEAR = 80; // pixels from the end: who is there wants to stay there
const BY_HAND = 2000; // ms after a touch, a key or a turn of the wheel in which scrolling is a person's

export class Conversation {
  #turns = new Map();
  #before = null;
  #loading = false;
  #early = null; // messages that came before the history had
  #known = new Map(); // turns as the service has them, by id
  #generation = 0;
  #isAtEnd = true;
  #touchedAt = -BY_HAND;

  /** `onTurns()`: the turns that wait may have changed. `settled()`: when what is being sent has been accepted. */
  constructor({ onTurns, onEnded, settled }) {
    this.onTurns = onTurns;
    this.onEnded = onEnded;
    this.settled = settled;
    this.name = "";
    this.place = byId("turns");
    this.scroller = byId("scroller");
    this.older = byId("older");
    this.older.addEventListener("click", () => this.loadOlder());
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      this.scroller.addEventListener(kind, () => { this.#touchedAt = performance.now(); }, { passive: true });
    }
    byId("to-end").addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.#follow()).observe(this.place);
    new ResizeObserver(() => this.#follow()).observe(this.scroller);
    new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting) && !this.older.hidden) this.loadOlder();
    }, { root: this.scroller, rootMargin: "400px" }).observe(this.older);
  }

  /** The turn that runs, or that the service is about to begin; null: none, or it has no name yet. */
  get running() {
    for (const turn of this.#turns.values()) if (turn.isRunning && !turn.isSending) return turn.id;
    return null;
  }

  /** Something runs, or is being sent: what is sent now will wait. */
  get isBusy() {
    return [...this.#turns.values()].some((turn) => turn.isRunning);
  }

  /** Show another one. Messages of its stream may come from now on. */
  async open(name) {
    this.name = name;
    this.#turns.clear();
    this.#known.clear();
    this.place.replaceChildren();
    this.older.hidden = true;
    this.#before = null;
    this.#isAtEnd = true;
    byId("to-end").hidden = true;
    byId("loading").hidden = !name;
    byId("blank").hidden = true;
    await this.load();
  }

  /** Read the history, and put what it has in its place; also after the stream has missed something. */
  async load() {
    const generation = ++this.#generation;
    this.#early ??= [];
    if (!this.name) return void (this.#early = null);
    try {
      const [history] = await Promise.all([api.history(this.name), this.refresh()]);
      if (generation !== this.#generation) return;
      await this.#merge(history, generation);
    } finally {
      if (generation === this.#generation) {
        byId("loading").hidden = true;
        const early = this.#early ?? [];
        this.#early = null;
        early.forEach((message) => this.apply(message));
        byId("blank").hidden = this.#turns.size > 0;
      }
    }
  }

  /** What waits, and the prompts of what runs. */
  async refresh() {
    const name = this.name;
    const turns = await api.turns(name).catch(() => null);
    if (!turns || name !== this.name) return;
    for (const turn of turns) {
      this.#known.set(turn.id, turn);
      const view = this.#turns.get(turn.id);
      if (view && !view.hasPrompt) view.setPrompt(turn.prompt);
      if (view && !view.isRunning && !view.isWhole && turn.result) view.end(turn.result);
    }
    this.onTurns(turns.filter((turn) => ["stored", "sent"].includes(turn.state) && !this.#turns.get(turn.id)?.isRunning));
  }

  async loadOlder() {
    if (this.#loading || !this.#before) return;
    this.#loading = true;
    this.older.disabled = true;
    try {
      const generation = this.#generation;
      const found = await api.history(this.name, this.#before);
      if (generation !== this.#generation) return;
      const height = this.scroller.scrollHeight - this.scroller.scrollTop;
      const views = [];
      const pause = pacer();
      for (const turn of found.turns) if (!this.#turns.has(turn.turn)) views.push(await this.#past(turn, pause));
      if (generation !== this.#generation) return;
      this.#turns = new Map([...views.map((view) => [view.id, view]), ...this.#turns]);
      this.place.prepend(...views.map((view) => view.node));
      this.scroller.scrollTop = this.scroller.scrollHeight - height;
      this.#setBefore(found.before);
    } finally {
      this.#loading = false;
      this.older.disabled = false;
    }
  }

  /** What the turn that runs waits for: somebody's permission, or nothing. */
  setWaiting(forPermission) {
    const view = this.#turns.get(this.running);
    if (view && view.isWaiting !== forPermission) view.start(forPermission ? "Waiting for your permission" : "Working");
    if (view) view.isWaiting = forPermission;
  }

  /** A message of the stream. */
  apply(message) {
    if (this.#early) return void this.#early.push(message);
    if (!message.turn) return;
    const view = this.#turns.get(message.turn) ?? this.#begin(message.turn);
    if (view.isPast) view.clear(); // its events come from the first one on, and have more than the history
    if (!view.isRunning && message.type !== "turn_result") this.#start(view);
    view.apply(message);
    if (message.type === "turn_started") this.refresh();
    if (message.type === "turn_result") {
      this.onEnded(view, message);
      this.refresh();
    }
  }

  /** A message that was just sent, before the service has given it a name. */
  addSent(key, prompt) {
    const view = new TurnView(key, prompt, new Date().toISOString());
    view.isSending = true;
    view.node.classList.add("sending");
    view.start("Sending");
    this.#append(view);
    this.toEnd();
    return view;
  }

  /** The service has accepted what `addSent` has shown: as this turn. */
  accept(key, turn) {
    this.#known.set(turn.id, turn);
    const view = this.#turns.get(key);
    if (!view) return;
    this.#turns.delete(key);
    const there = this.#turns.get(turn.id);
    if (there) { // it has begun meanwhile
      view.node.remove();
      if (!there.hasPrompt) there.setPrompt(turn.prompt);
      return;
    }
    view.id = turn.id;
    view.isSending = false;
    view.node.classList.remove("sending");
    view.start("Starting");
    this.#turns.set(turn.id, view);
  }

  /** It was not sent, or waits somewhere else. */
  withdraw(key) {
    this.#turns.get(key)?.node.remove();
    this.#turns.delete(key);
    byId("blank").hidden = this.#turns.size > 0;
  }

  toEnd() {
    this.#isAtEnd = true;
    this.#follow();
  }

  // Private

  /** A turn of the history; `show(view)` puts it into the page before it is filled. */
  async #past(turn, pause, show = () => {}) {
    const known = this.#known.get(turn.turn);
    const view = new TurnView(turn.turn || `before-${turn.time}`, known?.prompt ?? turn.prompt, turn.time);
    show(view);
    await view.fill(turn.parts, pause);
    if (view.isPast) view.end(known?.result ?? {});
    return view;
  }

  async #merge(history, generation) {
    const newest = history.turns.filter((turn) => !this.#turns.get(turn.turn)?.isRunning || turn.turn !== history.running);
    const pause = pacer();
    for (const turn of newest) {
      if (generation !== this.#generation) return;
      const there = this.#turns.get(turn.turn);
      if (turn.turn && turn.turn === history.running) {
        this.#append(this.#running(turn));
      } else {
        await this.#past(turn, pause, (view) => {
          if (there) there.node.replaceWith(view.node);
          else this.#append(view);
          this.#turns.set(view.id, view);
        });
      }
    }
    // A turn that the page has seen begin, and that has ended while it was away, is in the history now.
    for (const view of [...this.#turns.values()]) {
      const known = this.#known.get(view.id);
      if (view.isRunning && view.id !== history.running && known?.state === "ended") view.end(known.result ?? {});
    }
    for (const view of this.#turns.values()) if (view.isRunning) this.place.append(view.node); // after what has ended
    if (!this.#before) this.#setBefore(history.before);
  }

  #running(turn) {
    const view = new TurnView(turn.turn, this.#known.get(turn.turn)?.prompt ?? turn.prompt, turn.time);
    view.start();
    return view;
  }

  #begin(id) {
    const known = this.#known.get(id);
    const view = new TurnView(id, known?.prompt ?? null, known?.created ?? "");
    this.#append(view);
    if (!known) {
      // What this page sends itself is on its way: its answer brings the prompt.
      this.settled().then(() => this.refresh());
    }
    return view;
  }

  #start(view) {
    view.node.classList.remove("sending");
    view.start();
    announce("Claude is answering.");
  }

  #append(view) {
    this.#turns.set(view.id, view);
    this.place.append(view.node);
    byId("blank").hidden = true;
  }

  #setBefore(before) {
    this.#before = before ?? null;
    this.older.hidden = !this.#before;
  }

  /** Only a person leaves the end: content that grows, or a card that appears, moves things too. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR;
    if (isNear) this.#isAtEnd = true;
    else if (performance.now() - this.#touchedAt < BY_HAND) this.#isAtEnd = false;
    byId("to-end").hidden = this.#isAtEnd;
  }

  #follow() {
    if (this.#isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
