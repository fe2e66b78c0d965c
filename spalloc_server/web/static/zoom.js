// What part of a map is seen: zoomed with the wheel, two fingers or keys, and dragged.

const FINGER = 46; // pixels that a board has at least after a tap on a small map
const CLICK = 6; // pixels that a pointer may move and still has clicked
const MOST = 90; // pixels of a board at most
const SCROLLING = 400; // ms after which a wheel no longer counts as scrolling the page

// When the wheel has last scrolled the page.
let scrolledAt = -Infinity;
addEventListener("wheel", (event) => {
  if (!event.defaultPrevented) scrolledAt = performance.now();
}, { passive: true });

export class Zoom {
  #pointers = new Map();
  #from = null;

  // `box`: all of the map, [left, top, width, height]; `board`: the smaller side of one;
  // `kept`: gives a point that zooming leaves in sight, or null.
  constructor(element, box, board, { kept, onchange }) {
    this.element = element;
    this.box = box;
    this.board = board;
    this.kept = kept;
    this.onchange = onchange;
    this.scale = 1;
    this.middle = [box[0] + box[2] / 2, box[1] + box[3] / 2];
    this.dragged = false;
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"])
      element.addEventListener(name, (event) => this.#up(event));
    element.addEventListener("touchmove", (event) => {
      if ((event.touches.length > 1 || this.scale > 1) && event.cancelable) event.preventDefault();
    }, { passive: false });
    new ResizeObserver(() => this.#keeping(() => this.apply())).observe(element);
    this.apply();
  }

  // Width and height of the element, and pixels for one unit when all is seen.
  #size() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!width || !height) return null;
    return { width, height, whole: Math.min(width / this.box[2], height / this.box[3]) };
  }

  // Pixels of a board.
  get boardSize() {
    const size = this.#size();
    return size ? this.board * size.whole * this.scale : 0;
  }

  get most() {
    const size = this.#size();
    return size ? Math.max(2, MOST / (this.board * size.whole)) : 8;
  }

  apply() {
    const size = this.#size();
    if (!size) {
      this.seen = this.box;
    } else {
      const unit = size.whole * this.scale;
      const extent = [size.width / unit, size.height / unit];
      this.middle = this.middle.map((at, i) => {
        const [low, long] = [this.box[i], this.box[i + 2]];
        if (extent[i] >= long) return low + long / 2;
        return Math.min(low + long - extent[i] / 2, Math.max(low + extent[i] / 2, at));
      });
      this.seen = [this.middle[0] - extent[0] / 2, this.middle[1] - extent[1] / 2, ...extent];
    }
    this.element.setAttribute("viewBox", this.seen.map((v) => v.toFixed(2)).join(" "));
    this.element.classList.toggle("zoomed", this.scale > 1);
    this.onchange();
  }

  // The point of the map below one of the screen.
  #at(x, y) {
    const { left, top, width, height } = this.element.getBoundingClientRect();
    return [this.seen[0] + ((x - left) / width) * this.seen[2], this.seen[1] + ((y - top) / height) * this.seen[3]];
  }

  sees([x, y], margin = 0) {
    const [left, top, width, height] = this.seen;
    return x >= left + margin && x <= left + width - margin && y >= top + margin && y <= top + height - margin;
  }

  // Have a point in sight, as far from the edge as a board is large.
  reveal([x, y]) {
    const margin = Math.min(this.board, this.seen[2] / 2, this.seen[3] / 2);
    [x, y].forEach((at, i) => {
      const half = this.seen[i + 2] / 2 - margin;
      this.middle[i] = Math.min(at + half, Math.max(at - half, this.middle[i]));
    });
    this.apply();
  }

  // Zoom so that a point of the map stays where it is on the screen.
  by(factor, at = this.middle) {
    const scale = Math.min(this.most, Math.max(1, this.scale * factor));
    const real = scale / this.scale;
    this.#keeping(() => {
      this.middle = this.middle.map((middle, i) => at[i] + (middle - at[i]) / real);
      this.scale = scale;
      this.apply();
    });
  }

  // Do something, and leave in sight what was and is to be kept there.
  #keeping(change) {
    const kept = this.kept();
    const stays = kept && this.sees(kept);
    change();
    if (stays && !this.sees(kept, this.board / 2)) this.reveal(kept);
  }

  // By a button or a key: about the selected board.
  step(factor) {
    const kept = this.kept();
    this.by(factor, kept && this.sees(kept) ? kept : this.middle);
  }

  whole() {
    this.scale = 1;
    this.apply();
  }

  // After a tap on a map whose boards are too small for fingers.
  enlarge(at) {
    const now = this.boardSize;
    if (!now || now >= FINGER - 2) return;
    this.scale *= FINGER / now;
    this.middle = at;
    this.apply();
  }

  #wheel(event) {
    const further = event.deltaY > 0;
    if (!event.deltaY) return;
    // The page is scrolled over the map, and out of it.
    const scrolling = !event.ctrlKey && performance.now() - scrolledAt < SCROLLING;
    if (this.scale === 1 && !event.ctrlKey && (further || scrolling)) return;
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, 100][event.deltaMode];
    const factor = Math.exp(-Math.sign(pixels) * Math.min(240, Math.abs(pixels)) * (event.ctrlKey ? 0.01 : 0.002));
    this.by(factor, this.#at(event.clientX, event.clientY));
  }

  #down(event) {
    if (event.button) return;
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.#pointers.size === 1) this.dragged = false;
    this.#from = this.#grip();
  }

  // Where the fingers are together and how far from each other; what is seen there.
  #grip() {
    const points = [...this.#pointers.values()].slice(0, 2);
    if (!points.length) return null;
    const middle = [0, 1].map((i) => points.reduce((sum, p) => sum + p[i], 0) / points.length);
    const apart = points.length < 2 ? 0 : Math.hypot(points[0][0] - points[1][0], points[0][1] - points[1][1]);
    return { middle, apart, scale: this.scale, anchor: this.#at(...middle) };
  }

  #move(event) {
    if (!this.#pointers.has(event.pointerId)) return;
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const [from, to] = [this.#from, this.#grip()];
    const pinched = from.apart && to.apart;
    if (!this.dragged && !pinched && Math.hypot(to.middle[0] - from.middle[0], to.middle[1] - from.middle[1]) < CLICK)
      return;
    // With nothing to move the page is scrolled instead.
    if (this.scale === 1 && !pinched) return;
    if (!this.dragged) this.element.setPointerCapture?.(event.pointerId);
    this.dragged = true;
    // What was between the fingers at first stays there.
    const put = () => {
      if (pinched) this.scale = Math.min(this.most, Math.max(1, (from.scale * to.apart) / from.apart));
      const { left, top, width, height } = this.element.getBoundingClientRect();
      const unit = this.#size().whole * this.scale;
      const way = [to.middle[0] - left - width / 2, to.middle[1] - top - height / 2];
      this.middle = from.anchor.map((at, i) => at - way[i] / unit);
      this.apply();
    };
    if (pinched) this.#keeping(put);
    else put();
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    this.#from = this.#grip();
  }
}
