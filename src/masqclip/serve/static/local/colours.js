// A colour for every name, as masqclip/render/palette.py gives it.

const FAR_APART = 32, STEPS = [0, 0.14, -0.14, 0.07, -0.07];

/** "#rrggbb" of each segment: that of its name, a little varied from one of a name to the next. */
export async function colours(told, names, palette) {
  const all = [...new Set([...names, ...told])], places = await taken(all.map(keyOf), palette.length);
  const seen = new Map();
  return told.map((name) => {
    const index = seen.get(name) ?? 0;
    seen.set(name, index + 1);
    const parts = [1, 3, 5].map((at) => parseInt(palette[places.get(keyOf(name))].slice(at, at + 2), 16));
    return `#${varied(parts, index).map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  });
}

const keyOf = (name) => name.toLowerCase().trim().replace(/\s+/g, " ");

async function taken(keys, total) {
  const places = new Map(), used = new Set(), fresh = [...new Set(keys)];
  const wishes = new Map(await Promise.all(fresh.map(async (key) => [key, await wish(key)])));
  const take = (key, place) => {
    if (used.has(place)) return false;
    used.add(place);
    places.set(key, place);
    return true;
  };
  const settle = (key, size) => {
    const [first, stride] = wishes.get(key);
    let place = first % size;
    if (used.size === total) return places.set(key, place);
    while (!take(key, place)) place = (place + ((2 * stride + 1) % size)) % size;
    return places;
  };
  const first = fresh.slice(0, FAR_APART), rest = fresh.slice(FAR_APART);
  first.filter((key) => !take(key, wishes.get(key)[0] % FAR_APART)).forEach((key) => settle(key, FAR_APART));
  let size = FAR_APART;
  while (size < Math.min(fresh.length, total)) size *= 2;
  rest.forEach((key) => settle(key, size));
  return places;
}

/** Two whole numbers of a name: of its SHA-256, which browsers have where a page came safely. */
async function wish(key) {
  const bytes = new TextEncoder().encode(key);
  if (globalThis.crypto?.subtle) {
    const view = new DataView(await crypto.subtle.digest("SHA-256", bytes));
    return [view.getUint32(0), view.getUint32(4)];
  }
  let hash = 2166136261; // FNV-1a
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return [hash, Math.imul(hash, 2654435761) >>> 0];
}

function varied(colour, index) {
  const step = STEPS[index % STEPS.length], light = colour.reduce((a, b) => a + b) / 765;
  const [other, share] = step > 0 ? [255, step * (0.5 + light)] : [0, -step * (1.5 - light)];
  return colour.map((part) => Math.round(part + (other - part) * share));
}
