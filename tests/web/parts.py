"""Where things are on the page."""

from __future__ import annotations

from tests.web.browser import Browser


def cell(key: str) -> str:
    """The board at "x,y,z" on the map."""
    return f'.map .boards path[data-key="{key}"]'


def facts(page: Browser, within: str = ".details") -> dict[str, str]:
    """Names and values as the page lists them."""
    found = page.run(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((pair) => [...pair.children].map((part) => part.textContent))",
        f"{within} dl > div",
    )
    return dict(found)


def row(page: Browser, job: int) -> dict[str, str]:
    """What the table of jobs says of one, by column; nothing where it is not there."""
    found = page.run(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((cell) => [cell.dataset.label, cell.textContent])",
        f"tr[data-job='{job}'] td",
    )
    return dict(found)


def shown(page: Browser, table: str = "") -> list[int]:
    """The jobs in the tables, or in one of them."""
    return [int(text) for text in page.texts(f"{table} tr[data-job] td:first-child")]


def figure(page: Browser, name: str) -> int:
    """A number of the summary: used, free, waiting, trouble."""
    text = page.text(f"[data-figure={name}] .value")
    return int(text.replace(",", ""))
