"""An outage of the hardware does not empty the queue: with the real command line."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from spalloc_server.simulator import BMPSimulator
from tests.admin_command import Admin
from tests.support import Client, ready, running_server, wait_until

ONE_FRAME = """
configuration = Configuration(
    machines=[
        Machine(
            "m",
            width=1,
            height=1,
            board_locations={(0, 0, z): (0, 0, z) for z in range(3)},
            bmp_ips={(0, 0): "BMP"},
            spinnaker_ips={(0, 0, z): f"10.11.12.{z + 1}" for z in range(3)},
        )
    ],
    seconds_before_free=0,
)
"""

SILENT = "are out of service until their BMP answers"


def loopback() -> str:
    """An address where nobody is."""
    chance = random.SystemRandom()
    return f"127.{chance.randrange(1, 255)}.{chance.randrange(256)}.9"


@pytest.mark.long
@pytest.mark.slow
def test_racks_that_come_up_later_than_the_server(tmp_path: Path) -> None:
    bmp = loopback()
    config = tmp_path / "spalloc.cfg"
    config.write_text(ONE_FRAME.replace("BMP", bmp))
    with running_server(config) as server:
        server.wait_for_log(SILENT)
        with Client(server.port) as client:
            options = {"owner": "me", "keepalive": None, "max_dead_boards": 0}
            jobs = [client.call("create_job", 3, **options) for _ in range(3)]
            named = client.call("create_job", machine="nosuch", **options)
            states = [client.call("get_job_state", job) for job in (*jobs, named)]
        assert [state["state"] for state in states] == [1, 1, 1, 4]
        assert states[3]["reason"] == "Cancelled: There is no machine 'nosuch'."
        assert states[0]["waiting"]["reason"] == "withheld"
        assert states[0]["waiting"]["text"].startswith(
            "waiting: frame (0, 0) does not answer since "
        )
        server.kill()
    with running_server(config) as server, Client(server.port) as client:
        frames = wait_until(lambda: Admin(server).machine()["silent_frames"])
        assert [frame["bmp"] for frame in frames] == [bmp]
        assert [job["state"] for job in client.call("list_jobs")] == [1, 1, 1]
        with BMPSimulator() as racks:
            racks.add_frame(bmp)
            for job in jobs:
                wait_until(partial(ready, client, job))
                client.call("destroy_job", job)
            wait_until(lambda: Admin(server).machine()["boards"]["free"] == 3)
