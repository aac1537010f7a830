// Masks as smooth outlines: vector paths stay sharp at any zoom, and drawing them is quick.

import { forEachRun } from "./rle.js";

// Steps (x, y) along the borders of pixels: right, down, left, up.
const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];
// Beyond this many pixels along an edge outlines are traced on a coarser grid.
const GRID = 1200;

/** A mask on a grid coarse enough to be quick: `at(x, y)`, and pixels of the picture per cell. */
export function grid(rle) {
  const [height, width] = rle.size;
  const step = Math.max(1, Math.ceil(Math.max(width, height) / GRID));
  const columns = Math.ceil(width / step), rows = Math.ceil(height / step);
  const cells = new Uint8Array(columns * rows);
  forEachRun(rle, (from, to) => {
    for (let x = Math.ceil(Math.floor(from / height) / step) * step; x * height < to; x += step) {
      const first = Math.max(0, from - x * height), end = Math.min(height, to - x * height);
      const column = (x / step) * rows;
      cells.fill(1, column + Math.ceil(first / step), column + Math.ceil(end / step));
    }
  });
  const at = (x, y) => (x >= 0 && y >= 0 && x < columns && y < rows ? cells[x * rows + y] : 0);
  return { at, columns, rows, step };
}

/**
 * The outline of a mask in pixels of the picture; fill it by the even-odd rule.
 *
 * The path goes through the middles of the pixels' edges, so that stairs become slopes.
 */
export function outline({ at, columns, rows, step }) {
  const path = new Path2D();
  const width = columns + 1;
  const seen = new Uint8Array(width * (rows + 1) * 4);
  // The four pixels around a corner decide which way the border leaves it, the mask on its right.
  const leaves = (x, y, direction) => {
    switch (direction) {
      case 0: return at(x, y) && !at(x, y - 1);
      case 1: return at(x - 1, y) && !at(x, y);
      case 2: return at(x - 1, y - 1) && !at(x - 1, y);
      default: return at(x, y - 1) && !at(x - 1, y - 1);
    }
  };
  for (let y = 0; y <= rows; y++) {
    for (let x = 0; x <= columns; x++) {
      if (leaves(x, y, 0) && !seen[(y * width + x) * 4]) trace(x, y);
    }
  }
  return path;

  function trace(x, y) {
    let direction = 0, first = true;
    while (!seen[(y * width + x) * 4 + direction]) {
      seen[(y * width + x) * 4 + direction] = 1;
      const [dx, dy] = STEPS[direction];
      const point = [(x + dx / 2) * step, (y + dy / 2) * step];
      first ? path.moveTo(...point) : path.lineTo(...point);
      first = false;
      x += dx;
      y += dy;
      direction = [3, 0, 1].map((turn) => (direction + turn) % 4).find((d) => leaves(x, y, d));
      if (direction === undefined) break;
    }
    path.closePath();
  }
}

/** A point well inside a mask, for its label: the middle of a long run of pixels, not at the rim. */
export function anchor({ at, columns, rows, step }) {
  let best = { worth: 0, x: 0, y: 0 };
  const stride = Math.max(1, Math.floor(rows / 160));
  const [top, bottom] = extent({ at, columns, rows }, stride);
  if (top < 0) return { x: 0, y: 0 };
  for (let y = top; y <= bottom; y += stride) {
    // A run counts fully in the middle of the mask's height, and half at its top and bottom.
    const height = 1 - Math.abs(y - (top + bottom) / 2) / (bottom - top + 1);
    for (let x = 0, from = -1; x <= columns; x++) {
      if (at(x, y)) {
        if (from < 0) from = x;
      } else if (from >= 0) {
        const worth = (x - from) * height;
        if (worth > best.worth) best = { worth, x: (from + x) / 2, y: y + 0.5 };
        from = -1;
      }
    }
  }
  return { x: best.x * step, y: best.y * step };
}

/** The first and last row, in strides, that hold anything. */
function extent({ at, columns, rows }, stride) {
  let top = -1, bottom = -1;
  for (let y = 0; y < rows; y += stride) {
    for (let x = 0; x < columns; x++) {
      if (at(x, y)) {
        if (top < 0) top = y;
        bottom = y;
        break;
      }
    }
  }
  return [top, bottom];
}
