// How busy the site was in the last day or week, and how long jobs waited.

import { changed, parse } from "./address.js";
import { Asking, ask } from "./asking.js";
import { count, duration, el, number, setText } from "./dom.js";
import { Plot } from "./plot.js";
import { Table } from "./table.js";

const REFRESH = 60; // seconds from one look at the server's history to the next
const SPANS = { day: "The last day", week: "The last week" };

const times = ({ start, step }, values) => values.map((_, i) => start + i * step);
const known = (values) => values.filter((value) => value != null);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const rounded = (value) => number(Math.round(value));
const sizeName = (size) => (size === "1" ? "1 board" : `${size.replace("-", " to ")} boards`);

const WAITS = [
  { heading: "Boards asked for", text: ([size]) => sizeName(size), order: ([size]) => parseInt(size, 10) || Infinity },
  { heading: "Jobs", text: ([, all]) => number(all.jobs), order: ([, all]) => all.jobs, fold: false },
  { heading: "Half waited at most", text: ([, all]) => duration(all.median), order: ([, all]) => all.median, fold: false },
  { heading: "95 % waited at most", text: ([, all]) => duration(all.most), order: ([, all]) => all.most, fold: false },
];

// "on average 12, at most 24"
function inWords(values) {
  const all = known(values);
  return all.length ? `on average ${rounded(mean(all))}, at most ${rounded(Math.max(...all))}` : "nothing known yet";
}

export class History extends Asking {
  constructor(model, query) {
    super();
    this.spans = el("nav", { class: "spans", "aria-label": "Span" });
    this.choice = el("select", { id: "machine", onchange: () => {
      location.hash = changed(parse(location.hash), { machine: this.choice.value });
    } });
    this.chooser = el("label", { class: "chooser" }, "Boards of ", this.choice);
    this.hint = el("p", { class: "hint", role: "status" }, "Loading");
    this.boards = new Plot("Boards", [
      { label: "in use", colour: "--accent", fill: true },
      { label: "out of service or drained", colour: "--plot-out" },
      { label: "all but dead ones", colour: "--muted", dash: [4, 4] },
    ]);
    this.waiting = new Plot("Waiting", [
      { label: "jobs waiting", colour: "--plot-jobs", fill: true },
      { label: "boards that they ask for", colour: "--plot-wanted" },
    ]);
    this.waits = null;
    this.table = new Table({ caption: "Waits by size", columns: WAITS, key: ([size]) => size, name: "size", natural: "by size" });
    this.plots = el("div", { class: "plots" }, this.boards.element, this.waiting.element);
    this.element = el(
      "section",
      { class: "panel history-of-all" },
      el("div", { class: "heading" }, el("h2", {}, "History"), this.spans, this.chooser),
      this.hint,
      this.plots,
    );
    this.loadedAt = 0;
    this.ask(query);
  }

  // Show what the address asks for: ?span=week, &machine=.
  ask(query) {
    this.span = query.get("span") in SPANS ? query.get("span") : "day";
    this.machine = query.get("machine") ?? "";
    this.spans.replaceChildren(
      ...Object.entries(SPANS).map(([span, words]) =>
        el("a", { href: changed(parse(location.hash), { span }), "aria-current": span === this.span ? "true" : null }, words),
      ),
    );
    this.load();
  }

  async load() {
    this.loadedAt = performance.now();
    const { span, machine } = this;
    try {
      const news = await ask(`/api/history?span=${span}&machine=${encodeURIComponent(machine)}`);
      if (span === this.span && machine === this.machine) this.#show(news);
    } catch (error) {
      setText(this.hint, `Could not be loaded: ${error.message}`);
      this.hint.hidden = false;
    }
  }

  #show({ machines, load, waits }) {
    this.hint.hidden = true;
    this.chooser.hidden = !machines.length;
    const names = ["", ...new Set([...machines, ...(this.machine ? [this.machine] : [])])];
    this.choice.replaceChildren(...names.map((name) => el("option", { value: name }, name || "all machines")));
    this.choice.value = this.machine;
    this.boards.show(times(load, load.in_use), [load.in_use, load.out, load.boards], `In use ${inWords(load.in_use)}; out of service or drained ${inWords(load.out)}.`);
    // Jobs may wait for any of several machines.
    this.waiting.element.hidden = this.machine !== "";
    this.waiting.show(times(load, load.waiting), [load.waiting, load.wanted], `Jobs waiting ${inWords(load.waiting)}.`);
    this.#showWaits(waits);
  }

  #showWaits(waits) {
    const sizes = Object.entries(waits.sizes);
    if (!this.waits) {
      const series = sizes.map(([size], i) => ({ label: sizeName(size), colour: `--plot-${i}`, points: true }));
      this.waits = new Plot("Waits by size", series, { seconds: true });
      this.plots.append(this.waits.element, this.table.element);
    }
    const jobs = sizes.reduce((sum, [, size]) => sum + size.all.jobs, 0);
    this.waits.show(
      times(waits, sizes[0][1].median),
      // There is no 0 on a scale by powers.
      sizes.map(([, size]) => size.median.map((s) => (s == null ? null : Math.max(s, 0.5)))),
      `What half of the jobs have waited at most that were given boards: ${count(jobs, "job")}.`,
    );
    this.table.show(sizes.map(([size, { all }]) => [size, all]).filter(([, all]) => all.jobs));
  }

  update() {
    this.tick();
  }

  tick() {
    if (performance.now() - this.loadedAt > REFRESH * 1000) this.later(0);
  }
}
