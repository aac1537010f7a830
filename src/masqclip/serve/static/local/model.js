// An exported model: its settings, its two graphs, its tokens.

import * as ort from "../../engine/ort.mjs";
import { Tokenizer } from "../../engine/tokenizers.mjs";
import { framed } from "./picture.js";
import { Problem } from "./problem.js";

const HOME = new URL("../../", import.meta.url); // of the page
const BATCH = 64; // texts at a time

// Several threads need a page that is isolated from others, which its host decides.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
ort.env.logLevel = "fatal";

/**
 * `described` is what the model says of itself, `ready` that its graphs can be run. `tell(text)` is
 * told how far loading is.
 */
export class Model {
  constructor(tell) {
    this.tell = tell;
    this.rows = new Map(); // embeddings of texts
    this.described = this.#describe();
    this.ready = this.described.then(() => this.#load());
    this.described.catch(() => {});
    this.ready.catch(() => {});
  }

  async #describe() {
    const [config, about] = await Promise.all([json("model/config.json"), json("about.json")]);
    if (config.format !== "masqclip-onnx" || config.version !== 1) {
      throw new Problem(500, "The model of this page is of another version than the page: write it anew.");
    }
    this.config = config;
    this.about = about;
    return { name: config.name, summary: config.summary };
  }

  async #load() {
    ort.env.wasm.wasmBinary = await unpacked("engine/ort.wasm.gz");
    const names = ["image.onnx", "text.onnx"];
    const files = this.config.files;
    const whole = names.reduce((sum, name) => sum + files[name].bytes, 0);
    this.tell("Loading the model …");
    let loaded = 0;
    const count = (bytes) => {
      loaded += bytes;
      this.tell(`Loading the model: ${(loaded / 1e6).toFixed(0)} of ${(whole / 1e6).toFixed(0)} MB`);
    };
    const [image, text, tokenizer, settings] = await Promise.all([
      bytes(`model/${names[0]}`, files[names[0]].bytes, count),
      bytes(`model/${names[1]}`, files[names[1]].bytes, count),
      json("model/tokenizer.json"), json("model/tokenizer_config.json"),
    ]);
    this.tell("Preparing the model …");
    this.tokenizer = new Tokenizer(tokenizer, settings);
    this.text = await session(text, ["wasm"]);
    this.image = await this.#pictures(image);
    this.tell("The model is loaded.");
  }

  /** The graph of pictures, on the graphics processor where that works. */
  async #pictures(image) {
    if (await navigator.gpu?.requestAdapter().catch(() => null)) {
      try {
        const found = await session(image, ["webgpu", "wasm"]);
        await this.#run(found, framed({ width: 64, height: 64, pixels: new Uint8Array(64 * 64 * 3) }, this.config));
        this.engine = "WebGPU";
        return found;
      } catch {
        // a driver that lacks something: the processor can do all of it
      }
    }
    this.engine = "WebAssembly";
    return session(image, ["wasm"]);
  }

  async #run(image, { data, frame, inside }) {
    const pixels = new ort.Tensor("float32", data, [1, 3, ...frame]);
    const size = new ort.Tensor("int64", BigInt64Array.from(inside, BigInt), [1, 2]);
    return image.run({ pixels, size });
  }

  /** A picture after the graph has seen it: numbers of its Q proposals, whatever the names. */
  async encode(picture) {
    const framing = framed(picture, this.config);
    const found = await this.#run(this.image, framing);
    const [, queries, rows, columns] = found.mask_logits.dims;
    const notes = [...picture.notes];
    const test = this.about.world?.pictures;
    if (test && found.picture_statistics) {
      const sum = found.picture_statistics.data.reduce((all, value, i) => all + value * test.weights[i], 0);
      if (sum > test.threshold) {
        notes.push(`${this.about.world.model} was never trained on pictures like this one; ${this.about.world.about}`);
      }
    }
    return {
      width: picture.width, height: picture.height, notes, queries, grid: [rows, columns],
      frame: framing.frame, inside: framing.inside,
      logits: found.mask_logits.data,
      scores: objectLogScores(found.object_logits.data),
      embeddings: unit(found.mask_embeddings.data, this.config.embedding_size),
      untuned: found.untuned_embeddings && unit(found.untuned_embeddings.data, this.config.embedding_size),
    };
  }

  /** The un-normalised embeddings of texts, as they are read. */
  async embed(texts) {
    const missing = [...new Set(texts)].filter((text) => !this.rows.has(text));
    const { context_length, pad_id, pad_to, prefix_ids, suffix_ids } = this.config.text;
    for (let start = 0; start < missing.length; start += BATCH) {
      const batch = missing.slice(start, start + BATCH);
      const ids = batch.map((text) => [
        ...prefix_ids, ...this.tokenizer.encode(text, { add_special_tokens: false }).ids, ...suffix_ids]);
      const longest = ids.findIndex((one) => one.length > context_length);
      if (longest >= 0) {
        throw new Problem(422, `the name "${batch[longest].slice(0, 77)}" is ${ids[longest].length} tokens ` +
          `long and this CLIP reads at most ${context_length}: shorten it`);
      }
      const length = pad_to ?? Math.max(...ids.map((one) => one.length));
      const padded = new BigInt64Array(batch.length * length).fill(BigInt(pad_id));
      ids.forEach((one, row) => one.forEach((id, place) => (padded[row * length + place] = BigInt(id))));
      const token_ids = new ort.Tensor("int64", padded, [batch.length, length]);
      const { data } = (await this.text.run({ token_ids })).text_embeddings;
      const size = this.config.embedding_size;
      batch.forEach((text, row) => this.rows.set(text, data.slice(row * size, (row + 1) * size)));
    }
    return texts.map((text) => this.rows.get(text));
  }
}

