// The names to look for, as chips.

import { $, make } from "./dom.js";

const SHOWN = 40; // chips of a long list; the rest is counted
const STUFF = /^stuff:\s*/i;

/** Names with their kind: `items` is a list of {name, stuff}; `list` the built-in one they are. */
export class Names {
  constructor(onChange) {
    this.items = [];
    this.list = "";
    this.suggested = [];
    this.onChange = onChange;
    const input = $("name");
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("input", () => {
      if (/[,\n;]/.test(input.value)) this.#take();
    });
    input.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text");
      if (!/[,\n;\t]/.test(text)) return;
      event.preventDefault();
      this.add(text);
    });
    input.addEventListener("blur", () => this.#take());
    $("clear").addEventListener("click", () => this.set([]));
  }

  /** For the service: "stuff: sand" says that sand is a region. */
  get words() {
    return this.items.map(({ name, stuff }) => (stuff ? `stuff: ${name}` : name));
  }

  /** Take the names out of a text: between commas, semicolons, tabs or line ends. */
  add(text) {
    const known = new Set(this.items.map((item) => item.name.toLowerCase()));
    const fresh = [];
    for (const part of text.split(/[,;\t\n\r]+/)) {
      const name = part.replace(STUFF, "").trim().replace(/\s+/g, " ");
      if (!name || known.has(name.toLowerCase())) continue;
      known.add(name.toLowerCase());
      fresh.push({ name, stuff: STUFF.test(part.trim()) });
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
      (word) => !taken.has(word.replace(STUFF, "").toLowerCase()));
    $("suggestions").hidden = left.length === 0;
    const buttons = left.map((word) =>
      make("button", { type: "button", onclick: () => this.add(word) }, word.replace(STUFF, "")));
    if (left.length > 1) {
      buttons.push(
        make("button", { type: "button", onclick: () => this.add(left.join(",")) }, "all of them"));
    }
    $("suggestions").replaceChildren("Try ", ...buttons);
  }

  #chip(item) {
    const word = make("button", {
      type: "button", className: "word", title: "Change this name",
      "aria-label": `Change ${item.name}`,
      onclick: () => {
        this.set(this.items.filter((other) => other !== item));
        $("name").value = item.name;
        $("name").focus();
        $("name").select();
      },
    }, item.name);
    const kind = make("button", {
      type: "button", className: "kind", "aria-pressed": String(item.stuff),
      "aria-label": `${item.name} is stuff`, title: "A thing is counted, stuff is a region",
      onclick: () => {
        const index = this.items.indexOf(item);
        this.set(this.items.map((o) => (o === item ? { ...o, stuff: !o.stuff } : o)));
        $("chips").children[index]?.querySelector(".kind")?.focus();
      },
    }, item.stuff ? "stuff" : "thing");
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
