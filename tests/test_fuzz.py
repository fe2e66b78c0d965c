"""A short form of ``python -m tests.fuzz``."""

from pathlib import Path

import pytest

from tests.fuzz import fuzz


@pytest.mark.slow
@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
def test_whatever_clients_send_the_jobs_are_those_that_were_acknowledged(
    tmp_path: Path, scheduling: str
) -> None:
    outcomes = fuzz(tmp_path, 5000, seed=1, scheduling=scheduling)
    for outcome in ("returned", "exception", "disconnected", "created", "destroyed"):
        assert outcomes[outcome] > 50, outcomes
