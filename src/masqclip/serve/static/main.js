// The page: a picture, names, and what is found; everything else is drawn here, without a request.

import * as address from "./address.js";
import * as api from "./api.js";
import { $, make } from "./dom.js";
import { offerExamples } from "./example_tools.js";
import { offerDownloads } from "./files.js";
import { whileHeld } from "./hold.js";
import { counted, lightEntry, renderLegend, renderMissing } from "./legend.js";
import { Names } from "./names.js";
import { answered, busy, fail, failRequest, tell } from "./notices.js";
import { decodeUpright } from "./orientation.js";
import { areOfExample, EXAMPLES, takePictures } from "./pictures.js";
import { draw, prepare, segmentAt } from "./view.js";
import { Zoom } from "./zoom.js";

const LOWEST_SCORE = 0.1; // of instances: the slider shows less of them without asking again
const TYPING_PAUSE = 60; // milliseconds in which changes of names are gathered

let settings = address.read();
const state = {
  picture: null, // {bitmap, blob, name, fileName, id}
  size: null, answer: null, segments: [], hidden: new Set(), solo: null, lit: null, original: false,
};
// `wanted` are the address's names, until their list is there.
let lists = [], asking = null, loading = null, pause = 0, wanted = null;

const names = new Names(() => {
  if (!wanted) Object.assign(settings, names.saved);
  changed();
  ask();
}, () => examples.any);
const zoom = new Zoom($("canvas"), () => state.picture && state.size, paint);
const { examples, pick, box, loadVocabulary } = offerExamples({ names, zoom, withPicture, refused, paint, ask });

// Asking

function ask() {
  clearTimeout(pause);
  pause = setTimeout(askNow, TYPING_PAUSE);
}

async function askNow() {
  asking?.abort();
  if (!state.picture) return;
  if (!names.items.length && !examples.categories.length) {
    show(null);
    tell("Now type the names of what to look for.");
    return;
  }
  const mine = (asking = new AbortController());
  // What scores less competes for pixels, but in instances: there alone all may be asked for at once.
  const least = settings.task === "instance" ? LOWEST_SCORE : Number(settings.score);
  const wish = { task: settings.task, min_score: least };
  busy(true);
  try {
    const started = performance.now();
    const answer = await withPicture((id) => {
      mine.signal.throwIfAborted();
      return api.segment(id, { ...examples.wish(names), ...wish }, mine.signal);
    });
    show(answer, Math.round(performance.now() - started));
    answered();
  } catch (error) {
    if (error.name !== "AbortError") refused(error);
  } finally {
    if (asking === mine) busy(false);
  }
}

/** Do what needs the picture's identifier, and once more if the service has forgotten something. */
async function withPicture(work) {
  const picture = state.picture;
  for (let tries = 0; ; tries++) {
    // An upload serves every question to come, so changing the names does not end it.
    picture.id ??= api.upload(picture.blob).then(({ id }) => id);
    try {
      return await work(await picture.id);
    } catch (error) {
      // What is refused for what it asks has nothing to do with the upload.
      if (error.name !== "AbortError" && error.status !== 422) picture.id = null;
      // The service forgets pictures and examples when it needs the room: send them once more.
      if (error.status !== 404 || tries) throw error;
      await examples.restore();
    }
  }
}

/** Tell of what went wrong; the masks that are there stay. */
function refused(error) {
  const locked = error.status === 401;
  $("token-form").hidden = !locked;
  const kept = state.answer ? "These are the masks of the last answer." : "";
  tell(locked && api.hasToken() ? "That is not the token of this service." : kept);
  failRequest(locked ? "" : error.message, error.useless ? null : start);
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
  pick.close();
  $("downloads").hidden = !answer;
  $("save-panoptic").disabled = answer?.task === "instance";
  $("save-panoptic").title = answer?.task === "instance" ? "Instances may overlap and are no map" : "";
  state.milliseconds = milliseconds;
  if (answer?.task === "panoptic") names.learn(answer.segments);
  state.stuff = new Set(names.items.filter((item) => names.isStuff(item)).map(({ name }) => name));
  const notes = (answer?.notes ?? []).map((note) => make("li", {}, note));
  $("notes").replaceChildren(...notes);
  $("notes").hidden = notes.length === 0;
  render();
}

/** A name's own least score, where a loaded vocabulary says one, was kept to by the service. */
const listed = () => state.segments.filter(
  ({ asked, score }) => score >= (examples.least(asked) ?? Number(settings.score)));
const isShown = ({ id }) => (state.solo ? state.solo.has(id) : !state.hidden.has(id));
const visible = () => listed().filter(isShown);

