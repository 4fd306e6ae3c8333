// How the use of a tool is shown: in a line, and unfolded. The input is a model's: only ever shown as text.

import { diff } from "./diff.js";
import { el, icon, plain } from "./dom.js";

const text = (value) => (typeof value === "string" ? value : "");
const short = (path) => text(path).split("/").slice(-2).join("/");

/** What a tool is about to do, in a few words. */
export function summary(name, input = {}) {
  switch (name) {
    case "Bash": return text(input.command).split("\n")[0];
    case "Read": case "Write": case "Edit": case "MultiEdit": case "NotebookEdit": return short(input.file_path ?? input.notebook_path);
    case "Glob": case "Grep": return text(input.pattern);
    case "WebFetch": return text(input.url);
    case "WebSearch": return text(input.query);
    case "Task": case "Agent": return text(input.description);
    case "TodoWrite": return `${todos(input).filter((item) => item.status === "completed").length} of ${todos(input).length} done`;
    default: return text(input.description ?? input.path ?? input.query ?? input.url);
  }
}

/** All of a tool's input, whatever the tool is. */
export function details(name, input = {}) {
  if (name === "Bash" && typeof input.command === "string") return withRest(commandView(input), input, ["command", "description"]);
  if (name === "Edit" && typeof input.new_string === "string") {
    return withRest(diffView(input.file_path, [[input.old_string, input.new_string]]), input, ["file_path", "old_string", "new_string"]);
  }
  if (name === "MultiEdit" && Array.isArray(input.edits)) {
    const edits = input.edits.map((edit) => [edit?.old_string, edit?.new_string]);
    return withRest(diffView(input.file_path, edits), input, ["file_path", "edits"]);
  }
  if (name === "Write" && typeof input.content === "string") {
    return withRest(diffView(input.file_path, [["", input.content]]), input, ["file_path", "content"]);
  }
  if (name === "TodoWrite") return todoView(todos(input));
  if (["Task", "Agent"].includes(name) && typeof input.prompt === "string") {
    return withRest(el("div", { class: "said" }, plain(input.prompt)), input, ["prompt", "description"]);
  }
  return json(input);
}

/** What a tool has returned. */
export function resultView({ text: said, left_out: leftOut, is_error: isError }) {
  return el("div", { class: isError ? "result error" : "result" },
    el("div", { class: "result-label", text: isError ? "Failed" : "Result" }),
    el("pre", { tabIndex: 0, "aria-label": "Result" }, plain(said || "(nothing)")),
    leftOut > 0 && el("p", { class: "hint", text: `${leftOut.toLocaleString()} characters more are not shown.` }));
}

// Private

const todos = (input) => (Array.isArray(input?.todos) ? input.todos.filter((item) => item && typeof item === "object") : []);

const pre = (content, props = {}) => el("pre", { tabIndex: 0, "aria-label": "Input", ...props }, plain(content));

function json(input) {
  return pre(JSON.stringify(input, null, 2) ?? "");
}

/** Nothing of an input stays unseen: what a view does not know stands below it. */
function withRest(view, input, known) {
  const rest = Object.fromEntries(Object.entries(input).filter(([name]) => !known.includes(name)));
  return Object.keys(rest).length ? el("div", {}, view, json(rest)) : view;
}

function commandView(input) {
  return el("div", {},
    text(input.description) && el("p", { class: "hint" }, plain(input.description)),
    pre(input.command, { class: "command", "aria-label": "Command" }));
}

function diffView(path, edits) {
  const rows = edits.flatMap(([before, after], number) => [
    ...(number ? [["@", "…"]] : []),
    ...diff(text(before), text(after)),
  ]);
  return el("div", { class: "diff" },
    el("div", { class: "diff-path" }, plain(text(path))),
    el("pre", { tabIndex: 0, "aria-label": "Changes" }, ...rows.map(([mark, line]) =>
      el("span", { class: mark === "+" ? "row added" : mark === "-" ? "row removed" : "row" },
        el("span", { class: "mark", text: `${mark} ` }), plain(line), "\n"))));
}

function todoView(items) {
  const marks = { completed: "Done", in_progress: "In progress", pending: "To do" };
  return el("ul", { class: "todos" }, ...items.map((item) =>
    el("li", { class: `todo ${item.status in marks ? item.status : "pending"}` },
      item.status === "completed" ? icon("check") : el("span", { class: "todo-mark", "aria-hidden": "true" }),
      el("span", { class: "unseen", text: `${marks[item.status] ?? "To do"}: ` }), plain(text(item.content)))));
}
