// What the server has told: machines, boards and jobs; and how the page hears of it.

import { count } from "./dom.js";

const SILENCE = 40; // seconds after which the connection counts as dead; pings come every 15

// The states of boards as they are shown: what the server says of the board, and what
// its job is about to do with it.
export const STATES = {
  ready: "in use",
  off: "in use, switched off",
  powering: "powering on",
  stopping: "powering off",
  cooling: "cooling down",
  reserved: "beside a job’s boards",
  free: "free",
  draining: "draining",
  drained: "drained",
  out: "out of service",
  dead: "dead",
};

const OF_BOARD = {
  free: "free",
  "powering off": "stopping",
  cooling: "cooling",
  draining: "draining",
  drained: "drained",
  "out of service": "out",
  dead: "dead",
};

export class Board {
  constructor(fields, values) {
    fields.forEach((field, i) => (this[field] = values[i]));
    this.key = `${this.x},${this.y},${this.z}`;
  }

  // Boards that are described as dead, and stand nowhere.
  get exists() {
    return this.cabinet != null;
  }

  get name() {
    return `(${this.x}, ${this.y}, ${this.z})`;
  }

  get physical() {
    return `cabinet ${this.cabinet}, frame ${this.frame}, board ${this.board}`;
  }

  // Does a job have it? Those beside a job's boards are nobody's.
  get inUse() {
    return this.job != null;
  }

  shown(jobs) {
    if (this.state !== "allocated") return OF_BOARD[this.state] ?? "dead";
    const job = jobs.get(this.job);
    if (!job) return this.job == null ? "reserved" : "ready";
    if (job.state === "power") return job.power ? "powering" : "stopping";
    return job.power ? "ready" : "off";
  }
}

export class Model extends EventTarget {
  machines = new Map(); // by name, highest priority first
  jobs = new Map();
  heard = new Map();
  about = new Map(); // by job, between when it may start
  geometry = null;
  known = false;
  // What has been found out from these, until they change.
  #places = null;
  #queued = null;
  #kept = null;
  #loads = null;
  #source = null;
  #timer = 0;
  #time = [0, 0, 0]; // time and clock of the server when performance.now() was

  get now() {
    return this.#time[0] + (performance.now() - this.#time[2]) / 1000;
  }

  silence(id) {
    const at = this.heard.get(id);
    if (at == null) return null;
    return this.#time[1] + (performance.now() - this.#time[2]) / 1000 - at;
  }

  async start() {
    try {
      const response = await fetch("/api/geometry");
      if (!response.ok) throw new Error(response.statusText);
      this.geometry = await response.json();
      this.#connect();
    } catch {
      this.#later();
    }
  }

  // A page that the browser keeps for going back to holds no connection meanwhile: there
  // are only six of them for all pages together.
  constructor() {
    super();
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => event.persisted && this.geometry && this.#connect());
  }

  #leave() {
    this.#source?.close();
    clearTimeout(this.#timer);
  }