function render() {
  const found = listed();
  const on = { hide, solo, light, pick: (segment) => pick.open(segment, { focus: true }) };
  renderLegend(found, isShown, ({ id }) => Boolean(state.solo?.has(id)), on);
  renderMissing(state.answer?.vocabulary ?? [], found);
  if (state.answer) {
    const below = state.segments.length - found.length;
    const many = found.length === 1 ? "1 segment" : `${found.length} segments`;
    tell(`${found.length ? many : "Nothing found"} in ${state.milliseconds} ms` +
      (below ? `; ${below} more score lower` : ""));
    $("canvas").setAttribute("aria-label", `Your picture. Found: ${counted(found) || "nothing"}`);
  } else {
    $("canvas").setAttribute("aria-label", "Your picture");
  }
  paint();
}

function look(unit) {
  const drawn = pick.drawn && pick.segment ? [pick.segment] : [];
  return {
    segments: state.original ? [] : [...visible(), ...drawn], opacity: Number(settings.opacity),
    lit: state.lit ?? pick.segment?.id ?? null, names: settings.labels === "1", frame: zoom.frame, unit,
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
  else if (segment) {
    solo([segment]);
    state.solo ? pick.open(segment) : pick.close();
  }
  else if (state.solo) {
    solo([...state.segments.filter(isShown)]);
    pick.close();
  }
});

// Pictures

async function usePicture(blob, fileName, words = []) {
  const mine = (loading = {});
  asking?.abort();
  fail("");
  let bitmap;
  try {
    bitmap = await decodeUpright(blob);
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
  box.end();
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
  const words = EXAMPLES[key][1];
  let blob;
  try {
    blob = await api.example(key);
  } catch (error) {
    fail(error.message, () => useExample(key));
    return;
  }
  await usePicture(blob, `${key}.png`, words);
  // Masks at once; names that were typed, or are of a list, stay.
  if (!wanted && (!names.items.length || areOfExample(names.text))) names.load({ names: words.join(",") });
  $("name").focus({ preventScroll: true });
}

function useFile(file) {
  if (!file) return;
  if (/\.json$/i.test(file.name)) return loadVocabulary(file);
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

const tasks = document.querySelectorAll("[name=task]");

/** Take over what the address holds, at the start and when another one is opened in this window. */
function adopt() {
  const { example } = settings;
  settings = address.read();
  for (const id of ["opacity", "score"]) $(id).value = settings[id];
  $("labels").checked = settings.labels === "1";
  for (const radio of tasks) radio.checked = radio.value === settings.task;
  wanted = { list: settings.list, without: settings.without, names: settings.names };
  names.load({});
  if (lists.length || !wanted.list) loadNames();
  if (settings.example && (settings.example !== example || !state.picture)) useExample(settings.example);
  else if (state.answer) render();
}

function loadNames() {
  if (!wanted) return;
  const saved = wanted, list = lists.find(({ name }) => name === saved.list);
  wanted = null;
  const typed = names.text; // in the meantime
  names.load({ ...saved, names: [saved.names, typed].filter(Boolean).join(",") }, list);
  if (saved.list && !list) fail(`This service has no list "${saved.list}".`);
}

function changed() {
  $("opacity-value").textContent = `${Math.round(100 * settings.opacity)} %`;
  $("score-value").textContent = Number(settings.score).toFixed(2);
  address.write(settings);
}

for (const id of ["opacity", "score"]) {
  $(id).addEventListener("input", () => {
    settings[id] = $(id).value;
    changed();
    id === "score" ? render() : paint();
    if (id === "score" && settings.task !== "instance") ask();
  });
}
$("labels").addEventListener("change", () => {
  settings.labels = $("labels").checked ? "1" : "0";
  changed();
  paint();
});
for (const radio of tasks) {
  radio.addEventListener("change", () => {
    settings.task = radio.value;
    changed();
    ask();
  });
}
whileHeld($("compare"), "c", (is) => {
  state.original = is;
  $("compare").setAttribute("aria-pressed", String(is));
  paint();
});

$("vocabulary").addEventListener("change", ({ target }) => {
  const list = lists.find(({ name }) => name === target.value);
  target.value = "";
  if (list) names.load({}, list);
});

offerDownloads(() => ({ ...state, shown: visible(), look: { ...look(1), segments: visible() } }));
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
    loadNames();
    ask();
  } catch (error) {
    refused(error);
  }
}

addEventListener("hashchange", adopt);
settings.example = ""; // none is shown yet
adopt();
start();
