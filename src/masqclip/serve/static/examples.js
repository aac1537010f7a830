// What pictures show, as chips beside those of words: a vocabulary that the service keeps.

import * as api from "./api.js";
import { $, make } from "./dom.js";

const SHOWN = 60; // chips; the rest is counted

/**
 * Examples, and what else a vocabulary that was loaded holds: `categories` are looked for,
 * `distractors` are what something is not. Both are as the service tells of them.
 */
export class Examples {
  constructor(onChange) {
    this.id = null; // at the service
    this.file = ""; // the same as a saved vocabulary: the service may forget it
    this.categories = [];
    this.distractors = [];
    this.onChange = onChange;
    this.turn = Promise.resolve(); // one change after the other
  }

  get any() { return this.categories.length + this.distractors.length > 0; }

  /** The least score that a name is reported from, if it has one of its own. */
  least(name) {
    return this.categories.find((row) => row.name === name)?.min_score;
  }

  /** What a request looks for: words, examples, or both. */
  wish(names) {
    if (!this.any) return { vocabulary: names.vocabulary };
    if (!names.items.length) return { vocabulary: this.id };
    return { vocabulary: names.vocabulary, join: this.id };
  }

  /** A name that nothing has: "not car", and then "not car 2". */
  unused(name, words) {
    const rows = [...this.categories, ...this.distractors];
    const taken = new Set([...rows.map((row) => row.name), ...words].map((word) => word.toLowerCase()));
    for (let number = 1; ; number++) {
      const free = number === 1 ? name : `${name} ${number}`;
      if (!taken.has(free.toLowerCase())) return free;
    }
  }

  add(example) {
    return this.#change(() =>
      (this.id ? api.changeVocabulary(this.id, { add: [example] }) : api.makeVocabulary({ examples: [example] })));
  }

  /** Remove examples, or whole categories. */
  remove(change) {
    return this.#change(() => this.#kept(() => api.changeVocabulary(this.id, change)));
  }

  clear() {
    return this.#change(async () => {
      if (this.id) api.forgetVocabulary(this.id).catch(() => {}); // it forgets it by itself, too
      return { id: null, categories: [], distractors: [] };
    });
  }

  /** Put the vocabulary of a file in the place of all; of whatever kind the service can read. */
  async load(file) {
    let vocabulary = (await file.text()).replace(/^\ufeff/, "");
    try {
      vocabulary = JSON.parse(vocabulary);
    } catch {
      // names, line by line
    }
    return this.#change(() => api.makeVocabulary({ vocabulary }));
  }

  /** The words and the examples together, as a file that the command line reads. */
  async fileWith(names) {
    const { id } = await this.#kept(() => api.makeVocabulary(this.wish(names)));
    const text = await api.vocabularyFile(id);
    api.forgetVocabulary(id).catch(() => {});
    return new Blob([text], { type: "application/json" });
  }

  /** Send it again: the service forgets vocabularies when it needs the room. */
  async restore() {
    if (!this.any) this.id = null;
    else this.#take(await api.makeVocabulary({ vocabulary: JSON.parse(this.file) }));
  }

  /** Do what needs the vocabulary at the service, and once more if it was forgotten there. */
  async #kept(work) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 404) throw error;
      await this.restore();
      return work();
    }
  }

  #change(work) {
    const done = this.turn.then(async () => {
      const kept = await work();
      const file = kept.categories.length + kept.distractors.length ? await api.vocabularyFile(kept.id) : "";
      this.file = file;
      this.#take(kept);
      this.onChange();
    });
    this.turn = done.catch(() => {});
    return done;
  }

  #take({ id, categories, distractors }) {
    Object.assign(this, { id, categories, distractors });
  }

  /** Fill the list of chips: one for each example, and for each category without any. */
  render(remove) {
    const rows = [
      ...this.categories.map((row) => ({ ...row, not: false })),
      ...this.distractors.map((row) => ({ ...row, not: true })),
    ];
    const chips = rows.flatMap((row) => (row.examples.length
      ? row.examples.map((example, index) => chip(row, example, index, remove))
      : [chip(row, null, 0, remove)]));
    const more = chips.length - SHOWN;
    if (more > 0) chips.splice(SHOWN, more, make("li", { className: "help" }, `and ${more} more`));
    $("shown").replaceChildren(...chips);
    $("shown").hidden = !chips.length;
  }
}

function chip(row, example, index, remove) {
  const number = row.examples.length > 1 ? ` ${index + 1}` : "";
  const what = example ? `the example of ${row.name}${number}` : row.name;
  const away = make("button", {
    type: "button", className: "away", "aria-label": `Remove ${what}`,
    onclick: () => remove(example ? { remove: [example.id] } : { remove_names: [row.name] }),
  }, "\u00d7");
  const parts = [make("span", { className: "word", title: row.name }, row.name), away];
  if (row.not) parts.unshift(make("span", { className: "mark" }, "not this"));
  if (example?.thumbnail) parts.unshift(make("img", { src: example.thumbnail, alt: "", height: 30 }));
  return make("li", { className: row.not ? "chip shown not" : "chip shown" }, ...parts);
}
