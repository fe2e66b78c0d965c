// Jobs: those that wait and run, those that have ended, and one with its whole history.

import { MachineView, swatch } from "./boards.js";
import { boardName, count, duration, el, facts, jobLink, machineLink, moment, number, row, setText, table } from "./dom.js";
import { demandsOf, sizeOf, stateOf } from "./model.js";

const FIRST = 100; // rows that are shown unless more are asked for

const COLUMNS = {
  queued: ["Job", "Owner", "Place in queue", "Waits for", "Size", "Age", "Last keepalive"],
  running: ["Job", "Owner", "State", "Machine", "Boards", "Size", "Age", "Last keepalive"],
};

function ago(model, job) {
  const silence = model.silence(job.id);
  if (silence == null) return "unknown";
  const limit = job.keepalive == null ? "no limit" : `ends after ${duration(job.keepalive)}`;
  return `${duration(silence)} ago (${limit})`;
}

const placeText = (places) =>
  places.map(({ machine, place }) => (places.length > 1 ? `${number(place)} (${machine})` : number(place))).join(", ");

// When a job may be expected to start, if anything is known about that.
function aboutText(job) {
  const about = job.waiting?.about;
  return about ? `. May start between about ${moment(about[0])} and ${moment(about[1])}` : "";
}

// What a job in the queue waits for, in words.
export function waitsFor(job, places) {
  const size = sizeOf(job);
  if (job.waiting?.text) return job.waiting.text;
  if (!places.length) return `${size} on any suitable machine`;
  if (job.waiting?.reason === "limit") return `other jobs of ${job.owner} to end: an owner may hold only so many boards`;
  const parts = places.map(({ machine, place, before, kept }) =>
    kept
      ? `${size} on ${machine}: ${count(kept.boards, "board")} kept for it since ${moment(kept.since)}, ` +
        `${number(kept.held)} still held by ${count(kept.jobs, "job")}`
      : place === 1
      ? `${size} to become free on ${machine}`
      : places.length > 1 ? `its turn on ${machine}, after job ${before}` : `its turn, after job ${before}`,
  );
  return parts.join("; or ") + aboutText(job) + (job.failure ? `. Lost its boards: ${job.failure}` : "");
}

function cellsOf(kind, model, job, places) {
  const id = [swatch(job.id), jobLink(job.id)];
  const age = duration(model.now - job.start_time);
  const heard = ago(model, job);
  const size = [sizeOf(job), demandsOf(job)].filter(Boolean).join("; ");
  if (kind === "queued")
    return [id, job.owner, placeText(places), waitsFor(job, places), size, age, heard];
  return [id, job.owner, stateOf(job), machineLink(job.machine), number(job.boards.length), size, age, heard];
}

// A table that keeps its rows and changes only what has changed.
class JobTable {
  constructor(model, kind, title, empty) {
    this.model = model;
    this.kind = kind;
    this.rows = new Map();
    this.all = false;
    this.title = title;
    this.heading = el("h2");
    this.body = el("tbody");
    this.empty = el("p", { class: "hint" }, empty);
    this.more = el("button", { type: "button", class: "more", onclick: () => {
      this.all = true;
      this.onmore();
    } });
    this.table = table(title, COLUMNS[kind], this.body);
    this.element = el("section", { class: "panel" }, this.heading, this.empty, el("div", { class: "scroll" }, this.table), this.more);
  }

  show(jobs, places) {
    setText(this.heading, `${this.title} (${number(jobs.length)})`);
    this.empty.hidden = jobs.length > 0;
    this.table.hidden = jobs.length === 0;
    const shown = this.all ? jobs : jobs.slice(0, FIRST);
    this.more.hidden = shown.length === jobs.length;
    setText(this.more, `Show all ${count(jobs.length, "job")}`);
    const rows = shown.map((job) => this.#row(job, places.get(job.id) ?? []));
    for (const id of this.rows.keys()) if (!this.model.jobs.has(id)) this.rows.delete(id);
    rows.forEach((element, i) => {
      if (this.body.children[i] !== element) this.body.insertBefore(element, this.body.children[i] ?? null);
    });
    while (this.body.children.length > rows.length) this.body.lastChild.remove();
  }

  #row(job, places) {
    const cells = cellsOf(this.kind, this.model, job, places);
    let element = this.rows.get(job.id);
    if (!element) {
      element = row(COLUMNS[this.kind], cells);
      element.dataset.job = job.id;
      this.rows.set(job.id, element);
      return element;
    }
    cells.forEach((cell, i) => {
      if (typeof cell === "string") setText(element.children[i], cell);
      else if (cell instanceof Node && element.children[i].textContent !== cell.textContent)
        element.children[i].replaceChildren(cell);
    });
    return element;
  }
}

