import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from spalloc_server.command_line.log_formats import JournalFormatter, JSONFormatter


def record(level: int, message: str, *args: object) -> logging.LogRecord:
    made = logging.LogRecord("a.b", level, "f.py", 1, message, args, None)
    made.created = 1_700_000_000.5
    return made


def test_json() -> None:
    line = JSONFormatter().format(record(logging.INFO, "two\nlines of %s", '"me"'))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "info",
        "logger": "a.b",
        "thread": "MainThread",
        "message": 'two\nlines of "me"',
    }


def test_json_of_an_exception() -> None:
    entry = record(logging.ERROR, "oh")
    try:
        raise ValueError("no luck")
    except ValueError:
        entry.exc_info = sys.exc_info()
    exception = json.loads(JSONFormatter().format(entry))["exception"]
    assert exception.startswith("Traceback")
    assert exception.endswith("ValueError: no luck")


def test_priorities_for_the_journal() -> None:
    journal = JournalFormatter()
    assert journal.format(record(logging.DEBUG, "x")) == "<7>x"
    assert journal.format(record(logging.INFO, "x")) == "<6>x"
    assert journal.format(record(logging.WARNING, "x\ny")) == r"<4>x\ny"
    assert journal.format(record(logging.ERROR, "")) == "<3>"
    assert journal.format(record(logging.CRITICAL, "x")) == "<2>x"


def test_journald_is_recognised_by_its_stream(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stream:
        status = os.fstat(stream.fileno())
        for journal in (f"{status.st_dev}:{status.st_ino}", "1:2", ""):
            subprocess.run(
                [sys.executable, "-m", "spalloc_server", str(tmp_path / "none.cfg")],
                env={**os.environ, "JOURNAL_STREAM": journal},
                stderr=stream,
                check=False,
            )
    lines = log.read_text().splitlines()
    assert [line.startswith("<2>") for line in lines] == [True, False, False]
    assert all(" CRITICAL " in line for line in lines[1:])
