// Settings in the page's address, behind the #: they can be shared, and never reach a server's log.

export const DEFAULTS = {
  names: "", list: "", without: "", task: "panoptic", opacity: "0.55", score: "0.3", labels: "1",
  example: "",
};
const between = (low, high) => (value) => value !== "" && Number(value) >= low && Number(value) <= high;
// Addresses are written by hand, too: what cannot be is as by default.
const CAN_BE = {
  task: (value) => ["instance", "semantic", "panoptic"].includes(value),
  opacity: between(0, 1), score: between(0.1, 1),
  labels: (value) => ["0", "1"].includes(value),
};

/** The settings that the address holds, the rest by default. */
export function read() {
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const settings = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) {
    if (key in given && (CAN_BE[key]?.(given[key]) ?? true)) settings[key] = given[key];
  }
  return settings;
}

/** Put settings into the address; those that are as by default are left out. */
export function write(settings) {
  const changed = Object.entries(settings).filter(([key, value]) => value !== DEFAULTS[key]);
  const hash = new URLSearchParams(changed).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
}
