"""The plots of the last day and week, in a real browser."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support import TIMEOUT
from tests.web.browser import Browser
from tests.web.scenes import HISTORY_HOURS

pytestmark = pytest.mark.slow

SIZES = 7


def history(url: str, query: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/history{query}", timeout=TIMEOUT) as reply:
        assert reply.headers["Content-Type"].startswith("application/json")
        return json.load(reply)


def inks(page: Browser, number: int) -> set[tuple[int, int, int]]:
    """The colours that are on the canvas of a plot."""
    found = page.run(
        "const drawn = document.querySelectorAll('.plot canvas')[arguments[0]];"
        "const canvas = document.createElement('canvas');"
        "[canvas.width, canvas.height] = [drawn.width, drawn.height];"
        "const context = canvas.getContext('2d', {willReadFrequently: true});"
        "context.drawImage(drawn, 0, 0);"
        "const {data} = context.getImageData(0, 0, canvas.width, canvas.height);"
        "const seen = new Set();"
        "for (let i = 0; i < data.length; i += 4)"
        "  if (data[i + 3] === 255) seen.add(data.slice(i, i + 3).join());"
        "return [...seen]",
        number,
    )
    return {tuple(map(int, text.split(","))) for text in found}  # type: ignore[misc]


def colour(page: Browser, name: str) -> tuple[int, ...]:
    value = page.run(
        "return getComputedStyle(document.documentElement)"
        f".getPropertyValue('{name}').trim()"
    )
    return tuple(int(value[i : i + 2], 16) for i in (1, 3, 5))


def test_what_is_drawn_is_what_was_kept(page: Browser, url: str) -> None:
    page.open(f"{url}/")
    page.one("nav a[data-page=history]").click()
    page.wait(lambda: len(page.all(".plot canvas")) == 3)
    assert page.texts(".plot-of h3") == ["Boards", "Waiting", "Waits by size"]
    page.wait(lambda: colour(page, "--accent") in inks(page, 0))
    assert colour(page, "--plot-out") in inks(page, 0)
    assert colour(page, "--plot-jobs") in inks(page, 1)
    assert colour(page, "--plot-wanted") in inks(page, 1)
    assert {colour(page, f"--plot-{i}") for i in (0, 1, 2, 4)} <= inks(page, 2)
    # In words, for those who do not see it.
    words = page.texts(".plot-of figcaption")
    known = [v for v in history(url, "?span=day")["load"]["in_use"] if v is not None]
    most = f"at most {round(max(known)):,}; out of service"
    assert most in words[0]
    assert re.match(r"Jobs waiting on average \d+, at most \d+\.", words[1])
    assert all(label in page.texts(".plot-of .u-legend th")[1] for label in ["in use"])
    described = page.one(".plot[role=img]").get_attribute("aria-label") or ""
    assert described == f"Boards. {words[0]}"
    sizes = page.texts(".history-of-all tbody td:first-child")
    assert sizes[:3] == ["1 board", "2 to 3 boards", "4 to 12 boards"]


def test_the_week_is_in_the_address(page: Browser, url: str) -> None:
    page.open(f"{url}/#/history")
    page.wait(lambda: len(page.all(".plot canvas")) == 3)
    day = page.text(".plot-of:last-of-type figcaption")
    page.run("document.querySelectorAll('.spans a')[1].click()")
    page.wait(lambda: page.text(".plot-of:last-of-type figcaption") != day)
    assert page.driver.current_url.endswith("#/history?span=week")
    assert page.text(".spans [aria-current]") == "The last week"
    page.choose("#machine", "pair")
    page.wait(lambda: "at most 23;" in page.texts(".plot-of figcaption")[0])
    assert "machine=pair" in page.driver.current_url
    page.driver.back()
    page.wait(lambda: "at most 23;" not in page.texts(".plot-of figcaption")[0])
    page.driver.refresh()
    page.wait(lambda: page.text(".spans [aria-current]") == "The last week")


def test_plots_follow_light_and_dark_and_fit_a_phone(page: Browser, url: str) -> None:
    page.shape(390, 844, 2, phone=True)
    page.open(f"{url}/#/history")
    page.wait(lambda: len(page.all(".plot canvas")) == 3)
    assert page.run("return document.documentElement.scrollWidth") <= 390
    page.wait(lambda: colour(page, "--accent") in inks(page, 0))
    page.prefer("dark")
    page.wait_for("html[data-theme=dark]")
    page.wait(lambda: colour(page, "--accent") in inks(page, 0))


def test_the_history_as_json(url: str) -> None:
    day, week = history(url, ""), history(url, "?span=week")
    now = time.time()
    for document, step, points in ((day, 300, 288), (week, 1800, 336)):
        load = document["load"]
        assert (load["step"], len(load["in_use"])) == (step, points)
        assert load["start"] + step * points - step <= now + 5
        assert load["start"] + step * points > now - 5
    # There is one from before, one from now, and none of when the server was away.
    known = [value is not None for value in week["load"]["in_use"]]
    assert abs(sum(known) - 2 * (HISTORY_HOURS - 10)) <= 3
    assert known[-1]
    assert week["load"]["boards"][-1] == 1195 + 24 + 3 + 3 + 20
    assert week["waits"]["sizes"]["2-3"]["all"]["jobs"] >= HISTORY_HOURS
    assert len(week["waits"]["sizes"]) == SIZES
    assert {"pair", "million-core-machine"} <= set(week["machines"])
    assert history(url, "?machine=pair&span=week")["load"]["boards"][-1] == 24
    with pytest.raises(urllib.error.HTTPError, match="400"):
        history(url, "?span=year")
    request = urllib.request.Request(f"{url}/api/history", data=b"{}")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(request, timeout=TIMEOUT)
