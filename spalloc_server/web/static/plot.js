// A plot over time, drawn by uPlot (uplot.js is its file, as it was published).

import { duration, el, number, setText } from "./dom.js";
import uPlot from "./uplot.js";

const HEIGHT = 200;
const DAY = 86400;
const FEW = 40; // points that are drawn one by one

const two = (value) => String(value).padStart(2, "0");
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

function clock(seconds, withDay) {
  const date = new Date(seconds * 1000);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return withDay ? `${WEEKDAYS[date.getDay()]} ${date.getDate()}, ${time}` : time;
}

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const plots = new Set();
// The colours of a canvas do not change by themselves.
addEventListener("themechange", () => plots.forEach((plot) => plot.redraw()));

export class Plot {
  // `series`: of each the `label`, the `colour` (a property of the style sheet), and
  // perhaps `fill`, `dash`, `points`; `seconds`: values are times, on a scale by powers.
  constructor(title, series, { seconds = false } = {}) {
    this.series = series;
    this.seconds = seconds;
    this.words = el("figcaption");
    this.place = el("div", { class: "plot", role: "img", "aria-label": title });
    this.title = title;
    this.element = el("figure", { class: "plot-of" }, el("h3", {}, title), this.words, this.place);
    new ResizeObserver(() => this.#fit()).observe(this.place);
    plots.add(this);
  }

  // `words` say the most important for those who do not see it.
  show(times, values, words) {
    this.data = [times, ...values];
    setText(this.words, words);
    this.place.setAttribute("aria-label", `${this.title}. ${words}`);
    if (this.plot) this.plot.setData(this.data);
    else this.#draw();
  }

  redraw() {
    if (!this.element.isConnected) plots.delete(this);
    else if (this.plot) this.#draw();
  }

  #fit() {
    const width = Math.floor(this.place.clientWidth);
    if (!width || !this.data) return;
    if (!this.plot) this.#draw();
    else if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  #value(value) {
    if (value == null) return "–";
    return this.seconds ? duration(value) : number(Math.round(10 * value) / 10);
  }

  #draw() {
    const width = Math.floor(this.place.clientWidth);
    if (!width || !this.data) return;
    this.plot?.destroy();
    const [times, ...all] = this.data;
    const few = all.every((values) => values.filter((value) => value != null).length < FEW);
    const long = times.at(-1) - times[0] > 2 * DAY;
    const axis = { stroke: colourOf("--muted"), grid: { stroke: colourOf("--line"), width: 1 }, ticks: { stroke: colourOf("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const hours = long ? [24, 48, 168] : [1, 2, 3, 6, 12];
    const options = {
      width,
      height: HEIGHT,
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: this.seconds ? { distr: 3, range: (_, low, high) => [Math.max(0.5, Math.min(low ?? 1, 1)), Math.max(high ?? 10, 10) * 1.5] } : { range: (_, low, high) => [0, Math.max(high ?? 1, 1) * 1.08] } },
      legend: { live: true },
      series: [
        { label: "at", value: (_, at) => (at == null ? "–" : clock(at, true)) },
        ...this.series.map(({ label, colour, fill, dash, points }) => ({
          label,
          stroke: colourOf(colour),
          fill: fill ? `${colourOf(colour)}38` : undefined,
          dash,
          width: 2,
          spanGaps: Boolean(points),
          // A line of a single point is none.
          points: { show: points || few ? true : undefined, size: 6 },
          value: (_, value) => this.#value(value),
        })),
      ],
      axes: [
        { ...axis, incrs: hours.map((h) => h * 3600), space: 60, values: (_, at) => at.map((one) => (long ? clock(one, true).split(",")[0] : clock(one, false))) },
        {
          ...axis,
          size: 60,
          ...(this.seconds
            ? { splits: () => [1, 10, 60, 600, 3600, 6 * 3600, DAY, 7 * DAY].filter((s) => s <= this.plot?.scales.y.max), values: (_, all) => all.map((s) => (s == null ? "" : duration(s))), filter: (_, all) => all }
            : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000], values: (_, all) => all.map(number) }),
        },
      ],
    };
    this.plot = new uPlot(options, this.data, this.place);
  }
}
