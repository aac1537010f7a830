// The model in the browser: pictures in, encoded once, named as often as names change.

import { Answers } from "./answers.js";
import { Model } from "./model.js";
import { readPicture } from "./picture.js";
import { Problem } from "./problem.js";

const KEPT = 4; // pictures

const dropped = new Set();
const pictures = new Map(); // by identifier
let made = 0;

const model = new Model((progress) => postMessage({ progress }));
const answers = model.ready.then(() => new Answers(model));

const ANSWERS = {
  async models() {
    const { name, summary } = (await model.described);
    return [[name, { summary, device: "this browser" }]];
  },

  async upload(blob) {
    const picture = await readPicture(blob);
    await model.ready;
    const encoded = await model.encode(picture);
    const id = `picture-${made++}`;
    pictures.set(id, encoded);
    if (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
    return { id, width: picture.width, height: picture.height, notes: encoded.notes };
  },

  async segment({ id, wish }) {
    const encoded = pictures.get(id);
    if (!encoded) throw new Problem(404, "This picture is no longer in memory.");
    return (await answers).segment(encoded, wish);
  },
};

// One question after the other, in their order: sessions run one thing at a time.
let turn = Promise.resolve();

addEventListener("message", ({ data: { number, question, value, drop } }) => {
  if (drop !== undefined) return dropped.add(drop);
  const work = async () => {
    if (dropped.delete(number)) return postMessage({ number });
    try {
      postMessage({ number, result: await ANSWERS[question](value) });
    } catch (error) {
      const { status = 500 } = error;
      postMessage({ number, problem: { status, detail: error.message || String(error) } });
    }
  };
  // What is told of the model waits for nothing.
  if (question === "models") work();
  else turn = turn.then(work);
});
