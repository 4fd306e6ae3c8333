// What a person is told who looks at something else: a number in the title, and a notification where they want them.

import { store, stored, toast } from "./dom.js";

const KEY = "cc-bridge.notify";

export class Notify {
  #waiting = 0;
  #title = "cc-bridge";
  #ready = false;

  constructor() {
    this.isOn = stored(KEY, false) && globalThis.Notification?.permission === "granted";
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#ready = false;
      this.#draw();
    });
  }

  /** Switch notifications on or off; the browser asks the person first. */
  async toggle() {
    if (!globalThis.Notification) return toast("This browser has no notifications here.", true);
    if (!this.isOn && (await Notification.requestPermission()) !== "granted") {
      return toast("The browser does not allow notifications for this page.", true);
    }
    this.isOn = !this.isOn;
    store(KEY, this.isOn);
    toast(this.isOn ? "Notifications are on." : "Notifications are off.");
  }

  title(text) {
    this.#title = text ? `${text} · cc-bridge` : "cc-bridge";
    this.#draw();
  }

  /** So many permission requests wait. */
  waiting(count) {
    this.#waiting = count;
    this.#draw();
  }

  /** Tell of something that has happened while the page is in the background. */
  tell(title, text, onclick) {
    if (!document.hidden) return;
    this.#ready = true;
    this.#draw();
    if (!this.isOn) return;
    try {
      const note = new Notification(title, { body: text, tag: `${title}${text}`, icon: document.querySelector("link[rel=icon]").href });
      note.onclick = () => { window.focus(); onclick(); note.close(); };
    } catch {
      // Some phones have notifications of service workers only; the title says it all the same.
    }
  }

  #draw() {
    const badge = this.#waiting ? `(${this.#waiting}) ` : this.#ready && document.hidden ? "● " : "";
    document.title = badge + this.#title;
  }
}
