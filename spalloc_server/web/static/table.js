// Tables that keep their rows, can be sorted, and leave out what is everywhere the same.

import { el, setText } from "./dom.js";

const MORE = 200; // rows that are added at a time
const LOOKED_AT = 1000; // items that have to be the same, for a column to be left out

const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

export class Table {
  // `columns`: of each its `heading`; `text` and perhaps `node` show it of an item, and
  // `order` sorts by it. With `fold` it is left out where all rows have the same.
  constructor({ caption, columns, first = 50, key = (item) => item.id, name = "item", natural = "" }) {
    this.columns = columns;
    this.key = key;
    this.name = name;
    this.limit = this.first = first;
    this.rows = new Map();
    this.sorting = null; // [column, 1 or -1]
    this.items = [];
    this.body = el("tbody");
    this.heads = columns.map(({ heading }, i) =>
      el("th", { scope: "col" }, el("button", { type: "button", onclick: () => this.#sort(i) }, heading)),
    );
    this.order = el("select", { onchange: () => this.#sortAs(this.order.value) }, [
      el("option", { value: "" }, natural || "as they come"),
      columns.map(({ heading }, i) => [
        el("option", { value: `${i} 1` }, `${heading}, up`),
        el("option", { value: `${i} -1` }, `${heading}, down`),
      ]),
    ]);
    this.same = el("p", { class: "same" });
    this.more = el("button", { type: "button", class: "more", onclick: () => {
      this.limit += MORE;
      this.#lay();
    } }, "Show more");
    this.table = el(
      "table",
      {},
      el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, this.heads)),
      this.body,
    );
    // It can be scrolled without a mouse, too.
    this.scroll = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption }, this.table);
    this.element = el(
      "div",
      { class: "sorted" },
      this.same,
      el("label", { class: "order" }, "Order ", this.order),
      this.scroll,
      this.more,
    );
  }

  show(items) {
    this.items = items;
    this.#lay();
  }

  #sort(column) {
    const way = this.sorting?.[0] === column ? { 1: -1, [-1]: 0 }[this.sorting[1]] : 1;
    this.#sortAs(way ? `${column} ${way}` : "");
  }

  #sortAs(text) {
    this.sorting = text ? text.split(" ").map(Number) : null;
    this.order.value = text;
    this.heads.forEach((head, i) => {
      const way = this.sorting?.[0] === i ? this.sorting[1] : 0;
      if (way) head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    this.#lay();
  }

  #sorted() {
    if (!this.sorting) return this.items;
    const [i, way] = this.sorting;
    const { order, text } = this.columns[i];
    return this.items
      .map((item) => [(order ?? text)(item), item])
      .sort(([a], [b]) => way * compare(a, b))
      .map(([, item]) => item);
  }

  #lay() {
    const shown = this.#sorted().slice(0, this.limit);
    const rest = this.items.length - shown.length;
    this.element.hidden = !this.items.length;
    this.more.hidden = !rest;
    setText(this.more, `Show ${Math.min(rest, MORE)} more of ${this.items.length} ${this.name}s`);
    const keys = new Set(shown.map(this.key));
    for (const [key, row] of this.rows)
      if (!keys.has(key)) {
        row.element.remove();
        this.rows.delete(key);
      }
    const rows = shown.map((item) => this.#row(item));
    rows.forEach(({ element }, i) => {
      if (this.body.children[i] !== element) this.body.insertBefore(element, this.body.children[i] ?? null);
    });
    this.#fold(rows);
  }

  #row(item) {
    const key = this.key(item);
    let row = this.rows.get(key);
    if (!row) {
      const cells = this.columns.map(({ heading }) => el("td", { "data-label": heading }));
      row = { element: el("tr", {}, cells), texts: [] };
      row.element.dataset[this.name] = key;
      this.rows.set(key, row);
    }
    row.item = item;
    this.columns.forEach(({ text, node }, i) => {
      const now = text(item);
      if (row.texts[i] === now) return;
      row.texts[i] = now;
      const cell = row.element.children[i];
      if (node && now !== "") cell.replaceChildren(...[node(item)].flat(Infinity));
      else setText(cell, now);
    });
    return row;
  }

  // A column in which all rows say the same is told once, above the table.
  #fold(rows) {
    const folded = this.columns.map(
      ({ fold = true, text }, i) =>
        fold && rows.length > 1 && this.items.slice(0, LOOKED_AT).every((item) => text(item) === rows[0].texts[i]),
    );
    folded.forEach((is, i) => this.table.classList.toggle(`without-${i + 1}`, is));
    const told = this.columns.flatMap((column, i) => (folded[i] && rows[0].texts[i] ? [[column, rows[0].texts[i]]] : []));
    const text = told.map(([{ heading }, value]) => `${heading}: ${value}`).join("\n");
    this.same.hidden = !told.length;
    if (text === this.told) return;
    this.told = text;
    this.same.replaceChildren(
      ...told.map(([{ heading, node }, value]) =>
        el("span", {}, el("span", { class: "name" }, heading), " ", node ? node(rows[0].item) : value),
      ),
    );
  }
}
