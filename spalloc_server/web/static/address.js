// What is shown stands in the address, after the #: /machine/left?q=ada.

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const [, kind = "", argument = ""] = path.split("/");
  let name = argument;
  try {
    name = decodeURIComponent(argument);
  } catch {
    // then it is as it stands there
  }
  return { path: path || "/", kind, argument: name, query: new URLSearchParams(query) };
}

export function format(path, query) {
  const text = query.toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

// The same place, but for some of what is asked there; null for what is not.
export function changed({ path, query }, changes) {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes))
    if (value) next.set(name, value);
    else next.delete(name);
  return format(path, next);
}
