// Elements and words. Data only ever becomes text or attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

export const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Change a text only where it is another one: nothing to lay out, nothing to read out.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value == null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

const numbers = new Intl.NumberFormat("en");

export const number = (value) => numbers.format(value);

export const count = (value, one, many = `${one}s`) =>
  `${number(value)} ${value === 1 ? one : many}`;

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

// 93784 seconds are "1 d 2 h".
export function duration(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, size] of UNITS) {
    if (rest >= size && parts.length < 2) parts.push(`${Math.floor(rest / size)} ${unit}`);
    else if (parts.length) break;
    rest %= size;
  }
  return parts.join(" ") || "0 s";
}

export function moment(seconds) {
  const date = new Date(seconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

// From now on: [120, 840] is "in about 2 min to 14 min".
export function within([from, to]) {
  if (to <= 0) return "any moment";
  if (from <= 0) return `within about ${roughly(to)}`;
  const [low, high] = [roughly(from), roughly(to)];
  return low === high ? `in about ${low}` : `in about ${low} to ${high}`;
}

// One unit is enough of an estimate, and its first two digits.
function roughly(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= 2 * size) ?? UNITS.at(-1);
  return `${Math.max(1, Math.round(seconds / size))} ${unit}`;
}

export const boardName = (board) => `(${board[0]}, ${board[1]}, ${board[2]})`;

export const jobLink = (id) => el("a", { href: `#/job/${id}` }, String(id));

// To the jobs of an owner: all of the name, as quotation marks say.
export const ownerLink = (owner, page = "/") =>
  el("a", { href: `#${page}?q=${encodeURIComponent(`"${owner}"`)}`, class: "owner" }, owner);

export const machineLink = (name) =>
  el("a", { href: `#/machine/${encodeURIComponent(name)}` }, name);

// Far apart for numbers that follow each other.
export const hue = (id) => Math.round((id * 137.508) % 360);

// The colour that a job has on the maps.
export function swatch(id) {
  const mark = el("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.setProperty("--hue", hue(id));
  return mark;
}

export const facts = (pairs) =>
  el(
    "dl",
    {},
    pairs
      .filter(([, value]) => value != null && value !== "")
      .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
