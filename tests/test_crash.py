"""A short form of the crash test; ``python -m tests.crash`` is the long one."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.rounds import CrashTest


@pytest.mark.slow
@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
@pytest.mark.parametrize("simulate", [True, False], ids=["simulate", "hardware"])
def test_nothing_is_lost_when_the_server_is_killed(
    tmp_path: Path, simulate: bool, scheduling: str
) -> None:
    with ExitStack() as stack:
        test = CrashTest(tmp_path, 1, simulate, stack, scheduling)
        test.run(3 if simulate else 8)
    assert test.jobs > 20
