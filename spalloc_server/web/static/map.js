// One machine, drawn as the hexagons that its boards are.

import { hue, setAttribute, svg } from "./dom.js";
import { Zoom } from "./zoom.js";

const LABELLED = 60; // machines of up to so many boards have their names on the boards
const MARGIN = 1.5;
const NAMED = 40; // pixels that boards have at least when their names are written on them

// What tells states apart beside their colour; around the middle of a board.
export const MARKS = {
  dead: "M-1.7-1.7 1.7 1.7M1.7-1.7-1.7 1.7",
  out: "M0-2.4V.2M0 1.4V1.5",
  draining: "M-1.7 0 1.7 0",
  drained: "M-1.7-1 1.7-1M-1.7 1 1.7 1",
  powering: "M-1.7 1.1 0-1.1 1.7 1.1",
  stopping: "M-1.7-1.1 0 1.1 1.7-1.1",
  cooling: "M0-1.5V1.5M-1.3-.75 1.3.75M-1.3.75 1.3-.75",
  off: "M-1.3 0A1.3 1.3 0 1 0 1.3 0 1.3 1.3 0 1 0-1.3 0",
  reserved: "M0 0V.1",
};

// Move a mark, which consists of absolute M, V and A.
function moved(path, [x, y]) {
  const out = [];
  for (const [, command, rest] of path.matchAll(/([MVA])([^MVA]*)/g)) {
    const n = (rest.match(/-?(\d+\.?\d*|\.\d+)/g) ?? []).map(Number);
    if (command === "V") out.push(`V${(n[0] + y).toFixed(2)}`);
    else if (command === "M")
      out.push("M" + n.map((v, i) => (v + (i % 2 ? y : x)).toFixed(2)).join(" "));
    else
      out.push("A" + n.map((v, i) => (i % 7 < 5 ? v : (v + (i % 7 === 6 ? y : x)).toFixed(2))).join(" "));
  }
  return out.join("");
}

// Where boards should be large enough for a finger.
const fingers = matchMedia("(pointer: coarse), (max-width: 640px)");

export class MachineMap {
  // `emphasis`: gives a function that tells which boards stand out, or null for none.
  constructor(model, machine, { onselect, emphasis = () => null }) {
    this.model = model;
    this.machine = machine;
    this.emphasis = emphasis;
    this.onselect = onselect;
    this.selected = null;
    this.#lay();
    this.#draw();
    const [xs, ys] = [0, 1].map((i) => model.geometry.outline.map((p) => p[i]));
    const side = Math.min(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
    this.zoom = new Zoom(this.element, this.box, side, {
      kept: () => this.places.get(this.selected) ?? null,
      onchange: () => this.#name(),
    });
    this.update(machine);
  }

  // Go on from another map of this machine: what is selected, and what is seen.
  resume({ selected, zoom }) {
    if (this.places.has(selected)) this.selected = selected;
    Object.assign(this.zoom, { scale: zoom.scale, middle: zoom.middle });
    this.zoom.apply();
    this.#light();
  }

  place(x, y, z) {
    const g = this.model.geometry;
    return [
      x * g.x[0] + y * g.y[0] + g.z[z][0],
      x * g.x[1] + y * g.y[1] + g.z[z][1],
    ];
  }

  // The board down a link: its key, where it would be drawn, and if that is beyond an edge.
  neighbour(board, link) {
    const { width, height } = this.machine;
    const [dx, dy, dz] = this.model.geometry.steps[board.z][link];
    const [x, y, z] = [board.x + dx, board.y + dy, board.z + dz];
    const inside = x >= 0 && x < width && y >= 0 && y < height;
    const key = `${(x + width) % width},${(y + height) % height},${z}`;
    return { key, inside, place: this.place(x, y, z), at: `${x},${y},${z}` };
  }

  #lay() {
    this.places = new Map();
    this.ghosts = new Map(); // by where they are: the board that is shown there once more
    const there = [...this.machine.boards.values()].filter((board) => board.exists);
    this.there = there;
    for (const board of there) this.places.set(board.key, this.place(board.x, board.y, board.z));
    this.sides = new Map(
      there.map((board) => [
        board.key,
        this.model.geometry.links.map((_, link) => this.neighbour(board, link)),
      ]),
    );
    for (const board of there)
      this.sides.get(board.key).forEach((side, link) => {
        const dead = this.machine.dead.has(`${board.x},${board.y},${board.z},${link}`);
        if (!side.inside && !dead && this.places.has(side.key) && side.key !== board.key)
          this.ghosts.set(side.at, side);
      });
    const all = [...this.places.values(), ...[...this.ghosts.values()].map((g) => g.place)];
    const reach = this.model.geometry.outline;
    const axes = there.length > LABELLED ? 5 : 0;
    const xs = all.map((p) => p[0]);
    const ys = all.map((p) => p[1]);
    const left = Math.min(...xs, 0) + Math.min(...reach.map((p) => p[0])) - MARGIN - axes;
    const top = Math.min(...ys, 0) + Math.min(...reach.map((p) => p[1])) - MARGIN;
    this.box = [
      left,
      top,
      Math.max(...xs, 0) + Math.max(...reach.map((p) => p[0])) + MARGIN - left,
      Math.max(...ys, 0) + Math.max(...reach.map((p) => p[1])) + MARGIN + axes - top,
    ];
  }

