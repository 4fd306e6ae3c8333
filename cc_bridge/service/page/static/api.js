// The service's HTTP interface. Owns nothing but the answer to "is somebody signed in".

/** What the service has refused, or that it could not be reached (`status` 0). */
export class ApiError extends Error {
  constructor(status, title, hint = "") {
    super(hint ? `${title} ${hint}` : title);
    this.status = status;
  }
}

const signedOut = new Set();

/** Call this when the session has ended. */
export function onSignedOut(listener) {
  signedOut.add(listener);
}

/**
 * Ask the service. `options`: `method`, `json` (a body), `body` (raw), `headers`, `timeout` in ms.
 * Returns the decoded JSON, or null. Throws ApiError.
 */
export async function api(path, { method = "GET", json, body, headers = {}, timeout = 30_000 } = {}) {
  const sent = { "X-CC-Bridge": "1", Accept: "application/json", ...headers };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: sent,
      body: json !== undefined ? JSON.stringify(json) : body,
      credentials: "same-origin",
      signal: AbortSignal.timeout(timeout),
    });
  } catch {
    throw new ApiError(0, "The service cannot be reached.");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json().catch(() => null);
  if (answer.status === 401) signedOut.forEach((listener) => listener());
  throw await problem(answer);
}

async function problem(answer) {
  const said = await answer.json().catch(() => ({}));
  const what = said.detail || said.title || `The service has answered ${answer.status}.`;
  return new ApiError(answer.status, what, typeof said.hint === "string" ? said.hint : "");
}

const at = (name) => `/v1/instances/${encodeURIComponent(name)}`;

export const session = () => api("/v1/session");
export const signIn = (token) => api("/v1/session", { method: "POST", json: { token } });
export const signOut = () => api("/v1/session", { method: "DELETE" });

export const instances = async () => (await api("/v1/instances")).instances;
export const templates = async () => (await api("/v1/templates")).templates ?? [];
export const create = (made) => api("/v1/instances", { method: "POST", json: made, timeout: 180_000 });
export const rename = (name, title) => api(at(name), { method: "PATCH", json: { title } });
export const remove = (name) => api(`${at(name)}?conversation=true`, { method: "DELETE", timeout: 60_000 });
export const act = (name, verb) => api(`${at(name)}/${verb}`, { method: "POST", timeout: 60_000 });
export const fork = (name, to) => api(`${at(name)}/fork`, { method: "POST", json: { name: to }, timeout: 180_000 });
export const exportAddress = (name) => `${at(name)}/export`;

export const command = (name, prompt, key) =>
  api(`${at(name)}/commands`, { method: "POST", json: { prompt }, headers: { "Idempotency-Key": key }, timeout: 60_000 });
export const turns = async (name, limit = 50) => (await api(`${at(name)}/turns?limit=${limit}`)).turns;
export const changeTurn = (name, id, prompt) => api(`${at(name)}/turns/${encodeURIComponent(id)}`, { method: "PUT", json: { prompt } });
export const endTurn = (name, id) => api(`${at(name)}/turns/${encodeURIComponent(id)}`, { method: "DELETE" });
export const history = (name, before) =>
  api(`/page/instances/${encodeURIComponent(name)}/history?limit=60${before ? `&before=${encodeURIComponent(before)}` : ""}`);

export const permissions = async () => (await api("/v1/permissions")).permissions ?? [];
export const decide = (id, answer) => api(`/v1/permissions/${encodeURIComponent(id)}`, { method: "POST", json: answer });

export const slashCommands = async (name) => (await api(`${at(name)}/commands-list`)).commands ?? [];
export const model = (name) => api(`${at(name)}/model`);
export const setModel = (name, chosen) => api(`${at(name)}/model`, { method: "PUT", json: { model: chosen } });
export const mode = (name) => api(`${at(name)}/permission-mode`);
export const setMode = (name, mode) => api(`${at(name)}/permission-mode`, { method: "PUT", json: { mode } });
export const context = (name) => api(`${at(name)}/context`);
export const usage = (name) => api(`/v1/usage?instance=${encodeURIComponent(name)}`);

export const files = (name, path) => api(`${at(name)}/files?path=${encodeURIComponent(path)}`);
export const upload = (name, path, body) =>
  api(`${at(name)}/files/content?path=${encodeURIComponent(path)}`, {
    method: "PUT", body, headers: { "Content-Type": "application/octet-stream" }, timeout: 300_000,
  });
