// The page: which part of it is shown, light or dark, and the connection.

import { el, setText } from "./dom.js";
import { Ended, JobPage, Overview } from "./jobs.js";
import { Model } from "./model.js";

const model = new Model();
const main = document.getElementById("main");
const connection = document.getElementById("connection");
let view = null;

function pageOf(hash) {
  const [, kind, argument = ""] = hash.split("/");
  if (kind === "job" && /^\d{1,15}$/.test(argument))
    return ["job", `Job ${argument}`, () => new JobPage(model, Number(argument))];
  if (kind === "machine") {
    let name = argument;
    try {
      name = decodeURIComponent(argument);
    } catch {
      // then it is as it stands there
    }
    return ["overview", name, () => new Overview(model, name)];
  }
  if (kind === "ended") return ["ended", "Ended jobs", () => new Ended()];
  return ["overview", "", () => new Overview(model)];
}

function show(event) {
  if (!model.known) return;
  const [page, title, make] = pageOf(location.hash);
  view = make();
  main.replaceChildren(view.element);
  document.title = title ? `${title} – SpiNNaker boards` : "SpiNNaker boards";
  for (const link of document.querySelectorAll("nav a"))
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
  else show();
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
