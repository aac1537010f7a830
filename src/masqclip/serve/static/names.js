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

const textOf = (words) => words.map(quote).join(",");
const inWords = ({ name, stuff }) =>
  (stuff === undefined ? name : `${stuff ? "stuff" : "thing"}: ${name}`);

/** What a name's prefix says of its kind: whether it is stuff; undefined where it says nothing. */
function kindOf(text) {
  const kind = KIND.exec(text)?.[1].toLowerCase();
  return kind === undefined ? undefined : kind === "stuff";
}

/** The names of a text as items, blanks made one. */
function namesIn(text) {
  return split(text).map((part) => part.trim().replace(/\s+/g, " ")).map((part) =>
    ({ name: part.replace(KIND, ""), stuff: kindOf(part) })).filter(({ name }) => name);
}

/**
 * Names with their kind: `items` is a list of {name, stuff, synonyms}, where `stuff` is undefined
 * until it is said. Those of a built-in list, the `base`, have its `synonyms`, and in `listed` the
 * kind that it gives them; they stand before all others, in its order.
 */
export class Names {
  /** `others()` says whether there is something else to look for, which "Clear" clears as well. */
  constructor(onChange, others) {
    this.items = [];
    this.others = others;
    this.base = null;
    this.suggested = [];
    this.regions = new Set();
    this.chips = new WeakMap();
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
    $("clear").addEventListener("click", () => this.#set([]));
  }

  /** The vocabulary for the service: a built-in list by its name, so that it is the very same. */
  get vocabulary() {
    const words = this.words;
    if (!this.base) return `${words}` === "everything" ? "everything" : words;
    const whole = this.items.length === Object.keys(this.base.synonyms).length &&
      this.items.every(({ synonyms, stuff, listed }) => synonyms && stuff === listed);
    if (whole) return this.base.name;
    return Object.fromEntries(
      this.items.map(({ name, synonyms }, index) => [words[index], synonyms ?? [name]]));
  }

  /** Name by name: "stuff: pond" says that pond is a region, "thing: tree" that trees count. */
  get words() { return this.items.map(inWords); }

  /** What `load` makes these names of again: a list, what was taken out of it, and what was added. */
  get saved() {
    const kept = new Set(this.items.filter(({ synonyms }) => synonyms).map(({ name }) => name));
    const gone = Object.keys(this.base?.synonyms ?? {}).filter((name) => !kept.has(name));
    const own = this.items.filter(({ synonyms, stuff, listed }) => !synonyms || stuff !== listed);
    return { list: this.base?.name ?? "", without: textOf(gone), names: textOf(own.map(inWords)) };
  }

  /** Put names in place of all there are: those of a built-in list, if one is given, and of texts. */
  load({ without = "", names = "" }, list = null) {
    const gone = new Set(split(without).map((name) => name.trim()));
    const stuff = new Set(list?.stuff);
    this.items = Object.entries(list?.synonyms ?? {}).filter(([name]) => !gone.has(name)).map(
      ([name, synonyms]) => ({ name, stuff: stuff.has(name), listed: stuff.has(name), synonyms }));
    const places = new Map(this.items.map(({ name }, place) => [name, place]));
    const fresh = namesIn(names).filter(({ name, stuff }) => {
      if (!places.has(name)) return true;
      if (stuff !== undefined) this.items[places.get(name)].stuff = stuff;
      return false;
    });
    this.#set(this.#with(fresh), list);
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
  get text() { return textOf(this.words); }

  /** Take the names out of a text: between commas, semicolons, tabs or line ends. */
  add(text) {
    const items = this.#with(namesIn(text));
    if (items.length > this.items.length) this.#set(items);
  }

  /** The items, and of others those whose names are not there. */
  #with(others) {
    const known = new Set(this.items.map(({ name }) => name.toLowerCase()));
    const unknown = others.filter(({ name }) => {
      const fresh = !known.has(name.toLowerCase());
      known.add(name.toLowerCase());
      return fresh;
    });
    return [...this.items, ...unknown];
  }

  #set(items, base = this.base) {
    this.items = items;
    this.base = items.some(({ synonyms }) => synonyms) ? base : null;
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
      this.#set(this.items.slice(0, -1));
    }
  }

  // What is on the page stays there: a button that is made anew loses the keyboard, and a click that
  // has begun.
  #render() {
    const chips = this.items.slice(0, SHOWN).map((item) => this.#chip(item));
    const more = this.items.length - SHOWN;
    if (more > 0) chips.push(make("li", { className: "help" }, `and ${more} more`));
    const list = $("chips");
    chips.forEach((chip, place) => {
      const there = list.children[place];
      if (chip === there) return;
      there ? there.replaceWith(chip) : list.append(chip);
    });
    while (list.children.length > chips.length) list.lastElementChild.remove();
    this.renderClear();
    this.#renderSuggestions();
  }

  renderClear() {
    $("clear").hidden = $("save-vocabulary").hidden = this.items.length === 0 && !this.others();
  }

  #renderSuggestions() {
    const taken = new Set(this.items.map((item) => item.name.toLowerCase()));
    const left = this.suggested.filter(
      (word) => !taken.has(word.replace(KIND, "").toLowerCase()));
    $("suggestions").hidden = left.length === 0;
    if ($("suggestions").dataset.words === textOf(left)) return;
    $("suggestions").dataset.words = textOf(left);
    const buttons = left.map((word) =>
      make("button", { type: "button", onclick: () => this.add(quote(word)) }, word.replace(KIND, "")));
    if (left.length > 1) {
      buttons.push(
        make("button", { type: "button", onclick: () => this.add(textOf(left)) }, "all of them"));
    }
    $("suggestions").replaceChildren("Try ", ...buttons);
  }

  #without(item) { this.#set(this.items.filter((other) => other !== item)); }

  #chip(item) {
    if (!this.chips.has(item)) this.chips.set(item, this.#newChip(item));
    const chip = this.chips.get(item), stuff = this.isStuff(item);
    const kind = chip.querySelector(".kind");
    kind.setAttribute("aria-pressed", String(stuff));
    kind.textContent = stuff ? "stuff" : "thing";
    return chip;
  }

  #newChip(item) {
    const word = make("button", {
      type: "button", className: "word", title: "Change this name",
      "aria-label": `Change ${item.name}`,
      onclick: () => {
        this.#without(item);
        $("name").value = quote(inWords(item));
        $("name").focus();
        $("name").select();
      },
    }, item.name);
    const kind = make("button", {
      type: "button", className: "kind",
      "aria-label": `${item.name} is stuff`, title: "A thing is counted, stuff is a region",
      onclick: () => {
        item.stuff = !this.isStuff(item);
        this.#set(this.items);
      },
    });
    const away = make("button", {
      type: "button", className: "away", "aria-label": `Remove ${item.name}`,
      onclick: () => {
        this.#without(item);
        $("name").focus();
      },
    }, "\u00d7");
    return make("li", { className: "chip" }, word, kind, away);
  }
}
