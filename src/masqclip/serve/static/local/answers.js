// Answers to wishes, in the shape of a service's.

import { colours } from "./colours.js";
import { decode } from "./decoding.js";
import { unit } from "./model.js";
import { Problem } from "./problem.js";
import { categoriesOf, notesOn, reading } from "./words.js";

const LEAST = 0.3; // what scores less is left out, unless a wish says otherwise
const BACKGROUND = "background"; // competes with all names, and is never reported
const UNNAMED = "object";

export class Answers {
  constructor(model) {
    this.model = model;
    this.vocabulary = null; // of the last wish: {key, words}
  }

  async segment(encoded, wish) {
    const { task = "panoptic", min_score: least = LEAST } = wish;
    const { about, config } = this.model;
    const beyond = ["join", "stuff", "things", "distractors"].find((key) => wish[key]?.length);
    if (beyond) throw new Problem(422, `"${beyond}" needs the service: masqclip serve.`);
    const categories = await categoriesOf(wish.vocabulary, about, () => this.#lists());
    // In instances nothing is a region that nobody called so.
    const things = task === "instance"
      ? categories.map((one) => ({ ...one, thing: one.thing || one.assumed })) : categories;
    const rows = await this.#rows(categories);
    const probs = this.#probabilities(encoded, rows, categories.length, categories[0].unnamed);
    const stuff = new Set(things.flatMap(({ thing }, place) => (thing ? [] : [place])));
    const found = decode(task, encoded, probs, categories.length, { stuff }, {
      least, overlap: config.overlap_threshold });
    return this.#document(encoded, task, things, found, notesOn(things, task, about));
  }

  async #lists() {
    this.lists ??= await (await fetch(new URL("../../vocabularies.json", import.meta.url))).json();
    return this.lists;
  }

  /** The embeddings of the categories and of the background, of length one, in a row. */
  async #rows(categories) {
    const key = JSON.stringify(categories.map(({ prompts }) => prompts));
    if (this.vocabulary?.key === key) return this.vocabulary.rows;
    const groups = [...categories.map(({ prompts }) => [...new Set(prompts.map(reading))]), [BACKGROUND]];
    const size = this.model.config.embedding_size, sums = new Float32Array(groups.length * size);
    const texts = groups.flat(), embedded = await this.model.embed(texts);
    let at = 0;
    groups.forEach((group, row) => group.forEach(() => {
      const one = embedded[at++];
      for (let i = 0; i < size; i++) sums[row * size + i] += one[i];
    }));
    const rows = unit(sums, size);
    this.vocabulary = { key, rows };
    return rows;
  }

  /** Q x K: object score times class probability. */
  #probabilities(encoded, rows, classes, unnamed) {
    const { config } = this.model, size = config.embedding_size, all = rows.length / size;
    const probs = new Float32Array(encoded.queries * classes);
    const logits = new Float64Array(all);
    for (let q = 0; q < encoded.queries; q++) {
      for (let k = 0; k < all; k++) {
        let sum = 0;
        for (let i = 0; i < size; i++) sum += encoded.embeddings[q * size + i] * rows[k * size + i];
        logits[k] = config.logit_scale * sum;
      }
      const object = Math.exp(encoded.scores[q]), own = probs.subarray(q * classes, (q + 1) * classes);
      if (unnamed) { // all of it to the nearest name
        let best = 0;
        for (let k = 1; k < classes; k++) if (logits[k] > logits[best]) best = k;
        own[best] = object;
      } else if (config.scores === "sigmoid") {
        for (let k = 0; k < classes; k++) own[k] = object / (1 + Math.exp(-logits[k] - config.logit_bias));
      } else {
        const highest = logits.reduce((a, b) => Math.max(a, b)), sum = logits.reduce((a, b) => a + Math.exp(b - highest), 0);
        for (let k = 0; k < classes; k++) own[k] = (object * Math.exp(logits[k] - highest)) / sum;
      }
    }
    return probs;
  }

  async #document(encoded, task, categories, found, notes) {
    const { width, height } = encoded, unnamed = categories[0].unnamed;
    const names = unnamed ? [UNNAMED] : categories.map(({ name }) => name);
    const told = found.map(({ class_id }) => categories[class_id].name + (unnamed ? "?" : ""));
    const painted = await colours(told, names, this.model.about.colours);
    const segments = found.map(({ id, class_id, score, thing, rle, area, bbox }, place) => {
      const named = unnamed
        ? { name: UNNAMED, class_id: 0, suggestion: categories[class_id].name }
        : { name: names[class_id], class_id };
      return {
        id, ...named, score: Math.round(1e4 * score) / 1e4, thing, area, bbox,
        segmentation: rle, colour: painted[place],
      };
    });
    return {
      task, height, width, vocabulary: names, notes: [...encoded.notes, ...notes], segments, kinds: {},
    };
  }
}
