// Zoom and pan of the picture: by buttons, by keys, by pinching, or with Ctrl and the wheel.

import { $ } from "./dom.js";

const MOST = 16, STEP = 1.5, STILL = 5; // a press that moves less, in pixels of the screen, is a click

export class Zoom {
  /** `size()` gives the picture's size, if there is one; `changed()` is to draw it anew. */
  constructor(canvas, size, changed) {
    this.canvas = canvas;
    this.size = size;
    this.changed = changed;
    this.scale = 1; // 1 shows all of the picture
    this.left = this.top = 0; // the picture's pixel at the upper left corner
    this.dragged = false; // whether the click that comes next only ends a drag
    this.fingers = new Map();
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    }
    addEventListener("keydown", (event) => this.#key(event));
    $("zoom-in").addEventListener("click", () => this.in());
    $("zoom-out").addEventListener("click", () => this.out());
    $("zoom-fit").addEventListener("click", () => this.reset());
  }

  /** The part of the picture that is seen, in its pixels. */
  get frame() {
    const { width, height } = this.size();
    return { x: this.left, y: this.top, width: width / this.scale, height: height / this.scale };
  }

  /** Where in the picture something on the screen is. */
  at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect(), frame = this.frame;
    return {
      x: frame.x + ((clientX - box.left) / box.width) * frame.width,
      y: frame.y + ((clientY - box.top) / box.height) * frame.height,
    };
  }

  reset() { this.#to(1, 0, 0); }
  in() { this.#by(STEP); }
  out() { this.#by(1 / STEP); }

  /** Move what is seen by shares of it. */
  pan(across, down) {
    const { width, height } = this.frame;
    this.#to(this.scale, this.left + across * width, this.top + down * height);
  }

  /** Zoom around a point of the picture, the middle by default, which stays where it is. */
  #by(factor, point) {
    const { x, y, width, height } = this.frame;
    const scale = Math.max(1, Math.min(this.scale * factor, MOST));
    const { x: px, y: py } = point ?? { x: x + width / 2, y: y + height / 2 };
    const share = this.scale / scale;
    this.#to(scale, px - (px - x) * share, py - (py - y) * share);
  }

  #to(scale, left, top) {
    this.scale = scale;
    const { width, height } = this.size(), frame = this.frame;
    this.left = Math.max(0, Math.min(left, width - frame.width));
    this.top = Math.max(0, Math.min(top, height - frame.height));
    // With one finger the page is scrolled until there is something to move.
    this.canvas.classList.toggle("zoomed", scale > 1);
    this.changed();
  }

  #key(event) {
    if (event.target.matches("input, select") || event.ctrlKey || event.metaKey) return;
    const act = {
      "+": () => this.in(), "=": () => this.in(), "-": () => this.out(), 0: () => this.reset(),
      ArrowLeft: () => this.pan(-0.2, 0), ArrowRight: () => this.pan(0.2, 0),
      ArrowUp: () => this.pan(0, -0.2), ArrowDown: () => this.pan(0, 0.2),
    }[event.key];
    // Arrows scroll the page until there is something to move.
    if (!act || !this.size() || (event.key.startsWith("Arrow") && this.scale === 1)) return;
    event.preventDefault();
    act();
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.#by(2 ** (-event.deltaY / 300), this.at(event));
  }

  #down(event) {
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.fingers.size === 1) this.start = { x: event.clientX, y: event.clientY };
    this.dragged = this.fingers.size > 1;
  }

  #move(event) {
    const last = this.fingers.get(event.pointerId);
    if (!last) return;
    const now = { x: event.clientX, y: event.clientY };
    const far = Math.hypot(now.x - this.start.x, now.y - this.start.y) > STILL;
    if (this.fingers.size === 1 && (this.scale === 1 || !(far || this.dragged))) return;
    if (!this.dragged) this.canvas.setPointerCapture(event.pointerId);
    this.dragged = true;
    this.fingers.set(event.pointerId, now);
    const box = this.canvas.getBoundingClientRect();
    const fingers = this.fingers.size;
    this.pan(-(now.x - last.x) / box.width / fingers, -(now.y - last.y) / box.height / fingers);
    if (fingers !== 2) return;
    const [other] = [...this.fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const before = Math.hypot(last.x - other.x, last.y - other.y);
    const middle = { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 };
    if (before > 0) this.#by(Math.hypot(now.x - other.x, now.y - other.y) / before, this.at(middle));
  }
}
