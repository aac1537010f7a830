// The picture with its segments: drawing, and finding what lies under a pointer.

import { decode } from "./rle.js";
import { anchor, grid, outline } from "./contour.js";

const STUFF_SHARE = 0.62; // stuff is tinted more lightly than things, as in the service's overlays

/** Segments of an answer, with what drawing needs; large and stuff first, so that things lie on top. */
export function prepare(answer) {
  return answer.segments
    .map((segment) => {
      const mask = decode(segment.segmentation);
      const cells = grid(mask, answer.width, answer.height);
      return { ...segment, mask, path: outline(cells), anchor: anchor(cells) };
    })
    .sort((a, b) => a.thing - b.thing || b.area - a.area);
}

/**
 * Draw a picture and its segments into a context whose unit is a pixel of the picture.
 *
 * `look`: segments to show, opacity, the segment that is lit, whether names are written, and
 * `unit`, the picture's pixels per pixel of the screen.
 */
export function draw(context, picture, size, look) {
  context.fillStyle = "#fff"; // transparency lies on white, as the model sees it
  context.fillRect(0, 0, size.width, size.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, size.width, size.height);
  for (const segment of look.segments) {
    const lit = segment.id === look.lit;
    const dimmed = look.lit !== null && !lit ? 0.35 : 1;
    const alpha = Math.min(1, look.opacity * (lit ? 1.25 : 1)) * dimmed;
    context.globalAlpha = alpha * (segment.thing ? 1 : STUFF_SHARE);
    context.fillStyle = segment.colour;
    context.fill(segment.path, "evenodd");
    if (!segment.thing && !lit) continue;
    context.globalAlpha = Math.min(1, look.opacity * 2) * dimmed;
    context.lineJoin = "round";
    context.lineWidth = (lit ? 5 : 3) * look.unit;
    context.strokeStyle = "rgb(12 12 16 / 55%)";
    context.stroke(segment.path);
    context.lineWidth = (lit ? 3 : 1.4) * look.unit;
    context.strokeStyle = lit ? "#fff" : mixed(segment.colour, 0.55);
    context.stroke(segment.path);
  }
  context.globalAlpha = 1;
  if (look.names && look.opacity > 0) {
    for (const segment of look.segments) drawName(context, segment, size, look.unit);
  }
}

function drawName(context, segment, size, unit) {
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const width = context.measureText(segment.name).width + 14 * unit, height = 21 * unit;
  const x = clamp(segment.anchor.x - width / 2, 2 * unit, size.width - width - 2 * unit);
  const y = clamp(segment.anchor.y - height / 2, 2 * unit, size.height - height - 2 * unit);
  context.beginPath();
  context.roundRect(x, y, width, height, height / 2);
  context.fillStyle = "rgb(15 18 20 / 78%)";
  context.fill();
  context.fillStyle = segment.colour;
  context.beginPath();
  context.roundRect(x, y, width, height, height / 2);
  context.lineWidth = 1.5 * unit;
  context.strokeStyle = segment.colour;
  context.stroke();
  context.fillStyle = "#fff";
  context.fillText(segment.name, x + 7 * unit, y + height / 2 + 0.5 * unit);
}

/** The topmost of some segments at a point in pixels of the picture, or null. */
export function segmentAt(segments, size, x, y) {
  const column = Math.floor(x), row = Math.floor(y);
  if (column < 0 || row < 0 || column >= size.width || row >= size.height) return null;
  const position = column * size.height + row;
  return segments.findLast((segment) => segment.mask[position]) ?? null;
}

function mixed(colour, share) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${parts.map((part) => Math.round(part + (255 - part) * share)).join(" ")})`;
}

const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
