// The search for jobs, by owner or number: a box at the top, and the address.

import { changed, parse } from "./address.js";

// Tells whether a job is meant: a part of its owner's name, all of it in quotation
// marks, or its number. Null where nothing is searched for.
export function matcher(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const whole = /^"(.+)"$/s.exec(wanted)?.[1];
  return ({ id, owner }) => {
    const name = owner.toLowerCase();
    return whole == null ? name.includes(wanted) || String(id) === wanted : name === whole;
  };
}

const PAGES = ["", "machine", "ended"]; // those that can be reduced to some jobs

export class Search {
  #typing = false;

  // `onchange`: called when the address has changed without the browser telling so.
  constructor(form, box, onchange) {
    this.box = box;
    const search = () => {
      const place = parse(location.hash);
      if ((place.query.get("q") ?? "") === box.value.trim()) return;
      if (!PAGES.includes(place.kind)) Object.assign(place, { path: "/", query: "" });
      const address = changed(place, { q: box.value.trim() });
      // Back leads to before the search, not to each letter of it.
      if (this.#typing) history.replaceState(null, "", address);
      else history.pushState(null, "", address);
      this.#typing = true;
      onchange();
    };
    for (const name of ["input", "change"]) box.addEventListener(name, search);
    box.addEventListener("blur", () => (this.#typing = false));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#typing = false;
      if (/^\d{1,15}$/.test(box.value.trim())) location.hash = `/job/${box.value.trim()}`;
    });
  }

  // Show what the address asks for.
  show(query) {
    const text = query.get("q") ?? "";
    if (this.box.value.trim() !== text.trim()) {
      this.box.value = text;
      this.#typing = false;
    }
  }
}
