// A machine: how busy it is, its map, what is known of a board, and all boards as a table.

import { count, el, facts, jobLink, machineLink, number, row, setAttribute, setText, svg, table } from "./dom.js";
import { MachineMap, MARKS, hue } from "./map.js";
import { STATES } from "./model.js";

const USED = ["ready", "off", "powering"];
const BOARD_HEADINGS = ["Board", "Cabinet, frame, board", "IP address", "State", "Job", "Owner", "Problem"];

// A single hexagon that looks like those on the map.
function sample(state, geometry) {
  const corners = geometry.outline.map((p) => p.join(" ")).join("L");
  return svg(
    "svg",
    { class: "sample map", viewBox: "-4.4 -4 8.8 8", "aria-hidden": "true" },
    svg("path", { d: `M${corners}Z`, class: state }),
    MARKS[state] ? svg("path", { d: MARKS[state], class: `mark ${state}` }) : null,
  );
}

export class MachineView {
  // `only`: the job that the page is about; the rest of the machine steps back then.
  constructor(model, name, only = null) {
    this.model = model;
    this.name = name;
    this.only = only;
    this.bar = el("div", { class: "bar", "aria-hidden": "true" });
    this.summary = el("p", { class: "summary" });
    this.legend = el("ul", { class: "legend", "aria-label": "Boards by state" });
    this.details = el("div", { class: "details" });
    this.spoken = el("p", { class: "unseen", role: "status" });
    this.frame = el("div", { class: "frame" });
    this.tableBody = el("tbody");
    this.choice = el("select", { onchange: () => this.#fillTable() }, [
      el("option", { value: "" }, "all boards"),
      Object.entries(STATES).map(([state, words]) => el("option", { value: state }, words)),
    ]);
    this.tableBox = el(
      "details",
      { class: "all-boards", ontoggle: () => this.#fillTable() },
      el("summary", {}, "All boards as a table"),
      el("label", {}, "Show ", this.choice),
      el("div", { class: "scroll" }, table(`Boards of ${name}`, BOARD_HEADINGS, this.tableBody)),
    );
    this.caption = el("figcaption", {}, "Pale boards beyond an edge are those of the opposite edge, which is wired to it.");
    this.zoom = 1;
    this.tags = el("span", { class: "tags" });
    this.element = el(
      "section",
      { class: "panel machine", "aria-label": `Machine ${name}` },
      el("div", { class: "heading" }, el("h2", {}, machineLink(name)), this.tags, this.#zoomButtons()),
      this.summary,
      this.bar,
      el(
        "div",
        { class: "columns" },
        el("figure", {}, this.frame, this.caption),
        el("div", { class: "side" }, this.details, this.legend),
      ),
      this.spoken,
      this.tableBox,
    );
    this.samples = new Map();
    this.#remake();
  }

  #zoomButtons() {
    const set = (zoom) => () => {
      this.zoom = Math.min(8, Math.max(1, zoom(this.zoom)));
      this.#applyZoom();
    };
    return el(
      "span",
      { class: "zoom" },
      el("button", { type: "button", "aria-label": "Smaller", onclick: set((z) => z / 1.5) }, "−"),
      el("button", { type: "button", "aria-label": "Larger", onclick: set((z) => z * 1.5) }, "+"),
    );
  }

  #applyZoom() {
    const { element, box } = this.map;
    element.style.width = `${100 * this.zoom}%`;
    element.style.maxWidth = `${Math.round(box[2] * 9 * this.zoom)}px`;
  }

