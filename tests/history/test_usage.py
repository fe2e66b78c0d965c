import csv
import gzip
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.history.usage import LogEntries, Row, report, uses, within
from tests import forked_process

DAY = 86_400.0
NOON = 1_700_049_600.0
"""Noon of 2023-11-15, UTC."""


def entry(event: str, job: int, hours: float, boards: int = 0, **more: Any) -> Any:
    return {
        **{"event": event, "job": job, "time": NOON + hours * 3600, "created": NOON},
        **{"owner": "ada", "machine": "m" if boards else None},
        **{"boards": [[0, 0, i] for i in range(boards)] or None},
        **more,
    }


LOG = [
    entry("created", 1, 0),
    entry("allocated", 1, 1, 3),
    entry("power", 1, 1, 3),
    entry("created", 2, 1, owner="bob"),
    entry("ready", 1, 1.5, 3),
    entry("allocated", 2, 2, 1, owner="bob", machine="n"),
    entry("destroyed", 1, 3, 3),
    entry("created", 3, 3, owner="cyd"),
    entry("destroyed", 3, 4, owner="cyd"),
    entry("requeued", 2, 6, 1, owner="bob", machine="n"),
    entry("allocated", 2, 7, 2, owner="bob"),
    # Goes on at the end, beyond midnight.
    entry("power", 2, 14, 2, owner="bob"),
]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def test_by_owner() -> None:
    assert report(uses(LOG), ["owner"]) == [
        Row(("ada",), 1, 6.0),
        Row(("bob",), 1, 4.0 + 14.0),
        Row(("cyd",), 1, 0.0),
    ]


def test_by_machine_and_owner() -> None:
    assert report(uses(LOG), ["machine", "owner"]) == [
        Row(("", "cyd"), 1, 0.0),
        Row(("m", "ada"), 1, 6.0),
        Row(("m", "bob"), 1, 14.0),
        Row(("n", "bob"), 1, 4.0),
    ]


def test_within_a_time() -> None:
    found = within(uses(LOG), NOON + 2 * 3600, NOON + 3 * 3600)
    assert report(found, ["owner"])[:2] == [Row(("ada",), 1, 3.0), Row(("bob",), 1, 1)]


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked_process.run(
        "spalloc_server.command_line.usage_report:main",
        *args,
        environment={**os.environ, "TZ": "UTC", **environment},
    )


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    """Two files, the older one compressed, named in the order of a shell's glob."""
    new, old = tmp_path / "jobs.log", tmp_path / "jobs.log.1.gz"
    new.write_text("".join(json.dumps(line) + "\n" for line in LOG[6:]))
    with gzip.open(old, "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in LOG[:6]))
    return [str(new), str(old)]


def test_a_table(logs: list[str]) -> None:
    done = run(*logs)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "owner  jobs  board-hours\n"
        "ada       1         6.00\n"
        "bob       1        18.00\n"
        "cyd       1         0.00\n"
    )


def test_csv_by_day_and_owner(logs: list[str]) -> None:
    done = run("--csv", "--by", "day,owner", *logs)
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["day", "owner", "jobs", "board_hours"],
        ["2023-11-15", "ada", "1", "6.0000"],
        ["2023-11-15", "bob", "1", "14.0000"],
        ["2023-11-15", "cyd", "1", "0.0000"],
        ["2023-11-16", "bob", "1", "4.0000"],
    ]


def test_days_are_local(logs: list[str]) -> None:
    for zone, day in (("XYZ-12", "2023-11-16"), ("XYZ12", "2023-11-15")):
        done = run("--csv", "--by", "day", *logs, TZ=zone)
        rows = list(csv.reader(io.StringIO(done.stdout)))[1:]
        assert [row[0] for row in rows] == [day]


def test_days_to_leave_out(logs: list[str]) -> None:
    done = run("--since", "2023-11-16", "--until", "2023-11-17", *logs)
    assert done.stdout.splitlines()[1:] == ["bob       1         4.00"]


@pytest.mark.parametrize(
    ("by", "kind"), [("owner", "png"), ("owner,day", "svg"), ("day", "png")]
)
def test_plots(logs: list[str], tmp_path: Path, by: str, kind: str) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"plot.{kind}"
    done = run("--by", by, "--plot", str(picture), *logs)
    assert (done.returncode, done.stdout) == (0, "")
    assert picture.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_lines_that_make_no_sense_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    good = json.dumps(LOG[0]) + "\n"
    file.write_text(good + '{"time": 17000\n[]\n{"time": "x"}\n\n' + good)
    done = run(str(file))
    assert done.returncode == 0
    assert done.stderr == "3 unreadable lines were ignored\n"
    assert LogEntries().read([str(file)]) == [LOG[0], LOG[0]]


