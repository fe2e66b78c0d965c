"""Finding jobs, and tables that are sorted and folded, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support import Client, ready, wait_until
from tests.web.browser import Browser
from tests.web.parts import row, shown
from tests.web.scenes import OWNERS

pytestmark = pytest.mark.slow

Create = Callable[..., int]

TABLES = "main table:not(.u-legend):has(tbody tr)"


def texts_of(page: Browser, table: str, column: str) -> list[str]:
    return page.texts(f'{table} td[data-label="{column}"]')


def address(page: Browser) -> str:
    return page.driver.current_url.partition("#")[2]


def test_a_search_is_in_the_address_and_survives_back(
    page: Browser, url: str, create: Create
) -> None:
    holder = create(1, 1, owner="ada_lovelace", machine="left")
    waiting = create(1, 1, owner="Ada_Byron", machine="left")
    other = create(1, 1, owner="bob", machine="right")
    page.open(f"{url}/")
    page.wait_for(f"tr[data-job='{other}']" if row(page, other) else ".panel")
    box = page.one("#search")
    box.send_keys("ADA_")
    page.wait(lambda: sorted(shown(page)) == sorted([holder, waiting]))
    assert address(page) == "/?q=ADA_"
    assert page.text(".found") == "Found: 1 running job with 3 boards, 1 job waiting"
    assert page.texts(".jobs.queued h2")[0].startswith("Queue (1 of ")
    # To one of them, and back to what was found.
    page.one(f"tr[data-job='{waiting}'] a").click()
    page.wait_for_text("h2", f"Job {waiting}")
    assert page.run("return document.activeElement.id") == "main"
    page.driver.back()
    page.wait(lambda: sorted(shown(page)) == sorted([holder, waiting]))
    assert page.one("#search").get_attribute("value") == "ADA_"
    # And further, to before the search and not to a letter of it.
    page.driver.back()
    page.wait(lambda: address(page) in ("/", ""))
    page.wait(lambda: len(shown(page)) > 2)
    assert page.one("#search").get_attribute("value") == ""
    page.driver.forward()
    page.wait(lambda: len(shown(page)) == 2)
    page.driver.refresh()
    page.wait(lambda: len(shown(page)) == 2)
    # By number: the table, and with Enter the job itself.
    box = page.one("#search")
    box.clear()
    box.send_keys(str(other))
    page.wait(lambda: shown(page) == [other])
    box.send_keys(Keys.ENTER)
    page.wait_for_text("h2", f"Job {other}")
    # Searching from there leads back to the tables.
    page.one("#search").send_keys("nobody at all")
    page.wait_for_text(".found", "No job is found that has not ended.")


def test_owners_are_links_and_their_boards_stand_out(
    page: Browser, url: str, caller: Client, create: Create
) -> None:
    owner = OWNERS[0]
    create(owner=f"x{owner}", machine="single-09")
    page.open(f"{url}/")
    page.wait_for(".running tbody a.owner")
    page.run(
        "[...document.querySelectorAll('.running a.owner')]"
        ".find((link) => link.textContent === arguments[0]).click()",
        owner,
    )
    # All of the name is meant.
    page.wait(lambda: page.text(".found").startswith("Found: "))
    jobs = caller.call("list_jobs")
    boards = {
        ",".join(map(str, board))
        for job in jobs
        if job["owner"] == owner
        for board in job["boards"] or ()
    }
    lit = ".machine:first-child .map .boards path:not(.other)"
    page.wait(lambda: len(page.all(lit)) == len(boards))
    found = page.run(
        "return [...document.querySelectorAll(arguments[0])].map((p) => p.dataset.key)",
        lit,
    )
    assert set(found) == boards
    pale = page.one(".machine:first-child .map .boards path.other")
    assert float(pale.value_of_css_property("opacity")) < 0.5
    assert page.texts(".singles li.other .what")[8].endswith(f"of x{owner}")
    # Of the board that is looked at, too.
    page.run(
        "document.querySelector(arguments[0])"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        lit,
    )
    page.wait(lambda: page.texts(".details a.owner") == [owner])
    page.one("#search").clear()
    page.wait_while(".map .boards path.other")


def test_tables_sort(page: Browser, url: str) -> None:
    page.open(f"{url}/")
    table = ".running"
    page.wait_for(f"{table} td")
    natural = shown(page, table)
    assert natural == sorted(natural)

    def sort_by(heading: str) -> str | None:
        index = page.texts(f"{table} th button").index(heading)
        page.run("document.querySelectorAll(arguments[0])[arguments[1]].click()",
                 f"{table} th button", index)  # fmt: skip
        cells = page.all(f"{table} th")
        return cells[index].get_attribute("aria-sort")

    assert sort_by("Boards") == "ascending"
    boards = [int(text) for text in texts_of(page, table, "Boards")]
    assert boards == sorted(boards)
    assert sort_by("Boards") == "descending"
    boards = [int(text) for text in texts_of(page, table, "Boards")]
    assert boards == sorted(boards, reverse=True)
    assert boards[0] == 12
    assert sort_by("Boards") is None
    assert shown(page, table) == natural
    sort_by("Owner")
    owners = texts_of(page, table, "Owner")
    assert owners == sorted(owners)
    sort_by("Owner")
    assert texts_of(page, table, "Owner")[0] > owners[0]
    # With the keyboard, and on a phone, where there are no headings.
    page.one(f"{table} th button").send_keys(Keys.ENTER)
    assert page.one(f"{table} th").get_attribute("aria-sort") == "ascending"
    page.shape(390, 844, phone=True)
    page.choose(f"{table} .order select", "0 -1")
    assert shown(page, table)[0] > natural[0]


def wait_for_title(page: Browser, start: str) -> None:
    wait_until(lambda: page.driver.title.startswith(start))


def wait_for_tables(page: Browser, number: int) -> None:
    wait_until(lambda: len(page.all(TABLES)) >= number)


def test_every_table_sorts(page: Browser, url: str, caller: Client) -> None:
    ended = caller.call("create_job", owner="brief", machine="left")
    caller.call("destroy_job", ended)
    page.open(f"{url}/")
    click = (
        f"return [...document.querySelectorAll('{TABLES}')].map((t) => {{"
        "  const head = t.querySelector('th:first-child');"
        "  head.querySelector('button').click();"
        "  return head.getAttribute('aria-sort');"
        "})"
    )
    for fragment, title, tables in (
        ("#/job/3", "Job 3", 2),
        ("#/ended", "Ended jobs", 1),
        ("#/history?span=week", "History", 1),
        ("#/machine/pair", "pair", 1),
        ("#/", "SpiNNaker", 2),
    ):
        page.go(fragment)
        wait_for_title(page, title)
        page.run(
            "document.querySelectorAll('.all-boards').forEach((b) => b.open = true)"
        )
        wait_for_tables(page, tables)
        assert set(page.run(click)) == {"ascending"}
        assert not page.all("main table:not(.u-legend) th:not(:has(button))")


def test_what_all_rows_have_in_common_is_told_once(
    page: Browser, url: str, create: Create, caller: Client
) -> None:
    jobs = [create(owner="ada", tags=["single"], keepalive=None) for _ in range(3)]
    wait_until(lambda: all(ready(caller, job) for job in jobs))
    page.open(f"{url}/#/?q=%22ada%22")
    page.wait(lambda: shown(page) == jobs)
    running = ".running .sorted"
    same = page.texts(f"{running} .same > span")
    assert "Owner ada" in same
    assert "State ready" in same
    assert "Boards 1" in same
    assert not [text for text in same if text.startswith("Machine")]

    def columns() -> list[str]:
        heads = page.all(f"{running} th")
        return [head.text for head in heads if head.is_displayed()]

    assert columns() == ["Job", "Machine", "Has them for", "Age", "Last keepalive"]
    assert page.text(f"tr[data-job='{jobs[0]}'] td[data-label=State]") == ""
    # It comes back as soon as there is a difference.
    caller.call("power_off_job_boards", jobs[1])
    page.wait(lambda: "State" in columns())
    assert set(texts_of(page, running, "State")) >= {"ready"}
    # A single row tells all of itself.
    page.go(f"#/?q={jobs[0]}")
    page.wait(lambda: shown(page) == [jobs[0]])
    assert (
        page.texts(f"{running} .same > span") == []
        or not page.one(f"{running} .same").is_displayed()
    )
    assert "Owner" in columns()


def test_ended_jobs_are_searched_too(
    page: Browser, url: str, create: Create, caller: Client
) -> None:
    jobs = [create(owner=owner, machine="left") for owner in ("zoe", "zoe", "yann")]
    for job in jobs:
        caller.call("destroy_job", job, "done")
    page.open(f"{url}/#/ended")
    page.wait(lambda: str(jobs[2]) in texts_of(page, "", "Job"))
    page.wait_for("tbody a.owner")
    page.run(
        "[...document.querySelectorAll('a.owner')]"
        ".find((link) => link.textContent === 'zoe').click()"
    )
    page.wait(lambda: texts_of(page, "", "Job") == [str(jobs[1]), str(jobs[0])])
    assert address(page) == "/ended?q=%22zoe%22"
    page.driver.back()
    page.wait(lambda: len(texts_of(page, "", "Job")) >= 3)


def test_an_unknown_job_is_no_error_of_the_page(page: Browser, url: str) -> None:
    page.open(f"{url}/#/job/999999")
    page.wait_for_text(".hint", "Nothing is known of job 999999.")
    # No red line in the console: see the fixture, which asks for all there is.
    assert page.driver.get_log("browser") == []  # type: ignore[no-untyped-call]
