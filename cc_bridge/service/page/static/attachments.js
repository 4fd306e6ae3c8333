// Files that go with the next message. Owns: the list of them. Pictures and PDF documents become part of the message;
// other files are put into the workspace, and the message names them.

import * as api from "./api.js";
import { byId, el, icon, iconButton, plain, toast, unique } from "./dom.js";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
// The service says what a message may hold; a picture of a phone is smaller.
const MOST_INLINE = 5 * 1024 * 1024;
const MOST = 50 * 1024 * 1024;

export class Attachments {
  #files = [];

  constructor({ onChange }) {
    this.onChange = onChange;
    this.place = byId("attachments");
    this.input = byId("file-input");
    byId("attach").addEventListener("click", () => this.input.click());
    this.input.addEventListener("change", () => {
      this.add(this.input.files);
      this.input.value = "";
    });
    const area = byId("main");
    area.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      area.classList.add("dropping");
    });
    area.addEventListener("dragleave", (event) => {
      if (!area.contains(event.relatedTarget)) area.classList.remove("dropping");
    });
    area.addEventListener("drop", (event) => {
      area.classList.remove("dropping");
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
  }

  get isEmpty() {
    return this.#files.length === 0;
  }

  add(files) {
    for (const file of files) {
      if (file.size > MOST) toast(`${file.name} is larger than ${MOST / 1024 / 1024} MB.`, true);
      else this.#files.push({ file, url: IMAGES.includes(file.type) ? URL.createObjectURL(file) : "" });
    }
    this.#draw();
  }

  clear() {
    this.#files.forEach(({ url }) => url && URL.revokeObjectURL(url));
    this.#files = [];
    this.#draw();
  }

  /** The prompt that has this text and all of them: a text where there are none. Throws where a file was not taken. */
  async prompt(name, text) {
    const blocks = [];
    const paths = [];
    for (const { file } of this.#files) {
      const inline = file.size <= MOST_INLINE && (IMAGES.includes(file.type) ? "image" : file.type === "application/pdf" ? "document" : "");
      if (inline) blocks.push({ type: inline, data: await base64(file), title: file.name });
      else paths.push(await this.#upload(name, file));
    }
    const said = [text, ...paths.map((path) => `@${path}`)].filter(Boolean).join("\n");
    if (!blocks.length) return said;
    return said ? [{ type: "text", text: said }, ...blocks] : blocks;
  }

  // Private

  async #upload(name, file) {
    const path = `uploads/${unique().slice(0, 6)}-${file.name.replace(/[^\w.-]+/g, "_").slice(-80)}`;
    await api.upload(name, path, file);
    return path;
  }

  #draw() {
    this.place.hidden = this.isEmpty;
    this.place.replaceChildren(...this.#files.map((entry) => el("li", { class: "chip" },
      entry.url ? el("img", { src: entry.url, alt: "" }) : icon("file"),
      el("span", {}, plain(entry.file.name)),
      iconButton("close", `Remove ${entry.file.name}`, () => {
        this.#files = this.#files.filter((other) => other !== entry);
        this.#draw();
        byId("prompt").focus();
      }))));
    this.onChange();
  }
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let begin = 0; begin < bytes.length; begin += 0x8000) text += String.fromCharCode(...bytes.subarray(begin, begin + 0x8000));
  return btoa(text);
}
