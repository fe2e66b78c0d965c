"""Takes the pictures of the page that are in docs: ``python -m tests.web.photograph``.

Needs Chromium: see ``CONTRIBUTING.rst``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.admin_command import Admin
from tests.support import (
    ONE_TRIAD,
    Client,
    ServerProcess,
    ready,
    running_server,
    wait_until,
)
from tests.web.browser import Browser, browser
from tests.web.conftest import url_of
from tests.web.parts import cell
from tests.web.scenes import OWNERS, SITE, Scene, busy_scene, states, write_history

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "figures"

Take = Callable[[str], None]


def photograph_busy(page: Browser, scene: Scene, take: Take) -> None:
    """A machine with boards in every state, and what is seen of it."""
    job = states(scene.client, 3)[20]
    page.shape(1280, 1180)
    page.prefer("light")
    page.open(f"{scene.url}/")
    page.wait_for(".map .boards path.powering")
    _click(page, ".map .boards path.powering")
    take("light")
    page.prefer("dark")
    take("dark")
    page.go(f"#/?q={OWNERS[0]}")
    page.wait_for(".map .boards path.other")
    take("search")
    page.prefer("light")
    page.shape(1280, 1240)
    page.go(f"#/job/{job}")
    page.wait_for(".map .boards path.other")
    page.wait_for("section:not([hidden]) tbody tr")
    take("job")
    page.shape(390, 844, 2, phone=True)
    page.go("#/")
    page.wait_for(".overall")
    take("phone")
    page.run("document.querySelector('.machine').scrollIntoView()")
    page.one(cell("10,10,0")).click()
    take("phone-map")
    page.prefer("dark")
    take("phone-dark")
    page.prefer("light")


def photograph_site(page: Browser, server: ServerProcess, take: Take) -> None:
    """Many machines with a long queue, and what operators have ordered there."""
    admin, url = Admin(server), url_of(server)
    with Client(server.port) as client:
        kept = _fill(client)
        holder = client.call("create_job", 1, 1, owner=OWNERS[1], machine="pair")
        wait_until(lambda: ready(client, holder))
        admin.text("drain", "pair", "--frame", 0, 0, "--reason", "new fans")
        admin.text("close", "left", "--reason", "a course")
        admin.text("drain", "single-04", "--frame", 0, 0, "--reason", "dust")
        page.shape(1280, 1000)
        page.open(f"{url}/")
        take("queue")
        page.run("document.querySelectorAll('.machine')[1].scrollIntoView()")
        take("machines")
        page.shape(1280, 560)
        page.run("document.querySelector('.singles').parentElement.scrollIntoView()")
        take("singles")
        page.shape(1280, 1000)
        page.go(f"#/job/{kept}")
        page.wait_for(".map .kept[d*=M]")
        take("waiting")
        page.shape(1280, 900)
        page.go("#/history?span=week")
        page.wait_for(".u-legend")
        take("history")
        for job, reason in ((3, "Finished."), (8, "Interrupted."), (holder, "")):
            client.call("destroy_job", job, reason or None)
        page.shape(1280, 500)
        page.go("#/ended")
        page.wait(lambda: len(page.all("tbody tr")) >= 3)
        take("ended")


def _fill(client: Client) -> int:
    """Create jobs; the number of one for which a part of the machine is kept."""
    sizes = ((), (3,), (2, 2), (5,), (12,), (4, 4))
    for i in range(60):
        owner = OWNERS[i % len(OWNERS)]
        client.call("create_job", *sizes[i % 6], owner=owner, keepalive=None)
    queued = [
        int(client.call("create_job", 20, 20 - i % 3, owner=OWNERS[i % 5]))
        for i in range(40)
    ]
    for i in range(8):
        client.call("create_job", owner=OWNERS[i % 3], tags=["single"])
    wait_until(lambda: ready(client, 60))
    return queued[0]


def photograph_empty(page: Browser, server: ServerProcess, take: Take) -> None:
    """A small machine, and nobody there."""
    page.shape(1280, 700)
    page.open(f"{url_of(server)}/")
    take("empty")
    server.kill()
    page.wait_for("#connection.lost")
    take("lost")


def _click(page: Browser, selector: str) -> None:
    page.run(
        "document.querySelector(arguments[0])"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        selector,
    )


def main(folder: Path) -> None:
    """Take all pictures into a folder."""
    with browser() as page, tempfile.TemporaryDirectory() as state:

        def take(name: str) -> None:
            page.run("return new Promise((done) => setTimeout(done, 700))")
            picture = folder / f"page-{name}.png"
            assert page.driver.save_screenshot(str(picture))
            print(picture)

        busy, site, empty = (Path(state, name) for name in ("busy", "site", "empty"))
        for place in (busy, site, empty):
            place.mkdir()
        with busy_scene(busy) as scene:
            photograph_busy(page, scene, take)
        options = ("--simulate", "--http", "0")
        write_history(str(site / "spalloc.cfg"))
        with running_server(SITE, *options, folder=site) as server:
            photograph_site(page, server, take)
        with running_server(ONE_TRIAD, *options, folder=empty) as server:
            photograph_empty(page, server, take)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
