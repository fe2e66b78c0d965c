// The page: which part of it is shown, light or dark, and the connection.

import { parse } from "./address.js";
import { el, setText } from "./dom.js";
import { Ended } from "./ended.js";
import { JobPage } from "./jobpage.js";
import { Model } from "./model.js";
import { Overview } from "./overview.js";
import { Search } from "./search.js";

const model = new Model();
const main = document.getElementById("main");
const connection = document.getElementById("connection");
const search = new Search(document.getElementById("find"), document.getElementById("search"), () => show());
let view = null;
let shown = null;

// What an address is of: the name of its page, a title, and what makes it.
function pageOf({ kind, argument }) {
  if (kind === "job" && /^\d{1,15}$/.test(argument))
    return ["job", `Job ${argument}`, () => new JobPage(model, Number(argument))];
  if (kind === "machine") return ["overview", argument, (query) => new Overview(model, argument, query)];
  if (kind === "ended") return ["ended", "Ended jobs", (query) => new Ended(query)];
  if (kind === "history") return ["history", "History", makeHistory];
  return ["overview", "", (query) => new Overview(model, null, query)];
}

// What draws is loaded only where something is drawn.
async function makeHistory(query) {
  const { History } = await import("./history.js");
  return new History(model, query);
}

async function show(event) {
  if (!model.known) return;
  const place = parse(location.hash);
  search.show(place.query);
  if (place.path === shown) {
    view?.ask(place.query);
    return;
  }
  shown = place.path;
  const [page, title, make] = pageOf(place);
  const made = await make(place.query);
  if (shown !== place.path) return; // it has changed again meanwhile
  view = made;
  main.replaceChildren(view.element);
  document.title = title ? `${title} – SpiNNaker boards` : "SpiNNaker boards";
  for (const link of document.querySelectorAll("header nav a"))
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  if (event) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

addEventListener("hashchange", show);

model.addEventListener("update", ({ detail }) => {
  if (view) view.update(detail);
  else if (shown == null) show();
});

model.addEventListener("connection", ({ detail: alive }) => {
  connection.className = alive ? "live" : "lost";
  setText(connection, alive ? "Live" : "Not connected, trying again");
  document.documentElement.toggleAttribute("data-stale", !alive);
});

// Ages go on by themselves.
setInterval(() => view?.tick(), 5000);

// Light or dark: as the system has it, unless something else is chosen.
const system = matchMedia("(prefers-color-scheme: dark)");
const button = document.getElementById("theme");

function stored() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

let chosen = stored();

function paint() {
  const dark = chosen ? chosen === "dark" : system.matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  setText(button, dark ? "Light" : "Dark");
  button.setAttribute("aria-label", `Change to ${dark ? "light" : "dark"} colours`);
  dispatchEvent(new Event("themechange"));
}

button.addEventListener("click", () => {
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  chosen = (other === "dark") === system.matches ? null : other;
  try {
    if (chosen) localStorage.setItem("theme", chosen);
    else localStorage.removeItem("theme");
  } catch {
    // It is forgotten with the page.
  }
  paint();
});
system.addEventListener("change", paint);
paint();

main.append(el("p", { class: "hint" }, "Waiting for the server"));
model.start();
