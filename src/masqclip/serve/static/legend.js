// What was found, by name: counts, scores, and switches to hide or to show alone.

import { $, make } from "./dom.js";

const MISSING = 30; // names of a long list that are told; the rest is counted

/**
 * Fill the legend.
 *
 * `segments` are those above the threshold; `shown(segment)` says whether one is visible now.
 * `on` has `hide(segments, hidden)`, `solo(segments)`, `light(segment | null)` and `pick(segment)`.
 */
export function renderLegend(segments, shown, soloed, on) {
  const groups = Map.groupBy(segments, (segment) => segment.name);
  const ordered = [...groups].sort(([, a], [, b]) => best(b) - best(a));
  $("legend").replaceChildren(
    ...ordered.map(([name, members]) => entry(name, members, shown, soloed, on)));
}

/** Fill the line with the names that were asked for and of which nothing is listed. */
export function renderMissing(vocabulary, segments) {
  const there = new Set(segments.map(({ asked }) => asked));
  const missing = vocabulary.filter((name) => !there.has(name));
  const more = missing.length - MISSING;
  $("missing").textContent = `Not found: ${missing.slice(0, MISSING).join(", ")}` +
    (more > 0 ? ` and ${more} more` : "");
  $("missing").hidden = missing.length === 0;
}

/** Segments by their names, in a sentence: "cat, tulip x2". */
export function counted(segments) {
  const groups = Map.groupBy(segments, ({ name }) => name);
  return [...groups].map(([name, all]) => (all.length > 1 ? `${name} x${all.length}` : name)).join(", ");
}

/** Mark the entry of the segment under the pointer. */
export function lightEntry(segment) {
  for (const item of $("legend").children) {
    item.classList.toggle("lit", segment !== null && item.dataset.name === segment.name);
  }
}

const best = (segments) => Math.max(...segments.map((segment) => segment.score));

function entry(name, members, shown, soloed, on) {
  const visible = members.some(shown);
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = members[0].colour;
  const score = best(members).toFixed(2);
  const count = members.length > 1 ? `${members.length}, best ${score}` : score;
  const show = make("button", {
    type: "button", className: "show", "aria-pressed": String(visible),
    title: visible ? "Hide" : "Show",
    onclick: () => on.hide(members, visible),
    onfocus: () => on.light(members[0]), onblur: () => on.light(null),
  }, swatch, make("span", { className: "label", title: name }, name),
  make("span", { className: "count" }, count));
  const alone = members.every((segment) => soloed(segment));
  const only = make("button", {
    type: "button", className: "only", "aria-pressed": String(alone),
    "aria-label": `Only ${name}`, onclick: () => on.solo(members),
  }, "Only");
  const item = make("li", { className: "entry", "data-name": name }, show, only);
  if (members.length === 1) item.append(picking(members[0], name, on));
  item.addEventListener("pointerenter", () => on.light(members[0]));
  item.addEventListener("pointerleave", () => on.light(null));
  if (members.length > 1) {
    const parts = members.flatMap((segment, index) => [make("button", {
      type: "button", "aria-pressed": String(shown(segment)),
      "aria-label": `${name} ${index + 1}, score ${segment.score.toFixed(2)}`,
      onclick: () => on.hide([segment], shown(segment)),
      onpointerenter: () => on.light(segment),
      onfocus: () => on.light(segment), onblur: () => on.light(null),
    }, segment.score.toFixed(2)), picking(segment, `${name} ${index + 1}`, on)]);
    item.append(make("div", { className: "parts" }, ...parts));
  }
  return item;
}

/** What makes an example of a segment. */
const picking = (segment, name, on) => make("button", {
  type: "button", className: "picking", title: "More like this, or not this",
  "aria-label": `${name} as an example`, onclick: () => on.pick(segment),
  onfocus: () => on.light(segment), onblur: () => on.light(null),
}, "+");
