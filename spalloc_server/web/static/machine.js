// A machine: how busy it is, its map, what is known of a board, and all boards as a table.

import { count, el, facts, jobLink, machineLink, number, ownerLink, setAttribute, setText, svg } from "./dom.js";
import { MachineMap, MARKS } from "./map.js";
import { STATES } from "./model.js";
import { Table } from "./table.js";

// A single hexagon that looks like those on the map.
export function sample(state, geometry) {
  const corners = geometry.outline.map((p) => p.join(" ")).join("L");
  return svg(
    "svg",
    { class: "sample map", viewBox: "-4.4 -4 8.8 8", "aria-hidden": "true" },
    svg("path", { d: `M${corners}Z`, class: state }),
    MARKS[state] ? svg("path", { d: MARKS[state], class: `mark ${state}` }) : null,
  );
}

// "3 of 24 boards in use", and what else there is to say of a machine in a line.
export function summaryOf({ counts, closed, waiting }) {
  const parts = [`${number(counts.used)} of ${count(counts.working, "working board")} in use`];
  if (counts.working) parts[0] += ` (${Math.round((100 * counts.used) / counts.working)} %)`;
  parts.push(waiting ? `${count(waiting, "job")} waiting` : "no job waiting");
  return parts.join(", ") + closedText(closed);
}

export const closedText = (closed) =>
  closed ? `; closed by ${closed.user}: no job starts${closed.reason ? ` (${closed.reason})` : ""}` : "";

export class MachineView {
  // `emphasis`: gives a function that tells which boards stand out, or null for none.
  constructor(model, name, emphasis = () => null) {
    this.model = model;
    this.name = name;
    this.emphasis = emphasis;
    this.bar = el("div", { class: "bar", "aria-hidden": "true" });
    this.summary = el("p", { class: "summary" });
    this.legend = el("ul", { class: "legend", "aria-label": "Boards by state" });
    this.details = el("div", { class: "details" });
    this.spoken = el("p", { class: "unseen", role: "status" });
    this.frame = el("div", { class: "frame" });
    this.#makeTable();
    this.caption = el("figcaption", {}, "Pale boards beyond an edge are those of the opposite edge, which is wired to it.");
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

  #makeTable() {
    const owner = (board) => this.model.jobs.get(board.job)?.owner ?? "";
    const columns = [
      { heading: "Board", text: (b) => b.name, order: (b) => (b.x * 1000 + b.y) * 3 + b.z, fold: false },
      {
        heading: "Cabinet, frame, board",
        text: (b) => `${b.cabinet}, ${b.frame}, ${b.board}`,
        order: (b) => (b.cabinet * 1000 + b.frame) * 1000 + b.board,
      },
      { heading: "IP address", text: (b) => b.ip ?? "" },
      { heading: "State", text: (b) => STATES[b.shown(this.model.jobs)] },
      { heading: "Job", text: (b) => String(b.job ?? ""), node: (b) => jobLink(b.job), order: (b) => b.job ?? -1 },
      { heading: "Owner", text: owner, node: (b) => ownerLink(owner(b)) },
      { heading: "Problem", text: (b) => b.problem ?? "" },
    ];
    this.table = new Table({
      ...{ caption: `Boards of ${this.name}`, columns, key: (board) => board.key, name: "board" },
      ...{ first: 1200, natural: "by coordinates" },
    });
    this.choice = el("select", { onchange: () => this.#fillTable() }, [
      el("option", { value: "" }, "all boards"),
      Object.entries(STATES).map(([state, words]) => el("option", { value: state }, words)),
    ]);
    this.tableBox = el(
      "details",
      { class: "all-boards", ontoggle: () => this.#fillTable() },
      el("summary", {}, "All boards as a table"),
      el("label", {}, "Show ", this.choice),
      this.table.element,
    );
  }

  #zoomButtons() {
    const button = (label, text, act) =>
      el("button", { type: "button", "aria-label": label, title: label, onclick: () => act(this.map.zoom) }, text);
    return el(
      "span",
      { class: "zoom" },
      button("Smaller", "−", (zoom) => zoom.step(1 / 1.5)),
      button("The whole map", "◻", (zoom) => zoom.whole()),
      button("Larger", "+", (zoom) => zoom.step(1.5)),
    );
  }

  #remake() {
    const machine = this.model.machines.get(this.name);
    const before = this.map;
    this.shape = this.#shape(machine);
    this.map = new MachineMap(this.model, machine, {
      emphasis: this.emphasis,
      onselect: (key, lasting) => this.#describe(key, lasting),
    });
    this.frame.replaceChildren(this.map.element);
    if (before) this.map.resume(before);
    this.caption.hidden = !this.map.ghosts.size;
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
    const kept = this.model.kept(this.name);
    this.map.showKept(kept.map(({ area }) => area));
    setText(this.tags, machine.tags.length ? `tags: ${machine.tags.join(", ")}` : "");
    this.#count(kept);
    const { hovered, selected } = this.map;
    this.#describe(hovered ?? selected);
    this.#fillTable();
    return undefined;
  }

  #count(kept) {
    const { counts } = this.model.load(this.name);
    setText(this.summary, summaryOf(this.model.load(this.name)));
    this.map.describe(
      `Map of ${this.name}: ${this.summary.textContent}. Arrow keys go from board to board, ` +
        "plus and minus zoom; the same facts are in the table of all boards.",
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
      part.style.flexGrow = counts[state];
      setAttribute(item, "hidden", counts[state] ? null : "");
      setText(text, `${number(counts[state])} ${STATES[state]}`);
    }
    this.#line("dead-links", this.map.deadLinks, () => [count(this.map.deadLinks, "dead link")]);
    this.#line("kept", kept.map(({ job }) => job).join(), () => ["kept for job ", kept.map(({ job }) => jobLink(job))]);
  }

  // A line of the legend for a kind of line on the map, if there are any.
  #line(kind, text, words) {
    if (!this.samples.has(kind)) {
      const line = svg("svg", { class: "sample map", viewBox: "-4.4 -4 8.8 8", "aria-hidden": "true" }, svg("path", { d: "M-4 0H4", class: kind }));
      const item = el("li", {}, line, el("span"));
      this.legend.append(item);
      this.samples.set(kind, { item });
    }
    const entry = this.samples.get(kind);
    setAttribute(entry.item, "hidden", text ? null : "");
    if (text && entry.shown !== text) entry.item.lastChild.replaceChildren(...words().flat());
    entry.shown = text;
  }

  #describe(key, lasting = false) {
    const board = key == null ? null : this.model.machines.get(this.name).boards.get(key);
    const keptFor = board && this.model.kept(this.name).find(({ area: [x, y, width, height] }) =>
      board.x >= x && board.x < x + width && board.y >= y && board.y < y + height)?.job;
    const text = JSON.stringify([board, keptFor, board && this.model.jobs.get(board.job)?.state]);
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
        ["Owner", job && ownerLink(job.owner)],
        ["Kept for", keptFor == null ? null : jobLink(keptFor)],
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
    const standsOut = this.emphasis();
    this.table.show(
      [...this.model.machines.get(this.name).boards.values()].filter(
        (board) =>
          board.exists &&
          (!this.choice.value || board.shown(this.model.jobs) === this.choice.value) &&
          (standsOut == null || standsOut(board)),
      ),
    );
  }
}
