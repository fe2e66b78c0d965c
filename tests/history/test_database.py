import re
import sqlite3
import stat
from pathlib import Path

import pytest

from spalloc_server.history.database import EventDatabase
from spalloc_server.history.waiting_times import WaitingTimes
from tests.history.test_job_log import event


def test_events_are_found_again_after_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "history")
    histories = EventDatabase(file)
    histories.open()
    histories.take([])
    histories.take([event(kind="created", job_id=1), event(job_id=1)])
    histories.take([event(kind="created", job_id=2, time=1001.0)])
    histories.take([event(kind="destroyed", job_id=1, time=1002.0, reason="done")])
    histories.close()
    again = EventDatabase(file)
    again.open()
    found = again.events_of(1)
    assert [entry["event"] for entry in found] == ["created", "allocated", "destroyed"]
    assert found[2]["reason"] == "done"
    assert again.events_of(3) == []
    assert [entry["job"] for entry in again.latest_ends(10)] == [1]
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600


def test_old_jobs_are_forgotten_and_a_cold_start_begins_anew(tmp_path: Path) -> None:
    histories = EventDatabase(str(tmp_path / "history"), max_jobs=3)
    histories.open()
    for job_id in range(1, 8):
        histories.take([event(kind="created", job_id=job_id)])
        histories.take([event(kind="destroyed", job_id=job_id, time=2000.0 + job_id)])
    assert [entry["job"] for entry in histories.latest_ends(10)] == [7, 6, 5]
    assert histories.events_of(4) == []
    assert [entry["job"] for entry in histories.latest_ends(1)] == [7]
    histories.take([event(kind="created", job_id=1)])
    assert histories.latest_ends(10) == []


def test_failures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = str(tmp_path / "none" / "history")
    histories = EventDatabase(nowhere)
    histories.open()
    histories.take([event()])
    histories.take([event()])
    (said,) = caplog.messages
    assert re.fullmatch(f"Cannot write job history {nowhere}: No such file.*", said)
    with pytest.raises(sqlite3.Error):
        histories.events_of(1)
    (tmp_path / "none").mkdir()
    histories.take([event()])
    assert caplog.messages[1:] != []


def test_a_file_that_is_none_of_ours_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "history"
    kept = tmp_path / "history.damaged"
    for number in range(2):
        file.write_bytes(b"nonsense%d" % number * 1000)
        histories = EventDatabase(str(file))
        histories.open()
        histories.take([event()])
        assert len(histories.events_of(event().job_id)) == 1
        assert kept.read_bytes() == b"nonsense%d" % number * 1000
    told = f"Job history {file} cannot be used (file is not a database): "
    told += f"it is kept as {kept}, and begun anew"
    assert caplog.messages == [told, told]


def test_a_full_disk_is_no_reason_to_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    histories = EventDatabase(str(tmp_path / "history"))
    histories.open()
    histories.take([event(job_id=1)])

    def fail(_events: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as context:
        context.setattr(histories.file, "_change", fail)
        histories.take([event(job_id=1)])
        histories.take([event(job_id=1)])
    histories.take([event(job_id=1)])
    assert len(histories.events_of(1)) == 2
    assert len(caplog.messages) == 2
    assert "is full" in caplog.messages[0]
    assert "written again" in caplog.messages[1]


def test_times_of_jobs() -> None:
    times = WaitingTimes()
    times.take(
        [
            event(kind="created", time=1000.0, start_time=1000.0),
            event(kind="allocated", time=1005.0, start_time=1000.0),
            event(kind="ready", time=1007.0),
            event(kind="power", time=1100.0),
            event(kind="ready", time=1200.0),
            event(kind="requeued", time=1300.0),
            event(kind="allocated", time=1350.0, start_time=1000.0),
            event(kind="destroyed", time=1351.0),
            event(kind="ready", time=1352.0),
        ]
    )
    assert times.queued.total == 5.0 + 50.0
    assert times.preparing.total == 2.0
    assert times.queued.cumulative()[-1] == (None, 2)
    assert dict(times.queued.cumulative())[10.0] == 1
