// Puts the page together: who is signed in, which conversation is open, and who is told what.

import * as api from "./api.js";
import { Composer } from "./composer.js";
import { Controls } from "./controls.js";
import { Conversation } from "./conversation.js";
import { forkConversation, newConversation, removeConversation, renameConversation, showUsage } from "./dialogs.js";
import { announce, byId, store, stored, toast } from "./dom.js";
import { wireDrawer } from "./drawer.js";
import { List, stateOf, titleOf } from "./list.js";
import { Notify } from "./notify.js";
import { Outbox } from "./outbox.js";
import { Palette } from "./palette.js";
import { Permissions } from "./permissions.js";
import { Queue } from "./queue.js";
import { Stream } from "./stream.js";
import { nextTheme } from "./theme.js";

const PLACE = "cc-bridge.place"; // which conversation somebody wants who is away to sign in
const OWNER = "cc-bridge.owner"; // whose drafts and unsent messages this browser keeps

let current = "";
let owner = "";
let helloes = 0;
let missed = "";
const woken = new Set();

const notify = new Notify();
const controls = new Controls();
const outbox = new Outbox({
  onChange: () => queue?.draw(),
  onAccepted: (message, turn) => {
    if (message.name !== current) return;
    if (turn.state === "stored" && conversation.running && conversation.running !== turn.id) conversation.withdraw(message.key);
    else conversation.accept(message.key, turn);
    conversation.refresh();
  },
  onRefused: (message, error) => {
    conversation.withdraw(message.key);
    toast(`The message was not taken. ${error.message}`, true);
    if (message.name === current && typeof message.prompt === "string") composer.insert(message.prompt);
  },
});
const conversation = new Conversation({
  onTurns: (turns) => queue.set(turns),
  onEnded: (view, result) => {
    controls.refresh();
    announce(result.ok === false ? "The answer has ended early." : "The answer is complete.");
    tellIfHidden(current, result.ok === false ? "The answer has ended early" : "The answer is ready");
  },
  settled: () => outbox.settled(),
});
const queue = new Queue({ outbox, conversation });
const permissions = new Permissions({
  onChange: () => notify.waiting(permissions.all.length),
  onAsked: (request) => {
    announce(`Permission needed for ${request.tool}.`);
    if (request.instance !== current) toast(`${titleOf(list.get(request.instance)) || request.instance} needs a permission.`);
    tellIfHidden(request.instance, `Permission needed for ${request.tool}`);
  },
});
const list = new List({
  onOpen: (name) => open(name),
  onChange: (instance, before) => {
    permissions?.hear(instance.name, instance.permissions);
    if (instance.name === current) {
      drawHead();
      if (before && (before.waiting !== instance.waiting || before.turn !== instance.turn)) conversation.refresh();
    } else if (before?.state === "busy" && instance.state === "idle") {
      tellIfHidden(instance.name, "The answer is ready");
    }
  },
});
const composer = new Composer({ onSend: send, onStop: stop, onTyping: wake });
const stream = new Stream(hear, connection);
new Palette(paletteEntries);

// What a person does

function send(name, prompt) {
  const isFirst = name === current && !conversation.isBusy && queue.length === 0 && stream.state === "live";
  const message = outbox.add(name, prompt);
  if (isFirst) {
    message.isShown = true;
    conversation.addSent(message.key, prompt);
  }
  queue.draw();
  conversation.toEnd();
}

/** Who begins to write to one that sleeps finds it awake when the message is done. */
function wake(name) {
  if (list.get(name)?.state !== "asleep" || woken.has(name)) return;
  woken.add(name);
  setTimeout(() => woken.delete(name), 60_000);
  api.act(name, "wake").catch(() => null);
}

async function stop() {
  try {
    await api.act(current, "interrupt");
    announce("Stopped.");
  } catch (error) {
    toast(error.message, true);
  }
}

async function act(verb, done) {
  try {
    await api.act(current, verb);
    toast(done);
  } catch (error) {
    toast(error.message, true);
  }
}

