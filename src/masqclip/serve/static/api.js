// Talking to the service.

const KEY = "masqclip-token";

/** An error that the service told of, with its status. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether to try again: what the service does not take it will not take the second time either. */
  get useless() { return this.status >= 400 && this.status < 500 && this.status !== 429; }
}

export function useToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** Whether a token was given, which a refusal for want of one then says is not the service's. */
export const hasToken = () => Boolean(sessionStorage.getItem(KEY));

// A header holds bytes: those of a token's UTF-8, one to a letter.
const bytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The service cannot be reached. Is it still running?");
  }
}

async function call(path, options = {}, { tries = 3, read = "json" } = {}) {
  const token = bytes(sessionStorage.getItem(KEY) ?? "");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await reach(path, { ...options, headers });
  if (answer.ok) return answer[read]();
  if (answer.status === 429 && tries > 1) {
    const seconds = Number(answer.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 5)));
    options.signal?.throwIfAborted();
    return call(path, options, { tries: tries - 1, read });
  }
  const problem = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, problem.detail || `The service answers ${answer.status}.`);
}

export const models = async () => Object.entries((await call("v1/models")).data);
export const vocabularies = () => call("v1/vocabularies");
export const description = () => call("openapi.json");

/** The picture of an example, as a file. */
export async function example(key) {
  const answer = await reach(`static/examples/${key}.png`);
  if (!answer.ok) throw new Refusal(answer.status, `The service answers ${answer.status} for an example.`);
  return answer.blob();
}

export function upload(blob, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return call("v1/images", { method: "POST", body: blob, headers, signal });
}

function send(method, path, document, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method, body: JSON.stringify(document), headers, signal });
}

export const segment = (id, wish, signal) => send("POST", `v1/images/${id}/segment`, wish, signal);
/** The mask that fits a {box} or a {point}. */
export const fittingMask = (id, place) => send("POST", `v1/images/${id}/mask`, place);

export const makeVocabulary = (wish) => send("POST", "v1/vocabularies", wish);
export const changeVocabulary = (id, change) => send("PATCH", `v1/vocabularies/${id}`, change);
export const vocabularyFile = (id) => call(`v1/vocabularies/${id}/file`, {}, { read: "text" });
export const forgetVocabulary = (id) =>
  call(`v1/vocabularies/${id}`, { method: "DELETE" }, { read: "text" });