  #connect() {
    const source = (this.#source = new EventSource("/events"));
    source.addEventListener("state", (event) => this.#take(JSON.parse(event.data), true));
    source.addEventListener("change", (event) => this.#take(JSON.parse(event.data), false));
    source.addEventListener("ping", () => this.#alive());
    source.addEventListener("error", () => this.#later());
    this.#expect();
  }

  #expect() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#later(), SILENCE * 1000);
  }

  #alive() {
    this.#expect();
    this.dispatchEvent(new CustomEvent("connection", { detail: true }));
  }

  // Not all pages at the same time: the server may just have come back.
  #later() {
    this.#leave();
    const again = () => (this.geometry ? this.#connect() : this.start());
    this.#timer = setTimeout(again, 1000 + 2000 * Math.random());
    this.dispatchEvent(new CustomEvent("connection", { detail: false }));
  }

  #take(news, whole) {
    this.#time = [news.time, news.clock, performance.now()];
    if (whole) {
      this.machines.clear();
      this.jobs.clear();
      this.heard.clear();
      this.about.clear();
    }
    this.#loads = null;
    if (whole || news.jobs) this.#places = this.#queued = this.#kept = null;
    const fresh = new Set();
    for (const [name, machine] of Object.entries(news.machines ?? {})) {
      if (machine === null) this.machines.delete(name);
      else this.machines.set(name, this.#machine(machine));
      fresh.add(name);
    }
    for (const [name, boards] of Object.entries(news.boards ?? {})) {
      const machine = this.machines.get(name);
      for (const values of boards) {
        const board = new Board(machine.board_fields, values);
        machine.boards.set(board.key, board);
      }
    }
    if (news.order)
      this.machines = new Map(news.order.map((name) => [name, this.machines.get(name)]));
    for (const [id, job] of Object.entries(news.jobs ?? {})) {
      if (job === null) {
        this.jobs.delete(Number(id));
        this.heard.delete(Number(id));
      } else this.jobs.set(Number(id), job);
    }
    for (const [id, range] of Object.entries(news.about ?? {}))
      if (range) this.about.set(Number(id), range);
      else this.about.delete(Number(id));
    for (const [id, at] of Object.entries(news.heard ?? {})) this.heard.set(Number(id), at);
    this.known = true;
    this.#alive();
    const jobs = new Set(Object.keys(news.jobs ?? {}).map(Number));
    this.dispatchEvent(new CustomEvent("update", { detail: { whole, fresh, jobs } }));
  }

  #machine(document) {
    const boards = new Map();
    for (const values of document.boards) {
      const board = new Board(document.board_fields, values);
      boards.set(board.key, board);
    }
    const dead = new Set(document.dead_links.map((link) => link.join()));
    return { ...document, boards, dead };
  }

  // The jobs that wait, in no order.
  queued() {
    return (this.#queued ??= [...this.jobs.values()].filter((job) => job.state === "queued"));
  }

  // The parts of a machine that are kept: for which job, and where.
  kept(name) {
    if (!this.#kept) {
      this.#kept = new Map();
      for (const job of this.queued())
        for (const { machine, kept } of job.waiting?.queues ?? [])
          if (kept) this.#kept.set(machine, [...(this.#kept.get(machine) ?? []), { job: job.id, area: kept.area }]);
    }
    return this.#kept.get(name) ?? [];
  }

  // How busy a machine is: boards by state, in use, and that work at all; jobs waiting.
  load(name) {
    this.#loads ??= new Map();
    if (!this.#loads.has(name)) this.#loads.set(name, this.#measure(this.machines.get(name)));
    return this.#loads.get(name);
  }

  #measure(machine) {
    const counts = Object.fromEntries(Object.keys(STATES).map((state) => [state, 0]));
    Object.assign(counts, { all: 0, used: 0, working: 0 });
    for (const board of machine.boards.values()) {
      if (!board.exists) continue;
      const state = board.shown(this.jobs);
      counts[state] += 1;
      counts.all += 1;
      counts.used += board.inUse;
      // What is going to be drained still works, for its job.
      counts.working += board.inUse || !["dead", "out", "drained", "draining"].includes(state);
    }
    const waiting = this.queued().filter((job) => job.queues.includes(machine.name)).length;
    return { machine, counts, closed: machine.closed, waiting };
  }

  // The job's place in each queue that it stands in: machine, place, the job before.
  places() {
    return (this.#places ??= this.#findPlaces());
  }

  #findPlaces() {
    const queues = new Map();
    const places = new Map();
    for (const job of this.jobs.values()) {
      if (job.state !== "queued") continue;
      places.set(job.id, []);
      for (const { machine, order, kept } of job.waiting?.queues ?? []) {
        if (!queues.has(machine)) queues.set(machine, []);
        queues.get(machine).push({ job, order, kept });
      }
    }
    for (const [machine, queue] of queues) {
      queue.sort((a, b) => compareOrder(a.order, b.order));
      queue.forEach(({ job, kept }, i) => {
        const before = i ? queue[i - 1].job.id : null;
        places.get(job.id).push({ machine, place: i + 1, before, kept });
      });
    }
    // Of a job's machines, that of the highest priority comes first.
    for (const [id, list] of places) {
      const names = this.jobs.get(id).queues;
      list.sort((a, b) => names.indexOf(a.machine) - names.indexOf(b.machine));
    }
    return places;
  }
}

function compareOrder(a, b) {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}

export function sizeOf(job) {
  const [a, b, c] = job.args;
  if (job.args.length === 3) return `board (${a}, ${b}, ${c})`;
  if (job.args.length === 2) return `${a} × ${b} triads`;
  return count(a ?? 1, "board");
}

export function demandsOf(job) {
  const { machine, tags, ...others } = job.kwargs;
  const demands = [];
  if (machine != null) demands.push(`machine ${machine}`);
  if (tags != null) demands.push(`tags ${tags.join(", ")}`);
  for (const [name, value] of Object.entries(others))
    if (value != null && value !== false)
      demands.push(`${name.replaceAll("_", " ")} ${value === true ? "" : value}`.trim());
  return demands.join("; ");
}

export function stateOf(job) {
  if (job.state === "power") return job.power ? "powering on" : "powering off";
  if (job.state === "ready") return job.power ? "ready" : "switched off";
  return job.state;
}