// Machines, or one of them, and the jobs; those of some owners if that is asked for.
export class Overview {
  constructor(model, machine = null) {
    this.model = model;
    this.machine = machine;
    this.views = new Map();
    this.machines = el("div", { class: "machines" });
    this.owner = el("input", { type: "search", id: "owner", autocomplete: "off", oninput: () => this.#jobs() });
    this.on = el("select", { id: "on", onchange: () => this.#jobs() });
    this.queued = new JobTable(model, "queued", "Queue", "Nobody waits for boards.");
    this.running = new JobTable(model, "running", "Running jobs", "No job is running.");
    this.queued.onmore = this.running.onmore = () => this.#jobs();
    this.element = el(
      "div",
      {},
      machine == null ? el("p", { class: "overall" }) : el("p", {}, el("a", { href: "#/" }, "All machines")),
      this.machines,
      el(
        "form",
        { class: "filters", role: "search", "aria-label": "Jobs", onsubmit: (event) => event.preventDefault() },
        el("label", { for: "owner" }, "Jobs of owner"),
        this.owner,
        machine == null ? [el("label", { for: "on" }, "on machine"), this.on] : null,
      ),
      this.queued.element,
      this.running.element,
    );
    this.update({ fresh: new Set() });
  }

  update({ fresh }) {
    const names = [...this.model.machines.keys()].filter((name) => this.machine == null || name === this.machine);
    for (const [name, view] of this.views)
      if (!names.includes(name)) {
        view.element.remove();
        this.views.delete(name);
      }
    names.forEach((name, i) => {
      const view = this.views.get(name);
      if (view) view.update(fresh.has(name));
      else this.views.set(name, new MachineView(this.model, name));
      const { element } = this.views.get(name);
      if (this.machines.children[i] !== element) this.machines.insertBefore(element, this.machines.children[i] ?? null);
    });
    if (!names.length) this.machines.replaceChildren(el("p", { class: "hint" }, "There is no such machine."));
    else if (this.machines.firstElementChild?.className === "hint") this.machines.firstElementChild.remove();
    this.#choices(names);
    this.#jobs();
  }

  tick() {
    this.#jobs();
  }

  #choices(names) {
    const text = names.join("\n");
    if (text === this.chosenFrom) return;
    this.chosenFrom = text;
    const { value } = this.on;
    this.on.replaceChildren(el("option", { value: "" }, "any"), ...names.map((name) => el("option", { value: name }, name)));
    this.on.value = names.includes(value) ? value : "";
  }

  #jobs() {
    const owner = this.owner.value.trim().toLowerCase();
    const machine = this.machine ?? this.on.value;
    const wanted = [...this.model.jobs.values()].filter(
      (job) =>
        job.owner.toLowerCase().includes(owner) &&
        (!machine || job.machine === machine || job.queues.includes(machine)),
    );
    const places = this.model.places();
    const first = (job) => Math.min(...(places.get(job.id) ?? []).map(({ place }) => place));
    const queued = wanted.filter((job) => job.state === "queued").sort((a, b) => first(a) - first(b) || a.id - b.id);
    this.queued.show(queued, places);
    this.running.show(wanted.filter((job) => job.boards), places);
  }
}

async function ask(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

// A page that asks the server again, some time after something has happened.
class Asking {
  #timer = 0;

  later(least = 700) {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      if (this.element.isConnected) this.load();
    }, least + 800 * Math.random());
  }
}

const ENDED = ["Job", "Owner", "Ended", "Lasted", "Machine", "Boards", "Reason"];

// The latest jobs that have ended.
export class Ended extends Asking {
  constructor() {
    super();
    this.body = el("tbody");
    this.owner = el("input", { type: "search", id: "owner", autocomplete: "off", oninput: () => this.#show() });
    this.hint = el("p", { class: "hint" }, "Loading");
    this.table = table("Ended jobs", ENDED, this.body);
    this.element = el(
      "section",
      { class: "panel" },
      el("h2", {}, "Ended jobs"),
      el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        el("label", { for: "owner" }, "Jobs of owner"), this.owner),
      this.hint,
      el("div", { class: "scroll" }, this.table),
    );
    this.ended = [];
    this.load();
  }

  async load() {
    try {
      this.ended = await ask("/api/ended?limit=500");
      this.#show();
    } catch (error) {
      setText(this.hint, `Could not be loaded: ${error.message}`);
      this.hint.hidden = false;
    }
  }

  #show() {
    const owner = this.owner.value.trim().toLowerCase();
    const wanted = this.ended.filter((event) => event.owner.toLowerCase().includes(owner));
    setText(this.hint, "No job has ended yet that is remembered here.");
    this.hint.hidden = wanted.length > 0;
    this.table.hidden = wanted.length === 0;
    this.body.replaceChildren(
      ...wanted.map((event) =>
        row(ENDED, [
          jobLink(event.job),
          event.owner,
          moment(event.time),
          duration(event.time - event.created),
          event.machine ?? "never had boards",
          event.boards ? number(event.boards.length) : "",
          event.reason ?? "",
        ]),
      ),
    );
  }

