"""The ways in docs/ways.rst are those that real servers go."""

import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import spalloc_server
from spalloc_server.async_bmp_controller import AsyncBMPController
from tests.support import ONE_TRIAD, Site, ready, wait_until

PACKAGE = Path(spalloc_server.__file__).parent
ONE_PLACE = "(0, 0, z): (0, 0, z) for z in range(3)"
TWO_PLACES = "(x, 0, z): (0, 0, 3 * x + z) for x in range(2) for z in range(3)"
PAGE = PACKAGE.parent / "docs" / "ways.rst"
HOP = re.compile(r"^ {5}(\S+)", re.MULTILINE)


def documented(name: str) -> list[str]:
    """The hops of a way on the page."""
    (_, block) = PAGE.read_text(encoding="utf-8").split(f":name: {name}\n")
    return HOP.findall(block.split("\n\n\n")[0])


class Trace:
    """Functions of the package that were called, in order, in whatever thread."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)):
            module = Path(code.co_filename).relative_to(PACKAGE).with_suffix("")
            self.called.append(f"{'.'.join(module.parts)}.{code.co_qualname}")

    def first_missing(self, hops: list[str]) -> str | None:
        """The first hop that did not come after those before it."""
        rest = iter(self.called.copy())
        return next((hop for hop in hops if hop not in rest), None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Trace this thread, and all that it starts."""
        threading.setprofile(self.note)
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def goes_its_way(trace: Trace, name: str) -> None:
    """Wait until all hops of a way have been gone, in order."""
    hops = documented(name)
    assert len(hops) > 15
    try:
        wait_until(lambda: trace.first_missing(hops) is None)
    except TimeoutError:
        raise AssertionError(f"not gone: {trace.first_missing(hops)}") from None


def test_a_job_is_created(site: Site) -> None:
    trace = Trace()
    # Only boards with others around them have links to be closed.
    site.write(ONE_TRIAD.replace(ONE_PLACE, TWO_PLACES))
    with trace.running():
        server = site.start()
    client = site.connect(server)
    client.call("notify_job")
    trace.called.clear()
    client.call("create_job", 1, 1, owner="me")
    goes_its_way(trace, "way-create")


def test_the_server_is_killed_and_started(site: Site, tmp_path: Path) -> None:
    client = site.connect(site.start())
    # Boards that take long are still being powered when the server is killed.
    site.simulator.frames["10.11.12.0"].power_on_seconds = 3.0
    client.call("create_job", 1, 1, owner="me")
    copies = tmp_path / "copies"
    shutil.copytree(
        site.config.parent, copies, ignore=shutil.ignore_patterns("*.admin", "copies")
    )
    site.config = copies / site.config.name
    trace = Trace()
    with trace.running():
        server = site.start()
    goes_its_way(trace, "way-restart")
    assert site.connect(server).call("get_job_state", 1)["state"] == 2


def test_a_board_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncBMPController, "RETRY_SECONDS", 0.01)
    site.write(
        ONE_TRIAD.replace("seconds_before_free=0", "seconds_before_free=0.1").replace(
            "seconds_", "first_board_retry=0.2, timeout_check_interval=0.1, seconds_"
        )
    )
    site.serve_bmps()
    faults = site.simulator.frames["10.11.12.0"].faults
    faults.fail_power([0])
    trace = Trace()
    with trace.running():
        server = site.start()
    client = site.connect(server)
    job_id = client.call("create_job", owner="me")
    wait_until(lambda: ready(client, job_id))
    faults.clear()
    goes_its_way(trace, "way-sick-board")
    assert client.call("list_problems") == []
