// Files of what is shown: the overlay, the cut-out, COCO's panoptic PNG, COCO's JSON.

import { draw } from "./view.js";
import { forEachRun } from "./rle.js";
import { $, make } from "./dom.js";

/**
 * Listen to the buttons. `now()` gives the picture, its size, the answer, which of its names are
 * stuff, the segments that are shown, and how they are drawn.
 */
export function offerDownloads(now) {
  const files = {
    "save-overlay": ({ picture, size, look }) => saveOverlay(picture.bitmap, size, look, picture.name),
    "save-cutout": ({ picture, size, shown }) => saveCutout(picture.bitmap, shown, size, picture.name),
    "save-panoptic": ({ picture, size, shown }) => savePanoptic(shown, size, picture.name),
    "save-coco": ({ picture, answer, shown, stuff }) =>
      saveCoco(answer, shown, stuff, picture.name, picture.fileName),
  };
  for (const [id, write] of Object.entries(files)) $(id).addEventListener("click", () => write(now()));
}

/** Let a file be downloaded. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function canvasOf(width, height) {
  const canvas = make("canvas", { width, height });
  return [canvas, canvas.getContext("2d")];
}

/** The picture with the masks that are shown, at its own size. */
function saveOverlay(picture, size, look, name) {
  const [canvas, context] = canvasOf(size.width, size.height);
  const frame = { x: 0, y: 0, ...size };
  const unit = Math.max(size.width, size.height) / 900;
  draw(context, picture, size, { ...look, lit: null, frame, unit });
  canvas.toBlob((blob) => save(blob, `${name}.overlay.png`), "image/png");
}

/** The picture where segments are, transparent elsewhere (RGBA). */
function saveCutout(picture, segments, size, name) {
  const [canvas, context] = canvasOf(size.width, size.height);
  context.drawImage(picture, 0, 0, size.width, size.height);
  const image = context.getImageData(0, 0, size.width, size.height);
  const kept = new Uint8Array(size.width * size.height);
  for (const { segmentation } of segments) {
    forEachRun(segmentation, (from, to) => kept.fill(1, from, to));
  }
  for (let position = 0; position < kept.length; position++) {
    if (kept[position]) continue;
    const x = Math.floor(position / size.height), y = position % size.height;
    image.data.fill(0, 4 * (y * size.width + x), 4 * (y * size.width + x) + 4);
  }
  context.putImageData(image, 0, 0);
  canvas.toBlob((blob) => save(blob, `${name}.cutout.png`), "image/png");
}

/** Ids as colours: id = R + 256 G + 65536 B; 0 is unlabelled. */
function savePanoptic(segments, size, name) {
  const [canvas, context] = canvasOf(size.width, size.height);
  const image = context.createImageData(size.width, size.height);
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  for (const { id, segmentation } of segments) {
    forEachRun(segmentation, (from, to) => {
      for (let position = from; position < to; position++) {
        const x = Math.floor(position / size.height), y = position % size.height;
        const at = 4 * (y * size.width + x);
        image.data[at] = id & 255;
        image.data[at + 1] = (id >> 8) & 255;
        image.data[at + 2] = id >> 16;
      }
    });
  }
  context.putImageData(image, 0, 0);
  canvas.toBlob((blob) => save(blob, `${name}.panoptic.png`), "image/png");
}

/** A COCO dataset of this one picture; categories are numbered from 1 in the vocabulary's order. */
function saveCoco(answer, segments, stuff, name, fileName) {
  const document = {
    info: { description: "Made with masqclip" },
    images: [{ id: 1, file_name: fileName, width: answer.width, height: answer.height }],
    categories: answer.vocabulary.map((word, index) =>
      ({ id: index + 1, name: word, isthing: stuff.has(word) ? 0 : 1 })),
    annotations: segments.map((segment) => ({
      id: segment.id, image_id: 1, category_id: segment.class_id + 1, iscrowd: 0,
      segmentation: segment.segmentation, area: segment.area, bbox: segment.bbox,
      score: segment.score,
    })),
  };
  const text = JSON.stringify(document);
  save(new Blob([text], { type: "application/json" }), `${name}.coco.json`);
}