  #remake() {
    const machine = this.model.machines.get(this.name);
    this.shape = this.#shape(machine);
    this.map = new MachineMap(this.model, machine, {
      only: this.only,
      onselect: (key, lasting) => this.#describe(key, lasting),
    });
    this.frame.replaceChildren(this.map.element);
    this.caption.hidden = !this.map.ghosts.size;
    this.#applyZoom();
    this.#describe(null);
    this.update();
  }

  #shape(machine) {
    const there = [...machine.boards.values()].filter((board) => board.exists);
    return JSON.stringify([machine.width, machine.height, machine.dead_links, there.map((b) => b.key)]);
  }

  // Show what is known now; `fresh`: the machine itself may be another one.
  update(fresh = false) {
    const machine = this.model.machines.get(this.name);
    if (fresh && this.#shape(machine) !== this.shape) return this.#remake();
    this.map.update(machine);
    setText(this.tags, machine.tags.length ? `tags: ${machine.tags.join(", ")}` : "");
    const counts = Object.fromEntries(Object.keys(STATES).map((state) => [state, 0]));
    for (const board of machine.boards.values())
      if (board.exists) counts[board.shown(this.model.jobs)] += 1;
    this.#count(counts);
    const { hovered, selected } = this.map;
    this.#describe(hovered ?? selected);
    this.#fillTable();
    return undefined;
  }

  #draining() {
    const boards = [...this.model.machines.get(this.name).boards.values()];
    return boards.filter((board) => board.state === "draining" && board.job != null).length;
  }

  #closed() {
    const { closed } = this.model.machines.get(this.name);
    return closed ? `; closed by ${closed.user}: no job starts${closed.reason ? ` (${closed.reason})` : ""}` : "";
  }

  #count(counts) {
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
    // Of the boards that are draining, jobs have all but those that are going off.
    const draining = this.#draining();
    const used = USED.reduce((sum, state) => sum + counts[state], 0) + draining;
    const idle = counts.draining - draining;
    const working = all - counts.dead - counts.out - counts.drained - idle;
    const share = working ? Math.round((100 * used) / working) : 0;
    const waiting = [...this.model.jobs.values()].filter((job) => job.queues.includes(this.name));
    setText(
      this.summary,
      `${number(used)} of ${count(working, "working board")} in use (${share} %), ` +
        (waiting.length ? `${count(waiting.length, "job")} waiting` : "no job waiting") +
        this.#closed(),
    );
    this.map.describe(
      `Map of ${this.name}: ${this.summary.textContent}. Arrow keys go from board to board; ` +
        "the same facts are in the table of all boards.",
    );
    for (const state of Object.keys(STATES)) {
      if (!this.samples.has(state)) {
        const part = el("div", { class: state });
        const text = el("span");
        const item = el("li", {}, sample(state, this.model.geometry), text);
        this.bar.append(part);
        this.legend.append(item);
        this.samples.set(state, { part, text, item });
      }
      const { part, text, item } = this.samples.get(state);
      setAttribute(part, "style", null);
      part.style.flexGrow = counts[state];
      setAttribute(item, "hidden", counts[state] ? null : "");
      setText(text, `${number(counts[state])} ${STATES[state]}`);
    }
  }

  #describe(key, lasting = false) {
    const board = key == null ? null : this.model.machines.get(this.name).boards.get(key);
    const text = JSON.stringify([board, board && this.model.jobs.get(board.job)?.state]);
    if (text === this.described) return;
    this.described = text;
    if (!board) {
      this.details.replaceChildren(el("p", { class: "hint" }, "Point at a board, or tap it, to see what it is doing."));
      return;
    }
    const job = this.model.jobs.get(board.job);
    const state = STATES[board.shown(this.model.jobs)];
    this.details.replaceChildren(
      facts([
        ["Board", board.name],
        ["State", state],
        ["Place", board.physical],
        ["IP address", board.ip ?? "none"],
        ["Job", board.job == null ? "none" : jobLink(board.job)],
        ["Owner", job?.owner],
        ["Problem", board.problem],
      ]),
    );
    if (lasting)
      setText(
        this.spoken,
        `Board ${board.name}, ${state}, ${board.physical}, ${board.ip ?? "no IP address"}, ` +
          (job ? `job ${job.id} of ${job.owner}` : "no job"),
      );
  }

  #fillTable() {
    if (!this.tableBox.open) return;
    const rows = [];
    for (const board of this.model.machines.get(this.name).boards.values()) {
      const state = board.shown(this.model.jobs);
      if (!board.exists || (this.choice.value && state !== this.choice.value)) continue;
      if (this.only != null && board.job !== this.only) continue;
      rows.push(
        row(BOARD_HEADINGS, [
          board.name,
          `${board.cabinet}, ${board.frame}, ${board.board}`,
          board.ip ?? "",
          STATES[state],
          board.job == null ? "" : jobLink(board.job),
          this.model.jobs.get(board.job)?.owner ?? "",
          board.problem ?? "",
        ]),
      );
    }
    this.tableBody.replaceChildren(...rows);
  }
}

// The colour that a job has on the maps.
export function swatch(id) {
  const mark = el("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.setProperty("--hue", hue(id));
  return mark;
}
