// The picture with its segments: drawing, and finding what lies under a pointer.

import { anchor, grid, outline } from "./contour.js";
import { holds, starts } from "./rle.js";

const STUFF_SHARE = 0.6; // stuff is tinted more lightly than things, as in the service's overlays
// Steps, of half a label each way, to try around a name's best place, the nearest first.
const STEPS = Array.from({ length: 7 * 17 }, (_, i) => [(i % 7) - 3, Math.floor(i / 7) - 8])
  .sort(([a, b], [c, d]) => a * a + b * b - c * c - d * d);

/**
 * Segments of an answer, with what drawing needs; large and stuff first, so that things lie on top.
 *
 * What was found without being asked for is shown by what is suggested: `asked` is the answer's name.
 */
export function prepare(answer) {
  return answer.segments
    .map((segment) => {
      const cells = grid(segment.segmentation);
      const runs = starts(segment.segmentation);
      const name = segment.suggestion === undefined ? segment.name : `${segment.suggestion}?`;
      return { ...segment, name, asked: segment.name, runs, path: outline(cells), anchor: anchor(cells) };
    })
    .sort((a, b) => a.thing - b.thing || b.area - a.area);
}

/**
 * Draw a picture and its segments into a context whose unit is a pixel of the picture.
 *
 * `look`: segments to show, opacity, the segment that is lit, whether names are written, the
 * `frame` of the picture that is seen, and `unit`, the picture's pixels per pixel of the screen.
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
    drawNames(context, look);
  }
}

/** Names within the frame, shortened where they are long, and beside one another where they can be. */
function drawNames(context, { segments, frame, unit }) {
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const height = 21 * unit, room = Math.max(0.45 * frame.width, 90 * unit) - 14 * unit;
  const placed = [];
  // Small things have few places, large regions many: what lies on top chooses first.
  for (const segment of segments.toReversed()) {
    const { x, y } = segment.anchor;
    if (x < frame.x || y < frame.y || x > frame.x + frame.width || y > frame.y + frame.height) continue;
    const text = fitted(context, segment.name, room);
    const width = context.measureText(text).width + 14 * unit;
    const inside = (at, low, length, own) => clamp(at - own / 2, low + 2 * unit, low + length - own - 2 * unit);
    let best = null;
    for (const [across, down] of STEPS) {
      const box = {
        x: inside(x + (across * width) / 2, frame.x, frame.width, width),
        y: inside(y + (down * height) / 2, frame.y, frame.height, height),
        width, height,
      };
      const hidden = placed.reduce((sum, other) => sum + shared(box, other.box, 2 * unit), 0);
      if (!best || hidden < best.hidden) best = { box, hidden };
      if (!hidden) break;
    }
    placed.push({ box: best.box, text, colour: segment.colour });
  }
  for (const label of placed.reverse()) drawName(context, label, unit);
}

function drawName(context, { box, text, colour }, unit) {
  context.beginPath();
  context.roundRect(box.x, box.y, box.width, box.height, box.height / 2);
  context.fillStyle = "rgb(15 18 20 / 78%)";
  context.fill();
  context.lineWidth = 1.5 * unit;
  context.strokeStyle = colour;
  context.stroke();
  context.fillStyle = "#fff";
  context.fillText(text, box.x + 7 * unit, box.y + box.height / 2 + 0.5 * unit);
}

/** A name, cut after a letter until it and an ellipsis fit. */
function fitted(context, name, room) {
  if (context.measureText(name).width <= room) return name;
  const letters = [...new Intl.Segmenter().segment(name.slice(0, 400))].map(({ segment }) => segment);
  let least = 1, most = letters.length;
  while (least < most) {
    const length = Math.ceil((least + most) / 2);
    const short = letters.slice(0, length).join("") + "\u2026";
    if (context.measureText(short).width <= room) least = length;
    else most = length - 1;
  }
  return letters.slice(0, least).join("").trimEnd() + "\u2026";
}

/** The area that a box, grown by a gap, shares with another. */
function shared(box, other, gap) {
  const width = Math.min(box.x + box.width + gap, other.x + other.width) - Math.max(box.x - gap, other.x);
  const height = Math.min(box.y + box.height + gap, other.y + other.height) - Math.max(box.y - gap, other.y);
  return Math.max(0, width) * Math.max(0, height);
}

/** The topmost of some segments at a point in pixels of the picture, or null. */
export function segmentAt(segments, size, x, y) {
  const column = Math.floor(x), row = Math.floor(y);
  if (column < 0 || row < 0 || column >= size.width || row >= size.height) return null;
  const position = column * size.height + row;
  return segments.findLast(({ runs }) => holds(runs, position)) ?? null;
}

function mixed(colour, share) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${parts.map((part) => Math.round(part + (255 - part) * share)).join(" ")})`;
}

const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
