"""What the page tells those who wait, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ONE_TRIAD, Client, ready, wait_until
from tests.web.browser import Browser
from tests.web.parts import cell, facts, row, shown
from tests.web.scenes import scene

pytestmark = pytest.mark.slow

Create = Callable[..., int]

TRIAD = "1 \N{MULTIPLICATION SIGN} 1 triads"
KEPT = r"for it for \d+ s: 3 not free yet, held by "


def test_the_queue(page: Browser, url: str, create: Create, caller: Client) -> None:
    holder = create(1, 1, owner="ada", machine="left")
    on_left = [create(1, 1, owner=owner, machine="left") for owner in ("bob", "cy")]
    on_right = create(1, 1, owner="bob", tags=["right"])
    wait_until(lambda: ready(caller, on_right))
    either = create(2, owner="ada@example.org", keepalive=None, tags=["side"])
    page.open(f"{url}/#/machine/left")
    page.wait_for(f"tr[data-job='{either}']")
    first = row(page, on_left[0])
    assert (first["Owner"], first["Place"]) == ("bob", "1")
    assert first["Size"] == f"{TRIAD}; machine left"
    # What is kept, who holds it, since when.
    kept = f"3 boards on left, kept {KEPT}job {holder} of ada"
    assert re.fullmatch(kept, first["Waits for"])
    second = row(page, on_left[1])
    assert second["Place"] == "2"
    assert second["Waits for"] == f"its turn, after job {on_left[0]}"
    both = row(page, either)
    assert both["Place"] == "3 (left), 1 (right)"
    assert both["Size"] == "2 boards; tags side"
    assert re.fullmatch(
        f"its turn on left, after job {on_left[1]}; or 3 boards on right, kept {KEPT}"
        f"job {on_right} of bob",
        both["Waits for"],
    )
    assert re.fullmatch(r"\d+ s ago \(ends after 1 min\)", first["Last keepalive"])
    assert both["Last keepalive"].endswith("ago (no limit)")
    # Too few jobs are known for an estimate: then there is none.
    assert first["May start"] == ""
    # It is on the map, too, and the page of the job says all of it.
    assert page.texts(".legend li:not([hidden])")[-1] == f"kept for job {on_left[0]}"
    page.one(cell("0,0,1")).click()
    page.wait(lambda: facts(page)["Kept for"] == str(on_left[0]))
    page.go(f"#/job/{on_left[0]}")
    page.wait(lambda: facts(page, ".facts")["Place in queue"] == "1")
    told = facts(page, ".facts")
    assert "(since 20" in told["Waits for"]
    assert told["May start"] == "not known: too few jobs like it"
    assert len(page.all(".map .boards path:not(.other)")) == 3
    # One place in the queue comes free.
    page.go("#/machine/left")
    page.wait(lambda: shown(page, ".queued") == [*on_left, either])
    caller.call("destroy_job", on_left[0])
    page.wait(lambda: row(page, on_left[1])["Place"] == "1")
    # A keepalive is seen.
    caller.call("job_keepalive", either)
    page.wait(lambda: _silence(row(page, either)) < 3)


def _silence(cells: dict[str, str]) -> int:
    found = re.match(r"(\d+) s ago", cells["Last keepalive"])
    return int(found[1]) if found else 0


def test_about_when_a_job_starts_and_why_not(page: Browser, tmp_path: Path) -> None:
    config = ONE_TRIAD.replace("10.11.12.0", "10.2.0.0")
    settings = "longest_overtaking=0, boards_per_owner=3, seconds_before_free"
    config = config.replace("seconds_before_free", settings)
    with scene(tmp_path, config, 1, {}, {}) as it:
        client, controller = it.client, it.server.controller
        with controller.lock:
            for seconds in range(2000, 8000, 1000):
                # So long have jobs of a triad waited, and those of a board run.
                controller._state.job_queue._state.waits.add(3, seconds)
                controller._state.job_queue._state.runs.add(1, 10 * seconds)
        client.call("create_job", owner="ada", keepalive=None)
        kept = client.call("create_job", 1, 1, owner="bob", keepalive=None)
        turn = client.call("create_job", 1, 1, owner="cy", keepalive=None)
        limit = client.call("create_job", 1, 1, owner="ada", keepalive=None)
        page.open(f"{it.url}/")
        page.wait_for(f"tr[data-job='{limit}']")
        assert row(page, turn)["Waits for"] == f"its turn, after job {kept}"
        assert row(page, limit)["Waits for"] == (
            "other jobs of ada to end: an owner may hold only so many boards"
        )
        # From the quarter to the three quarters of them.
        assert row(page, kept)["May start"] == "in about 8 h to 17 h"
        assert row(page, turn)["May start"] == "in about 50 min to 100 min"
        assert row(page, limit)["May start"] == ""
        page.go(f"#/job/{kept}")
        page.wait(lambda: facts(page, ".facts")["May start"] == "in about 8 h to 17 h")


def test_a_long_queue_is_shown_in_part(page: Browser, url: str) -> None:
    page.open(f"{url}/")
    jobs = shown(page, ".queued")
    assert len(jobs) == 6
    [button] = page.all(".queued .more")
    assert re.fullmatch(r"Show \d+ more of \d+ jobs", button.text)
    button.click()
    page.wait(lambda: len(shown(page, ".queued")) > 6)
    assert shown(page, ".queued")[:6] == jobs
