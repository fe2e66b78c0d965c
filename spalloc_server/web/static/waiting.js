// What is told of a job in the queue: its place, what is kept for it, who holds that.

import { count, duration, jobLink, moment, number, ownerLink, within } from "./dom.js";
import { sizeOf } from "./model.js";

const NAMED = 3; // holders that are named

export const placeText = (places) =>
  places.map(({ machine, place }) => (places.length > 1 ? `${number(place)} (${machine})` : number(place))).join(", ");

// What can be read of texts and elements.
export const textOf = (parts) =>
  parts.flat(Infinity).map((part) => (typeof part === "string" ? part : part.textContent)).join("");

// About when a job may start, from what recent jobs have taken; "" if that is not known.
export function startText(model, job) {
  const about = model.about.get(job.id);
  return about ? within(about.map((at) => at - model.now)) : "";
}

// The jobs that have boards of a part of a machine, those with the most first.
function holders(model, name, [left, low, width, height]) {
  const boards = new Map();
  const machine = model.machines.get(name);
  for (let x = left; x < left + width; x++)
    for (let y = low; y < low + height; y++)
      for (let z = 0; z < 3; z++) {
        const job = machine?.boards.get(`${x},${y},${z}`)?.job;
        if (job != null) boards.set(job, (boards.get(job) ?? 0) + 1);
      }
  return [...boards].sort(([a, m], [b, n]) => n - m || a - b);
}

function heldBy(model, machine, kept) {
  const found = holders(model, machine, kept.area);
  const named = found.slice(0, NAMED).map(([id], i) => {
    const owner = model.jobs.get(id)?.owner;
    return [i ? ", " : "", "job ", jobLink(id), owner == null ? "" : [" of ", ownerLink(owner)]];
  });
  const more = found.length - NAMED;
  const parts = [`${number(kept.held)} not free yet`];
  if (found.length) parts.push(", held by ", named, more > 0 ? ` and ${count(more, "other job")}` : "");
  return parts;
}

// What a job in the queue waits for: texts and links; `brief`: for a line of a table.
export function waitsFor(model, job, places, brief = false) {
  const size = sizeOf(job);
  const lost = job.failure ? [brief ? ". Lost boards that failed" : `. Lost its boards: ${job.failure}`] : [];
  if (job.waiting?.text) return [job.waiting.text, ...lost];
  if (!places.length) return [`${size} on any suitable machine`, ...lost];
  if (job.waiting?.reason === "limit")
    return [`other jobs of ${job.owner} to end: an owner may hold only so many boards`, ...lost];
  const parts = places.map(({ machine, place, before, kept }, i) => {
    const or = i ? "; or " : "";
    if (kept)
      return [
        `${or}${count(kept.boards, "board")} on ${machine}, kept for it for ${duration(model.now - kept.since)}`,
        brief ? ": " : ` (since ${moment(kept.since)}): `,
        kept.held ? heldBy(model, machine, kept) : "all free by now",
      ];
    if (place === 1) return `${or}${size} to become free on ${machine}`;
    return [or, "its turn", places.length > 1 ? ` on ${machine}` : "", ", after job ", jobLink(before)];
  });
  return [...parts, ...lost];
}
