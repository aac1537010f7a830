// The three published ways from proposals to segments; the rules stand in masqclip/decoding.
//
// `probs` are the products of object score and class probability, Q x K in a row.
//
// A segment is {id, class_id, score, thing, rle, area, bbox}.

import { Masks, sigmoid } from "./masks.js";
import { encodeMap, encodeMask } from "./rle.js";
import { decodeSemantic } from "./semantic.js";

const TOP = 100; // pairs of a proposal and a class that instances are chosen from
const SURE = 17; // a logit beyond which float32 knows no doubt

/** The segments of an encoded picture; `words` has `stuff`, a set of class places. */
export function decode(task, encoded, probs, classes, words, settings) {
  const masks = (encoded.masks ??= new Masks(encoded));
  const heard = [...Array(encoded.queries).keys()].filter((q) => masks.sound(q) &&
    !probs.subarray(q * classes, (q + 1) * classes).some(Number.isNaN));
  const way = { instance, semantic, panoptic }[task];
  return way(masks, probs, classes, heard, words, settings);
}

function instance(masks, probs, classes, heard, { stuff }, { least }) {
  const pairs = heard.flatMap((q) => Array.from({ length: classes }, (_, k) => q * classes + k));
  pairs.sort((a, b) => probs[b] - probs[a] || a - b);
  const chosen = pairs.slice(0, TOP).filter((pair) => probs[pair] >= least && !stuff.has(pair % classes));
  const found = new Map(); // by proposal: its mask, and the mean probability inside
  for (const pair of chosen) {
    const q = Math.floor(pair / classes);
    if (!found.has(q)) found.set(q, binary(masks, q));
  }
  const encoded = new Map(); // one mask may be of several names
  return chosen.map((pair) => {
    const q = Math.floor(pair / classes);
    return { q, class_id: pair % classes, score: probs[pair] * found.get(q).mean, thing: true };
  }).filter(({ score }) => score >= least && score > 0).sort((a, b) => b.score - a.score)
    .map(({ q, ...segment }, place) => {
      if (!encoded.has(q)) encoded.set(q, encodeMask(found.get(q).mask, masks.width, masks.height));
      return { id: place + 1, ...segment, ...encoded.get(q) };
    });
}

function binary(masks, q) {
  const { width, height } = masks;
  const mask = new Uint8Array(width * height);
  let area = 0, sum = 0;
  for (let y = 0; y < height; y++) {
    const row = masks.read(q, y);
    for (let x = 0; x < width; x++) {
      if (row[x] <= 0) continue;
      mask[y * width + x] = 1;
      area += 1;
      sum += sigmoid(row[x]);
    }
  }
  return { mask, mean: sum / Math.max(area, 1) };
}

function panoptic(masks, probs, classes, heard, { stuff }, { least, overlap }) {
  const rivals = [];
  for (const q of heard) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (probs[q * classes + k] > probs[q * classes + best]) best = k;
    if (probs[q * classes + best] > least) rivals.push({ q, class_id: best, score: probs[q * classes + best] });
  }
  const { width, height } = masks, count = rivals.length;
  const owner = new Int32Array(width * height).fill(count);
  const won = new Float64Array(count), area = new Float64Array(count), solid = new Float64Array(count);
  const best = new Float32Array(width), winner = new Int32Array(width), inside = new Uint8Array(width);
  const logs = rivals.map(({ score }) => Math.log(score));
  for (let y = 0; y < height && count; y++) {
    best.fill(-Infinity);
    for (let place = 0; place < count; place++) {
      const row = masks.read(rivals[place].q, y), share = logs[place];
      let there = 0;
      for (let x = 0; x < width; x++) {
        // The logarithm of score times sigmoid, whose second half is nothing far from zero.
        const logit = row[x], own = logit >= 0 ? 1 : 0;
        let product = own ? share : share + logit;
        if (logit < SURE && logit > -SURE) product -= Math.log1p(Math.exp(own ? -logit : logit));
        there += own;
        if (product > best[x]) {
          best[x] = product;
          winner[x] = place;
          inside[x] = own;
        }
      }
      area[place] += there;
    }
    for (let x = 0; x < width; x++) {
      won[winner[x]] += 1;
      if (!inside[x]) continue;
      owner[y * width + x] = winner[x];
      solid[winner[x]] += 1;
    }
  }
  const segments = [], merged = new Map(), segmentOf = new Array(count + 1).fill(0);
  rivals.forEach(({ class_id, score }, place) => {
    if (solid[place] === 0 || won[place] / area[place] < overlap) return;
    if (merged.has(class_id)) {
      const first = merged.get(class_id);
      first.score = Math.max(first.score, score);
      segmentOf[place] = first.id;
      return;
    }
    const segment = { id: segments.length + 1, class_id, score, thing: !stuff.has(class_id) };
    if (!segment.thing) merged.set(class_id, segment);
    segments.push(segment);
    segmentOf[place] = segment.id;
  });
  for (let at = 0; at < owner.length; at++) owner[at] = segmentOf[owner[at]];
  const encoded = encodeMap(owner, width, height, segments.length);
  return segments.map((segment, place) => ({ ...segment, ...encoded[place] }));
}

function semantic(masks, probs, classes, heard, { stuff }, { least }) {
  const { labels, scores } = decodeSemantic(masks, probs, classes, heard, least);
  const sums = new Float64Array(classes), areas = new Float64Array(classes);
  for (let at = 0; at < labels.length; at++) {
    if (labels[at] < 0) continue;
    sums[labels[at]] += scores[at];
    areas[labels[at]] += 1;
  }
  const present = [...areas.keys()].filter((label) => areas[label]);
  const ids = new Map(present.map((label, place) => [label, place + 1]));
  for (let at = 0; at < labels.length; at++) labels[at] = ids.get(labels[at]) ?? 0;
  const encoded = encodeMap(labels, masks.width, masks.height, present.length);
  return present.map((class_id, place) => ({
    id: place + 1, class_id, score: Math.min(1, sums[class_id] / areas[class_id]),
    thing: !stuff.has(class_id), ...encoded[place],
  }));
}
