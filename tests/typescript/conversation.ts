// A conversation by the types that were made of the service's OpenAPI document: no address and no member is spelled
// here that the document does not have, or this does not compile.

import createClient, { type ParseAs } from "openapi-fetch";
import type { components, paths } from "./service.js";

type Turn = components["schemas"]["Turn"];
type Message = components["schemas"]["Message"];

const [address, token] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${token}` } });

function there<T>(answer: { data?: T; error?: { detail: string } }): T {
  if (answer.data === undefined) throw new Error(answer.error?.detail ?? "no answer");
  return answer.data;
}

async function events(name: string, turn: string): Promise<string[]> {
  const path = { name, turn };
  const parseAs: ParseAs = "stream";
  const { response } = await client.GET("/v1/instances/{name}/turns/{turn}/events", { params: { path }, parseAs });
  const found: string[] = [];
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("event: ")) found.push(line.slice(7));
  }
  return found;
}

const name = "work";
const path = { name };
there(await client.POST("/v1/instances", { body: { name, template: "default", title: "By types" } }));

const turn: Turn = there(
  await client.POST("/v1/instances/{name}/commands", {
    params: { path, header: { prefer: "wait=60", "idempotency-key": "one" } },
    body: { prompt: [{ type: "text", text: "[[say hello]]" }] },
  }),
);

const asking: Turn = there(
  await client.POST("/v1/instances/{name}/commands", {
    params: { path },
    body: { prompt: '[[tool Bash {"command": "touch made"}]] [[say done]]' },
  }),
);
const heard = events(name, asking.id);
let asked: components["schemas"]["Permission"][] = [];
for (const deadline = Date.now() + 60_000; asked.length === 0; ) {
  if (Date.now() > deadline) throw new Error("nothing was asked");
  asked = there(await client.GET("/v1/permissions")).permissions;
}
for (const { id } of asked) {
  there(await client.POST("/v1/permissions/{id}", { params: { path: { id } }, body: { answer: "allow" } }));
}
const kinds = await heard;

const files = there(await client.GET("/v1/instances/{name}/files", { params: { path } }));
const messages: Message[] = there(await client.GET("/v1/instances/{name}/history", { params: { path } })).messages;
const missing = await client.GET("/v1/instances/{name}", { params: { path: { name: "nobody" } } });
await client.DELETE("/v1/instances/{name}", { params: { path, query: { conversation: true } } });

console.log(
  JSON.stringify({
    text: turn.result?.["text"],
    kinds,
    files: files.entries.map((entry) => entry.path),
    messages: messages.map((message) => message.kind),
    missing: missing.error?.type,
    left: there(await client.GET("/v1/instances")).instances.length,
  }),
);
