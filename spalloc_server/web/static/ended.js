// The latest jobs that have ended.

import { Asking, ask } from "./asking.js";
import { duration, el, jobLink, machineLink, moment, number, ownerLink, setText } from "./dom.js";
import { matcher } from "./search.js";
import { Table } from "./table.js";

const COLUMNS = [
  { heading: "Job", text: (event) => String(event.job), node: (event) => jobLink(event.job), order: (event) => event.job },
  { heading: "Owner", text: (event) => event.owner, node: (event) => ownerLink(event.owner, "/ended") },
  { heading: "Ended", text: (event) => moment(event.time), order: (event) => event.time, fold: false },
  { heading: "Lasted", text: (event) => duration(event.time - event.created), order: (event) => event.time - event.created, fold: false },
  {
    heading: "Machine",
    text: (event) => event.machine ?? "never had boards",
    node: (event) => (event.machine == null ? "never had boards" : machineLink(event.machine)),
  },
  { heading: "Boards", text: (event) => (event.boards ? number(event.boards.length) : ""), order: (event) => event.boards?.length ?? 0 },
  { heading: "Reason", text: (event) => event.reason ?? "" },
];

export class Ended extends Asking {
  constructor(query) {
    super();
    this.hint = el("p", { class: "hint" }, "Loading");
    this.table = new Table({
      ...{ caption: "Ended jobs", columns: COLUMNS, name: "job", first: 200, natural: "the latest first" },
      key: (event) => `${event.job} ${event.time}`,
    });
    this.element = el("section", { class: "panel" }, el("h2", {}, "Ended jobs"), this.hint, this.table.element);
    this.ended = null;
    this.query = query;
    this.load();
  }

  ask(query) {
    this.query = query;
    if (this.ended) this.#show();
  }

  async load() {
    try {
      this.ended = await ask("/api/ended?limit=1000");
      this.#show();
    } catch (error) {
      setText(this.hint, `Could not be loaded: ${error.message}`);
      this.hint.hidden = false;
    }
  }

  #show() {
    const meant = matcher(this.query.get("q") ?? "");
    const wanted = meant ? this.ended.filter(({ job, owner }) => meant({ id: job, owner })) : this.ended;
    setText(this.hint, meant ? "No such job has ended that is remembered here." : "No job has ended yet that is remembered here.");
    this.hint.hidden = wanted.length > 0;
    this.table.show(wanted);
  }

  update({ jobs }) {
    if (jobs.size) this.later(2000);
  }

  tick() {}
}
