// Two prompts over one query of the Agent SDK, whose Claude Code is the program that it is given. Prints what was heard.

import { query } from "@anthropic-ai/claude-agent-sdk";

const [program, cwd] = process.argv.slice(2);

const say = (content) => ({ type: "user", message: { role: "user", content }, parent_tool_use_id: null, session_id: "" });

let heard;
const answered = new Promise((resolve) => (heard = resolve));

async function* prompts() {
  yield say('[[tool Bash {"command": "touch by-tool"}]] [[say done]]');
  await answered;
  yield say("[[say second]]");
}

const found = { texts: [], asked: [], results: [] };
const canUseTool = async (name, input) => {
  found.asked.push(name);
  return { behavior: "allow", updatedInput: input };
};
for await (const message of query({ prompt: prompts(), options: { pathToClaudeCodeExecutable: program, cwd, canUseTool } })) {
  if (message.type === "assistant")
    for (const block of message.message.content) if (block.type === "text") found.texts.push(block.text);
  if (message.type === "result") {
    found.results.push(message.subtype);
    heard();
  }
}
console.log(JSON.stringify(found));
