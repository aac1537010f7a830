// The names to look for, as chips.

import { $, make } from "./dom.js";

const SHOWN = 40; // chips of a long list; the rest is counted
const KIND = /^(stuff|thing):\s*/i;
// What parts names: commas (those of East Asian keyboards, too), semicolons, tabs, line ends; and
// quotes that keep one in a name.
const PARTS = /[,\uff0c\u3001;\uff1b\t\n\r]/;
const PIECE = /\s*((?:(?:stuff|thing):\s*)?)"((?:[^"]|"")*)"\s*(?=[,\uff0c\u3001;\uff1b\t\n\r]|$)|[^,\uff0c\u3001;\uff1b\t\n\r]+/gi;
// The dots of "car. tire." part names; the one of "St. Bernard" does not.
const DOTTED = /(?:[\p{L}\p{N}_]{3}|\s)\.\s|\.$/u;

/** The names in a text, as they stand there. */
function split(text) {
  if (!PARTS.test(text) && !text.includes('"') && DOTTED.test(text.trim())) {
    return text.trim().split(/\.(?:\s+|$)/);
  }
  return [...text.matchAll(PIECE)].map(([whole, stuff, quoted]) =>
    quoted === undefined ? whole : stuff + quoted.replaceAll('""', '"'));
}

/** A name as `split` reads it back. */
const quote = (name) =>
  PARTS.test(name) || name.includes('"') || DOTTED.test(name)
    ? `"${name.replaceAll('"', '""')}"` : name;

/** What a name's prefix says of its kind: whether it is stuff; undefined where it says nothing. */
function kindOf(text) {
  const kind = KIND.exec(text)?.[1].toLowerCase();
  return kind === undefined ? undefined : kind === "stuff";
}

/**
 * Names with their kind: `items` is a list of {name, stuff, synonyms}, where `stuff` is undefined
 * until it is said, and `synonyms` are those that a built-in list gives; `list` the one they are.
 */
export class Names {
  constructor(onChange) {
    this.items = [];
    this.list = "";
    this.suggested = [];
    this.regions = new Set();
    this.onChange = onChange;
    const input = $("name");
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => {
      // A quote that is open may hold a comma.
      const closed = input.value.split('"').length % 2 === 1;
      if (closed && PARTS.test(input.value)) this.#take();
    });
    input.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text");
      if (!PARTS.test(text)) return;
      event.preventDefault();
      this.add(text);
    });
    input.addEventListener("blur", () => this.#take());
    $("clear").addEventListener("click", () => this.set([]));
  }

  /** The vocabulary for the service: a built-in list by its name, so that it is the very same. */
  get vocabulary() {
    if (this.list) return this.list;
    const words = this.words;
    if (!this.items.some(({ synonyms }) => synonyms)) return words;
    return Object.fromEntries(
      this.items.map(({ name, synonyms }, index) => [words[index], synonyms ?? [name]]));
  }

  /** Name by name: "stuff: pond" says that pond is a region, "thing: tree" that trees count. */
  get words() {
    return this.items.map(({ name, stuff }) =>
      (stuff === undefined ? name : `${stuff ? "stuff" : "thing"}: ${name}`));
  }

  /** Put the names of a text in place of all there are. */
  replace(text) {
    this.items = [];
    this.add(text);
  }

  /** Whether a name is a region, said or, as far as an answer told, taken so. */
  isStuff({ name, stuff }) {
    return stuff ?? this.regions.has(name);
  }

  /** An answer's segments tell which names the service took for regions. */
  learn(segments) {
    for (const { name, thing } of segments) {
      if (thing) this.regions.delete(name);
      else this.regions.add(name);
    }
    this.#render();
  }

  /** The same as a text that `add` takes. */
  get text() {
    return this.words.map(quote).join(",");
  }

  /** Take the names out of a text: between commas, semicolons, tabs or line ends. */
  add(text) {
    const known = new Set(this.items.map((item) => item.name.toLowerCase()));
    const fresh = [];
    for (const part of split(text)) {
      const name = part.replace(KIND, "").trim().replace(/\s+/g, " ");
      if (!name || known.has(name.toLowerCase())) continue;
      known.add(name.toLowerCase());
      fresh.push({ name, stuff: kindOf(part.trim()) });
    }
    if (fresh.length) this.set([...this.items, ...fresh]);
  }

  set(items, list = "") {
    this.items = items;
    this.list = list;
    this.#render();
    this.onChange();
  }

  suggest(words) {
    this.suggested = words;
    this.#render();
  }

  #take() {
    const input = $("name"), text = input.value;
    input.value = "";
    if (text.trim()) this.add(text);
  }

  #key(event) {
    const input = event.target;
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      this.#take();
    } else if (event.key === "Backspace" && !input.value && this.items.length) {
      this.set(this.items.slice(0, -1));
    }
  }

  #render() {
    const chips = this.items.slice(0, SHOWN).map((item) => this.#chip(item));
    const more = this.items.length - SHOWN;
    if (more > 0) chips.push(make("li", { className: "help" }, `and ${more} more`));
    $("chips").replaceChildren(...chips);
    $("clear").hidden = this.items.length === 0;
    const taken = new Set(this.items.map((item) => item.name.toLowerCase()));
    const left = this.suggested.filter(
      (word) => !taken.has(word.replace(KIND, "").toLowerCase()));
    $("suggestions").hidden = left.length === 0;
    const buttons = left.map((word) =>
      make("button", { type: "button", onclick: () => this.add(quote(word)) }, word.replace(KIND, "")));
    if (left.length > 1) {
      buttons.push(
        make("button", { type: "button", onclick: () => this.add(left.map(quote).join(",")) }, "all of them"));
    }
    $("suggestions").replaceChildren("Try ", ...buttons);
  }

  #chip(item) {
    const stuff = this.isStuff(item);
    const word = make("button", {
      type: "button", className: "word", title: "Change this name",
      "aria-label": `Change ${item.name}`,
      onclick: () => {
        this.set(this.items.filter((other) => other !== item));
        $("name").value = quote(item.name);
        $("name").focus();
        $("name").select();
      },
    }, item.name);
    const kind = make("button", {
      type: "button", className: "kind", "aria-pressed": String(stuff),
      "aria-label": `${item.name} is stuff`, title: "A thing is counted, stuff is a region",
      onclick: () => {
        const index = this.items.indexOf(item);
        this.set(this.items.map((o) => (o === item ? { ...o, stuff: !stuff } : o)));
        $("chips").children[index]?.querySelector(".kind")?.focus();
      },
    }, stuff ? "stuff" : "thing");
    const away = make("button", {
      type: "button", className: "away", "aria-label": `Remove ${item.name}`,
      onclick: () => {
        this.set(this.items.filter((other) => other !== item));
        $("name").focus();
      },
    }, "\u00d7");
    return make("li", { className: "chip" }, word, kind, away);
  }
}
