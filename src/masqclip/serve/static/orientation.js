// Pictures the right way up. Browsers turn JPEG and PNG as EXIF says; of WebP not all of them do,
// and the service does: masks would lie beside what they are of.

// A WebP of two pixels side by side, of which EXIF says that they are one above the other.
const PROBE = "UklGRlIAAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TBEAAAAvAQAAAAfQhCY0of+BiOh/AABFWElGGgAAAE1NACoAAAAIAAEBEgADAAAAAQAGAAAAAAAA";
const ORIENTATION = 0x0112;
const SIDEWAYS = 5; // from here on height and width are exchanged
// By orientation: the matrix of a canvas of width w and height h, in which it is drawn as it lies.
const TURNS = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w) => [0, 1, -1, 0, w, 0],
  7: (w, h) => [0, -1, -1, 0, w, h],
  8: (w, h) => [0, -1, 1, 0, 0, h],
};
let turnsWebp = null;

/**
 * A file's picture, upright; `options` are those of createImageBitmap. Rejects what this browser
 * cannot decode.
 */
export async function decodeUpright(blob, options = {}) {
  const bitmap = await createImageBitmap(blob, options);
  const orientation = webpOrientation(new DataView(await blob.arrayBuffer()));
  if (!TURNS[orientation] || (await (turnsWebp ??= probe()))) return bitmap;
  const { width, height } = bitmap, sideways = orientation >= SIDEWAYS;
  const canvas = new OffscreenCanvas(sideways ? height : width, sideways ? width : height);
  const context = canvas.getContext("2d");
  context.setTransform(...TURNS[orientation](canvas.width, canvas.height));
  context.drawImage(bitmap, 0, 0);
  return canvas.transferToImageBitmap();
}

async function probe() {
  const bytes = Uint8Array.from(atob(PROBE), (letter) => letter.charCodeAt(0));
  const { width, height } = await createImageBitmap(new Blob([bytes], { type: "image/webp" }));
  return height > width;
}

/** What EXIF says in a WebP; 1, upright, of all else. */
function webpOrientation(data) {
  const word = (at) => (at + 4 <= data.byteLength ? data.getUint32(at) : 0);
  if (word(0) !== 0x52494646 || word(8) !== 0x57454250) return 1; // RIFF, WEBP
  for (let at = 12; at + 8 <= data.byteLength; ) {
    const length = data.getUint32(at + 4, true), end = at + 8 + length;
    if (word(at) === 0x45584946 && end <= data.byteLength) { // EXIF
      return exifOrientation(new DataView(data.buffer, at + 8, length));
    }
    at = end + (length % 2); // chunks begin at even places
  }
  return 1;
}

function exifOrientation(block) {
  try {
    const start = block.getUint32(0) === 0x45786966 ? 6 : 0; // some write JPEG's "Exif" before it
    const little = block.getUint16(start) === 0x4949;
    const entries = start + block.getUint32(start + 4, little);
    for (let index = 0; index < block.getUint16(entries, little); index++) {
      const entry = entries + 2 + 12 * index;
      if (block.getUint16(entry, little) === ORIENTATION) return block.getUint16(entry + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a block that is cut short says nothing
  }
  return 1;
}
