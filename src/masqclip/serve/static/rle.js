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

/** Where runs begin, in turn of zeros and of ones. A mask takes its runs' room, not its pixels'. */
export function starts({ counts }) {
  let position = 0;
  return Uint32Array.from(runLengths(counts), (length) => (position += length) - length);
}

/** Whether a position, in column order, is one of the mask whose runs have these starts. */
export function holds(starts, position) {
  let low = 0, high = starts.length; // the last run that begins at or before the position
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= position) low = middle;
    else high = middle;
  }
  return low % 2 === 1;
}
