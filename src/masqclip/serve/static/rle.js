// COCO's compressed run lengths, read column by column as the format has it.

/** The run lengths behind `counts`: zeros first, then ones, in turn. */
export function runLengths(counts) {
  const runs = [];
  let position = 0;
  while (position < counts.length) {
    let value = 0, shift = 0, code;
    do {
      code = counts.charCodeAt(position++) - 48;
      value += (code & 0x1f) * 2 ** shift;
      shift += 5;
    } while (code & 0x20);
    if (code & 0x10) value -= 2 ** shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** Calls `paint(from, to)` with every run of ones, as positions in column order. */
export function forEachRun({ counts }, paint) {
  let position = 0;
  runLengths(counts).forEach((length, index) => {
    if (index % 2) paint(position, position + length);
    position += length;
  });
}

/** The mask as bytes, `mask[x * height + y]`. */
export function decode(rle) {
  const [height, width] = rle.size;
  const mask = new Uint8Array(height * width);
  forEachRun(rle, (from, to) => mask.fill(1, from, to));
  return mask;
}
