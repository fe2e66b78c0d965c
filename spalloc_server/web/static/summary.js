// What one can read in two seconds: boards in use and free, jobs waiting, and trouble.

import { count, duration, el, machineLink, number, setText } from "./dom.js";

const NAMED = 3; // machines with trouble that are named

// What is wrong with a machine, as texts; nothing where all is well.
export function troubleOf({ counts, closed }) {
  return [
    counts.out && `${count(counts.out, "board")} out of service`,
    counts.drained && `${number(counts.drained)} drained`,
    counts.draining && `${number(counts.draining)} draining`,
    closed && `closed by ${closed.user}${closed.reason ? ` (${closed.reason})` : ""}`,
  ].filter(Boolean);
}

export class Summary {
  constructor(model) {
    this.model = model;
    this.figures = new Map();
    this.list = el("dl", { class: "figures" });
    this.bar = el("div", { class: "bar", "aria-hidden": "true" });
    this.parts = ["ready", "free", "out", "rest"].map((name) => el("div", { class: name }));
    this.bar.append(...this.parts);
    this.trouble = el("ul", { class: "trouble", "aria-label": "Machines with trouble" });
    this.element = el("section", { class: "overall panel", "aria-label": "Summary" }, this.list, this.bar, this.trouble);
  }

  #figure(name, value, label, more, kind = "") {
    if (!this.figures.has(name)) {
      const parts = { value: el("dd", { class: "value" }), label: el("dt"), more: el("dd", { class: "more-of-it" }) };
      const element = el("div", { "data-figure": name }, parts.label, parts.value, parts.more);
      this.figures.set(name, { element, ...parts });
      this.list.append(element);
    }
    const figure = this.figures.get(name);
    figure.element.className = kind;
    setText(figure.value, value);
    setText(figure.label, label);
    setText(figure.more, more);
  }

  update(names) {
    const loads = names.map((name) => this.model.load(name));
    const sum = (of) => loads.reduce((total, load) => total + of(load.counts), 0);
    const [used, working, free, all] = [sum((c) => c.used), sum((c) => c.working), sum((c) => c.free), sum((c) => c.all)];
    const waiting = this.model.queued().filter((job) => names.length !== 1 || job.queues.includes(names[0]));
    const oldest = waiting.reduce((first, job) => Math.min(first, job.start_time), Infinity);
    const trouble = loads.map((load) => [load, troubleOf(load)]).filter(([, texts]) => texts.length);
    const soon = sum((c) => c.cooling + c.stopping);
    this.#figure("used", number(used), "boards in use", working ? `of ${number(working)}, ${Math.round((100 * used) / working)} %` : "of none");
    this.#figure("free", number(free), free === 1 ? "board free" : "boards free", soon ? `and ${number(soon)} soon` : "");
    this.#figure(
      "waiting",
      number(waiting.length),
      waiting.length === 1 ? "job waiting" : "jobs waiting",
      waiting.length ? `longest ${duration(this.model.now - oldest)}` : "",
      waiting.length ? "some" : "",
    );
    this.#figure(
      "trouble",
      number(trouble.length),
      trouble.length === 1 ? "machine with trouble" : "machines with trouble",
      `of ${number(loads.length)}`,
      trouble.length ? "bad" : "good",
    );
    const out = sum((c) => c.out + c.drained + c.draining);
    [used, free, out, all - used - free - out].forEach((n, i) => (this.parts[i].style.flexGrow = Math.max(0, n)));
    this.#tell(trouble);
  }

  #tell(trouble) {
    const text = JSON.stringify(trouble.map(([{ machine }, texts]) => [machine.name, texts]));
    if (text === this.told) return;
    this.told = text;
    const rest = trouble.slice(NAMED);
    this.trouble.replaceChildren(
      ...trouble.slice(0, NAMED).map(([{ machine }, texts]) => el("li", {}, machineLink(machine.name), `: ${texts.join(", ")}`)),
      ...(rest.length ? [el("li", {}, "and ", rest.map(([{ machine }], i) => [i ? ", " : "", machineLink(machine.name)]))] : []),
    );
    this.trouble.hidden = !trouble.length;
  }
}
