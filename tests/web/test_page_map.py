"""The maps: what is on them, zooming and dragging, in a real browser."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support import Client, ready, wait_until
from tests.web.browser import Browser
from tests.web.parts import cell, facts
from tests.web.scenes import scene

pytestmark = pytest.mark.slow

CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text(encoding="utf-8")

LARGE = "/#/machine/million-core-machine"

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


def show_map(page: Browser) -> None:
    page.run("document.querySelector('.map').scrollIntoView({block: 'center'})")


def click_board(page: Browser, key: str) -> None:
    page.run(
        "document.querySelector(arguments[0])"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        cell(key),
    )


def size_of(page: Browser, key: str) -> tuple[float, float]:
    rect = page.run(
        "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [box.width, box.height]",
        cell(key),
    )
    return rect[0], rect[1]


def is_in_sight(page: Browser, key: str) -> bool:
    """Is the middle of a board within its map?"""
    return bool(
        page.run(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "const map = document.querySelector('.map').getBoundingClientRect();"
            "const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];"
            "return x > map.left && x < map.right && y > map.top && y < map.bottom",
            cell(key),
        )
    )


def close(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) < 2 for a, b in zip(one, other, strict=True))


@pytest.fixture
def still(page: Browser, url: str) -> Iterator[Browser]:
    """The large map, in the middle of the window, after all scrolling."""
    page.open(url + LARGE)
    show_map(page)
    page.run("return new Promise((done) => setTimeout(done, 450))")
    return page  # type: ignore[return-value]


def test_a_map_of_1200_boards(page: Browser, url: str, caller: Client) -> None:
    page.open(url + LARGE)
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
    show_map(page)
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


def test_the_map_without_a_mouse(page: Browser, url: str) -> None:
    page.open(url + LARGE)
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
    # Zoomed in by keys it stays in sight, and so does the next one.
    small, _ = size_of(page, "19,19,1")
    the_map.send_keys("+++++")
    assert size_of(page, "19,19,1")[0] > 4 * small
    assert is_in_sight(page, "19,19,1")
    for _ in range(12):
        the_map.send_keys(Keys.ARROW_LEFT)
    [found] = page.texts(".details dd:first-of-type")[:1]
    assert found != "(19, 19, 1)"
    assert is_in_sight(page, found.strip("()").replace(" ", ""))
    the_map.send_keys("0")
    assert close(size_of(page, "19,19,1"), (small, size_of(page, "19,19,1")[1]))
    the_map.send_keys(Keys.ESCAPE)
    page.wait_for_text(".details", "Point at a board")


def test_the_wheel_zooms_about_the_pointer(still: Browser) -> None:
    page = still
    at = page.middle(cell("5,15,0"))
    small = size_of(page, "5,15,0")[0]
    for _ in range(4):
        page.wheel(at, -120)
    page.wait(lambda: size_of(page, "5,15,0")[0] > 2 * small)
    assert close(page.middle(cell("5,15,0")), at)
    # Dragged, the map follows the pointer; that selects nothing.
    to = (at[0] + 60, at[1] + 40)
    page.drag(at, (at[0] + 20, at[1] + 10), to)
    page.wait(lambda: close(page.middle(cell("5,15,0")), to))
    assert page.all(".map .cursor[d*=M]") == []
    before = page.run("return scrollY")
    for _ in range(8):
        page.wheel(to, 240)
    page.wait(lambda: abs(size_of(page, "5,15,0")[0] - small) < 1)
    # All of it is seen again; from here the wheel scrolls the page.
    page.wheel(to, 300)
    page.wait(lambda: page.run("return scrollY") > before)


def test_what_is_selected_stays_selected_and_in_sight(
    still: Browser, caller: Client, create: Callable[..., int]
) -> None:
    page = still
    click_board(page, "2,17,1")
    page.wait(lambda: facts(page)["Board"] == "(2, 17, 1)")
    for _ in range(6):
        page.one(".zoom button:last-child").click()
        assert is_in_sight(page, "2,17,1")
    page.one(".zoom button:nth-child(2)").click()
    # Even where the pointer is somewhere else, and when the window changes.
    at = page.middle(cell("15,3,0"))
    for _ in range(6):
        page.wheel(at, -240)
    page.wait(lambda: size_of(page, "2,17,1")[0] > 40)
    page.wait(lambda: is_in_sight(page, "2,17,1"))
    page.shape(700, 900)
    page.wait(lambda: is_in_sight(page, "2,17,1"))
    # And when something happens.
    job = create(owner="somebody", machine="left")
    page.go("#/machine/million-core-machine?q=somebody")
    page.wait_for(".found:not([hidden])")
    assert facts(page)["Board"] == "(2, 17, 1)"
    assert is_in_sight(page, "2,17,1")
    assert job


def test_coordinates_are_written_on_boards_that_are_large_enough(
    still: Browser,
) -> None:
    page = still
    assert page.all(".map .names text") == []
    click_board(page, "10,10,0")
    for _ in range(5):
        page.one(".zoom button:last-child").click()
    assert size_of(page, "10,10,0")[1] >= 40
    names = page.texts(".map .names .name")
    assert "10,10,0" in names
    assert "0,0,0" not in names
    assert len(names) < 400
    page.one(".zoom button:nth-child(2)").click()
    assert page.all(".map .names text") == []


def test_two_fingers_zoom_where_they_are(page: Browser, url: str) -> None:
    page.shape(390, 844, 2, phone=True)
    page.driver.execute_cdp_cmd(
        "Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2}
    )
    try:
        page.open(url + LARGE)
        show_map(page)
        small = size_of(page, "10,10,0")[0]
        x, y = page.middle(cell("10,10,0"))
        steps = [[(x - 10 - d, y), (x + 10 + d, y)] for d in range(0, 40, 8)]
        page.touch(*steps)
        page.wait(lambda: size_of(page, "10,10,0")[0] > 3 * small)
        assert close(page.middle(cell("10,10,0")), (x, y))
        # One finger moves it now, and that selects nothing.
        page.touch(*[[(x + d, y + d)] for d in range(0, 40, 8)])
        page.wait(lambda: page.middle(cell("10,10,0"))[0] > x + 15)
        assert facts(page) == {}
    finally:
        page.driver.execute_cdp_cmd(
            "Emulation.setTouchEmulationEnabled", {"enabled": False}
        )


@pytest.mark.parametrize("finger", [True, False], ids=["finger", "click"])
def test_boards_are_large_enough_for_a_finger_after_a_tap(
    page: Browser, url: str, finger: bool
) -> None:
    page.shape(390, 844, 2, phone=True)
    page.driver.execute_cdp_cmd(
        "Emulation.setTouchEmulationEnabled", {"enabled": finger, "maxTouchPoints": 1}
    )
    try:
        for machine, key in (("million-core-machine", "10,10,0"), ("pair", "1,1,1")):
            page.open(f"{url}/#/machine/{machine}")
            show_map(page)
            if machine == "million-core-machine":
                assert max(size_of(page, key)) < 20
            if finger:
                page.touch([page.middle(cell(key))])
            else:
                page.one(cell(key)).click()
            page.wait_for_text(".details", f"({key.replace(',', ', ')})")
            assert min(size_of(page, key)) >= 44
            assert is_in_sight(page, key)
        page.one(".zoom button:nth-child(2)").click()
        assert min(size_of(page, "1,1,1")) < 44
    finally:
        page.driver.execute_cdp_cmd(
            "Emulation.setTouchEmulationEnabled", {"enabled": False}
        )


def test_dead_links_are_drawn(page: Browser, url: str) -> None:
    page.open(url + LARGE)
    [sides] = page.all(".map path.dead-links[d]")[:1]
    # One side for each link and each end that is dead.
    assert (sides.get_attribute("d") or "").count("M") >= 2
    assert "2 dead links" in page.texts(".legend li:not([hidden])")
    page.go("#/machine/pair")
    page.wait(lambda: page.texts("h2 a") == ["pair"])
    assert not [t for t in page.texts(".legend li:not([hidden])") if "dead link" in t]


def test_all_boards_as_a_table(page: Browser, url: str) -> None:
    page.open(url + LARGE)
    page.one(".all-boards summary").click()
    page.wait(lambda: len(page.all(".all-boards tbody tr")) == 1200)
    assert page.texts(".all-boards tbody tr:nth-child(5) td")[:3] == [
        *("(0, 1, 1)", "0, 0, 4", "10.2.0.33"),
    ]
    page.choose(".all-boards select", "dead")
    page.wait(lambda: len(page.all(".all-boards tbody tr")) == 5)
    assert set(page.texts(".all-boards tbody td:nth-child(4)")) == {"dead"}
    assert "State dead" in page.texts(".all-boards .same > span")


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
        page.wait_for_text(".trouble", "pair: 1 board out of service")
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
        # What is broken is seen in both schemes: marks, and names on boards.
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.wait_for(f"html[data-theme={scheme}]")
            page.run("return new Promise((done) => setTimeout(done, 300))")
            assert page.run(CONTRASTS) == []
