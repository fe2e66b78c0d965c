// All about one job, also after its end.

import { Asking, ask } from "./asking.js";
import { boardName, duration, el, facts, jobLink, machineLink, moment, number, ownerLink, setText, swatch } from "./dom.js";
import { heardText } from "./jobs.js";
import { MachineView } from "./machine.js";
import { demandsOf, sizeOf, stateOf } from "./model.js";
import { Table } from "./table.js";
import { placeText, startText, textOf, waitsFor } from "./waiting.js";

const WORDS = {
  created: () => "created",
  allocated: () => "given boards",
  power: (event) => (event.power ? "boards are being powered on" : "boards are being powered off"),
  ready: (event) => (event.power ? "ready" : "boards are off"),
  requeued: () => "lost faulty boards, waits for others",
  destroyed: () => "ended",
};

const HISTORY = [
  { heading: "Time", text: (event) => moment(event.time), order: (event) => event.time, fold: false },
  { heading: "What", text: (event) => (WORDS[event.event] ?? (() => event.event))(event), fold: false },
  { heading: "Machine", text: (event) => event.machine ?? "" },
  { heading: "Boards", text: (event) => (event.boards ? number(event.boards.length) : ""), order: (event) => event.boards?.length ?? 0 },
  { heading: "Asked by", text: (event) => event.host ?? "" },
  { heading: "Reason", text: (event) => event.reason ?? "" },
];

const BOARDS = [
  { heading: "Board", text: ({ place }) => boardName(place), order: ({ place: [x, y, z] }) => (x * 1000 + y) * 3 + z, fold: false },
  {
    heading: "Cabinet, frame, board",
    text: ({ board }) => (board ? `${board.cabinet}, ${board.frame}, ${board.board}` : ""),
    order: ({ board }) => (board ? (board.cabinet * 1000 + board.frame) * 1000 + board.board : -1),
    fold: false,
  },
  { heading: "IP address", text: ({ board }) => board?.ip ?? "" },
];

export class JobPage extends Asking {
  constructor(model, id) {
    super();
    this.model = model;
    this.id = id;
    this.events = [];
    this.heading = el("h2", {}, swatch(id), `Job ${id}`);
    this.facts = el("div", { class: "facts" });
    this.hint = el("p", { class: "hint" }, "Loading");
    this.past = new Table({
      ...{ caption: "History of the job", columns: HISTORY, name: "event", first: 200, natural: "as it happened" },
      key: (event) => this.events.indexOf(event),
    });
    this.history = el("section", { class: "panel history" }, el("h2", {}, "History"), this.past.element);
    this.map = el("div");
    this.boardsHeading = el("h2");
    this.boardsTable = new Table({
      ...{ caption: "Boards of the job", columns: BOARDS, name: "board", first: 1200, natural: "by coordinates" },
      key: ({ place }) => place.join(),
    });
    this.boards = el("section", { class: "panel its-boards" }, this.boardsHeading, this.boardsTable.element);
    this.element = el("div", {}, el("section", { class: "panel" }, this.heading, this.hint, this.facts), this.map, this.history, this.boards);
    this.#show();
    this.load();
  }

  async load() {
    try {
      this.events = await ask(`/api/jobs/${this.id}/events`);
      this.missing = this.events.length ? null : `Nothing is known of job ${this.id}.`;
    } catch (error) {
      this.missing = error.message;
    }
    this.#show();
  }

  update({ jobs, fresh }) {
    if (jobs.has(this.id)) this.later();
    this.#show(fresh);
  }

  tick() {
    this.#show();
  }

  ask() {}

  #show(fresh = new Set()) {
    const job = this.model.jobs.get(this.id);
    const first = this.events[0];
    const last = this.events.at(-1);
    const ended = !job && last?.event === "destroyed";
    const known = job ?? (first && { ...last, start_time: first.created });
    this.hint.hidden = known != null;
    if (!known) {
      setText(this.hint, this.missing ?? "Loading");
      this.history.hidden = this.boards.hidden = true;
      return;
    }
    const waits = job?.state === "queued";
    const places = job ? this.model.places().get(this.id) ?? [] : [];
    const machine = job ? job.machine : last.machine;
    const boards = (job ? job.boards : last.boards) ?? [];
    this.#facts([
      ["State", job ? stateOf(job) : ended ? "ended" : "no longer there"],
      ["Reason", ended ? last.reason ?? "none given" : null],
      ["Owner", ownerLink(known.owner)],
      ["Size", sizeOf(known)],
      ["Demands", demandsOf(known)],
      ["Machine", machine && machineLink(machine)],
      ["Place in queue", waits ? placeText(places) : null],
      ["Waits for", waits ? el("span", {}, waitsFor(this.model, job, places)) : null],
      ["May start", waits ? startText(this.model, job) || "not known: too few jobs like it" : null],
      ["Created", moment(known.start_time)],
      ["Has its boards since", job?.allocated_at ? moment(job.allocated_at) : null],
      ["Ended", ended ? moment(last.time) : null],
      [job ? "Age" : "Lasted", job ? duration(this.model.now - job.start_time) : duration(last.time - first.created)],
      ["Last keepalive", job ? heardText(this.model, job) : null],
      ["Asked by", job ? job.keepalivehost : last.host],
    ]);
    this.#map(job, fresh);
    this.#boards(machine, boards);
    this.history.hidden = !this.events.length;
    if (this.events === this.shown) return;
    this.shown = this.events;
    this.past.show(this.events);
  }

  #facts(pairs) {
    const text = pairs.map(([name, value]) => `${name}: ${value == null ? "" : textOf([value])}`).join("\n");
    if (text === this.factsText) return;
    this.factsText = text;
    this.facts.replaceChildren(facts(pairs));
  }

  // Where its boards are; or else what is kept for it.
  #map(job, fresh) {
    const kept = job?.waiting?.queues.find((queue) => queue.kept) ?? null;
    const wanted = job?.boards ? job.machine : kept?.machine;
    const name = this.model.machines.has(wanted) ? wanted : null;
    this.area = job?.boards ? null : kept?.kept.area;
    if (name !== (this.view?.name ?? null)) {
      this.view = name && new MachineView(this.model, name, () => (board) => this.#isMeant(board));
      this.map.replaceChildren(...(name ? [this.view.element] : []));
    } else this.view?.update(fresh.has(name));
  }

  #isMeant(board) {
    if (!this.area) return board.job === this.id;
    const [x, y, width, height] = this.area;
    return board.x >= x && board.x < x + width && board.y >= y && board.y < y + height;
  }

  #boards(machine, boards) {
    const text = JSON.stringify([machine, boards]);
    this.boards.hidden = !boards.length;
    if (text === this.boardsText) return;
    this.boardsText = text;
    const known = this.model.machines.get(machine)?.boards;
    setText(this.boardsHeading, `Boards (${number(boards.length)})`);
    this.boardsTable.show(boards.map((place) => ({ place, board: known?.get(place.join()) })));
  }
}
