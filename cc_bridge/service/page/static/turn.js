// One turn as it is shown: prompt, parts, end. Owns its elements; every message says where it belongs, so that the same
// one may come twice.

import { Blocks, copyButton } from "./blocks.js";
import { el, icon, plain } from "./dom.js";
import { details, resultView, summary } from "./tools.js";

export class TurnView {
  #parts = new Map(); // by number: { node, kind, … }
  #body = el("div", { class: "answer" });
  #foot = el("footer", { class: "foot" });
  #status = el("p", { class: "working" }, el("span", { class: "pulse", "aria-hidden": "true" }), el("span", { class: "working-text" }));

  /** `prompt`: text, blocks as the service has them, or null. */
  constructor(id, prompt, time = "") {
    this.id = id;
    this.isRunning = false;
    this.isPast = false;
    this.node = el("article", { class: "turn", "aria-label": "Turn" }, this.#body, this.#foot);
    this.time = time;
    if (prompt !== null && prompt !== undefined) this.setPrompt(prompt);
    this.#foot.hidden = true;
  }

  setPrompt(prompt) {
    this.hasPrompt = true;
    this.node.querySelector(":scope > .prompt")?.remove();
    this.node.prepend(el("div", { class: "prompt" },
      el("h2", { class: "unseen", text: "You" }), el("div", { class: "prompt-text" }, ...promptContent(prompt)),
      this.time && el("time", { class: "time", dateTime: this.time, text: shortTime(this.time), title: longTime(this.time) })));
    if (!this.node.querySelector(":scope > h2")) this.#body.before(el("h2", { class: "unseen", text: "Claude" }));
  }

  /** Everything that was answered so far is about to come again, from its first word. */
  clear() {
    this.#parts.clear();
    this.#body.replaceChildren();
    this.isPast = false;
  }

  /** The parts of a turn of the history. `pause()` is awaited now and then: a long turn does not hold up the page. */
  async fill(parts, pause) {
    this.isPast = true;
    for (const [number, part] of parts.entries()) {
      if (part.kind === "text") {
        for (const block of part.blocks) {
          await pause();
          if (!this.isPast) return; // its events came meanwhile
          this.apply({ type: "block", part: number, ...block });
        }
      } else {
        await pause();
        if (!this.isPast) return;
        this.apply({ type: "tool", part: number, name: part.name, input: part.input, parent: "" });
        if (part.result) this.apply({ type: "tool_result", part: number, ...part.result });
      }
    }
  }

  apply(message) {
    switch (message.type) {
      case "block": return this.#block(message);
      case "thinking": return this.#thinking(message);
      case "tool": return this.#tool(message);
      case "tool_result": return this.#toolResult(message);
      case "turn_result": return this.end(message);
      case "turn_started": return this.start();
      default: this.#note(message);
    }
  }

  start(says = "Working") {
    this.isRunning = true;
    this.#status.querySelector(".working-text").textContent = says;
    this.#body.append(this.#status);
  }

  /** How it has ended: `verdict`, `ok`, `error`, `cost_usd`, `duration`, `usage`. */
  end(result) {
    this.isWhole = result.cost_usd !== undefined;
    this.isRunning = false;
    this.#status.remove();
    for (const { node, kind } of this.#parts.values()) {
      node.classList.remove("open");
      if (kind === "tool" && node.classList.contains("running")) node.classList.remove("running");
    }
    const said = [];
    if (result.verdict === "interrupted") said.push(el("span", { class: "verdict", text: "Stopped" }));
    else if (result.ok === false) said.push(el("span", { class: "verdict error" }, icon("alert"), plain(result.error || result.verdict || "Failed")));
    const facts = [
      result.duration ? duration(result.duration) : "",
      result.usage?.output_tokens ? `${result.usage.output_tokens.toLocaleString()} tokens` : "",
      result.cost_usd ? `$${result.cost_usd.toFixed(result.cost_usd < 1 ? 3 : 2)}` : "",
    ].filter(Boolean);
    this.#foot.replaceChildren(...said, el("span", { class: "facts", text: facts.join(" · ") }), this.#copyButton());
    this.#foot.hidden = false;
  }

  get text() {
    return Array.from(this.#parts.values()).filter((part) => part.kind === "text").map((part) => part.blocks.text).join("\n\n");
  }

  // Private

  #copyButton() {
    if (!Array.from(this.#parts.values()).some((part) => part.kind === "text")) return "";
    return copyButton("Copy answer", () => this.text, "quiet");
  }

  #part(message, kind, make) {
    let part = this.#parts.get(message.part);
    if (!part) {
      part = Object.assign(make(), { kind });
      this.#parts.set(message.part, part);
      const parent = message.parent && this.#inside(message.parent);
      if (parent) parent.append(part.node);
      else if (this.#status.parentNode) this.#status.before(part.node);
      else this.#body.append(part.node);
    }
    return part;
  }

  #inside(toolId) {
    for (const part of this.#parts.values()) {
      if (part.id === toolId) return part.children;
    }
    return null;
  }

  #block(message) {
    const part = this.#part(message, "text", () => {
      const blocks = new Blocks();
      return { node: blocks.node, blocks };
    });
    part.blocks.apply(message);
  }

  #thinking(message) {
    const part = this.#part(message, "thinking", () => {
      const content = el("div", { class: "said" });
      const node = el("details", { class: "fold thinking" }, el("summary", {}, icon("thought"), el("span", { text: "Thinking" }), icon("chevron")), content);
      return { node, content };
    });
    const so_far = part.content.textContent;
    if (message.from <= so_far.length) part.content.textContent = so_far.slice(0, message.from) + message.text;
  }

  #tool(message) {
    const part = this.#part(message, "tool", () => makeTool(message));
    part.id = message.id;
  }

  #toolResult(message) {
    const part = this.#parts.get(message.part);
    if (part?.kind !== "tool") return;
    part.node.classList.remove("running");
    part.node.classList.toggle("failed", Boolean(message.is_error));
    part.state.textContent = message.is_error ? "failed" : "done";
    part.result = message;
    part.show();
  }

  #note(message) {
    const said = noteText(message);
    if (said && this.isRunning) this.#status.querySelector(".working-text").textContent = said;
  }
}

