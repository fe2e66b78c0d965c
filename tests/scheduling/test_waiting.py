"""What those who wait are told."""

from __future__ import annotations

from spalloc_server.scheduling.recent import FEWEST, RecentTimes
from spalloc_server.scheduling.waiting import Waiting
from tests.scheduling.room import COOLING, Room


def told(room: Room, job_id: int) -> Waiting:
    waiting = room.queue.waiting(job_id)
    assert waiting is not None
    return waiting


def test_where_a_job_stands_and_what_is_kept_for_it() -> None:
    room = Room()
    room.queue.longest_overtaking = 100.0
    room.queue.add_machine("m", 2, 2, dead_boards={(1, 1, 2)})
    room.create(1, 90_000.0, 3, owner="ann")
    room.wait(20_000)
    room.create(2, 90_000.0, 1, owner="ann")
    room.create(3, 100.0, 12, max_dead_boards=1, owner="bob")
    room.create(4, 100.0, 12, max_dead_boards=1, owner="cy")

    first, second = told(room, 3), told(room, 4)
    assert (first.reason, first.about) == ("first", None)
    assert [(p.machine, p.place, p.kept) for p in first.places] == [("m", 1, None)]
    assert (second.reason, second.places[0].place) == ("turn", 2)
    assert first.places[0].order < second.places[0].order

    room.wait(101)
    first = told(room, 3)
    assert first.reason == "kept"
    kept = first.places[0].kept
    assert kept is not None
    # One board is dead; the first job has three, the second one.
    assert kept == (11, 4, 2, room.now, (0, 0, 2, 2))
    assert told(room, 4).places[0].kept is None
    assert room.queue.kept_boards() == {"m": 11}

    room.queue.destroy_job(1)
    room.queue.free(1)
    assert told(room, 3).places[0].kept == kept, "boards that cool down are not free"
    room.now += COOLING
    room.queue.check_free()
    assert told(room, 3).places[0].kept == kept._replace(held=1, jobs=1)


def test_nobody_waits_who_has_boards_or_has_ended() -> None:
    room = Room()
    room.queue.add_machine("m", 1, 1)
    room.create(1, 10.0, 3)
    assert room.queue.waiting(1) is None
    assert room.queue.waiting(2) is None
    assert room.queue.kept_boards() == {"m": 0}


def test_a_limit_is_told() -> None:
    room = Room()
    room.queue.add_machine("m", 2, 1)
    room.queue.set_limits(boards_per_owner=3)
    room.create(1, 10.0, 3, owner="ann")
    room.create(2, 10.0, 3, owner="ann")
    assert told(room, 2).reason == "limit"
    assert told(room, 2).about is None
    room.wait(10)
    assert 2 in room.started


def test_a_job_that_waits_for_several_machines_is_told_of_each() -> None:
    room = Room()
    room.queue.longest_overtaking = 0.0
    for name in ("a", "b"):
        room.queue.add_machine(name, 1, 1)
        room.create(len(room.started), 1000.0, 3, machine=name)
    room.create(2, 10.0, 3)
    places = told(room, 2).places
    assert [place.machine for place in places] == ["a", "b"]
    assert [place.kept and place.kept.boards for place in places] == [3, 3]


def test_what_jobs_like_it_have_waited_and_run_tells_about_when() -> None:
    room = Room()
    room.queue.add_machine("m", 1, 1)
    # Each runs for 100 s; the later ones wait for all before them.
    for job_id in range(8):
        room.create(job_id, 100.0, 3, owner="ann")
    room.wait(5000)
    assert len(room.started) == 8
    room.queue.longest_overtaking = 0.0
    room.create(10, 100.0, 3, owner="ann")
    began = room.started[10][0]
    room.create(11, 100.0, 3, owner="bob")
    room.create(12, 100.0, 3, owner="cy")
    # A part is kept for the first: it is free about when jobs like its holder end.
    ends = round(began + 100.0 + COOLING)
    assert told(room, 11).about == (ends, ends)
    # The other knows what such jobs have waited, if at all: 130, 260, ... 910 s.
    about = told(room, 12).about
    assert about is not None
    assert [at - room.now for at in about] == [260.0, 780.0]


def test_nothing_is_told_where_too_few_are_known() -> None:
    times = RecentTimes()
    for _ in range(FEWEST - 1):
        times.add(4, 10.0)
    assert times.range(4, 0.0) is None
    times.add(7, 20.0)
    assert times.range(5, 0.0) == (10.0, 10.0), "4 to 7 boards are alike"
    assert times.range(8, 0.0) is None
    assert times.range(4, 10.0) is None, "only one has taken longer"


def test_only_the_latest_are_known() -> None:
    times = RecentTimes()
    for seconds in range(1000):
        times.add(1, float(seconds))
    assert times.range(1, 0.0) == (952.0, 984.0)