async function create() {
  const name = await newConversation(list.all.map((instance) => instance.name));
  if (name) {
    await list.load();
    open(name);
  }
}

async function fork() {
  const name = await forkConversation(list.get(current), list.all.map((instance) => instance.name));
  if (name) {
    await list.load();
    open(name);
  }
}

async function rename() {
  if (await renameConversation(list.get(current))) list.load();
}

async function remove() {
  if (await removeConversation(list.get(current))) {
    open("");
    await list.load();
  }
}

async function signOut() {
  outbox.isHeld = true;
  forget();
  store(OWNER, null);
  await api.signOut().catch(() => null);
  location.assign("/");
}

/** What one person has written is neither shown to the next one nor sent in their name. */
function forget() {
  composer.forget();
  outbox.clear();
}

function belongTo(who) {
  const name = JSON.stringify([who.id ?? "", who.name]);
  if (stored(OWNER) !== name || (owner && owner !== name)) forget();
  owner = name;
  store(OWNER, name);
  outbox.isHeld = false;
}

// Another tab has signed out, or somebody else in.
addEventListener("storage", (event) => {
  if (event.key !== OWNER || !owner || stored(OWNER) === owner) return;
  outbox.isHeld = true;
  outbox.messages = [];
  location.reload();
});

// Which conversation is open

function open(name, { isBack = false } = {}) {
  document.body.classList.remove("drawer");
  if (!isBack && name !== current) history.pushState(null, "", name ? `/c/${encodeURIComponent(name)}` : "/");
  current = name;
  helloes = 0;
  document.body.classList.toggle("nothing-open", !name);
  queue.set([]);
  composer.setRunning(false);
  list.open(name);
  permissions.show(name);
  stream.open(name);
  conversation.open(name).catch(lost);
  composer.open(name);
  controls.open(name, list.get(name));
  drawHead();
  queue.draw();
}

function lost(error) {
  if (error.status === 404) hear({ type: "unknown" });
}

const named = () => decodeURIComponent(/^\/c\/([^/]+)$/.exec(location.pathname)?.[1] ?? "");
addEventListener("popstate", () => open(named(), { isBack: true }));

// What the service says

function hear(message) {
  switch (message.type) {
    case "hello": return welcome();
    case "unknown": return leave("There is no such conversation here.");
    case "missed": // half a turn: read it from its beginning, if it can be had
      if (missed !== message.turn) again();
      missed = message.turn;
      return;
    case "gone": return again(); // nobody keeps any more what came after our place
    case "failed":
      toast(message.error, true);
      return void setTimeout(again, 3000, current);
    case "instance": case "removed":
      list.hear(message);
      if (message.type === "removed" && message.name === current) leave("This conversation was deleted.");
      return;
    default:
      if (message.type === "status_changed" && message.permission_mode) controls.setMode(message.permission_mode);
      conversation.apply(message);
      composer.setRunning(Boolean(conversation.running));
  }
}

function leave(why) {
  if (!current) return;
  toast(why, true);
  open("");
}

function again(name = current) {
  if (name !== current) return;
  helloes = 1; // what the stream does not repeat is read anew
  stream.open(current);
}

/** The stream has begun, or begins again: what it does not repeat is asked for. */
function welcome() {
  permissions.load();
  outbox.send();
  if (helloes++ === 0) return;
  list.load().catch(() => null);
  conversation.load().catch(lost);
}

function connection(state) {
  queue.isOffline = state !== "live";
  byId("offline").hidden = state === "live";
  document.body.classList.toggle("offline", state !== "live");
  if (state === "offline") announce("The connection is lost. Messages are kept and sent later.");
  if (state === "signed-out") showSignIn();
  queue.draw();
}

function tellIfHidden(name, text) {
  list.markUnread(name);
  notify.tell(titleOf(list.get(name)) || name, text, () => open(name));
}