  update({ jobs }) {
    if (jobs.size) this.later(2000);
  }

  tick() {}
}

const HISTORY = ["Time", "What", "Machine", "Boards", "Asked by", "Reason"];

const WORDS = {
  created: () => "created",
  allocated: () => "given boards",
  power: (event) => (event.power ? "boards are being powered on" : "boards are being powered off"),
  ready: (event) => (event.power ? "ready" : "boards are off"),
  requeued: () => "lost faulty boards, waits for others",
  destroyed: () => "ended",
};

// All about one job, also after its end.
export class JobPage extends Asking {
  constructor(model, id) {
    super();
    this.model = model;
    this.id = id;
    this.events = [];
    this.heading = el("h2", {}, swatch(id), `Job ${id}`);
    this.facts = el("div", { class: "facts" });
    this.hint = el("p", { class: "hint" }, "Loading");
    this.body = el("tbody");
    this.history = el("section", { class: "panel history" }, el("h2", {}, "History"), el("div", { class: "scroll" }, table("History of the job", HISTORY, this.body)));
    this.map = el("div");
    this.boards = el("section", { class: "panel its-boards" });
    this.element = el("div", {}, el("section", { class: "panel" }, this.heading, this.hint, this.facts), this.map, this.history, this.boards);
    this.#show();
    this.load();
  }

  async load() {
    try {
      this.events = (await ask(`/api/jobs/${this.id}`)).events;
      this.missing = null;
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
    const places = job ? this.model.places().get(this.id) ?? [] : [];
    const machine = job ? job.machine : last.machine;
    const boards = (job ? job.boards : last.boards) ?? [];
    this.#facts([
      ["State", job ? stateOf(job) : ended ? "ended" : "no longer there"],
      ["Reason", ended ? last.reason ?? "none given" : null],
      ["Owner", known.owner],
      ["Size", sizeOf(known)],
      ["Demands", demandsOf(known)],
      ["Machine", machine],
      ["Place in queue", job?.state === "queued" ? placeText(places) : null],
      ["Waits for", job?.state === "queued" ? waitsFor(job, places) : null],
      ["Created", moment(known.start_time)],
      ["Has its boards since", job?.allocated_at ? moment(job.allocated_at) : null],
      ["Ended", ended ? moment(last.time) : null],
      [job ? "Age" : "Lasted", job ? duration(this.model.now - job.start_time) : duration(last.time - first.created)],
      ["Last keepalive", job ? ago(this.model, job) : null],
      ["Asked by", job ? job.keepalivehost : last.host],
    ]);
    this.#map(job, fresh);
    this.#boards(machine, boards);
    this.history.hidden = !this.events.length;
    if (this.events === this.shown) return;
    this.shown = this.events;
    this.body.replaceChildren(
      ...this.events.map((event) =>
        row(HISTORY, [
          moment(event.time),
          (WORDS[event.event] ?? (() => event.event))(event),
          event.machine ?? "",
          event.boards ? number(event.boards.length) : "",
          event.host ?? "",
          event.reason ?? "",
        ]),
      ),
    );
  }

  #facts(pairs) {
    const text = JSON.stringify(pairs);
    if (text === this.factsText) return;
    this.factsText = text;
    this.facts.replaceChildren(facts(pairs));
  }

  #map(job, fresh) {
    const name = job?.boards && this.model.machines.has(job.machine) ? job.machine : null;
    if (name !== (this.view?.name ?? null)) {
      this.view = name && new MachineView(this.model, name, this.id);
      this.map.replaceChildren(...(name ? [this.view.element] : []));
    } else this.view?.update(fresh.has(name));
  }

  #boards(machine, boards) {
    const text = JSON.stringify([machine, boards]);
    this.boards.hidden = !boards.length;
    if (text === this.boardsText) return;
    this.boardsText = text;
    const known = this.model.machines.get(machine)?.boards;
    const headings = ["Board", "Cabinet, frame, board", "IP address"];
    const rows = boards.map((place) => {
      const board = known?.get(place.join());
      return row(headings, [
        boardName(place),
        board ? `${board.cabinet}, ${board.frame}, ${board.board}` : "",
        board?.ip ?? "",
      ]);
    });
    this.boards.replaceChildren(
      el("h2", {}, `Boards (${number(boards.length)})`),
      el("div", { class: "scroll limited", tabindex: "0" }, table("Boards of the job", headings, el("tbody", {}, rows))),
    );
  }
}
