"""Whom the page is readable for: axe-core's judgement, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support import Client, ServerProcess, ready, wait_until
from tests.web.browser import Browser
from tests.web.parts import cell

pytestmark = pytest.mark.slow

DESKTOP = (1280, 1000)
PHONE = (390, 844)


@pytest.fixture(scope="module", autouse=True)
def something_waits(shared: ServerProcess) -> Iterator[None]:
    """A part that is kept, and boards that are switched off."""
    with Client(shared.port) as client:
        jobs = [
            client.call("create_job", 1, 1, owner=owner, machine="left", keepalive=None)
            for owner in ("ada", "bob")
        ]
        wait_until(lambda: ready(client, jobs[0]))
        client.call("power_off_job_boards", jobs[0])
        yield
        for job in reversed(jobs):
            client.call("destroy_job", job)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(
    page: Browser, url: str, size: tuple[int, int], scheme: str
) -> None:
    page.shape(*size, phone=size == PHONE)
    page.prefer(scheme)
    # The maps of 1,200 boards are all alike to it; one is enough.
    fragments = ["#/machine/left", "#/job/3", "#/history?span=week", "#/ended"]
    if (size, scheme) in ((DESKTOP, "light"), (PHONE, "dark")):
        fragments.insert(0, "#/?q=o")
    page.open(f"{url}/{fragments[0]}")
    found = {}
    for fragment in fragments:
        page.go(fragment)
        page.wait_for(
            {"#/his": ".u-legend", "#/end": "h2", "#/job": ".its-boards"}.get(
                fragment[:5], ".map"
            )
        )
        if fragment == "#/machine/left":
            page.run("document.querySelector('.all-boards').open = true")
            page.run(
                "document.querySelector(arguments[0])"
                ".dispatchEvent(new MouseEvent('click', {bubbles: true}))",
                cell("0,0,1"),
            )
            page.wait_for(".all-boards td")
        if problems := page.audit():
            found[fragment] = problems
    assert found == {}


def test_it_is_readable_while_the_server_is_away(page: Browser, url: str) -> None:
    page.prefer("dark")
    page.open(f"{url}/#/machine/left")
    page.run("document.documentElement.toggleAttribute('data-stale', true)")
    assert page.audit() == []


def test_axe_is_the_file_that_was_published() -> None:
    folder = Path(__file__).parent / "axe"
    found = sha256((folder / "axe.min.js").read_bytes()).hexdigest()
    assert found == "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
    assert "Mozilla Public License" in (folder / "LICENSE").read_text(encoding="utf-8")
