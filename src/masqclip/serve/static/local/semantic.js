// Every proposal votes for every class wherever its mask is; a pixel gets the class of most votes.
//
// Tile by tile: no class has more than the sum of its votes times the highest mask in the tile, and
// of most tiles that leaves few classes to count. The rule stands in masqclip/decoding/semantic.py.

import { sigmoid } from "./masks.js";

const ROWS = 16, COLUMNS = 32;

/** The place of each pixel's class, -1 where none has `least`, and its votes. */
export function decodeSemantic(masks, probs, classes, heard, least) {
  const { width, height } = masks, count = heard.length;
  const labels = new Int32Array(width * height).fill(-1), scores = new Float32Array(width * height);
  const floor = Math.max(least, 1.1754944e-38);
  const band = new Float32Array(count * ROWS * width);
  for (let top = 0; top < height && count; top += ROWS) {
    const rows = Math.min(ROWS, height - top);
    heard.forEach((q, place) => {
      for (let y = 0; y < rows; y++) {
        const row = masks.read(q, top + y);
        const start = (place * ROWS + y) * width;
        for (let x = 0; x < width; x++) band[start + x] = sigmoid(row[x]);
      }
    });
    for (let left = 0; left < width; left += COLUMNS) {
      tile(left, Math.min(COLUMNS, width - left), top, rows);
    }
  }
  return { labels, scores };

  function tile(left, columns, top, rows) {
    const highest = heard.map((_, place) => {
      let most = 0;
      for (let y = 0; y < rows; y++) {
        const start = (place * ROWS + y) * width + left;
        for (let x = 0; x < columns; x++) if (band[start + x] > most) most = band[start + x];
      }
      return most;
    });
    const bounds = new Float64Array(classes);
    heard.forEach((q, place) => {
      for (let k = 0; k < classes; k++) bounds[k] += probs[q * classes + k] * highest[place];
    });
    const order = [...bounds.keys()].sort((a, b) => bounds[b] - bounds[a]);
    const best = new Float32Array(rows * columns).fill(-1), winner = new Int32Array(rows * columns);
    const votes = new Float32Array(rows * columns);
    let lowest = -1;
    for (const k of order) {
      if (bounds[k] * (1 + 1e-5) < lowest) break;
      votes.fill(0);
      heard.forEach((q, place) => {
        const share = probs[q * classes + k];
        if (share === 0) return;
        for (let y = 0; y < rows; y++) {
          const start = (place * ROWS + y) * width + left;
          for (let x = 0; x < columns; x++) votes[y * columns + x] += share * band[start + x];
        }
      });
      lowest = Infinity;
      for (let i = 0; i < votes.length; i++) {
        if (votes[i] > best[i] || (votes[i] === best[i] && k < winner[i])) {
          best[i] = votes[i];
          winner[i] = k;
        }
        if (best[i] < lowest) lowest = best[i];
      }
    }
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const from = y * columns + x, to = (top + y) * width + left + x;
        scores[to] = best[from];
        labels[to] = best[from] < floor ? -1 : winner[from];
      }
    }
  }
}
