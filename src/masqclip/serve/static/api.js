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

async function call(path, options = {}, tries = 3) {
  const token = bytes(sessionStorage.getItem(KEY) ?? "");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await reach(path, { ...options, headers });
  if (answer.ok) return answer.json();
  if (answer.status === 429 && tries > 1) {
    const seconds = Number(answer.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 5)));
    options.signal?.throwIfAborted();
    return call(path, options, tries - 1);
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

export function segment(id, wish, signal) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", body: JSON.stringify(wish), headers, signal };
  return call(`v1/images/${id}/segment`, options);
}
