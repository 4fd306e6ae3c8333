// Permission requests. Owns: those that wait, of all conversations, and the cards of the one that is open.

import * as api from "./api.js";
import { announce, byId, el, icon, plain, toast } from "./dom.js";
import { details } from "./tools.js";

// Milliseconds in which what allows takes no click after its card has appeared or moved: the second half of a double
// click, or of a key that is held, is no answer to a question that nobody has read.
const REST = 700;

const LOOK_AGAIN = 1000; // ms after which a request that is said to wait, and that the list lacks, is looked for again

export class Permissions {
  #open = new Map();
  #cards = new Map();
  #asked = 0;
  #waiting = new Map(); // by instance: what waits there, as was said last
  #isResting = false;
  #timer = 0;

  /** `onChange()`: others wait now. `onAsked(request)`: a new one. */
  constructor({ onChange, onAsked }) {
    this.onChange = onChange;
    this.onAsked = onAsked;
    this.name = "";
    this.place = byId("permissions");
    const moved = new ResizeObserver(() => this.#rest());
    moved.observe(this.place);
    moved.observe(byId("queue"));
  }

  get all() {
    return [...this.#open.values()];
  }

  show(name) {
    this.name = name;
    this.#draw();
  }

  /** Ask the service what waits: at the beginning, and when there is something new. */
  async load() {
    const asked = ++this.#asked;
    const found = await api.permissions().catch(() => null);
    if (!found || asked !== this.#asked) return;
    const before = this.#open;
    this.#open = new Map(found.map((request) => [request.id, request]));
    for (const request of found) if (!before.has(request.id)) this.onAsked(request);
    this.#draw();
    this.onChange();
  }

  /** These wait in an instance, by their ids. What is not among them was decided, here or elsewhere. */
  hear(instance, ids) {
    const mine = this.all.filter((request) => request.instance === instance);
    const over = mine.filter((request) => !ids.includes(request.id));
    for (const request of over) {
      if (this.#cards.has(request.id) && !this.#cards.get(request.id).isOurs) announce("This permission request was decided elsewhere.");
      this.#open.delete(request.id);
    }
    if (over.length) {
      this.#draw();
      this.onChange();
    }
    this.#waiting.set(instance, ids);
    if (ids.some((id) => !this.#open.has(id))) this.load().then(() => this.#lookAgain(instance, ids));
  }

  focus() {
    this.place.querySelector(".request")?.focus(); // not a button: what is pressed next was meant for something else
  }

  // Private

  /** What waits has to be shown: the list may not have been had, or not have had it yet. */
  #lookAgain(instance, ids) {
    if (ids.every((id) => this.#open.has(id))) return;
    setTimeout(() => this.#waiting.get(instance) === ids && this.hear(instance, ids), LOOK_AGAIN);
  }

  #draw() {
    const shown = this.all.filter((request) => request.instance === this.name);
    const before = [...this.#cards.keys()].join();
    let left = false;
    for (const [id, card] of this.#cards) {
      if (shown.some((request) => request.id === id)) continue;
      const hadFocus = card.contains(document.activeElement);
      card.remove();
      this.#cards.delete(id);
      left ||= hadFocus;
    }
    for (const request of shown) {
      if (this.#cards.has(request.id)) continue;
      const card = this.#card(request);
      this.#cards.set(request.id, card);
      this.place.append(card);
    }
    this.place.hidden = shown.length === 0;
    if ([...this.#cards.keys()].join() !== before) this.#rest();
    if (left && document.activeElement === document.body) this.#goOn();
  }

  /** Where the keyboard is after an answer: at the next request, or where a second Enter sends nothing. */
  #goOn() {
    const prompt = byId("prompt");
    if (this.#cards.size) this.focus();
    else (prompt.value.trim() ? byId("scroller") : prompt).focus();
  }

  /** Something has moved: look first. */
  #rest() {
    clearTimeout(this.#timer);
    this.#setResting(true);
    this.#timer = setTimeout(() => this.#setResting(false), REST);
  }

  #setResting(isResting) {
    this.#isResting = isResting;
    // Not `disabled`, which would take the focus away.
    this.place.querySelectorAll(".allows").forEach((button) => button.setAttribute("aria-disabled", String(isResting)));
  }

  #card(request) {
    const id = `request-${request.id}`;
    const suggested = request.suggested_rules ?? [];
    const rule = el("input", { id: `${id}-rule`, type: "text", value: suggested[0] ?? "", spellcheck: "false", autocomplete: "off", placeholder: `${request.tool}(…)` });
    const reason = el("input", { id: `${id}-reason`, type: "text", autocomplete: "off", placeholder: "If denied: what to do instead" });
    const error = el("p", { class: "error-text", role: "alert", hidden: true });
    const answer = (chosen) => {
      if (chosen.answer === "deny" || !this.#isResting) this.#answer(request, card, error, chosen);
    };
    const button = (text, chosen, extra = "") => el("button", { type: "button", class: `button ${extra}`, text, onclick: () => answer(chosen()) });
    const remembered = (how) => () => ({ answer: how, rule: rule.value.trim() });
    const remembering = [button("For this session", remembered("session"), "allows"), button("Always", remembered("always"), "allows")];
    const hidden = el("p", { class: "hint", hidden: true });
    // Without a rule, all that were suggested would be kept; and a rule says no more than is seen of it.
    const checkRule = () => {
      remembering.forEach((one) => { one.disabled = !rule.value.trim(); });
      hidden.replaceChildren("Characters that cannot be seen: ", plain(rule.value));
      hidden.hidden = !hidden.querySelector(".hidden-mark");
    };
    rule.addEventListener("input", checkRule);
    const card = el("section", { class: "request", tabIndex: -1, "aria-labelledby": `${id}-title` },
      el("h2", { id: `${id}-title`, class: "request-title" }, icon("alert"), el("span", {}, "Allow ", el("strong", {}, plain(request.tool)), "?")),
      el("div", { class: "request-what" }, request.input === null || request.input === undefined
        ? el("p", { class: "hint", text: "The input is too long to be kept; it is shown when the conversation is attended again." })
        : details(request.tool, request.input)),
      lines(request.input),
      (request.undecided || request.reason) && el("p", { class: "hint" }, plain(request.undecided || request.reason)),
      el("div", { class: "request-row" },
        button("Allow once", () => ({ answer: "allow" }), "primary allows"),
        button("Deny", () => ({ answer: "deny", ...(reason.value.trim() ? { reason: reason.value.trim() } : {}) }), "danger"),
        el("div", { class: "field" }, el("label", { class: "unseen", htmlFor: reason.id, text: "Reason for denying" }), reason)),
      el("details", { class: "remember" }, el("summary", { text: "Remember a rule" }),
        el("div", { class: "request-row" },
          el("div", { class: "field" }, el("label", { htmlFor: rule.id, text: "Rule" }), rule),
          ...remembering),
        hidden,
        suggested.length > 1 && el("p", { class: "hint" }, "Also suggested: ", plain(suggested.slice(1).join(", ")))),
      error);
    card.checkRule = checkRule;
    checkRule();
    reason.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    return card;
  }

  async #answer(request, card, error, chosen) {
    card.isOurs = true;
    const hadFocus = card.contains(document.activeElement);
    const controls = card.querySelectorAll("button, input");
    controls.forEach((control) => { control.disabled = true; });
    error.hidden = true;
    try {
      await api.decide(request.id, chosen);
      this.#open.delete(request.id);
      announce(chosen.answer === "deny" ? "Denied." : "Allowed.");
    } catch (problem) {
      if (problem.status === 409 || problem.status === 404) {
        toast(`Somebody was first: ${problem.message}`);
        this.#open.delete(request.id);
      } else {
        error.textContent = problem.message;
        error.hidden = false;
        controls.forEach((control) => { control.disabled = false; });
        card.checkRule();
      }
    }
    this.#draw();
    this.onChange();
    if (!hadFocus || document.activeElement !== document.body) return; // somebody goes on somewhere else
    if (card.isConnected) card.focus();
    else this.#goOn();
  }
}

/** How much there is to read: a long command is not to be taken for its first lines. */
function lines(input) {
  const command = typeof input?.command === "string" ? input.command : "";
  const count = command.split("\n").length;
  return count > 8 ? el("p", { class: "hint", text: `${count} lines, all of them shown: scroll to read them.` }) : null;
}
