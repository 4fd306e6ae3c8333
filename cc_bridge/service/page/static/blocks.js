// Blocks of a text, as the service numbers them: each has its place, and what comes again under its number replaces it.
// What is long comes in pieces, and pieces that are out of sight are not laid out.

import { el, icon } from "./dom.js";
import { fragment, morph } from "./markup.js";

/** The blocks of one text: `node`, `apply(message)`, `text`. */
export class Blocks {
  #blocks = new Map();
  node = el("div", { class: "text" });

  /** A block: `n`, `kind`, `html`, `joins`, `language`, and `open` where it is the last one so far. */
  apply(message) {
    let block = this.#blocks.get(message.n);
    if (block && block.kind !== message.kind) { // what began like a paragraph has become a table
      this.#drop(message.n);
      block = undefined;
    }
    if (!block) {
      block = makeBlock(message, this, this.#blocks.get(message.n - 1));
      this.#blocks.set(message.n, block);
    }
    if (message.open) for (let later = message.n + 1; this.#blocks.has(later); later++) this.#drop(later);
    if (block.html !== message.html) {
      block.html = message.html;
      block.show(fragment(message.html));
    }
  }

  /** What it says, for the clipboard. */
  get text() {
    return Array.from(this.node.children).map((child) => (child.querySelector("pre") ?? child).textContent.trim()).join("\n\n");
  }

  #drop(number) {
    this.#blocks.get(number).drop();
    this.#blocks.delete(number);
  }
}

/** A place for a block: its own, or inside the code or table that it goes on. */
function makeBlock(message, part, before) {
  if (message.kind === "code") return codeBlock(message, part, before);
  if (message.kind === "table") return tableBlock(message, part, before);
  const node = el("div", { class: message.joins ? "block joins" : "block" });
  part.node.append(node);
  return { kind: message.kind, node, drop: () => node.remove(), show: (content) => morph(node, content) };
}

function codeBlock(message, part, before) {
  const piece = el("code", { class: "piece" });
  let box = message.joins && before?.kind === "code" ? before.box : null;
  if (!box) {
    const pre = el("pre", { tabIndex: 0, "aria-label": message.language ? `Code, ${message.language}` : "Code" });
    box = el("div", { class: "code-box" },
      el("div", { class: "code-head" }, el("span", { text: message.language ?? "" }), copyButton("Copy code", () => pre.textContent)), pre);
    part.node.append(box);
  }
  box.lastElementChild.append(piece);
  const drop = () => { piece.remove(); if (!box.lastElementChild.firstChild) box.remove(); };
  return {
    kind: "code", box, drop,
    show(content) {
      morph(piece, content);
      piece.style.setProperty("--lines", piece.textContent.split("\n").length - 1); // its height while it is out of sight
    },
  };
}

/** Rows come in portions, each a table of its own with the header above it: so those out of sight cost nothing. */
function tableBlock(message, part, before) {
  let box = message.joins && before?.kind === "table" ? before.box : null;
  if (!box) {
    box = el("div", { class: "table-box", tabIndex: 0, role: "region", "aria-label": "Table" });
    part.node.append(box);
  } else {
    box.classList.add("long"); // columns are as wide in each portion
  }
  const rows = el("div", { class: "rows" });
  box.append(rows);
  const drop = () => { rows.remove(); if (!box.firstChild) box.remove(); };
  return {
    kind: "table", box, drop,
    show(content) {
      const table = content.querySelector("table");
      table.removeAttribute("tabindex");
      if (table.rows[0]?.cells.length > 12) box.classList.add("long");
      box.style.setProperty("--columns", table.rows[0]?.cells.length ?? 1);
      rows.style.setProperty("--rows", table.rows.length);
      morph(rows, content);
    },
  };
}

export function copyButton(label, content, extra = "") {
  const button = el("button", { type: "button", class: `copy ${extra}`, title: label, "aria-label": label }, icon("copy"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(content());
    } catch { // no clipboard without TLS: the old way
      const area = el("textarea", { value: content(), class: "unseen" });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}
