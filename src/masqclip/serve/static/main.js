// The page: a picture, names, and what is found; everything else is drawn here, without a request.

import * as address from "./address.js";
import * as api from "./api.js";
import { $, make } from "./dom.js";
import { saveCoco, saveCutout, saveOverlay, savePanoptic } from "./files.js";
import { lightEntry, renderLegend, renderMissing } from "./legend.js";
import { Names } from "./names.js";
import { EXAMPLES, takePictures } from "./pictures.js";
import { draw, prepare, segmentAt } from "./view.js";
import { Zoom } from "./zoom.js";

const LOWEST_SCORE = 0.1; // what is asked for; the slider shows less of it without asking again
const TYPING_PAUSE = 60; // milliseconds in which changes of names are gathered

const settings = address.read();
const state = {
  picture: null, // {bitmap, blob, name, fileName, id}
  size: null, answer: null, segments: [], hidden: new Set(), solo: null, lit: null, original: false,
};
let lists = [], asking = null, loading = null, pause = 0, exampleNames = "";

const names = new Names(() => {
  settings.list = names.list;
  settings.names = names.list ? "" : names.text;
  changed();
  ask();
});
const zoom = new Zoom($("canvas"), () => state.picture && state.size, paint);

// Asking

function ask() {
  clearTimeout(pause);
  pause = setTimeout(askNow, TYPING_PAUSE);
}

async function askNow() {
  asking?.abort();
  if (!state.picture) return;
  if (!names.items.length) {
    show(null);
    tell("Now type the names of what to look for.");
    return;
  }
  const mine = (asking = new AbortController());
  const wish = { vocabulary: names.vocabulary, task: settings.task, min_score: LOWEST_SCORE };
  busy(true);
  try {
    const started = performance.now();
    const answer = await segmentOrUpload(wish, mine.signal);
    show(answer, Math.round(performance.now() - started));
    fail("");
  } catch (error) {
    if (error.name !== "AbortError") refused(error);
  } finally {
    if (asking === mine) busy(false);
  }
}

async function segmentOrUpload(wish, signal) {
  const picture = state.picture;
  for (let tries = 0; ; tries++) {
    // An upload serves every question to come, so changing the names does not end it.
    picture.id ??= api.upload(picture.blob).then(({ id }) => id);
    try {
      const id = await picture.id;
      signal.throwIfAborted();
      return await api.segment(id, wish, signal);
    } catch (error) {
      if (error.name !== "AbortError") picture.id = null;
      // The service forgets pictures when it needs the room: send it once more.
      if (error.status !== 404 || tries) throw error;
    }
  }
}

/** Tell of what went wrong; the masks that are there stay. */
function refused(error) {
  const locked = error.status === 401;
  $("token-form").hidden = !locked;
  tell(state.answer ? "These are the masks of the last answer." : "");
  // What the service does not take it will not take the second time either.
  fail(locked ? "" : error.message, !(error.status >= 400 && error.status < 500) || error.status === 429);
  if (locked) $("token").focus();
}

// Showing

function show(answer, milliseconds) {
  state.answer = answer;
  state.segments = answer ? prepare(answer) : [];
  if (answer) state.size = { width: answer.width, height: answer.height };
  state.hidden.clear();
  state.solo = null;
  state.lit = null;
  $("downloads").hidden = !answer;
  $("save-panoptic").disabled = answer?.task === "instance";
  $("save-panoptic").title = answer?.task === "instance" ? "Instances may overlap and are no map" : "";
  state.milliseconds = milliseconds;
  if (answer?.task === "panoptic") names.learn(answer.segments);
  const notes = (answer?.notes ?? []).map((note) => make("li", {}, note));
  $("notes").replaceChildren(...notes);
  $("notes").hidden = notes.length === 0;
  render();
}

const listed = () => state.segments.filter((segment) => segment.score >= Number(settings.score));
const isShown = ({ id }) => (state.solo ? state.solo.has(id) : !state.hidden.has(id));
const visible = () => listed().filter(isShown);

function render() {
  const found = listed();
  const on = { hide, solo, light };
  renderLegend(found, isShown, ({ id }) => Boolean(state.solo?.has(id)), on);
  renderMissing(state.answer?.vocabulary ?? [], found);
  if (state.answer) {
    const below = state.segments.length - found.length;
    const many = found.length === 1 ? "1 segment" : `${found.length} segments`;
    tell(`${found.length ? many : "Nothing found"} in ${state.milliseconds} ms` +
      (below ? `; ${below} more score lower` : ""));
    const counts = Map.groupBy(found, ({ name }) => name);
    const words = [...counts].map(([name, all]) => (all.length > 1 ? `${name} x${all.length}` : name));
    $("canvas").setAttribute("aria-label", `Your picture. Found: ${words.join(", ") || "nothing"}`);
  } else {
    $("canvas").setAttribute("aria-label", "Your picture");
  }
  paint();
}

