// Talking to the service.

const KEY = "masqclip-token";

/** An error that the service told of, with its status. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function useToken(token) {
  sessionStorage.setItem(KEY, token);
}

async function call(path, options = {}, tries = 3) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The service cannot be reached. Is it still running?");
  }
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

export function upload(blob, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return call("v1/images", { method: "POST", body: blob, headers, signal });
}

export function segment(id, wish, signal) {
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", body: JSON.stringify(wish), headers, signal };
  return call(`v1/images/${id}/segment`, options);
}
