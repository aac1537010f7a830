// Mask logits of the padded frame at the picture's own size, a few rows at a time.

/** What a new pixel is made of along one side: places of old ones, and their weights. */
function bilinear(old, fresh) {
  const found = [];
  for (let i = 0; i < fresh; i++) {
    const position = Math.min(Math.max((i + 0.5) * (old / fresh) - 0.5, 0), old - 1);
    const below = Math.trunc(position), share = position - below;
    found.push([[below, 1 - share], [Math.min(below + 1, old - 1), share]]);
  }
  return found;
}

/** First to the frame, of which the picture is a part, then to the picture: one side of both. */
function taps(grid, frame, inside, fresh) {
  const toFrame = bilinear(grid, frame), toPicture = bilinear(inside, fresh);
  return toPicture.map((parts) => {
    const whole = new Map();
    for (const [place, share] of parts) {
      for (const [old, weight] of toFrame[place]) whole.set(old, (whole.get(old) ?? 0) + share * weight);
    }
    return [...whole].filter(([, weight]) => weight !== 0);
  });
}

const KEPT = 1 << 24; // logits that are kept for the next names, 64 MB

/** The masks of a picture's proposals. */
export class Masks {
  constructor(encoded) {
    const { grid, frame, inside, width, height } = encoded;
    Object.assign(this, { width, height, columns: grid[1], rows: grid[0], logits: encoded.logits });
    this.down = taps(grid[0], frame[0], inside[0], height);
    const across = taps(grid[1], frame[1], inside[1], width);
    // As flat arrays of at most four places: this is the innermost loop.
    this.places = new Int32Array(4 * width);
    this.shares = new Float32Array(4 * width);
    across.forEach((parts, x) => parts.forEach(([place, share], k) => {
      this.places[4 * x + k] = place;
      this.shares[4 * x + k] = share;
    }));
    this.narrow = new Float32Array(grid[1]);
    this.row = new Float32Array(width);
    this.kept = encoded.queries * width * height <= KEPT ? new Map() : null;
  }

  /** Row y of proposal q, good until the next one is read. */
  read(q, y) {
    if (!this.kept) return this.#made(q, y, this.row);
    if (!this.kept.has(q)) {
      const whole = new Float32Array(this.width * this.height);
      for (let each = 0; each < this.height; each++) {
        this.#made(q, each, whole.subarray(each * this.width, (each + 1) * this.width));
      }
      this.kept.set(q, whole);
    }
    return this.kept.get(q).subarray(y * this.width, (y + 1) * this.width);
  }

  #made(q, y, row) {
    const { narrow, places, shares, columns, width } = this;
    narrow.fill(0);
    for (const [place, share] of this.down[y]) {
      const start = (q * this.rows + place) * columns;
      for (let x = 0; x < columns; x++) narrow[x] += share * this.logits[start + x];
    }
    for (let x = 0, k = 0; x < width; x++, k += 4) {
      row[x] = shares[k] * narrow[places[k]] + shares[k + 1] * narrow[places[k + 1]] +
        shares[k + 2] * narrow[places[k + 2]] + shares[k + 3] * narrow[places[k + 3]];
    }
    return row;
  }

  /** Whether all of a proposal's logits are numbers. */
  sound(q) {
    const size = this.rows * this.columns;
    return this.logits.subarray(q * size, (q + 1) * size).every(Number.isFinite);
  }
}

export const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
