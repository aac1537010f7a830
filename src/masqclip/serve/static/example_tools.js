// Examples on the page: made of segments and boxes, loaded and saved.

import * as api from "./api.js";
import { $ } from "./dom.js";
import { Examples } from "./examples.js";
import { save } from "./files.js";
import { answered, busy } from "./notices.js";
import { Box, Pick } from "./pick.js";
import { prepare } from "./view.js";

const COLOUR = "#e8eaea"; // of what a box fits, which has no name and none of the service's colours

/**
 * Listen to all that makes, removes, loads and saves examples.
 *
 * `withPicture(work)` does what needs the picture's identifier, `refused(error)` tells of what went
 * wrong, `paint()` draws the picture, `ask()` asks for the masks anew.
 */
export function offerExamples({ names, zoom, withPicture, refused, paint, ask }) {
  const examples = new Examples(() => {
    const place = [...$("shown").children].findIndex((chip) => chip.contains(document.activeElement));
    examples.render((change) => working(() => examples.remove(change)));
    names.renderClear();
    // Whoever removes chips by keyboard must not lose the place.
    if (place >= 0) ($("shown").children[place]?.querySelector("button") ?? $("name")).focus();
    ask();
  });
  const pick = new Pick(makeExample, paint);
  const box = new Box(zoom, (place) => working(async () => {
    const { segmentation, bbox, area } = await withPicture((id) => api.fittingMask(id, place));
    const found = { id: 0, name: "this", thing: true, score: 1, colour: COLOUR, segmentation, bbox, area };
    box.end();
    pick.open(prepare({ segments: [found] })[0], { drawn: true, focus: true });
  }));

  /** Do some work, and tell if it fails. */
  async function working(work) {
    busy(true);
    try {
      await work();
      answered();
    } catch (error) {
      refused(error);
    } finally {
      busy(false);
    }
  }

  function makeExample({ segmentation, thing }, name, not) {
    const whole = not ? examples.unused(name, names.items.map((item) => item.name)) : name;
    working(() => withPicture((image) =>
      examples.add({ name: whole, image, segmentation, stuff: !thing, distractor: not })));
  }

  function loadVocabulary(file) {
    if (!file) return;
    working(async () => {
      await examples.load(file);
      names.load({});
    });
  }

  $("load-vocabulary").addEventListener("click", () => $("vocabulary-file").click());
  $("vocabulary-file").addEventListener("change", ({ target }) => {
    loadVocabulary(target.files[0]);
    target.value = "";
  });
  $("save-vocabulary").addEventListener("click", () =>
    working(async () => save(await examples.fileWith(names), "vocabulary.json")));
  $("clear").addEventListener("click", () => examples.any && working(() => examples.clear()));
  return { examples, pick, box, loadVocabulary };
}
