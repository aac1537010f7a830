// Masks as COCO's compressed run lengths, which ../rle.js reads: column by column, zeros first.

/** {rle, area, bbox} of a mask, a number for each pixel, row by row. */
export const encodeMask = (mask, width, height) => encodeMap(mask, width, height, 1)[0];

/** The same of the segments 1 to `count` of a map of segments, in one walk over it. */
export function encodeMap(map, width, height, count) {
  const found = Array.from({ length: count }, () => ({
    runs: [], end: 0, area: 0, left: width, right: -1, top: height, bottom: -1,
  }));
  const close = (id, from, to) => {
    const one = found[id - 1];
    if (one.runs.length && one.end === from) one.runs[one.runs.length - 1] += to - from;
    else one.runs.push(from - one.end, to - from);
    one.end = to;
    one.area += to - from;
  };
  let at = 0; // in column order
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; ) {
      const id = map[y * width + x], from = y;
      while (++y < height && map[y * width + x] === id);
      if (!id) continue;
      const one = found[id - 1];
      if (x < one.left) one.left = x;
      one.right = x;
      if (from < one.top) one.top = from;
      if (y - 1 > one.bottom) one.bottom = y - 1;
      close(id, at + from, at + y);
    }
    at += height;
  }
  return found.map(({ runs, end, area, left, right, top, bottom }) => {
    if (end < at) runs.push(at - end);
    const bbox = area ? [left, top, right - left + 1, bottom - top + 1] : [0, 0, 0, 0];
    return { rle: { size: [height, width], counts: counts(runs) }, area, bbox };
  });
}

function counts(runs) {
  let text = "";
  runs.forEach((run, place) => {
    // From the fourth on, by how much a run is longer than the one before the last.
    let value = place > 2 ? run - runs[place - 2] : run, more = true;
    while (more) {
      let code = value & 0x1f;
      value >>= 5;
      more = code & 0x10 ? value !== -1 : value !== 0;
      if (more) code |= 0x20;
      text += String.fromCharCode(code + 48);
    }
  });
  return text;
}