function look(unit) {
  return {
    segments: state.original ? [] : visible(), opacity: Number(settings.opacity), lit: state.lit,
    names: settings.labels === "1", frame: zoom.frame, unit,
  };
}

function paint() {
  if (!state.picture) return;
  const canvas = $("canvas"), { width, height } = state.size;
  const room = Math.min($("figure").clientWidth || 600, 1000);
  const tall = Math.max(280, Math.min(innerHeight - 250, 900));
  const scale = Math.min(room / width, tall / height);
  const dots = devicePixelRatio || 1;
  canvas.style.width = `${width * scale}px`;
  canvas.style.height = `${height * scale}px`;
  canvas.width = Math.round(width * scale * dots);
  canvas.height = Math.round(height * scale * dots);
  const context = canvas.getContext("2d");
  const across = (canvas.width / width) * zoom.scale, down = (canvas.height / height) * zoom.scale;
  context.setTransform(across, 0, 0, down, -across * zoom.left, -down * zoom.top);
  $("zoom-fit").disabled = $("zoom-out").disabled = zoom.scale === 1;
  draw(context, state.picture.bitmap, state.size, look(1 / (scale * zoom.scale)));
}

function hide(segments, hidden) {
  state.solo = null;
  for (const { id } of segments) hidden ? state.hidden.add(id) : state.hidden.delete(id);
  keepFocus(render);
}

function solo(segments) {
  const ids = segments.map(({ id }) => id);
  const same = state.solo?.size === ids.length && ids.every((id) => state.solo.has(id));
  state.solo = same ? null : new Set(ids);
  keepFocus(render);
}

/** The legend is made anew; whoever works by keyboard must not lose the place. */
function keepFocus(change) {
  const controls = () => [...$("legend").querySelectorAll("button")];
  const index = controls().indexOf(document.activeElement);
  change();
  if (index >= 0) controls()[index]?.focus();
}

function light(segment) {
  if (state.lit === (segment?.id ?? null)) return;
  state.lit = segment && isShown(segment) ? segment.id : null;
  lightEntry(segment);
  paint();
}

function tell(text) { $("status").textContent = text; }
function busy(is) { $("busy").hidden = !is; }
function fail(text, again = false) {
  $("error-text").textContent = text;
  $("retry").hidden = !again;
  $("error").hidden = !text;
}
$("dismiss").addEventListener("click", () => fail(""));
$("retry").addEventListener("click", () => {
  fail("");
  start();
});

// The pointer over the picture

function under(event) {
  const { x, y } = zoom.at(event);
  return segmentAt(visible(), state.size, x, y);
}

function point(event) {
  const segment = state.original ? null : under(event);
  light(segment);
  $("canvas").classList.toggle("over", Boolean(segment));
  const tip = $("tip");
  tip.hidden = !segment;
  if (!segment) return;
  tip.textContent = `${segment.name}  ${segment.score.toFixed(2)}`;
  const box = $("figure").getBoundingClientRect();
  const x = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4);
  const y = Math.max(event.clientY - box.top - 36, 4);
  tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
}

$("canvas").addEventListener("pointermove", point);
$("canvas").addEventListener("pointerleave", () => {
  light(null);
  $("tip").hidden = true;
});
$("canvas").addEventListener("click", (event) => {
  if (zoom.dragged) return;
  const segment = under(event);
  if (event.shiftKey && segment) hide([segment], true);
  else if (segment) solo([segment]);
  else if (state.solo) solo([...state.segments.filter(isShown)]);
});

// Pictures

async function usePicture(blob, fileName, words = []) {
  const mine = (loading = {});
  asking?.abort();
  fail("");
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    fail("This browser cannot show that file as a picture. JPEG, PNG, WebP and GIF always work.");
    return;
  }
  if (loading !== mine) return;
  const name = fileName.replace(/\.[^.]*$/, "") || "picture";
  state.picture = { bitmap, blob, name, fileName, id: null };
  state.size = { width: bitmap.width, height: bitmap.height };
  $("welcome").hidden = true;
  $("work").hidden = false;
  names.suggest(words);
  zoom.reset();
  show(null);
  tell(names.items.length ? "Looking …" : "Now type the names of what to look for.");
  // Encoding takes longest: it begins before the first name is typed.
  const picture = state.picture;
  picture.id = api.upload(blob).then(({ id }) => id);
  picture.id.catch((error) => {
    picture.id = null; // what asks next sends it again
    refused(error);
  });
  ask();
}

