// All machines, or one of them, and the jobs; those that are searched for stand out.

import { count, el, setText } from "./dom.js";
import { JobTable } from "./jobs.js";
import { MachineView } from "./machine.js";
import { matcher } from "./search.js";
import { Singles } from "./singles.js";
import { Summary } from "./summary.js";

const narrow = matchMedia("(max-width: 640px)");

export class Overview {
  // `machine`: its name, or null for all; `query`: what the address asks for.
  constructor(model, machine, query) {
    this.model = model;
    this.machine = machine;
    this.views = new Map();
    this.meant = null;
    this.summary = new Summary(model);
    this.found = el("p", { class: "found", role: "status" });
    this.machines = el("div", { class: "machines" });
    this.singles = new Singles(model, () => this.#emphasis());
    // The maps should not be pushed far down.
    const first = narrow.matches ? 3 : 6;
    this.queued = new JobTable(model, "queued", { title: "Queue", empty: "Nobody waits for boards.", first, id: "queue" });
    this.running = new JobTable(model, "running", { title: "Running jobs", empty: "No job is running.", first: narrow.matches ? 20 : 50, id: "running" });
    this.element = el(
      "div",
      {},
      machine == null ? null : el("p", { class: "back" }, el("a", { href: "#/" }, "All machines")),
      this.summary.element,
      this.found,
      this.queued.element,
      this.machines,
      this.singles.element,
      this.running.element,
    );
    this.ask(query);
  }

  // Show what the address asks for: ?q= is a search.
  ask(query) {
    this.query = query;
    this.meant = matcher(query.get("q") ?? "");
    this.update({ fresh: new Set() });
  }

  // Which boards stand out: those of the jobs that are searched for.
  #emphasis() {
    const { meant, model } = this;
    if (!meant) return null;
    return (board) => model.jobs.has(board.job) && meant(model.jobs.get(board.job));
  }

  update({ fresh }) {
    const names = [...this.model.machines.keys()].filter((name) => this.machine == null || name === this.machine);
    // A single board has no map unless it is all there is to see.
    const single = (name) => this.machine == null && this.model.load(name).counts.all === 1;
    this.singles.show(names.filter(single));
    const drawn = names.filter((name) => !single(name));
    for (const [name, view] of this.views)
      if (!drawn.includes(name)) {
        view.element.remove();
        this.views.delete(name);
      }
    drawn.forEach((name, i) => {
      const view = this.views.get(name);
      if (view) view.update(fresh.has(name));
      else this.views.set(name, new MachineView(this.model, name, () => this.#emphasis()));
      const { element } = this.views.get(name);
      if (this.machines.children[i] !== element) this.machines.insertBefore(element, this.machines.children[i] ?? null);
    });
    if (!names.length) this.machines.replaceChildren(el("p", { class: "hint" }, "There is no such machine."));
    else if (this.machines.firstElementChild?.className === "hint") this.machines.firstElementChild.remove();
    for (const part of [this.summary, this.queued, this.running]) part.element.hidden = !names.length;
    this.names = names;
    this.#jobs();
  }

  tick() {
    this.#jobs();
  }

  #jobs() {
    if (this.names.length) this.summary.update(this.names);
    const on = (job) => this.machine == null || job.machine === this.machine || job.queues.includes(this.machine);
    const here = [...this.model.jobs.values()].filter(on);
    const wanted = this.meant ? here.filter(this.meant) : here;
    const places = this.model.places();
    const first = new Map();
    const waits = (job) => job.state === "queued";
    // On the page of a machine, the order of its own queue.
    const counted = ({ machine }) => this.machine == null || machine === this.machine;
    for (const job of wanted)
      if (waits(job)) first.set(job.id, Math.min(...(places.get(job.id) ?? []).filter(counted).map(({ place }) => place)));
    const queued = wanted.filter(waits).sort((a, b) => first.get(a.id) - first.get(b.id) || a.id - b.id);
    const running = wanted.filter((job) => job.boards);
    this.queued.show(queued, here.filter(waits).length);
    this.running.show(running, here.filter((job) => job.boards).length);
    this.found.hidden = !this.meant;
    if (this.meant) {
      const boards = running.reduce((sum, job) => sum + job.boards.length, 0);
      setText(
        this.found,
        wanted.length
          ? `Found: ${count(running.length, "running job")} with ${count(boards, "board")}, ${count(queued.length, "job")} waiting`
          : "No job is found that has not ended.",
      );
    }
  }
}
