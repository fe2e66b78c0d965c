"""What the page says at first sight, in a real browser."""

from __future__ import annotations

import getpass
from collections.abc import Callable

import pytest

from tests.admin_command import Admin
from tests.support import Client, ServerProcess, ready, wait_until
from tests.web.browser import Browser
from tests.web.parts import cell, facts, figure, row

pytestmark = pytest.mark.slow

Create = Callable[..., int]


@pytest.mark.parametrize(
    ("width", "height"),
    [(1920, 1080), (1280, 720), (768, 1024), (390, 844), (320, 568)],
)
def test_the_summary_is_seen_first_and_the_queue_begins_below_it(
    page: Browser, url: str, width: int, height: int
) -> None:
    page.shape(width, height, phone=width < 700)
    page.open(f"{url}/")
    places = page.run(
        "return ['.figures', '#queue', '.map', '.running'].map((selector) => {"
        "  const box = document.querySelector(selector).getBoundingClientRect();"
        "  return [box.top, box.bottom, box.right];"
        "})"
    )
    summary, queue, first_map, running = places
    assert summary[1] <= min(height, 420)
    assert queue[1] < height
    assert summary[1] < queue[0] < first_map[0] < running[0]
    assert all(right <= width for _, _, right in places)
    # Figures, not words to be read.
    sizes = page.run(
        "return [...document.querySelectorAll('.figures .value')]"
        ".map((value) => parseFloat(getComputedStyle(value).fontSize))"
    )
    assert len(sizes) == 4
    assert min(sizes) >= 28


def test_the_figures_are_right(page: Browser, url: str, caller: Client) -> None:
    page.open(f"{url}/")
    jobs = caller.call("list_jobs")
    used = sum(len(job["boards"] or ()) for job in jobs)
    working = 1195 + 24 + 3 + 3 + 20
    page.wait(lambda: figure(page, "used") == used)
    assert figure(page, "waiting") == sum(job["state"] == 1 for job in jobs)
    assert page.text("[data-figure=used] .more-of-it").startswith(f"of {working:,}, ")
    assert 0 < figure(page, "free") <= working - used
    assert figure(page, "trouble") == 0
    assert page.texts(".trouble li") == []


def test_single_boards_take_one_line_each(
    page: Browser, url: str, create: Create, caller: Client
) -> None:
    page.open(f"{url}/")
    assert page.texts(".machine h2") == [
        "million-core-machine",
        "pair",
        "left",
        "right",
    ]
    assert len(page.texts(".singles li")) == 20
    heights = page.run(
        "return [...document.querySelectorAll('.singles li')]"
        ".map((line) => line.getBoundingClientRect().height)"
    )
    assert max(heights) <= 32
    job = create(owner="ada", machine="single-03", tags=None)
    line = ".singles li:nth-child(3)"
    page.wait_for_text(line, "single-03", f"job {job} of ada")
    # The machine's own page has all there is to know of it.
    page.one(f"{line} a").click()
    page.wait_for(cell("0,0,0")).click()
    page.wait(lambda: facts(page)["Job"] == str(job))
    assert facts(page)["IP address"] == "10.200.3.1"


def test_what_operators_order_is_shown(
    page: Browser, url: str, shared: ServerProcess, create: Create, caller: Client
) -> None:
    admin, user = Admin(shared), getpass.getuser()
    job = create(0, 0, 1, owner="ada", machine="left")
    wait_until(lambda: ready(caller, job))
    page.open(f"{url}/#/machine/left")
    page.wait_for(f"{cell('0,0,1')}.ready")
    try:
        admin.text("drain", "left", "--frame", 0, 0, "--reason", "new fans")
        page.wait_for(f"{cell('0,0,1')}.draining")
        page.wait_for(f"{cell('0,0,2')}.drained")
        page.wait_for_text(".summary", "1 of 1 working board in use")
        legend = " ".join(page.texts(".legend li:not([hidden])"))
        assert "1 draining" in legend
        assert "2 drained" in legend
        page.wait_for_text(".trouble", "left: 2 drained, 1 draining")
        page.one(cell("0,0,2")).click()
        page.wait_for_text(".details", "drained", "Problem", f"by {user}: new fans")
        waiting = create(1, 1, owner="bob", machine="left")
        page.wait_for_text(
            f"tr[data-job='{waiting}']", "waiting: frame (0, 0) is drained since"
        )
        admin.text("drain", "single-05", "--frame", 0, 0, "--reason", "dust")
        admin.text("close", "single-06", "--reason", "a course")
        page.go("#/")
        page.wait_for_text(
            ".singles li:nth-child(5)", f"drained. drained by {user}: dust"
        )
        closed = f"free; closed by {user}: no job starts (a course)"
        page.wait_for_text(".singles li:nth-child(6)", closed)
        assert figure(page, "trouble") == 3
        assert page.text(".trouble").count("single-0") == 2
        page.go("#/machine/left")
        admin.text("resume", "left")
        page.wait_for(f"{cell('0,0,2')}.free")
        admin.text("close", "left", "--reason", "night")
        page.wait_for_text(".summary", f"closed by {user}: no job starts (night)")
        page.wait_for_text(f"tr[data-job='{waiting}']", "machine left is closed since")
        assert "closed since" in row(page, waiting)["Waits for"]
        admin.text("open", "left")
        caller.call("destroy_job", job)
        page.wait_for(f"{cell('0,0,2')}.ready")
    finally:
        for name in ("left", "single-05", "single-06"):
            admin.run("resume", name)
            admin.run("open", name)