  #hexagon([x, y], scale = 1) {
    const corners = this.model.geometry.outline.map(
      ([dx, dy]) => `${(x + scale * dx).toFixed(2)} ${(y + scale * dy).toFixed(2)}`,
    );
    return `M${corners.join("L")}Z`;
  }

  #side([x, y], link) {
    const { outline } = this.model.geometry;
    const [a, b] = [outline[link], outline[(link + 1) % outline.length]];
    return (
      `M${(x + a[0]).toFixed(2)} ${(y + a[1]).toFixed(2)}` +
      `L${(x + b[0]).toFixed(2)} ${(y + b[1]).toFixed(2)}`
    );
  }

  #draw() {
    this.cells = new Map();
    this.shadows = [];
    const boards = svg("g", { class: "boards" });
    for (const [key, place] of this.places) {
      const cell = svg("path", { d: this.#hexagon(place, 0.97), "data-key": key });
      this.cells.set(key, cell);
      boards.append(cell);
    }
    const ghosts = svg("g", { class: "ghosts" });
    for (const { key, place } of this.ghosts.values()) {
      const cell = svg("path", { d: this.#hexagon(place, 0.97), "data-key": key });
      this.shadows.push([key, cell]);
      ghosts.append(cell);
    }
    this.borders = svg("path", { class: "borders" });
    this.kept = svg("path", { class: "kept" });
    this.dead = svg("path", { class: "dead-links", d: this.#deadLinks() });
    this.lit = svg("path", { class: "lit" });
    this.cursor = svg("path", { class: "cursor" });
    this.marks = Object.fromEntries(
      Object.keys(MARKS).map((state) => [state, svg("path", { class: `mark ${state}` })]),
    );
    this.labels = svg("g", { class: "labels" });
    this.names = svg("g", { class: "names", "aria-hidden": "true" });
    this.element = svg(
      "svg",
      {
        class: "map",
        viewBox: this.box.map((v) => v.toFixed(2)).join(" "),
        role: "application",
        tabindex: "0",
        onpointermove: (event) => this.#point(event),
        onpointerleave: () => this.#hover(null),
        onclick: (event) => this.#point(event, true),
        onkeydown: (event) => this.#key(event),
      },
      ghosts,
      boards,
      ...Object.values(this.marks),
      this.borders,
      this.dead,
      this.kept,
      this.#axes(),
      this.labels,
      this.names,
      this.lit,
      this.cursor,
    );
    this.element.style.setProperty("--ratio", `${this.box[2]} / ${this.box[3]}`);
    this.element.style.setProperty("--widest", `${Math.round(this.box[2] * 9)}px`);
  }

  // The sides of boards whose links do not work, as far as both ends are there.
  #deadLinks() {
    const sides = [];
    this.deadLinks = 0;
    for (const [key, all] of this.sides)
      all.forEach((side, link) => {
        if (!this.machine.dead.has(`${key},${link}`) || !this.places.has(side.key)) return;
        sides.push(this.#side(this.places.get(key), link));
        // One that is dead in both directions is one link.
        const back = this.machine.dead.has(`${side.key},${(link + 3) % 6}`);
        this.deadLinks += back ? 0.5 : 1;
      });
    return sides.join("");
  }

  // Around parts that are kept for jobs: [x, y, width, height] in triads.
  showKept(areas) {
    const text = JSON.stringify(areas);
    if (text === this.keptText) return;
    this.keptText = text;
    const sides = [];
    for (const [left, low, width, height] of areas) {
      const has = (x, y) => x >= left && x < left + width && y >= low && y < low + height;
      for (const [key, all] of this.sides) {
        const [x, y] = key.split(",").map(Number);
        if (!has(x, y)) continue;
        all.forEach((side, link) => {
          const [a, b] = side.key.split(",").map(Number);
          if (!side.inside || !has(a, b) || !this.places.has(side.key)) sides.push(this.#side(this.places.get(key), link));
        });
      }
    }
    setAttribute(this.kept, "d", sides.join(""));
  }

  // Write their coordinates, and their jobs, on the boards in sight, once these are
  // large enough. Small machines have them always.
  #name() {
    if (!this.ofJobs) return;
    this.#label();
    const names = [];
    const large = this.there.length > LABELLED && this.zoom.boardSize >= NAMED;
    const add = ([x, y], size, text, kind) =>
      names.push(svg("text", { x: x.toFixed(2), y: y.toFixed(2), "font-size": size, class: kind }, text));
    if (large)
      for (const [key, place] of this.places) {
        if (!this.zoom.sees(place, -2)) continue;
        add([place[0], place[1] + 2.3], 1.15, key, "name");
        const { job } = this.machine.boards.get(key);
        if (job != null) add([place[0], place[1] - 1.7], 1.2, String(job), "job");
      }
    this.element.classList.toggle("named", large);
    this.names.replaceChildren(...names);
  }

  // Numbers of triads along two edges of large machines.
  #axes() {
    const axes = svg("g", { class: "axes", "aria-hidden": "true" });
    if (this.there.length <= LABELLED) return axes;
    const { width, height } = this.machine;
    const [, top, , tall] = this.box;
    const step = (n) => (n > 12 ? 5 : 1);
    for (let x = 0; x < width; x += step(width)) {
      const place = this.place(x, 0, 0);
      axes.append(svg("text", { x: place[0], y: top + tall - 1 }, `x ${x}`));
    }
    for (let y = 0; y < height; y += step(height)) {
      const place = this.place(0, y, 0);
      const beyond = this.ghosts.size ? 13 : 8;
      axes.append(svg("text", { x: place[0] - beyond, y: place[1] + 1.2 }, `y ${y}`));
    }
    return axes;
  }

  // Show the boards as they are now.
  update(machine) {
    this.machine = machine;
    const { jobs } = this.model;
    const standsOut = this.emphasis();
    const marks = Object.fromEntries(Object.keys(MARKS).map((state) => [state, []]));
    const looks = new Map();
    const borders = [];
    const marked = [];
    const ofJobs = new Map();
    for (const [key, place] of this.places) {
      const board = machine.boards.get(key);
      const state = board.shown(jobs);
      const other = standsOut != null && !standsOut(board);
      looks.set(key, [`${state}${other ? " other" : ""}`, board.job]);
      if (!other) marked.push([state, place]);
      if (board.job == null || other) continue;
      if (!ofJobs.has(board.job)) ofJobs.set(board.job, []);
      ofJobs.get(board.job).push(key);
      this.sides.get(key).forEach((side, link) => {
        if (machine.boards.get(side.key)?.job !== board.job)
          borders.push(this.#side(place, link));
      });
    }
    for (const [key, cell] of [...this.cells, ...this.shadows]) {
      const [state, job] = looks.get(key);
      setAttribute(cell, "class", state);
      const colour = job == null ? "" : String(hue(job));
      if (cell.style.getPropertyValue("--hue") !== colour)
        cell.style.setProperty("--hue", colour);
    }
    this.ofJobs = ofJobs;
    const taken = this.#label();
    if (this.zoom) this.#name();
    for (const [state, place] of marked)
      if (!taken.some(([x, y, reach]) => Math.hypot(place[0] - x, place[1] - y) < reach))
        marks[state]?.push(moved(MARKS[state], place));
    for (const [state, parts] of Object.entries(marks))
      setAttribute(this.marks[state], "d", parts.join(""));
    setAttribute(this.borders, "d", borders.join(""));
    this.#light();
  }

  // Write numbers on jobs; where there is no room for marks then: [x, y, radius].
  #label() {
    const labels = [];
    // Where less is seen of it they do not grow with the boards.
    const shrink = Math.max(1, (this.zoom?.scale ?? 1) / 1.5);
    const taken = [];
    const add = ([x, y], size, text, kind) =>
      labels.push(
        svg("text", { x: x.toFixed(2), y: (y + 0.36 * size).toFixed(2), "font-size": size, class: kind }, text),
      );
    const small = this.there.length <= LABELLED;
    if (small)
      for (const [key, [x, y]] of this.places) add([x, y + 2.25], 1.3, key.replaceAll(",", ", "), "name");
    for (const [job, keys] of this.ofJobs) {
      if (keys.length < 3 && !small) continue;
      const size = (small ? 1.6 : keys.length < 12 ? 2.8 : keys.length < 48 ? 4 : 6) / shrink;
      const places = keys.map((key) => this.places.get(key));
      const middle = [0, 1].map((i) => places.reduce((sum, p) => sum + p[i], 0) / places.length);
      const distance = (p) => Math.hypot(p[0] - middle[0], p[1] - middle[1]);
      const nearest = places.reduce((best, p) => (distance(p) < distance(best) ? p : best));
      const place = small ? [nearest[0], nearest[1] - 2.1] : distance(nearest) < 4 ? middle : nearest;
      add(place, Number(size.toFixed(2)), String(job), "job");
      if (keys.length > 5) taken.push([...place, 0.8 * size + 0.5]);
    }
    const text = labels.map((l) => `${["x", "y", "font-size"].map((name) => l.getAttribute(name))},${l.textContent}`).join(";");
    if (text !== this.labelled) this.labels.replaceChildren(...labels);
    this.labelled = text;
    return taken;
  }

  describe(text) {
    setAttribute(this.element, "aria-label", text);
  }

  select(key, lasting = true) {
    if (lasting) this.selected = key;
    if (lasting && key != null && !this.zoom.sees(this.places.get(key))) this.zoom.reveal(this.places.get(key));
    this.hovered = lasting ? null : key;
    this.#light();
    this.onselect(this.hovered ?? this.selected, lasting);
  }

  #hover(key) {
    if (key === (this.hovered ?? null)) return;
    this.select(key, false);
  }

  #point(event, lasting = false) {
    const key = event.target.dataset?.key ?? null;
    if (!lasting) {
      if (event.pointerType !== "touch") this.#hover(key);
    } else if (!this.zoom.dragged) {
      this.select(key);
      if (key != null && (event.pointerType === "touch" || fingers.matches)) this.zoom.enlarge(this.places.get(key));
    }
  }

  // Outline the board that is looked at, and all boards of its job.
  #light() {
    const key = this.hovered ?? this.selected;
    const board = key == null ? null : this.machine.boards.get(key);
    setAttribute(this.cursor, "d", board ? this.#hexagon(this.places.get(key), 0.85) : "");
    const keys = (board && this.ofJobs.get(board.job)) ?? [];
    const job = new Set(keys);
    const outline = keys.flatMap((one) =>
      this.sides.get(one).map((side, link) =>
        job.has(side.key) ? "" : this.#side(this.places.get(one), link),
      ),
    );
    setAttribute(this.lit, "d", outline.join(""));
  }

  // Arrows lead to the board that lies most in that direction.
  #key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") this.select(null);
    if (event.key === "+" || event.key === "=") this.zoom.step(1.5);
    if (event.key === "-") this.zoom.step(1 / 1.5);
    if (event.key === "0") this.zoom.whole();
    if (!way) return;
    event.preventDefault();
    if (this.selected == null) return this.select(this.places.keys().next().value);
    const [x, y] = this.places.get(this.selected);
    let best = null;
    for (const side of this.sides.get(this.selected)) {
      const along = (side.place[0] - x) * way[0] + (side.place[1] - y) * way[1];
      if (this.places.has(side.key) && along > 0.1 && (!best || along > best[0])) best = [along, side.key];
    }
    if (best) this.select(best[1]);
  }
}
