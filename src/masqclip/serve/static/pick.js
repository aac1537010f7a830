// A segment that is picked, or something that a box is drawn around, to become an example.

import { $ } from "./dom.js";

const STILL = 5; // a press that moves less, in pixels of the screen, is a point and no box
const STEP = 0.02, FIRST = 0.25; // of what is seen: a step of the keys, and the margin at first

/** The bar that asks what the picked segment is: "more like this", or "not this". */
export class Pick {
  /** `take(segment, name, not)` makes an example; `changed()` draws the picture anew. */
  constructor(take, changed) {
    this.segment = null;
    this.drawn = false; // whether it is what a box fits, and no segment of an answer
    $("pick").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = $("pick-name").value.trim();
      if (name) this.#end(() => take(this.segment, name, false));
      else $("pick-name").focus();
    });
    $("pick-not").addEventListener("click", () =>
      this.#end(() => take(this.segment, `not ${this.drawn ? "this" : this.segment.name}`, true)));
    $("pick-close").addEventListener("click", () => this.#end());
    $("pick").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#end();
    });
    this.changed = changed;
  }

  open(segment, { drawn = false, focus = false } = {}) {
    this.segment = segment;
    this.drawn = drawn;
    $("pick-name").value = drawn ? "" : segment.suggestion ?? segment.name;
    $("pick").hidden = false;
    if (focus) $("pick-name").focus({ preventScroll: true });
    if (focus) $("pick-name").select();
    this.changed();
  }

  close() {
    if (!this.segment) return;
    this.segment = null;
    $("pick").hidden = true;
    this.changed();
  }

  #end(work = () => {}) {
    const inside = $("pick").contains(document.activeElement);
    work();
    this.close();
    if (inside) $("box").focus({ preventScroll: true }); // what had the keyboard is gone
  }
}

/** Drawing a box: a mode, in which the picture stays where it is. */
export class Box {
  /** `fit(place)` is told of a {box} or a {point} in pixels of the picture. */
  constructor(zoom, fit) {
    this.zoom = zoom;
    this.fit = fit;
    this.box = null; // [x0, y0, x1, y1]
    this.pointer = null;
    const layer = $("box-layer");
    $("box").addEventListener("click", (event) => this.toggle(event.detail === 0));
    addEventListener("keydown", (event) => {
      const typing = event.target.matches("input, select, textarea");
      if (event.key.toLowerCase() !== "b" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (zoom.size()) this.toggle(true);
    });
    layer.addEventListener("keydown", (event) => this.#key(event));
    layer.addEventListener("pointerdown", (event) => this.#down(event));
    layer.addEventListener("pointermove", (event) => this.#move(event));
    layer.addEventListener("pointerup", (event) => this.#up(event));
    layer.addEventListener("pointercancel", () => this.#show((this.pointer = null)));
    layer.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom.canvas.dispatchEvent(new WheelEvent("wheel", event));
    }, { passive: false });
  }

  /** Begin or end the mode; by keyboard there is a box at once. */
  toggle(keys = false) {
    if (!$("box-layer").hidden) return this.end();
    $("box-layer").hidden = false;
    $("box").setAttribute("aria-pressed", "true");
    const { x, y, width, height } = this.zoom.frame;
    this.#show(keys && [
      x + FIRST * width, y + FIRST * height, x + (1 - FIRST) * width, y + (1 - FIRST) * height,
    ]);
    $("box-layer").focus({ preventScroll: true });
  }

  end() {
    const had = document.activeElement === $("box-layer");
    $("box-layer").hidden = true;
    $("box").setAttribute("aria-pressed", "false");
    this.pointer = null;
    this.#show(null);
    if (had) $("box").focus({ preventScroll: true });
  }

  #at(event) {
    const { x, y } = this.zoom.at(event), { width, height } = this.zoom.size();
    return [Math.max(0, Math.min(x, width)), Math.max(0, Math.min(y, height))];
  }

  #down(event) {
    if (this.pointer) return; // a second finger
    $("box-layer").setPointerCapture(event.pointerId);
    this.pointer = { id: event.pointerId, at: this.#at(event), x: event.clientX, y: event.clientY };
    this.#show(null);
  }

  #move(event) {
    if (this.pointer?.id === event.pointerId) this.#show(between(this.pointer.at, this.#at(event)));
  }

  #up(event) {
    if (this.pointer?.id !== event.pointerId) return;
    const { at, x, y } = this.pointer, far = Math.hypot(event.clientX - x, event.clientY - y);
    this.pointer = null;
    const { width, height } = this.zoom.size();
    const box = between(at, this.#at(event));
    if (far <= STILL) this.fit({ point: [Math.min(at[0], width - 0.5), Math.min(at[1], height - 0.5)] });
    else if (box[0] < box[2] && box[1] < box[3]) this.fit({ box });
  }

  #key(event) {
    const { width, height } = this.zoom.frame;
    const step = {
      ArrowLeft: [-STEP * width, 0], ArrowRight: [STEP * width, 0],
      ArrowUp: [0, -STEP * height], ArrowDown: [0, STEP * height],
    }[event.key];
    if (event.key === "Escape") this.end();
    else if (event.key === "Enter" && this.box) this.fit({ box: this.box });
    else if (step && this.box) this.#show(this.#stepped(step, event.shiftKey));
    else return;
    event.preventDefault();
    event.stopPropagation(); // arrows move the box, not the picture
  }

  /** The box moved, or with Shift its lower right corner, within the picture. */
  #stepped([across, down], corner) {
    const { width, height } = this.zoom.size(), [x0, y0, x1, y1] = this.box;
    const inside = (value, least, most) => Math.max(least, Math.min(value, most));
    if (corner) return [x0, y0, inside(x1 + across, x0 + 2, width), inside(y1 + down, y0 + 2, height)];
    const dx = inside(across, -x0, width - x1), dy = inside(down, -y0, height - y1);
    return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
  }

  #show(box) {
    this.box = box || null;
    const shape = $("box-shape");
    shape.hidden = !box;
    if (!box) return;
    const seen = this.zoom.canvas.getBoundingClientRect(), room = $("figure").getBoundingClientRect();
    const { x, y, width, height } = this.zoom.frame;
    const across = seen.width / width, down = seen.height / height;
    shape.style.left = `${seen.left - room.left + (box[0] - x) * across}px`;
    shape.style.top = `${seen.top - room.top + (box[1] - y) * down}px`;
    shape.style.width = `${(box[2] - box[0]) * across}px`;
    shape.style.height = `${(box[3] - box[1]) * down}px`;
  }
}

const between = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