function drawHead() {
  const instance = list.get(current);
  const [label, look] = stateOf(instance);
  byId("title").textContent = titleOf(instance) || current;
  byId("state").textContent = label;
  byId("state").className = `state ${look}`;
  notify.title(titleOf(instance) || current);
  conversation.setWaiting(instance?.state === "permission");
  composer.setRunning(Boolean(conversation.running) || ["busy", "permission"].includes(instance?.state));
}

function paletteEntries() {
  const here = list.get(current);
  const actions = here ? [
    { label: "Stop the answer", run: stop },
    { label: "Rename", run: rename },
    { label: "Fork", run: fork },
    { label: "Context and cost", run: () => showUsage(here) },
    { label: "Export", run: () => location.assign(api.exportAddress(current)) },
    { label: "Put to sleep", run: () => act("sleep", "It sleeps.") },
    { label: "Delete", run: remove },
  ] : [];
  return [
    ...list.all.filter((instance) => instance.name !== current).map((instance) => ({ label: titleOf(instance), about: stateOf(instance)[0], run: () => open(instance.name) })),
    { label: "New conversation", run: create },
    ...actions.map((action) => ({ ...action, about: titleOf(here) })),
    { label: "Change the theme", run: () => toast(`Theme: ${nextTheme()}`) },
    { label: "Notifications on or off", run: () => notify.toggle() },
    { label: "Sign out", run: signOut },
  ];
}

// Beginning

function wire() {
  const menu = byId("menu");
  const choose = (id, run) => byId(id).addEventListener("click", () => { menu.hidePopover(); run(); });
  byId("new").addEventListener("click", create);
  byId("blank-new").addEventListener("click", create);
  byId("theme").addEventListener("click", () => toast(`Theme: ${nextTheme()}`));
  byId("bell").addEventListener("click", () => notify.toggle());
  byId("sign-out").addEventListener("click", signOut);
  byId("context").addEventListener("click", () => showUsage(list.get(current)));
  choose("menu-rename", rename);
  choose("menu-fork", fork);
  choose("menu-usage", () => showUsage(list.get(current)));
  choose("menu-export", () => location.assign(api.exportAddress(current)));
  choose("menu-sleep", () => act("sleep", "It sleeps."));
  choose("menu-delete", remove);
  menu.addEventListener("toggle", (event) => { byId("more").setAttribute("aria-expanded", String(event.newState === "open")); });
  wireDrawer();
}

function showSignIn() {
  outbox.isHeld = true;
  stream.close();
  byId("starting").hidden = true;
  byId("app").hidden = true;
  byId("sign-in").hidden = false;
  (byId("sign-in-with") ?? byId("token")).focus();
}

function wireSignIn() {
  byId("sign-in-with")?.addEventListener("click", () => store(PLACE, location.pathname));
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const error = byId("sign-in-error");
    error.hidden = true;
    try {
      await api.signIn(byId("token").value.trim());
      byId("token").value = "";
      await begin();
    } catch (problem) {
      error.textContent = problem.status === 401 || problem.status === 403 ? "This token is not known, or has ended." : problem.message;
      error.hidden = false;
      byId("token").focus();
    }
  });
}

async function begin() {
  const who = await api.session();
  belongTo(who);
  const place = String(stored(PLACE, ""));
  store(PLACE, null);
  if (location.pathname === "/" && /^\/c\/[^/]+$/.test(place)) history.replaceState(null, "", place);
  byId("sign-in").hidden = true;
  byId("starting").hidden = true;
  byId("app").hidden = false;
  byId("who").textContent = who.name;
  for (const scope of ["command", "permissions", "manage"]) document.body.classList.toggle(`no-${scope}`, !who.scopes.includes(scope));
  const loaded = list.load().catch(() => null);
  open(named(), { isBack: true });
  await loaded;
  drawHead();
  if (current) controls.open(current, list.get(current));
  byId("blank-list").hidden = list.all.length > 0;
}

async function start() {
  try {
    await begin();
  } catch (error) {
    if (error.status === 401 || error.status === 403) return showSignIn();
    byId("starting").textContent = error.message;
    setTimeout(start, 2000);
  }
}

wire();
wireSignIn();
api.onSignedOut(showSignIn);
start();
