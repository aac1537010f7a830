// What a wish asks for as categories: {name, prompts, thing}, and what is said of them.

import { Problem } from "./problem.js";

const KIND = /^(stuff|thing):\s*/i;
const MOST = 10_000; // names
const FEW = 8; // names that a note lists

/** What CLIP reads of a text, near enough to tell names apart: see masqclip/data/clip_text.py. */
export const reading = (text) => text.normalize("NFC").trim().replace(/\s+/g, " ").toLowerCase();

/** The categories of a wish's vocabulary: a list of names, names with synonyms, or "everything". */
export async function categoriesOf(vocabulary, about, lists) {
  if (vocabulary === "everything") return everything(about);
  if (typeof vocabulary === "string") {
    const list = (await lists()).find(({ name }) => name === vocabulary);
    if (!list) throw new Problem(422, `There is no built-in list "${vocabulary}".`);
    const stuff = new Set(list.stuff);
    return checked(Object.entries(list.synonyms).map(([name, prompts]) =>
      ({ name, prompts, thing: !stuff.has(name), assumed: false })));
  }
  const entries = Array.isArray(vocabulary)
    ? vocabulary.map((text) => [text, null]) : Object.entries(vocabulary);
  const regions = new Set(about.regions);
  return checked(entries.map(([text, synonyms]) => {
    const kind = KIND.exec(text)?.[1].toLowerCase(), name = text.replace(KIND, "").trim();
    const assumed = kind === undefined && isRegion(name, regions);
    return { name, prompts: synonyms ?? [name], thing: kind ? kind === "thing" : !assumed, assumed };
  }));
}

function everything(about) {
  if (!about.everything.length) throw new Problem(422, "This model does not say what it has read.");
  return about.everything.map((name) => ({ name, prompts: [name], thing: true, assumed: false, unnamed: true }));
}

function checked(categories) {
  if (!categories.length) throw new Problem(422, "The vocabulary holds no names.");
  if (categories.length > MOST) throw new Problem(422, `The vocabulary holds more than ${MOST} names.`);
  return categories;
}

const forms = (word) => [word, ...singulars(word)];

function isRegion(name, regions) {
  return forms(reading(name)).some((form) => regions.has(form));
}

/** What a word may be the plural of. */
function singulars(word) {
  const found = [];
  if (word.endsWith("ies")) found.push(`${word.slice(0, -3)}y`);
  if (word.endsWith("es")) found.push(word.slice(0, -2));
  if (word.endsWith("s") && !word.endsWith("ss")) found.push(word.slice(0, -1));
  return found;
}

/** What is to be said of names, whatever the picture; as masqclip/own_world.py says it. */
export function notesOn(categories, task, about) {
  if (categories[0].unnamed) {
    return ["names with a question mark are guesses; scores say that there is an object, not which"];
  }
  const notes = [];
  const assumed = categories.filter((category) => category.assumed).map(({ name }) => name);
  if (assumed.length && task === "panoptic") {
    notes.push(`taken as regions: ${few(assumed)} ('thing: NAME', or --things, counts them)`);
  }
  const regions = categories.filter(({ thing, assumed: taken }) => !thing && !taken).map(({ name }) => name);
  if (regions.length && task === "instance") {
    notes.push(`regions, which have no instances: ${few(regions)} ('thing: NAME', or --things, counts them)`);
  }
  if (about.world) {
    const known = new Set(about.world.names.flatMap((name) => forms(name)));
    const unread = categories.filter(({ prompts }) =>
      !prompts.some((prompt) => forms(reading(prompt)).some((form) => known.has(form)))).map(({ name }) => name);
    if (unread.length) notes.push(`${about.world.model} has never read: ${few(unread)}; ${about.world.about}`);
  }
  return notes;
}

const few = (names) => names.slice(0, FEW).join(", ") + (names.length > FEW ? ` and ${names.length - FEW} more` : "");
