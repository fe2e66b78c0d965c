"""The page, in a real browser, of a real server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import (
    ONE_TRIAD,
    Client,
    free_port,
    running_server,
)
from tests.web.browser import Browser
from tests.web.conftest import url_of
from tests.web.parts import cell, facts
from tests.web.scenes import SCRIPT_OWNER

pytestmark = pytest.mark.slow

Create = Callable[..., int]


def test_changes_are_pushed_and_drawn_without_delay(
    page: Browser, url: str, caller: Client
) -> None:
    page.open(f"{url}/#/?q=brief")
    page.run(
        "window.longest = 0;"
        "new PerformanceObserver((list) => {"
        "  for (const task of list.getEntries())"
        "    window.longest = Math.max(window.longest, task.duration);"
        "}).observe({type: 'longtask'})"
    )
    before = page.run("return performance.getEntriesByType('resource').length")
    for _ in range(4):
        job = caller.call("create_job", 3, owner="brief@example.org")
        page.wait_for(f"tr[data-job='{job}']")
        caller.call("destroy_job", job)
        page.wait_while(f"tr[data-job='{job}']")
    # Nothing was loaded for it.
    assert page.run("return performance.getEntriesByType('resource').length") == before
    # Usually about 30 ms; the limit is for machines that are busy with other tests.
    assert page.run("return window.longest") < 1000


def test_a_job_from_its_creation_over_restarts(page: Browser, tmp_path: Path) -> None:
    options = ("--simulate", "--http", str(free_port()))
    with running_server(ONE_TRIAD, *options, folder=tmp_path) as server:
        with Client(server.port) as client:
            first = client.call("create_job", 1, 1, owner="ada", keepalive=None)
            job = client.call("create_job", 2, owner="bob", keepalive=None)
            page.open(f"{url_of(server)}/#/job/{job}")
            page.wait(lambda: facts(page, ".facts")["State"] == "queued")
            waits = facts(page, ".facts")["Waits for"]
            assert waits == "2 boards to become free on m"
            client.call("destroy_job", first)
            page.wait(lambda: facts(page, ".facts")["State"] == "ready")
            page.wait(lambda: page.texts(".its-boards tbody td"))
            assert page.texts(".its-boards tbody td")[0] == "(0, 0, 0)"
            history = ".history tbody td:nth-child(2)"
            page.wait(
                lambda: (
                    page.texts(history)
                    == [
                        *("created", "given boards", "boards are being powered on"),
                        "ready",
                    ]
                )
            )
            client.call("destroy_job", job, "<b>all done</b>")
        page.wait(lambda: facts(page, ".facts")["State"] == "ended")
        assert facts(page, ".facts")["Reason"] == "<b>all done</b>"
        assert server.stop() == 0
    page.wait_for("#connection.lost")
    assert "Not connected" in page.text("#connection")
    with running_server(server.config_file, *options) as server:
        # The page finds the server by itself.
        page.wait_for("#connection.live")
        assert facts(page, ".facts")["Reason"] == "<b>all done</b>"
        page.driver.refresh()
        page.wait(lambda: facts(page, ".facts")["Reason"] == "<b>all done</b>")
        page.go("#/ended")
        page.wait(lambda: page.texts("tbody td:first-child") == [str(job), str(first)])
        assert page.texts("tbody td:last-child")[0] == "<b>all done</b>"
        page.go("#/job/99")
        page.wait_for_text(".hint", "Nothing is known of job 99")
        assert server.stop(signal.SIGINT) == 0


def test_owners_are_text_and_nothing_else(
    page: Browser, url: str, caller: Client, create: Create
) -> None:
    reason = '"><script>document.title="owned"</script>'
    job = create(owner=SCRIPT_OWNER, keepalive=None, machine="left")
    for _ in range(2):
        create(1, 1, owner=SCRIPT_OWNER, machine="left")
    page.open(f"{url}/#/machine/left")
    boards = caller.call("get_job_machine_info", job)["boards"]
    page.wait_for(f"tr[data-job='{job}']")
    assert page.texts(f"tr[data-job='{job}'] td:nth-child(2)") == [SCRIPT_OWNER]
    page.one("a.owner").click()
    page.wait_for(".found:not([hidden])")
    assert page.one("#search").get_attribute("value") == f'"{SCRIPT_OWNER}"'
    page.go("#/machine/left")
    page.wait(lambda: page.texts("h2 a") == ["left"])
    page.one(cell(",".join(map(str, boards[0])))).click()
    page.wait(lambda: facts(page)["Owner"] == SCRIPT_OWNER)
    page.one(".all-boards summary").click()
    page.wait(lambda: SCRIPT_OWNER in page.texts(".all-boards td"))
    caller.call("destroy_job", job, reason)
    page.go(f"#/job/{job}")
    page.wait(lambda: facts(page, ".facts")["Reason"] == reason)
    page.go("#/ended")
    page.wait(lambda: reason in page.texts("tbody td"))
    page.go(f"#/machine/{SCRIPT_OWNER}")
    page.wait_for_text(".machines .hint", "There is no such machine")
    assert page.all("main img, main script, main b") == []
    assert page.run("return [...document.scripts].map((s) => s.src)") == [
        f"{url}/static/main.js"
    ]
    assert page.driver.title.endswith("SpiNNaker boards")


def test_nothing_runs_that_is_not_ours(page: Browser, url: str) -> None:
    page.open(f"{url}/")
    broken = page.driver.execute_async_script(
        "const done = arguments[0];"
        "addEventListener('securitypolicyviolation',"
        "  (event) => done([event.effectiveDirective, window.owned ?? null]));"
        "const script = document.createElement('script');"
        "script.textContent = 'window.owned = true';"
        "document.body.append(script);"
    )
    assert broken == ["script-src-elem", None]
    assert any("Content Security Policy" in text for text in page.complaints())
    origins = page.run(
        "return performance.getEntriesByType('resource')"
        ".map((entry) => new URL(entry.name).origin)"
    )
    assert set(origins) == {url}


def test_light_and_dark(page: Browser, url: str) -> None:
    def colour() -> Any:
        return page.run(
            "return getComputedStyle(document.documentElement).backgroundColor"
        )

    page.open(f"{url}/")
    light = colour()
    page.prefer("dark")
    page.wait(lambda: colour() != light)
    dark = colour()
    page.one("#theme").click()
    assert colour() == light
    page.driver.refresh()
    page.wait_for("#connection.live")
    assert colour() == light
    page.one("#theme").click()
    assert colour() == dark
    page.prefer("light")
    page.wait(lambda: colour() == light)


def test_on_a_phone(page: Browser, url: str) -> None:
    page.shape(360, 740, 2, phone=True)
    page.open(f"{url}/")
    for fragment in ("#/", "#/job/3", "#/ended", "#/history", "#/machine/pair"):
        page.go(fragment)
        page.wait_for(".panel")
        assert page.run("return document.documentElement.scrollWidth") <= 360
    page.go("#/")
    page.wait_for(".running td")
    # Rows are cards that say what their parts are.
    label = page.run(
        "return getComputedStyle(document.querySelector('td:nth-child(2)'), '::before')"
        ".content"
    )
    assert label == '"Owner"'


def test_many_visits_one_after_the_other(page: Browser, url: str) -> None:
    """The browser keeps pages that were left, and should need no connections for it."""
    began = time.monotonic()
    for _ in range(8):
        page.open(f"{url}/#/machine/left")
        page.driver.get("about:blank")
    page.driver.back()
    page.wait_for("#connection.live")
    # A connection that is not given back is missed for a minute.
    assert time.monotonic() - began < 40


def test_names_for_those_who_do_not_see_the_page(page: Browser, url: str) -> None:
    for fragment in ("#/", "#/ended", "#/job/2"):
        page.open(f"{url}/{fragment}")
        nameless = page.run(
            "return [...document.querySelectorAll('input, select, button, a, svg')]"
            ".filter((e) => e.getAttribute('aria-hidden') !== 'true')"
            ".filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() ||"
            " (e.labels && e.labels.length)))"
            ".map((e) => e.outerHTML)"
        )
        assert nameless == []
        assert page.run("return document.documentElement.lang") == "en"
        assert len(page.all("main h2")) >= 1
        assert len(page.all("table:not(:has(caption))")) == 0


def test_words(page: Browser, url: str) -> None:
    expected = {
        "duration(0)": "0 s",
        "duration(93784)": "1 d 2 h",
        "duration(3600)": "1 h",
        "duration(61)": "1 min 1 s",
        "duration(-5)": "0 s",
        "count(1, 'board')": "1 board",
        "count(1200, 'board')": "1,200 boards",
        # About when a job starts, from seconds from now.
        "within([-5, 0])": "any moment",
        "within([-60, 45])": "within about 45 s",
        "within([130, 845])": "in about 2 min to 14 min",
        "within([3600, 3650])": "in about 60 min to 61 min",
        "within([7300, 86400])": "in about 2 h to 24 h",
        "within([400000, 400100])": "in about 5 d",
    }
    page.open(f"{url}/")
    calls = ", ".join(f"dom.{call}" for call in expected)
    script = f"return import('/static/dom.js').then((dom) => [{calls}])"
    assert dict(zip(expected, page.run(script), strict=True)) == expected