async function useExample(key) {
  if (!EXAMPLES[key]) return;
  settings.example = key;
  changed();
  const blob = await (await fetch(`static/examples/${key}.png`)).blob();
  const words = EXAMPLES[key][1];
  await usePicture(blob, `${key}.png`, words);
  // Masks at once; names that were typed, or are of a list, stay.
  if (!names.items.length || names.text === exampleNames) {
    names.replace(words.join(","));
    exampleNames = names.text;
  }
  $("name").focus({ preventScroll: true });
}

function useFile(file) {
  if (!file) return;
  settings.example = "";
  changed();
  usePicture(file, file.name || "pasted.png");
}

takePictures(useFile, useExample);
$("another").addEventListener("click", () => {
  $("work").hidden = true;
  $("welcome").hidden = false;
  $("choose").focus();
});

// Settings

function changed() {
  $("opacity-value").textContent = `${Math.round(100 * settings.opacity)} %`;
  $("score-value").textContent = Number(settings.score).toFixed(2);
  address.write(settings);
}

for (const id of ["opacity", "score"]) {
  $(id).value = settings[id];
  $(id).addEventListener("input", () => {
    settings[id] = $(id).value;
    changed();
    id === "score" ? render() : paint();
  });
}
$("labels").checked = settings.labels === "1";
$("labels").addEventListener("change", () => {
  settings.labels = $("labels").checked ? "1" : "0";
  changed();
  paint();
});
for (const radio of document.querySelectorAll("[name=task]")) {
  radio.checked = radio.value === settings.task;
  radio.addEventListener("change", () => {
    settings.task = radio.value;
    changed();
    ask();
  });
}

function original(is) {
  if (state.original === is) return;
  state.original = is;
  $("compare").setAttribute("aria-pressed", String(is));
  paint();
}
$("compare").addEventListener("pointerdown", () => original(true));
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => original(false));
const holds = (event) => ["Enter", " "].includes(event.key) && event.target === $("compare");
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=text], input[type=password], select");
  if (holds(event) || (event.key.toLowerCase() === "c" && !typing && !event.ctrlKey && !event.metaKey)) {
    original(true);
  }
});
addEventListener("keyup", (event) => {
  if (holds(event) || event.key.toLowerCase() === "c") original(false);
});

$("vocabulary").addEventListener("change", (event) => {
  const list = lists.find(({ name }) => name === event.target.value);
  event.target.value = "";
  if (list) useList(list);
});
function useList(list) {
  const stuff = new Set(list.stuff);
  const items = Object.entries(list.synonyms).map(([name, synonyms]) =>
    ({ name, stuff: stuff.has(name), synonyms }));
  names.set(items, list.name);
}

$("save-overlay").addEventListener("click", () =>
  saveOverlay(state.picture.bitmap, state.size, look(1), state.picture.name));
$("save-cutout").addEventListener("click", () =>
  saveCutout(state.picture.bitmap, visible(), state.size, state.picture.name));
$("save-panoptic").addEventListener("click", () =>
  savePanoptic(visible(), state.size, state.picture.name));
$("save-coco").addEventListener("click", () => {
  const stuff = new Set(names.items.filter((item) => names.isStuff(item)).map(({ name }) => name));
  saveCoco(state.answer, visible(), stuff, state.picture.name, state.picture.fileName);
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useToken($("token").value);
  $("token-form").hidden = true;
  if (state.picture) state.picture.id = null;
  start();
});
new ResizeObserver(paint).observe($("figure"));

// The start

async function start() {
  try {
    const [[name, model]] = await api.models();
    const about = model.summary
      ? ` \u2014 ${model.summary}.` : " came without a description of what it knows.";
    $("model").replaceChildren("The model: ", make("strong", {}, name), about);
    lists = await api.vocabularies();
    $("vocabulary").replaceChildren($("vocabulary").firstElementChild, ...lists.map((list) =>
      make("option", { value: list.name }, `${list.name}: ${list.description}`)));
    const list = lists.find(({ name }) => name === settings.list);
    if (list && !names.items.length) useList(list);
    ask();
  } catch (error) {
    refused(error);
  }
}

changed();
if (settings.names) names.add(settings.names);
if (settings.example) useExample(settings.example);
start();