// Tools

function makeTool(message) {
  const body = el("div", { class: "fold-body" });
  const children = el("div", { class: "children" });
  const state = el("span", { class: "tool-state", text: "running" });
  const node = el("details", { class: "fold tool running" },
    el("summary", {}, icon("tool"), el("span", { class: "tool-name" }, plain(message.name)),
      el("span", { class: "tool-about" }, plain(summary(message.name, message.input))), state, icon("chevron")),
    body, children);
  const part = { node, state, children, result: null, show };
  // What nobody has unfolded costs nothing.
  function show() {
    if (node.open) body.replaceChildren(details(message.name, message.input), ...(part.result ? [resultView(part.result)] : []));
  }
  node.addEventListener("toggle", show);
  part.show = show;
  return part;
}

// Small things

/** A prompt's texts, and its pictures and files. */
export function promptContent(prompt) {
  if (typeof prompt === "string") return [plain(prompt)];
  return (Array.isArray(prompt) ? prompt : []).map((block) => {
    if (block?.type === "text") return el("span", {}, plain(String(block.text ?? "")));
    const type = block?.type === "image" && typeof block.data === "string" ? imageType(block.data) : "";
    if (type) {
      return el("img", { class: "thumb", alt: block.title || "Attached image", src: `data:${type};base64,${block.data}` });
    }
    return el("span", { class: "chip" }, icon("file"), plain(String(block?.title || block?.type || "file")));
  });
}

/** What the first bytes of a picture say, in base64. */
function imageType(data) {
  const types = { iVBORw0KGgo: "image/png", "/9j/": "image/jpeg", R0lGOD: "image/gif", UklGR: "image/webp" };
  return Object.entries(types).find(([begin]) => data.startsWith(begin))?.[1] ?? "";
}

function noteText(message) {
  switch (message.type) {
    case "waiting": return `Waiting in line, place ${message.position}`;
    case "api_retry": return `The API has failed; attempt ${message.attempt} of ${message.max_retries}`;
    case "silence": return message.working ? "Still working" : `Nothing heard for ${Math.round(message.seconds)} s`;
    case "tool_progress": return `${message.tool_name}, ${Math.round(message.elapsed)} s`;
    case "task_started": case "task_progress": return message.description;
    case "compact_boundary": return "The conversation was summarised";
    case "status_changed": return message.status === "compacting" ? "Summarising the conversation" : "";
    default: return "";
  }
}

export const duration = (seconds) => (seconds < 90 ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : `${Math.round(seconds / 60)} min`);

function shortTime(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? "" : date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function longTime(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? "" : date.toLocaleString();
}
