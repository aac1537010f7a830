// A picture as the graph takes it: decoded upright, on white, resized as PyTorch does it.

import { decodeUpright } from "../orientation.js";
import { Problem } from "./problem.js";

const MOST = 50_000_000; // pixels
const PRECISION = 22, LARGEST = 1 << 15;

/** {width, height, pixels, notes} of a file: red, green, blue, row by row. */
export async function readPicture(blob) {
  let bitmap;
  try {
    // Numbers as they stand in the file: no colour profile is applied, as nowhere in masqclip.
    bitmap = await decodeUpright(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Problem(422, "This browser cannot read that file as a picture.");
  }
  const { width, height } = bitmap;
  if (width * height > MOST) throw new Problem(422, `The picture has more than ${MOST / 1e6} megapixels.`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(width * height * 3);
  let through = false;
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const alpha = data[from + 3];
    through ||= alpha < 255;
    for (let i = 0; i < 3; i++) {
      pixels[to++] = alpha === 255 ? data[from + i] : Math.round((data[from + i] * alpha + 255 * (255 - alpha)) / 255);
    }
  }
  return { width, height, pixels, notes: through ? ["transparency composited on white"] : [] };
}

/** A picture resized and padded: {data [3,H,W], frame [H,W], inside [height,width]}. */
export function framed(picture, config) {
  const inside = config.frame ? fitted(picture, config.frame) : edged(picture, config);
  const divisor = config.size_divisor;
  const frame = config.frame ?? inside.map((side) => Math.ceil(side / divisor) * divisor);
  const small = resize(picture, inside);
  const data = new Float32Array(3 * frame[0] * frame[1]);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < inside[0]; y++) {
      const row = (channel * frame[0] + y) * frame[1];
      for (let x = 0; x < inside[1]; x++) data[row + x] = small[(y * inside[1] + x) * 3 + channel];
    }
  }
  return { data, frame, inside };
}

/** [height, width] by a model's edges: the shorter side, or the longer one if that comes first. */
function edged({ width, height }, { shortest_edge: shortest, longest_edge: longest }) {
  const scale = shortest / Math.min(height, width);
  let [tall, wide] = height < width ? [shortest, scale * width] : [scale * height, shortest];
  if (Math.max(tall, wide) > longest) {
    const shrink = longest / Math.max(tall, wide);
    [tall, wide] = [tall * shrink, wide * shrink];
  }
  return [Math.max(1, Math.floor(tall + 0.5)), Math.max(1, Math.floor(wide + 0.5))];
}

function fitted({ width, height }, frame) {
  const scale = Math.min(frame[0] / height, frame[1] / width);
  return [Math.min(frame[0], Math.max(1, Math.round(height * scale))),
    Math.min(frame[1], Math.max(1, Math.round(width * scale)))];
}

/** The pixels at [height, width]; the rule stands in masqclip/runtime/frames.py. */
export function resize({ width, height, pixels }, [tall, wide]) {
  const rows = wide === width ? pixels : resizedRows(pixels, height, width, wide);
  return tall === height ? rows : resizedColumns(rows, 3 * wide, height, tall);
}

/** Each row's pixels, of three numbers, resized from `old` to `fresh`. */
function resizedRows(pixels, rows, old, fresh) {
  const { first, shares, precision } = weights(old, fresh);
  const found = new Uint8Array(rows * fresh * 3), half = 1 << (precision - 1);
  for (let y = 0, to = 0; y < rows; y++) {
    for (let i = 0; i < fresh; i++) {
      const own = shares[i];
      for (let channel = 0; channel < 3; channel++) {
        let sum = half;
        for (let k = 0, at = (y * old + first[i]) * 3 + channel; k < own.length; k++, at += 3) {
          sum += own[k] * pixels[at];
        }
        found[to++] = limited(sum >> precision);
      }
    }
  }
  return found;
}

/** Each column of numbers, of which a row has `columns`, resized from `old` to `fresh`. */
function resizedColumns(pixels, columns, old, fresh) {
  const { first, shares, precision } = weights(old, fresh);
  const found = new Uint8Array(fresh * columns), half = 1 << (precision - 1);
  for (let i = 0, to = 0; i < fresh; i++) {
    const own = shares[i];
    for (let x = 0; x < columns; x++) {
      let sum = half;
      for (let k = 0, at = first[i] * columns + x; k < own.length; k++, at += columns) {
        sum += own[k] * pixels[at];
      }
      found[to++] = limited(sum >> precision);
    }
  }
  return found;
}

const limited = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

function weights(old, fresh) {
  const scale = old / fresh, reach = Math.max(scale, 1);
  const first = [], exact = [];
  let largest = 0;
  for (let i = 0; i < fresh; i++) {
    const centre = scale * (i + 0.5);
    const from = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), old);
    const own = [];
    let total = 0;
    for (let j = from; j < end; j++) {
      const share = Math.max(0, 1 - Math.abs((j - centre + 0.5) * (1 / reach)));
      own.push(share);
      total += share;
    }
    for (let k = 0; k < own.length; k++) {
      if (total) own[k] /= total;
      largest = Math.max(largest, own[k]);
    }
    first.push(from);
    exact.push(own);
  }
  let precision = 0;
  while (precision < PRECISION && Math.trunc(0.5 + largest * 2 ** (precision + 1)) < LARGEST) precision++;
  const shares = exact.map((own) => Int32Array.from(own, (share) => Math.trunc(0.5 + share * 2 ** precision)));
  return { first, shares, precision };
}