@pytest.mark.parametrize(
    ("args", "status", "problem"),
    [
        (["/nowhere/jobs.log"], 1, "No such file or directory: '/nowhere/jobs.log'"),
        (["--by", "cat", "x"], 2, "'cat' is not made of owner, machine, day, size"),
        (["--by", "owner,owner", "x"], 2, "is not made of owner, machine, day"),
        (["--waits", "--plot", "x.png", "x"], 2, "--plot is of board-hours"),
        (["--since", "yesterday", "x"], 2, "invalid day value: 'yesterday'"),
        ([], 2, "required: FILE"),
    ],
)
def test_what_cannot_be_done(args: list[str], status: int, problem: str) -> None:
    done = run(*args)
    assert done.returncode == status
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["no gzip", "cut", "damaged", "binary"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "jobs.log.1.gz"
    sound = gzip.compress(json.dumps(LOG[1]).encode() * 50, mtime=0)
    contents = {
        "no gzip": b"x",
        "cut": sound[:-12],
        "damaged": sound[:12] + b"\xff" * 9 + sound[21:],
        "binary": gzip.compress(b"\xff\xfe\n"),
    }
    file.write_bytes(contents[kind])
    done = run(str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"spalloc_server_usage: {file}")
    assert done.stderr.count("\n") == 1


def test_what_is_no_job_log_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "messages"
    other.write_text("all is well\n" * 3)
    done = run(str(other))
    assert (done.returncode, done.stdout) == (1, "")
    assert "messages is no job log" in done.stderr
    empty = tmp_path / "jobs.log"
    empty.touch()
    assert run(str(empty)).returncode == 0


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("job", [{}, "x"]),
        ("event", [{}, 1]),
        ("time", [{}, "x"]),
        ("created", [{}, "x"]),
        ("owner", [{}, None]),
        ("machine", [{"m": 1}, 1]),
        ("boards", ["x", [["y"]], 1]),
        ("args", ["x", [["y"]], 1]),
    ],
)
def test_lines_of_something_else_are_unreadable(
    tmp_path: Path, key: str, values: list[object]
) -> None:
    file = tmp_path / "jobs.log"
    for value in values:
        file.write_text(json.dumps({**LOG[1], key: value}) + "\n")
        with pytest.raises(ValueError, match="is no job log"):
            LogEntries().read([str(file)])


def test_long_owners_leave_room_for_the_numbers(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    file.write_text(json.dumps({**LOG[0], "owner": "x" * 500}) + "\n")
    rows = run(str(file)).stdout.splitlines()
    assert rows[1].startswith("x" * 47 + "...  ")
    assert "x" * 500 in run("--csv", str(file)).stdout


def test_owners_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    file.write_text(json.dumps({**LOG[0], "owner": "\x1b[31mred"}) + "\n")
    assert "?[31mred" in run(str(file)).stdout


@pytest.mark.parametrize(
    "begin", ["=", "+", "-", "@", "\t", "\r", "\n", "'", " =", "\uff1d"]
)
def test_owners_are_no_formulas(tmp_path: Path, begin: str) -> None:
    owner = f'{begin}HYPERLINK("http://x";A1),"'
    file = tmp_path / "jobs.log"
    file.write_text(json.dumps({**LOG[0], "owner": owner}) + "\n")
    done = run("--csv", str(file))
    [row] = list(csv.reader(io.StringIO(done.stdout, newline="")))[1:]
    # What reads this as a text makes line feeds of carriage returns.
    assert row[0] == "'" + owner.replace("\r", "\n")
    # Nor are pieces of them, where something else than a comma is between columns.
    assert all(line.startswith('"') for line in done.stdout.splitlines()[:1])
    file.write_text(json.dumps({**LOG[0], "owner": "ada=lovelace"}) + "\n")
    assert '"ada=lovelace","1","0.0000"' in run("--csv", str(file)).stdout


def test_boards_count_though_nobody_saw_them_given() -> None:
    incomplete: set[tuple[int, float]] = set()
    log = [
        entry("created", 1, 0),
        # Killed: "allocated" is missing.
        entry("ready", 1, 2, 3),
        entry("destroyed", 1, 3, 3),
        # Nothing but its end.
        entry("destroyed", 2, 4, 2, owner="bob"),
        entry("created", 3, 4, owner="cyd"),
        entry("destroyed", 3, 5, owner="cyd"),
    ]
    assert report(uses(log, incomplete), ["owner"]) == [
        Row(("ada",), 1, 9.0),
        Row(("bob",), 1, 8.0),
        Row(("cyd",), 1, 0.0),
    ]
    assert {job for job, _ in incomplete} == {1, 2}


def test_boards_after_others_were_lost_count_from_then() -> None:
    log = [
        entry("created", 1, 0),
        entry("allocated", 1, 0, 1),
        entry("requeued", 1, 1, 1),
        entry("ready", 1, 5, 2),
        entry("destroyed", 1, 6, 2),
    ]
    assert report(uses(log), ["owner"]) == [Row(("ada",), 1, 1.0 + 5.0 * 2)]


def test_boards_of_others_are_those_of_a_job_no_more() -> None:
    incomplete: set[tuple[int, float]] = set()
    log = [
        entry("created", 1, 0),
        entry("allocated", 1, 0, 3),
        # Killed: its end is missing, but somebody else has its boards.
        entry("created", 2, 2, owner="bob"),
        entry("allocated", 2, 2, 1, owner="bob"),
        entry("destroyed", 2, 10, 1, owner="bob"),
    ]
    assert report(uses(log, incomplete), ["owner"]) == [
        Row(("ada",), 1, 6.0),
        Row(("bob",), 1, 8.0),
    ]
    assert {job for job, _ in incomplete} == {1}


def test_incomplete_jobs_are_told(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    file.write_text(json.dumps(entry("destroyed", 2, 4, 2)) + "\n")
    done = run(str(file))
    assert done.returncode == 0
    assert done.stderr == "jobs with incomplete records, whose use is estimated: 1\n"
