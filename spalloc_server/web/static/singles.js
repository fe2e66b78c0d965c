// Machines of a single board: a line each.

import { el, jobLink, machineLink, number, ownerLink, setAttribute, setText } from "./dom.js";
import { closedText, sample } from "./machine.js";
import { STATES } from "./model.js";

export class Singles {
  constructor(model, emphasis) {
    this.model = model;
    this.emphasis = emphasis;
    this.heading = el("h2");
    this.list = el("ul", { class: "singles" });
    this.element = el("section", { class: "panel", "aria-label": "Single boards" }, this.heading, this.list);
    this.lines = new Map();
  }

  show(names) {
    this.element.hidden = !names.length;
    setText(this.heading, `Single boards (${number(names.length)})`);
    for (const [name, line] of this.lines)
      if (!names.includes(name)) {
        line.remove();
        this.lines.delete(name);
      }
    names.forEach((name, i) => {
      const line = this.#line(name);
      if (this.list.children[i] !== line) this.list.insertBefore(line, this.list.children[i] ?? null);
    });
  }

  #line(name) {
    const { machine, counts, waiting } = this.model.load(name);
    const board = [...machine.boards.values()].find((one) => one.exists);
    const state = board.shown(this.model.jobs);
    const job = this.model.jobs.get(board.job);
    const standsOut = this.emphasis();
    let line = this.lines.get(name);
    if (!line) this.lines.set(name, (line = el("li")));
    setAttribute(line, "class", standsOut && !standsOut(board) ? "other" : null);
    const text = JSON.stringify([state, board.job, job?.owner, board.problem, waiting, machine.closed, counts.working]);
    if (line.dataset.shown === text) return line;
    line.dataset.shown = text;
    const mark = sample(state, this.model.geometry);
    const words = [
      STATES[state],
      job ? [": job ", jobLink(job.id), " of ", ownerLink(job.owner)] : "",
      waiting ? `, ${number(waiting)} waiting` : "",
      closedText(machine.closed),
      board.problem ? `. ${board.problem}` : "",
    ];
    line.replaceChildren(mark, machineLink(name), el("span", { class: "what" }, words));
    line.title = line.textContent;
    return line;
  }
}