/** Rows of `size` numbers, each made to length one. */
export function unit(rows, size) {
  const found = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += size) {
    let sum = 0;
    for (let i = start; i < start + size; i++) sum += rows[i] * rows[i];
    const length = Math.max(Math.sqrt(sum), 1e-12);
    for (let i = start; i < start + size; i++) found[i] = rows[i] / length;
  }
  return found;
}

/** The log-probability of each proposal that it is an object, of its two logits. */
function objectLogScores(logits) {
  const found = new Float32Array(logits.length / 2);
  for (let q = 0; q < found.length; q++) found[q] = -Math.log1p(Math.exp(logits[2 * q + 1] - logits[2 * q]));
  return found;
}

async function session(content, executionProviders) {
  try {
    return await ort.InferenceSession.create(content, { executionProviders, logSeverityLevel: 4 });
  } catch (error) {
    throw new Problem(500, `The model cannot be run here: ${String(error.message ?? error).slice(0, 200)}`);
  }
}

async function reach(path) {
  const answer = await fetch(new URL(path, HOME)).catch(() => null);
  if (!answer?.ok) throw new Problem(500, `${path} cannot be loaded from where this page is.`);
  return answer;
}

/** A packed file's bytes; some hosts have browsers unpack it. */
async function unpacked(path) {
  const content = await (await reach(path)).blob();
  const [first, second] = new Uint8Array(await content.slice(0, 2).arrayBuffer());
  if (first !== 0x1f || second !== 0x8b) return content.arrayBuffer();
  return new Response(content.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const json = async (path) => (await reach(path)).json();

/** A file's bytes, of which `count` hears as they come. */
async function bytes(path, expected, count) {
  const reader = (await reach(path)).body.getReader();
  const found = new Uint8Array(expected);
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > expected) break;
    found.set(value, at);
    at += value.length;
    count(value.length);
  }
  if (at !== expected) throw new Problem(500, `${path} is not whole: copy the folder of this page anew.`);
  return found;
}
