// The tables of jobs that wait and run.

import { duration, el, jobLink, machineLink, number, ownerLink, setText, swatch } from "./dom.js";
import { demandsOf, sizeOf, stateOf } from "./model.js";
import { Table } from "./table.js";
import { placeText, startText, textOf, waitsFor } from "./waiting.js";

// When a job was last heard of.
export function heardText(model, job) {
  const silence = model.silence(job.id);
  if (silence == null) return "unknown";
  const limit = job.keepalive == null ? "no limit" : `ends after ${duration(job.keepalive)}`;
  return `${duration(silence)} ago (${limit})`;
}

const sizeText = (job) => [sizeOf(job), demandsOf(job)].filter(Boolean).join("; ");

function columnsOf(kind, model) {
  const places = (job) => model.places().get(job.id) ?? [];
  const first = (job) => Math.min(...places(job).map(({ place }) => place));
  const ends = [
    { heading: "Age", text: (job) => duration(model.now - job.start_time), order: (job) => -job.start_time, fold: false },
    {
      heading: "Last keepalive",
      text: (job) => heardText(model, job),
      order: (job) => model.silence(job.id) ?? -1,
      fold: false,
    },
  ];
  const who = [
    { heading: "Job", text: (job) => String(job.id), node: (job) => [swatch(job.id), jobLink(job.id)], order: (job) => job.id },
    { heading: "Owner", text: (job) => job.owner, node: (job) => ownerLink(job.owner) },
  ];
  const size = { heading: "Size", text: sizeText, order: askedFor };
  if (kind === "queued")
    return [
      ...who,
      { heading: "Place", text: (job) => placeText(places(job)), order: first },
      size,
      {
        heading: "Waits for",
        text: (job) => textOf(waitsFor(model, job, places(job), true)),
        node: (job) => el("span", {}, waitsFor(model, job, places(job), true)),
      },
      { heading: "May start", text: (job) => startText(model, job), order: (job) => model.about.get(job.id)?.[0] ?? Infinity },
      ...ends,
    ];
  return [
    ...who,
    { heading: "State", text: stateOf },
    { heading: "Machine", text: (job) => job.machine, node: (job) => machineLink(job.machine) },
    { heading: "Boards", text: (job) => number(job.boards.length), order: (job) => job.boards.length },
    size,
    {
      heading: "Has them for",
      text: (job) => (job.allocated_at ? duration(model.now - job.allocated_at) : ""),
      order: (job) => -(job.allocated_at ?? 0),
      fold: false,
    },
    ...ends,
  ];
}

// For how many boards a job has asked.
function askedFor({ args }) {
  if (args.length === 2) return 3 * args[0] * args[1];
  return args.length === 1 ? args[0] : 1;
}

export class JobTable {
  constructor(model, kind, { title, empty, first, id }) {
    this.title = title;
    this.heading = el("h2", { id });
    this.empty = el("p", { class: "hint" }, empty);
    const natural = kind === "queued" ? "as in the queue" : "the oldest first";
    this.table = new Table({ caption: title, columns: columnsOf(kind, model), name: "job", first, natural });
    this.element = el("section", { class: `panel jobs ${kind}`, "aria-label": title }, this.heading, this.empty, this.table.element);
  }

  show(jobs, all) {
    const some = jobs.length === all ? "" : ` of ${number(all)}`;
    setText(this.heading, `${this.title} (${number(jobs.length)}${some})`);
    this.empty.hidden = jobs.length > 0;
    this.table.show(jobs);
  }
}
