"""What is remembered of the load and of waits."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from spalloc_server.history.database import EventDatabase
from spalloc_server.history.load import HOUR, SLOT, SPANS, LoadHistory
from spalloc_server.model.load import Load, MachineLoad
from tests.history.test_job_log import event

NOON = 1_700_049_600 // 86400 * 86400 + 43200


class Site:
    """A history whose time is :py:attr:`now`."""

    def __init__(self, folder: Path) -> None:
        self.now = float(NOON)
        self.events = EventDatabase(str(folder / "history"))
        self.events.open()
        self.load = LoadHistory(self.events.file, lambda: self.now)

    def sample(self, in_use: int, waiting: int = 0) -> None:
        machines = {"m": MachineLoad(10, in_use, 1), "n": MachineLoad(1, 0, 0)}
        self.load.add(Load(machines, waiting, 3 * waiting))

    def wait(self, job_id: int, seconds: float, boards: int) -> None:
        created = self.now - seconds
        times = {"start_time": created, "args": (boards,)}
        self.load.take([event(job_id=job_id, time=self.now, **times)])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_means_of_samples_and_gaps(site: Site) -> None:
    site.sample(4, waiting=2)
    site.now += 60
    site.sample(6)
    site.now += 2 * SLOT
    site.sample(7)
    day = site.load.series(SPANS["day"])
    assert day["start"] + len(day["in_use"]) * day["step"] == NOON + 3 * SLOT
    assert len(day["in_use"]) == 288
    assert day["in_use"][-3:] == [5.0, None, 7.0]
    assert day["boards"][-3:] == [11.0, None, 11.0]
    assert day["out"][-1] == 1.0
    assert (day["waiting"][-3], day["wanted"][-3]) == (1.0, 3.0)
    week = site.load.series(SPANS["week"])
    assert len(week["in_use"]) == 336
    assert week["in_use"][-1] == round(17 / 3, 2)
    assert site.load.machines() == ["m", "n"]
    assert site.load.series(SPANS["day"], "m")["boards"][-1] == 10.0
    assert set(site.load.series(SPANS["day"], "gone")["boards"]) == {None}


def test_waits_by_size(site: Site) -> None:
    for job, seconds in enumerate((0.2, 60.0, 61.0, 3600.0)):
        site.wait(job, seconds, 2)
    site.wait(9, 7200.0, 1000)
    assert set(site.load.waits(SPANS["day"])["sizes"]["2-3"]["jobs"]) == {0}
    site.sample(1)
    waits = site.load.waits(SPANS["day"])
    assert waits["start"] + 24 * HOUR == NOON + HOUR
    small = waits["sizes"]["2-3"]
    assert (small["jobs"][-1], small["jobs"][-2]) == (4, 0)
    assert math.isclose(small["median"][-1], 60.0, rel_tol=0.05)
    assert math.isclose(small["most"][-1], 3600.0, rel_tol=0.05)
    assert small["median"][-2] is None
    assert waits["sizes"]["over 768"]["jobs"][-1] == 1
    assert len(site.load.waits(SPANS["week"])["sizes"]["1"]["jobs"]) == 28


def test_it_outlives_a_restart(site: Site, tmp_path: Path) -> None:
    site.sample(4)
    site.wait(1, 0.5, 1)
    site.load.close()
    site.load.close()
    again = Site(tmp_path)
    again.sample(8)
    assert again.load.series(SPANS["day"])["in_use"][-1] == 6.0
    assert again.load.waits(SPANS["day"])["sizes"]["1"]["jobs"][-1] == 1


def test_it_does_not_grow_for_ever(site: Site) -> None:
    def rows() -> list[tuple[int, int]]:
        return [
            site.events.file.read(
                lambda db, table=table: db.execute(  # type: ignore[misc]
                    f"select count(*), min(slot) from {table}"
                ).fetchone()
            )
            for table in ("load", "waits")
        ]

    for hour in range(24 * 10):
        site.now = NOON + HOUR * float(hour)
        site.wait(hour, 5.0, 1)
        site.sample(hour % 10)
    (loads, first), (waits, first_wait) = rows()
    assert loads == 3 * (8 * 24 + 1)
    assert waits == 8 * 24 + 1
    assert min(first, first_wait) >= site.now - 8 * 86400
    # A clock that was wrong leaves nothing behind.
    site.now -= 5 * 86400
    site.sample(1)
    assert rows()[0][0] < 3 * 4 * 24


def test_a_site_with_one_machine_keeps_it_once(site: Site) -> None:
    site.load.add(Load({"m": MachineLoad(3, 1, 0)}, 0, 0))
    assert site.load.machines() == []
    assert site.load.series(SPANS["day"])["in_use"][-1] == 1.0


def test_no_machines_at_all(site: Site) -> None:
    site.load.add(Load({}, 1, 2))
    assert site.load.series(SPANS["day"])["waiting"][-1] == 1.0


def test_a_history_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    earlier = Site(tmp_path)
    earlier.events.take([event(kind="created", job_id=1)])
    with sqlite3.connect(tmp_path / "history") as database:
        database.executescript("drop table load; drop table waits")
    later = Site(tmp_path)
    later.sample(3)
    assert later.load.series(SPANS["day"])["in_use"][-1] == 3.0
    assert len(later.events.events_of(1)) == 1
