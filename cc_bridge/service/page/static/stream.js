// The page's one connection. Owns: whether the service is there, and after which event the conversation is read on.
//
// A browser has six connections to a host, over all tabs: tabs that nobody looks at share a few, or have none.
//
// The service beats once a second. Who hears nothing for almost three is cut off, whatever the network says; after ten
// the connection is made anew. What arrives is handed on in small portions, so that a page that has slept stays quick.

const SILENT = 2_700;
const DEAD = 10_000;
const PAUSES = [300, 700, 1500, 3000, 5000];
const PORTION = 10;
const UNSEEN = 20_000; // ms after which a tab that nobody looks at gives its connection to others
const UNSEEN_TABS = 3;

export class Stream {
  #name = "";
  #after = "";
  #abort = null;
  #failures = 0;
  #timer = 0;
  #heard = 0;
  #queue = [];
  #pumping = false;
  #run = 0;
  #hiding = 0;
  #release = null;

  /** `onMessage(message)` gets what the service says, `onState("live" | "offline" | "signed-out")` how it does. */
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.state = "";
    addEventListener("online", () => this.#again(0));
    addEventListener("offline", () => this.#lost());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#hide() : this.#show()));
    setInterval(() => this.#watch(), 500);
  }

  /** Read this conversation from now on, or from its running turn's first word; "": none. */
  open(name) {
    this.#name = name;
    this.#after = "";
    this.#queue.length = 0;
    this.#again(0);
  }

  close() {
    this.#run = 0;
    this.#abort?.abort();
    clearTimeout(this.#timer);
  }

  // Private

  #show() {
    clearTimeout(this.#hiding);
    this.#release?.();
    this.#release = null;
    // A phone that has slept: what it has heard last is old, and its connection may be dead.
    if (this.#run && performance.now() - this.#heard > SILENT) this.#again(0);
  }

  #hide() {
    if (!navigator.locks) return; // without TLS; then the tabs have to be few
    this.#hiding = setTimeout(async () => {
      for (let number = 0; number < UNSEEN_TABS; number++) {
        if (await this.#takePlace(number)) return;
      }
      if (!document.hidden) return;
      clearTimeout(this.#timer);
      this.#run++;
      this.#heard = -DEAD;
      this.#abort?.abort();
    }, UNSEEN);
  }

  /** Keep the connection as one of few hidden tabs, until somebody looks here; false: another tab has this place. */
  #takePlace(number) {
    return new Promise((resolve) => navigator.locks.request(`cc-bridge-unseen-${number}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && document.hidden ? new Promise((release) => { this.#release = release; }) : undefined;
    }));
  }

  #watch() {
    if (!this.#run || !this.#heard || document.hidden) return;
    const silent = performance.now() - this.#heard;
    if (silent > DEAD) this.#again(0);
    else if (silent > SILENT) this.#say("offline");
  }

  #say(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state);
  }

  #lost() {
    this.#abort?.abort();
    this.#say("offline");
    this.#again(PAUSES[Math.min(this.#failures++, PAUSES.length - 1)]);
  }

  #again(pause) {
    clearTimeout(this.#timer);
    const run = (this.#run = this.#run + 1 || 1);
    this.#abort?.abort();
    this.#timer = setTimeout(() => this.#read(run), pause);
  }

  async #read(run) {
    if (navigator.onLine === false) return this.#lost();
    this.#abort = new AbortController();
    this.#heard = performance.now();
    const query = new URLSearchParams({ c: this.#name, after: this.#after });
    try {
      const answer = await fetch(`/page/events?${query}`, { signal: this.#abort.signal, credentials: "same-origin", cache: "no-store" });
      if (answer.status === 401) return this.#say("signed-out");
      if (answer.status === 404) return this.onMessage({ type: "unknown" });
      if (!answer.ok) throw new Error(String(answer.status));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || run !== this.#run) break;
        this.#heard = performance.now();
        this.#failures = 0;
        this.#say("live");
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        events.forEach((event) => this.#take(event));
      }
    } catch {
      // Said below: whatever broke, the connection is made again.
    }
    if (run === this.#run) this.#lost();
  }

  #take(event) {
    let id = "";
    let data = "";
    for (const line of event.split("\n")) {
      if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) data = line.slice(6);
    }
    if (!data) return;
    const message = JSON.parse(data);
    if (message.type === "beat") return;
    this.#queue.push([message, id]);
    this.#pump();
  }

  /** Hand on for a while, and then let the browser have its turn, whatever has come meanwhile. */
  #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    const began = performance.now();
    while (this.#queue.length && performance.now() - began < PORTION) {
      const [message, id] = this.#queue.shift();
      this.onMessage(message);
      if (id) this.#after = id;
    }
    soon(() => {
      this.#pumping = false;
      if (this.#queue.length) this.#pump();
    });
  }

  /** The service has forgotten what came after our place: read from now on. */
  forget() {
    this.#after = "";
  }
}

/** A function to await between small pieces of work: most calls cost nothing, each 8 ms the browser has its turn. */
export function pacer() {
  let began = performance.now();
  return async () => {
    if (performance.now() - began < 8) return;
    await new Promise((resolve) => (document.hidden ? soon(resolve) : requestAnimationFrame(() => soon(resolve))));
    began = performance.now();
  };
}

/** After the browser had its turn; timers of a page in the background come once a second, messages do not. */
export function soon(work) {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => { channel.port1.close(); work(); };
  channel.port2.postMessage(null);
}
