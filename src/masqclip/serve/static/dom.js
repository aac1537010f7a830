// Making elements. Text is always set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`aria-…` and `data-…` as attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}
