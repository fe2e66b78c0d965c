"""The page, in a real browser, of a real server."""

from __future__ import annotations

import contextlib
import getpass
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.admin_command import Admin
from tests.support import (
    ONE_TRIAD,
    Client,
    ServerProcess,
    free_port,
    ready,
    running_server,
    wait_until,
)
from tests.web.browser import Browser, browser
from tests.web.scenes import OWNERS, SCRIPT_OWNER, million_cores, scene

pytestmark = pytest.mark.slow

TRIAD = "1 \N{MULTIPLICATION SIGN} 1 triads"

TWO_FRAMES = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "pair",
            board_locations={
                (x, y, z): (0, x // 2, 6 * (x % 2) + 3 * y + z)
                for x in range(4) for y in range(2) for z in range(3)
            },
            base_ip="10.2.0.0",
            dead_boards={(1, 1, 2)},
        )
    ],
    seconds_before_free=600,
)
"""


def test_a_map_of_1200_boards(page: Browser, url: str, caller: Client) -> None:
    page.open(url + "/")
    assert len(page.all(".map .boards path")) == 1200
    assert len(page.all(".map .boards path.dead")) == 5
    # Every board of the edges is shown once more beyond the other edge.
    assert len(page.all(".map .ghosts path")) > 100
    job = caller.call("list_jobs")[70]
    wait_until(lambda: ready(caller, job["job_id"]))
    summary = r"[\d,]+ of 1,195 working boards in use \(\d+ %\), [\d,]+ jobs waiting"
    assert re.fullmatch(summary, page.text(".summary"))
    boards = [",".join(map(str, board)) for board in job["boards"]]
    hues = {
        page.one(cell(key)).value_of_css_property("fill") for key in boards
    }  # one colour for a job
    assert len(hues) == 1
    ActionChains(page.driver).move_to_element(page.one(cell(boards[0]))).perform()
    found = page.wait(lambda: facts(page))
    x, y, z = job["boards"][0]
    frame = (x // 4) * 10 + y // 2
    board = (x % 4) * 6 + (y % 2) * 3 + z
    assert found["Board"] == f"({x}, {y}, {z})"
    assert found["State"] == "in use"
    assert found["Place"] == f"cabinet {frame // 5}, frame {frame % 5}, board {board}"
    assert found["IP address"] == f"10.2.{frame}.{8 * board + 1}"
    assert found["Job"] == str(job["job_id"])
    assert found["Owner"] == job["owner"]
    # All boards of the job are outlined.
    assert len(page.one(".map .lit").get_attribute("d") or "") > 50


def test_the_map_without_a_mouse(page: Browser, url: str, caller: Client) -> None:
    page.open(url + "/")
    the_map = page.one("svg.map[role=application]")
    assert "Map of million-core-machine: " in (
        the_map.get_attribute("aria-label") or ""
    )
    the_map.send_keys(Keys.ARROW_UP)
    page.wait_for_text(".details", "(0, 0, 0)")
    the_map.send_keys(Keys.ARROW_UP)
    page.wait_for_text(".details", "(0, 0, 2)")
    the_map.send_keys(Keys.ARROW_DOWN)
    page.wait_for_text(".details", "(0, 0, 0)")
    # Down from the lowest row is the highest one: the machine is a torus.
    the_map.send_keys(Keys.ARROW_DOWN)
    page.wait_for_text(".details", "(19, 19, 1)")
    assert "Board (" in page.texts(".machine [role=status]")[0]
    the_map.send_keys(Keys.ESCAPE)
    page.wait_for_text(".details", "Point at a board")


def test_all_boards_as_a_table(page: Browser, url: str, caller: Client) -> None:
    page.open(url + "/")
    page.one(".all-boards summary").click()
    page.wait(lambda: len(page.all(".all-boards tbody tr")) == 1200)
    assert page.texts(".all-boards tbody tr:nth-child(5) td")[:3] == [
        *("(0, 1, 1)", "0, 0, 4", "10.2.0.33"),
    ]
    page.choose(".all-boards select", "dead")
    page.wait(lambda: len(page.all(".all-boards tbody tr")) == 5)
    assert set(page.texts(".all-boards tbody td:nth-child(4)")) == {"dead"}


def test_changes_are_pushed_and_drawn_without_delay(
    page: Browser, url: str, caller: Client
) -> None:
    page.open(url + "/")
    page.run(
        "window.longest = 0;"
        "new PerformanceObserver((list) => {"
        "  for (const task of list.getEntries())"
        "    window.longest = Math.max(window.longest, task.duration);"
        "}).observe({type: 'longtask'})"
    )
    before = page.run("return performance.getEntriesByType('resource').length")
    with Client(large.port) as client:
        for _ in range(10):
            job = client.call("create_job", 3, owner="brief@example.org")
            page.wait_for(f"tr[data-job='{job}']")
            client.call("destroy_job", job)
            page.wait_while(f"tr[data-job='{job}']")
    # Nothing was loaded for it.
    assert page.run("return performance.getEntriesByType('resource').length") == before
    # Usually about 30 ms; the limit is for machines that are busy with other tests.
    assert page.run("return window.longest") < 1000


def test_states_are_told_apart_by_marks(page: Browser, tmp_path: Path) -> None:
    with (
        scene(tmp_path, TWO_FRAMES, 2, {}, {0: [1]}) as it,
        contextlib.ExitStack() as stack,
    ):
        page.open(f"{it.url}/")
        client = it.client
        failing = client.call("create_job", 0, 0, 1, owner="a", keepalive=None)
        wait_until(lambda: client.call("list_problems"))
        page.wait_for(cell("0,0,1") + ".out")
        ended = client.call("create_job", 0, 1, 0, owner="a", keepalive=None)
        wait_until(lambda: ready(client, ended))
        client.call("destroy_job", ended)
        off = client.call("create_job", 0, 1, 1, owner="b", keepalive=None)
        wait_until(lambda: ready(client, off))
        client.call("power_off_job_boards", off)
        lasting = client.call("create_job", 1, 0, 0, owner="b", keepalive=None)
        wait_until(lambda: ready(client, lasting))
        # In a frame that does nothing for now:
        stack.enter_context(it.bmp_controller("10.2.1.0"))
        client.call("create_job", 2, 0, 0, owner="c", keepalive=None)
        stopping = client.call("create_job", 3, 1, 2, owner="c", keepalive=None)
        client.call("destroy_job", stopping)
        expected = {
            **{"0,0,1": "out", "0,1,0": "cooling", "0,1,1": "off", "1,0,0": "ready"},
            **{"2,0,0": "powering", "3,1,2": "stopping", "1,1,2": "dead"},
            "1,1,0": "free",
        }
        for key, state in expected.items():
            page.wait_for(f"{cell(key)}.{state}")
        marks = {
            state: page.one(f".map path.mark.{state}").get_attribute("d")
            for state in {*expected.values()} - {"ready", "free"}
        }
        assert all(marks.values())
        # The shapes themselves differ, not only their places.
        shapes = page.run(
            "return import('/static/map.js').then((m) => Object.values(m.MARKS))"
        )
        assert len(set(shapes)) == len(shapes) == 9
        legend = " ".join(page.texts(".legend li:not([hidden])"))
        assert "1 powering on" in legend
        assert "1 out of service" in legend
        page.one(cell("0,0,1")).click()
        page.wait_for_text(".details", "out of service", "Problem", "FPGA")
        assert client.call("get_job_state", failing)["state"] != 3


def test_what_operators_order_is_shown(
    page: Browser, small: ServerProcess, client: Client
) -> None:
    admin = Admin(small)
    job = client.call("create_job", 0, 0, 1, owner="ada", machine="left")
    wait_until(lambda: ready(client, job))
    page.open(f"{url_of(small)}/#/machine/left")
    page.wait_for(f"{cell('0,0,1')}.ready")
    admin.text("drain", "left", "--frame", 0, 0, "--reason", "new fans")
    page.wait_for(f"{cell('0,0,1')}.draining")
    page.wait_for(f"{cell('0,0,2')}.drained")
    page.wait_for_text(".summary", "1 of 1 working board in use")
    legend = " ".join(page.texts(".legend li:not([hidden])"))
    assert "1 draining" in legend
    assert "2 drained" in legend
    page.one(cell("0,0,2")).click()
    user = getpass.getuser()
    page.wait_for_text(".details", "drained", "Problem", f"by {user}: new fans")
    waiting = client.call("create_job", 1, 1, owner="bob", machine="left")
    page.wait_for_text(
        f"tr[data-job='{waiting}']", "waiting: frame (0, 0) is drained since"
    )
    admin.text("resume", "left")
    page.wait_for(f"{cell('0,0,2')}.free")
    admin.text("close", "left", "--reason", "night")
    page.wait_for_text(".summary", f"closed by {user}: no job starts (night)")
    page.wait_for_text(f"tr[data-job='{waiting}']", "machine left is closed since")
    admin.text("open", "left")
    client.call("destroy_job", job)
    page.wait_for(f"{cell('0,0,2')}.ready")


def test_the_queue(page: Browser, small: ServerProcess, client: Client) -> None:
    on_left = [client.call("create_job", 1, 1, owner="ada", machine="left")]
    on_left += [
        client.call("create_job", 1, 1, owner=owner, machine="left")
        for owner in ("bob", "cy")
    ]
    on_right = client.call("create_job", 1, 1, owner="bob", tags=["right"])
    either = client.call("create_job", 2, owner="ada@example.org", keepalive=None)
    page.open(url_of(small) + "/")
    page.wait_for(f"tr[data-job='{either}']")

    def cells(job: int) -> list[str]:
        return page.texts(f"tr[data-job='{job}'] td")

    assert cells(on_left[1])[1:5] == [
        *("bob", "1", f"{TRIAD} to become free on left"),
        f"{TRIAD}; machine left",
    ]
    assert cells(on_left[2])[2:4] == ["2", f"its turn, after job {on_left[1]}"]
    assert cells(either)[2:5] == [
        "3 (left), 1 (right)",
        f"its turn on left, after job {on_left[2]}; or 2 boards to become free on "
        "right",
        "2 boards",
    ]
    assert re.fullmatch(r"\d+ s ago \(ends after 1 min\)", cells(on_left[1])[-1])
    assert cells(either)[-1].endswith("ago (no limit)")
    page.wait(lambda: cells(on_right)[2:5] == ["ready", "right", "3"])

    def shown() -> list[str]:
        return page.texts("tr[data-job] td:first-child")

    page.one("#owner").send_keys("BOB")
    page.wait(lambda: shown() == [str(on_left[1]), str(on_right)])
    page.choose("#on", "right")
    page.wait(lambda: shown() == [str(on_right)])
    # One place in the queue comes free.
    page.one("#owner").clear()
    page.one("#owner").send_keys("cy")
    page.choose("#on", "left")
    page.wait(lambda: shown() == [str(on_left[2])])
    client.call("destroy_job", on_left[1])
    page.wait(lambda: cells(on_left[2])[2] == "1")
    # A keepalive is seen.
    page.go("#/machine/left")
    page.wait(lambda: page.texts("h2 a") == ["left"])
    page.wait(lambda: _silence(cells(either)) >= 3)
    client.call("job_keepalive", either)
    page.wait(lambda: _silence(cells(either)) < 3)


def test_why_a_job_waits(page: Browser, tmp_path: Path) -> None:
    settings = "longest_overtaking=0, boards_per_owner=3, seconds_before_free"
    config = ONE_TRIAD.replace("seconds_before_free", settings)
    with (
        running_server(config, "--simulate", "--http", "0", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        client.call("create_job", owner="ada", keepalive=None)
        kept = client.call("create_job", 1, 1, owner="bob", keepalive=None)
        turn = client.call("create_job", owner="cy", keepalive=None)
        limit = client.call("create_job", 1, 1, owner="ada", keepalive=None)
        page.open(url_of(server) + "/")

        def waits_for(job: int) -> str:
            page.wait_for(f"tr[data-job='{job}']")
            return page.texts(f"tr[data-job='{job}'] td")[3]

        assert re.fullmatch(
            r"1 × 1 triads on m: 3 boards kept for it since .+, "  # noqa: RUF001
            "1 still held by 1 job",
            waits_for(kept),
        )
        assert waits_for(turn) == f"its turn, after job {kept}"
        assert waits_for(limit) == (
            "other jobs of ada to end: an owner may hold only so many boards"
        )


def _silence(cells: list[str]) -> int:
    found = re.match(r"(\d+) s ago", cells[-1])
    return int(found[1]) if found else 0


def test_a_job_from_its_creation_over_restarts(page: Browser, tmp_path: Path) -> None:
    options = ("--simulate", "--http", str(free_port()))
    with running_server(ONE_TRIAD, *options, folder=tmp_path) as server:
        with Client(server.port) as client:
            first = client.call("create_job", 1, 1, owner="ada", keepalive=None)
            job = client.call("create_job", 2, owner="bob", keepalive=None)
            page.open(f"{url_of(server)}/#/job/{job}")
            page.wait(lambda: facts(page, ".facts")["State"] == "queued")
            assert facts(page, ".facts")["Waits for"] == "2 boards to become free on m"
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
        page.wait_for_text(".hint", "nothing is known of job 99")
        assert server.stop(signal.SIGINT) == 0
    # A job that is not there is not found: the browser says so, too.
    assert all("404" in message for message in page.complaints())


def test_owners_are_text_and_nothing_else(
    page: Browser, small: ServerProcess, client: Client
) -> None:
    reason = '"><script>document.title="owned"</script>'
    job = client.call("create_job", owner=SCRIPT_OWNER, keepalive=None)
    for _ in range(2):
        client.call("create_job", 1, 1, owner=SCRIPT_OWNER, machine="left")
    url = url_of(small)
    page.open(f"{url}/")
    boards = client.call("get_job_machine_info", job)["boards"]
    page.wait_for(f"tr[data-job='{job}']")
    assert page.texts(f"tr[data-job='{job}'] td:nth-child(2)") == [SCRIPT_OWNER]
    page.one(cell(",".join(map(str, boards[0])))).click()
    page.wait(lambda: facts(page)["Owner"] == SCRIPT_OWNER)
    page.one(".all-boards summary").click()
    page.wait(lambda: SCRIPT_OWNER in page.texts(".all-boards td"))
    client.call("destroy_job", job, reason)
    page.go(f"#/job/{job}")
    page.wait(lambda: facts(page, ".facts")["Reason"] == reason)
    page.go("#/ended")
    page.wait(lambda: reason in page.texts("tbody td"))
    page.go(f"#/machine/{SCRIPT_OWNER}")
    page.wait_for_text(".hint", "There is no such machine")
    assert page.all("main img, main script, main b") == []
    assert page.run("return [...document.scripts].map((s) => s.src)") == [
        f"{url}/static/main.js"
    ]
    assert page.driver.title.endswith("SpiNNaker boards")


def test_nothing_runs_that_is_not_ours(page: Browser, small: ServerProcess) -> None:
    url = url_of(small)
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


def test_light_and_dark(page: Browser, small: ServerProcess) -> None:
    def colour() -> Any:
        return page.run(
            "return getComputedStyle(document.documentElement).backgroundColor"
        )

    page.open(url_of(small) + "/")
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


def test_contrast_of_texts(page: Browser, url: str, caller: Client) -> None:
    """At least 4.5 to 1, as the WCAG want it."""
    page.open(url + "/")
    script = """
        const value = (name) => getComputedStyle(document.documentElement)
          .getPropertyValue(name).trim();
        return ['--ink', '--muted', '--accent', '--live', '--lost', '--panel', '--page']
          .map(value)
    """
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        page.wait_for(f"html[data-theme={scheme}]")
        *inks, panel, ground = page.run(script)
        for ink in inks:
            for below in (panel, ground):
                assert _contrast(ink, below) >= 4.5, (scheme, ink, below)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_on_a_phone(page: Browser, url: str, caller: Client) -> None:
    page.shape(360, 740, 2, phone=True)
    page.open(url + "/")
    for fragment in ("#/", "#/job/3", "#/ended"):
        page.go(fragment)
        page.wait_for(".panel")
        assert page.run("return document.documentElement.scrollWidth") <= 360
    page.go("#/")
    page.wait_for(".map")
    small_size = page.one(cell("10,10,0")).size
    page.one(".zoom button:last-child").click()
    page.one(".zoom button:last-child").click()
    assert page.one(cell("10,10,0")).size["width"] > 1.8 * small_size["width"]
    # A tap shows the board, below the map.
    page.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})",
             page.one(cell("10,10,0")))  # fmt: skip
    page.one(cell("10,10,0")).click()
    page.wait_for_text(".details", "(10, 10, 0)")
    # Rows are cards that say what their parts are.
    label = page.run(
        "return getComputedStyle(document.querySelector('td:nth-child(2)'), '::before')"
        ".content"
    )
    assert label == '"Owner"'


def test_names_for_those_who_do_not_see_the_page(
    page: Browser, url: str, caller: Client
) -> None:
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


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("duration(0)", "0 s"),
        ("duration(93784)", "1 d 2 h"),
        ("duration(3600)", "1 h"),
        ("duration(61)", "1 min 1 s"),
        ("duration(-5)", "0 s"),
        ("count(1, 'board')", "1 board"),
        ("count(1200, 'board')", "1,200 boards"),
    ],
)
def test_words(page: Browser, url: str, caller: Client, call: str, text: str) -> None:
    page.open(url + "/")
    script = f"return import('/static/dom.js').then((dom) => dom.{call})"
    assert page.run(script) == text
