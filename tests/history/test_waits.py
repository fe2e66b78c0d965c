"""Waiting times of job logs, through the real command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.history.waits import Wait, waits
from tests.history.test_usage import NOON, entry, run

HOUR = 3600.0


def job(number: int, owner: str, args: list[int], waited: float | None) -> list[Any]:
    """The log of a job that came at noon, and waited so many seconds."""
    more: dict[str, Any] = {"owner": owner, "args": args}
    log = [entry("created", number, 0, **more)]
    if waited is None:
        return [*log, entry("destroyed", number, 2, **more)]
    hours = waited / HOUR
    given: dict[str, Any] = {"boards": 1, **more}
    return [
        *log,
        entry("allocated", number, hours, **given),
        entry("ready", number, hours + 0.1, **given),
        # Boards that failed: the job waited for others, which is not its turn.
        entry("requeued", number, hours + 0.2, **given),
        entry("allocated", number, hours + 5, **given),
        entry("destroyed", number, hours + 6, **given),
    ]


@pytest.fixture
def log(tmp_path: Path) -> str:
    jobs = [job(n, "ada", [3], float(n)) for n in range(1, 101)]
    jobs += [job(101, "ada", [1200], None), job(102, "bob", [20, 20], 90 * 60.0)]
    jobs += [job(103, "bob", [], 0.0), job(104, "bob", [0, 0, 1], 3.0)]
    # This one waits still.
    jobs.append([entry("created", 105, 7, owner="cyd", args=[2])])
    lines = sorted((line for lines in jobs for line in lines), key=lambda e: e["time"])
    file = tmp_path / "jobs.log"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def test_median_and_95_percent_by_owner_and_size(log: str) -> None:
    done = run("--waits", log)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "owner  size      jobs   median     95 %  without boards\n"
        "ada    2-3        100     0:50     1:35               0\n"
        "ada    over 768     0        -        -               1\n"
        "bob    1            2     0:02     0:03               0\n"
        "bob    over 768     1  1:30:00  1:30:00               0\n"
        "cyd    2-3          0        -        -               1\n"
    )


def test_waits_by_other_keys_as_csv(log: str) -> None:
    done = run("--waits", "--csv", "--by", "size", log)
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == [
        *("size", "jobs", "median_seconds", "seconds_of_95_percent", "without_boards")
    ]
    assert rows[1:] == [
        ["1", "2", "1.500", "3.000", "0"],
        ["2-3", "100", "50.500", "95.000", "1"],
        ["over 768", "1", "5400.000", "5400.000", "1"],
    ]
    done = run("--waits", "--csv", "--by", "day,machine", "--until", "2023-11-16", log)
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert [row[:3] for row in rows[1:]] == [
        ["2023-11-15", "", "0"],
        ["2023-11-15", "m", "103"],
    ]
    done = run("--waits", "--since", "2023-11-16", log)
    assert done.stdout.count("\n") == 1


def test_jobs_that_were_not_seen_to_be_given_boards_are_left_out(
    tmp_path: Path,
) -> None:
    lines = [*job(1, "ada", [1], 5.0), entry("ready", 2, 1, 1), entry("power", 2, 2, 1)]
    file = tmp_path / "jobs.log"
    lines.sort(key=lambda e: e["time"])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run("--waits", str(file))
    assert done.stderr == "jobs with incomplete records, left out: 1\n"
    assert done.stdout.splitlines()[1:] == [
        "ada    1        1    0:05  0:05               0"
    ]
    assert list(waits(lines)) == [Wait("ada", "1", "m", NOON, 5.0)]
