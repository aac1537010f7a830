// In the place of api.js where there is no service: the same questions, asked of a worker in this
// browser. What only a service can do is refused.

import { tell } from "../notices.js";

/** An error that the worker told of, with a status as a service has them. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  get useless() { return this.status >= 400 && this.status < 500; }
}

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map(); // by number of the question: {resolve, reject}
let asked = 0;

worker.addEventListener("message", ({ data: { number, result, problem, progress } }) => {
  if (progress) return tell(progress);
  const { resolve, reject } = waiting.get(number);
  waiting.delete(number);
  problem ? reject(new Refusal(problem.status, problem.detail)) : resolve(result);
});
worker.addEventListener("error", (event) => {
  event.preventDefault();
  const error = new Refusal(500, "This browser cannot run the model: it needs workers and WebAssembly.");
  for (const { reject } of waiting.values()) reject(error);
  waiting.clear();
});

function ask(question, value, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const number = asked++;
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, question, value });
    signal?.addEventListener("abort", () => {
      if (!waiting.delete(number)) return;
      waiting.set(number, { resolve() {}, reject() {} }); // its answer comes, and is not wanted
      worker.postMessage({ drop: number });
      reject(signal.reason);
    });
  });
}

async function read(path, kind) {
  const answer = await fetch(path).catch(() => null);
  if (!answer?.ok) throw new Refusal(500, `${path} cannot be loaded from where this page is.`);
  return answer[kind]();
}

export const hasToken = () => false;
export const useToken = () => {};
export const models = () => ask("models");
export const vocabularies = () => read("vocabularies.json", "json");
export const example = (key) => read(`static/examples/${key}.png`, "blob");
export const upload = (blob, signal) => ask("upload", blob, signal);
export const segment = (id, wish, signal) => ask("segment", { id, wish }, signal);

const needsService = async () => {
  throw new Refusal(422, "Examples and files of names need the service: masqclip serve.");
};
export const fittingMask = needsService;
export const makeVocabulary = needsService;
export const changeVocabulary = needsService;
export const vocabularyFile = needsService;
export const forgetVocabulary = needsService;
export const description = needsService;
