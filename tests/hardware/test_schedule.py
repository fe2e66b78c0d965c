"""The order and merging of requests, without any BMP or clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.hardware.requests import AtomicRequests, Failure
from spalloc_server.hardware.schedule import Schedule, Stage, Task
from spalloc_server.links import Links

RETRY = 15.0
SETTLE = 5.0


def task(
    on: tuple[int, ...] = (), off: tuple[int, ...] = (), links: tuple[int, ...] = ()
) -> Task:
    requests = AtomicRequests(lambda success, reason=None: None)
    for board in on:
        requests.power(board, True)
    for board in off:
        requests.power(board, False)
    for board in links:
        requests.link(board, Links.east, True)
    return Task(requests)


def schedule_of(*tasks: Task, due: float = 0.0) -> Schedule:
    schedule = Schedule()
    for one in tasks:
        schedule.add(one, due)
    return schedule


def step(schedule: Schedule, now: float = 0.0) -> tuple[Stage, list[Task]]:
    found = schedule.next_step(now)
    assert found is not None
    return found.stage, found.tasks


def test_stages_of_one_task() -> None:
    one = task(on=(1, 2), off=(3,), links=(1, 2))
    schedule = schedule_of(one)
    assert step(schedule) == (Stage.POWER_ON, [one])
    assert one.to_power() == {1, 2}
    one.powered_on(SETTLE)
    assert schedule.next_step(0.0) is None
    assert schedule.next_due() == SETTLE
    assert step(schedule, SETTLE) == (Stage.CHECK, [one])
    one.checked(None, SETTLE, RETRY)
    assert step(schedule, SETTLE) == (Stage.CHECK, [one])
    one.checked(None, SETTLE, RETRY)
    for board in (1, 2):
        assert step(schedule, SETTLE) == (Stage.LINKS, [one])
        assert one.next_link is not None
        assert one.next_link.board == board
        one.link_done()
    assert step(schedule, SETTLE) == (Stage.POWER_OFF, [one])
    assert one.to_power() == {3}
    one.powered_off()
    assert one.result == (True, None)
    assert schedule.take_ended() == [one]
    assert not schedule
    assert schedule.next_due() is None


def test_a_power_on_is_held_back_for_others_and_takes_them_along() -> None:
    first, second, off = task(on=(1,)), task(on=(2,)), task(off=(3,))
    schedule = schedule_of(first, due=1.0)
    schedule.add(second, 1.5)
    assert schedule.next_step(0.0) is None
    schedule.add(off, 1.5)
    assert step(schedule, 0.0) == (Stage.POWER_OFF, [off])
    off.powered_off()
    schedule.take_ended()
    assert schedule.next_due() == 1.0
    assert step(schedule, 1.0) == (Stage.POWER_ON, [first, second])


def test_a_task_for_other_boards_goes_on_while_one_settles() -> None:
    first = task(on=(1,))
    schedule = schedule_of(first)
    step(schedule)
    first.powered_on(SETTLE)
    second = task(on=(2,))
    schedule.add(second, 1.0)
    assert step(schedule, 1.0) == (Stage.POWER_ON, [second])


def test_of_a_board_only_the_last_power_request_counts() -> None:
    first, second, third = task(on=(1,)), task(off=(1, 2)), task(on=(2,))
    schedule = schedule_of(first)
    assert step(schedule) == (Stage.POWER_ON, [first])
    first.powered_on(SETTLE)
    schedule.add(second, 0.0)
    assert schedule.has_ended_tasks
    schedule.add(third, 0.0)
    assert schedule.take_ended() == [first]
    assert first.result == (True, None)
    assert not schedule.has_ended_tasks
    assert step(schedule) == (Stage.POWER_OFF, [second])
    assert second.to_power() == {1}
    assert step(schedule) == (Stage.POWER_ON, [third])


def test_what_waits_for_its_second_try_is_overtaken() -> None:
    failed, other = task(on=(1,)), task(on=(2,))
    schedule = schedule_of(failed)
    step(schedule)
    failed.failed(Failure("broken"), RETRY)
    schedule.add(other, 0.0)
    off = task(off=(1,))
    schedule.add(off, 0.0)
    assert schedule.take_ended() == [failed]
    assert failed.result == (True, None)
    assert off.failures == 0
    assert step(schedule) == (Stage.POWER_OFF, [off])
    assert step(schedule) == (Stage.POWER_ON, [other])


def test_a_repeated_request_waits_in_the_place_of_the_one_that_failed() -> None:
    failed, again = task(on=(1,)), task(on=(1,))
    schedule = schedule_of(failed)
    step(schedule)
    failed.failed(Failure("broken"), RETRY)
    schedule.add(again, 0.0)
    assert schedule.take_ended() == [failed]
    assert schedule.next_due() == RETRY
    assert step(schedule, RETRY) == (Stage.POWER_ON, [again])
    reason = Failure("still broken")
    again.failed(reason, 2 * RETRY)
    # Nobody keeps a board from failing by asking again and again.
    assert again.result == (False, reason)


def test_a_board_that_is_overtaken_while_others_are_checked() -> None:
    one = task(on=(1, 2, 3), links=(1, 2, 3))
    schedule = schedule_of(one)
    step(schedule)
    one.powered_on(SETTLE)
    one.checked("bad", SETTLE, RETRY)
    one.checked("bad", SETTLE, RETRY)
    schedule.add(task(off=(3,)), 0.0)
    assert step(schedule, SETTLE)[0] is Stage.POWER_OFF
    # Board 3 was the last to be checked: one of the bad ones is checked once more.
    assert one.to_check == [1]
    one.checked("bad", SETTLE, RETRY)
    assert step(schedule, SETTLE) == (Stage.POWER_ON, [one])
    assert one.to_power() == {1, 2}
    one.powered_on(SETTLE)
    schedule.add(task(off=(1, 2)), 0.0)
    assert schedule.take_ended() == [one]
    assert one.result == (True, None)


def test_who_toggles_without_end_keeps_nobody_from_going_on() -> None:
    settled, alone, linked = task(on=(1,)), task(on=(2,)), task(links=(3, 4))
    off = task(off=(5,))
    schedule = schedule_of(settled, alone, linked, off)
    settled.powered_on(0.0)
    alone.alone = True
    for number in range(60):
        toggle = task(on=(0,)) if number % 2 == 0 else task(off=(0,))
        schedule.add(toggle, 0.0)
        stage, tasks = step(schedule)
        for one in tasks:
            if stage is Stage.POWER_ON:
                one.powered_on(0.0)
            elif stage is Stage.POWER_OFF:
                one.powered_off()
            elif stage is Stage.CHECK:
                one.checked(None, 0.0, RETRY)
            else:
                one.link_done()
        schedule.take_ended()
    assert {settled.result, alone.result, linked.result, off.result} == {(True, None)}
    assert len(schedule) <= 1


def test_the_same_power_change_twice_is_one_command() -> None:
    first, second = task(on=(1, 2)), task(on=(2, 3), links=(2,))
    schedule = schedule_of(first, second)
    assert step(schedule) == (Stage.POWER_ON, [first, second])
    assert first.to_power() | second.to_power() == {1, 2, 3}


def test_the_same_power_change_after_the_first_was_sent_is_done_again() -> None:
    # It resets the boards.
    first = task(on=(1,), links=(1,))
    schedule = schedule_of(first)
    step(schedule)
    first.powered_on(SETTLE)
    second = task(on=(1,), links=(1,))
    schedule.add(second, 0.0)
    assert schedule.take_ended() == [first]
    assert step(schedule) == (Stage.POWER_ON, [second])


def test_links_before_a_power_request_are_dropped() -> None:
    first = task(on=(2,), links=(1, 2))
    links_only = task(links=(1,))
    schedule = schedule_of(first, links_only)
    step(schedule)
    first.powered_on(0.0)
    power = task(off=(1,))
    schedule.add(power, 0.0)
    # Nothing is left for board 1 but the power-off, so that it waits for nobody.
    assert step(schedule) == (Stage.POWER_OFF, [power])
    power.powered_off()
    assert schedule.take_ended() == [links_only, power]
    assert step(schedule) == (Stage.CHECK, [first])
    first.checked(None, 0.0, RETRY)
    assert step(schedule) == (Stage.LINKS, [first])
    assert first.next_link is not None
    assert first.next_link.board == 2
    assert links_only.next_link is None
    assert links_only.result == (True, None)


def test_links_after_a_power_request_are_kept() -> None:
    first, second = task(on=(1,)), task(links=(1,))
    schedule = schedule_of(first, second)
    assert second.next_link is not None
    assert step(schedule) == (Stage.POWER_ON, [first])


def test_only_wrong_boards_are_powered_on_again_three_times_in_all() -> None:
    one = task(on=(1, 2, 3))
    schedule = schedule_of(one)
    for expected in ({1, 2, 3}, {1, 3}, {3}):
        assert step(schedule) == (Stage.POWER_ON, [one])
        assert one.to_power() == expected
        one.powered_on(0.0)
        for board in sorted(expected):
            assert step(schedule) == (Stage.CHECK, [one])
            assert one.to_check[0] == board
            bad = board == 3 or (board == 1 and expected == {1, 2, 3})
            one.checked("bad" if bad else None, 0.0, RETRY)
    assert one.failures == 1
    assert one.result is None
    assert schedule.next_due() == RETRY
    # The second try is one of the whole group.
    assert step(schedule, RETRY) == (Stage.POWER_ON, [one])
    assert one.to_power() == {1, 2, 3}


def test_a_failed_task_waits_alone_and_fails_for_good_the_second_time() -> None:
    one = task(on=(1,))
    schedule = schedule_of(one)
    step(schedule)
    reason = Failure("broken", frozenset([1]))
    one.failed(reason, RETRY)
    other = task(on=(2,))
    schedule.add(other, 0.0)
    assert step(schedule) == (Stage.POWER_ON, [other])
    other.powered_on(100.0)
    assert schedule.next_step(14.9) is None
    assert step(schedule, RETRY) == (Stage.POWER_ON, [one])
    one.failed(reason, 2 * RETRY)
    assert one.result == (False, reason)
    assert schedule.take_ended() == [one]


def test_hurrying_cuts_all_waits_short_but_settling() -> None:
    failed, held, settling = task(on=(1,)), task(on=(2,)), task(on=(3,))
    schedule = schedule_of(settling)
    step(schedule)
    settling.powered_on(SETTLE)
    schedule.add(failed, 0.0)
    step(schedule)
    failed.failed(Failure("broken"), RETRY)
    schedule.add(held, 1.0)
    assert schedule.next_step(0.0) is None
    schedule.hurry()
    assert step(schedule) == (Stage.POWER_ON, [failed, held])
    failed.powered_on(SETTLE)
    held.powered_on(SETTLE)
    assert schedule.next_step(0.0) is None
    assert schedule.next_due() == SETTLE


def test_tasks_whose_merged_command_failed_go_on_one_by_one_after_others() -> None:
    first, second, new = task(off=(1,)), task(off=(2,)), task(off=(3,))
    schedule = schedule_of(first, second)
    assert step(schedule) == (Stage.POWER_OFF, [first, second])
    first.alone = second.alone = True
    assert step(schedule) == (Stage.POWER_OFF, [first])
    schedule.add(new, 0.0)
    first.powered_off()
    schedule.take_ended()
    assert step(schedule) == (Stage.POWER_OFF, [new])


BOARDS = st.sets(st.integers(0, 3), max_size=2).map(
    lambda boards: tuple(sorted(boards))
)


@given(st.data())
def test_any_sequence_ends_with_the_boards_as_asked_last(data: Any) -> None:
    """Tasks arrive at any time; some commands fail, but no task's second try does."""
    schedule = Schedule()
    arrived: list[Task] = []
    wishes: list[frozenset[int]] = []
    ended: list[Task] = []
    powered: dict[int, bool] = {}
    wanted: dict[int, bool] = {}
    # By board, the number of the task for which it was last powered on or off.
    served: dict[int, int] = {}
    now = 0.0
    for turn in range(300):
        if turn < 40 and data.draw(st.booleans()):
            one = task(data.draw(BOARDS), data.draw(BOARDS), data.draw(BOARDS))
            arrived.append(one)
            wishes.append(one.power_on_boards | one.power_off_boards)
            schedule.add(one, now + 0.05)
            wanted.update(dict.fromkeys(one.power_on_boards, True))
            wanted.update(dict.fromkeys(one.power_off_boards, False))
        ended += schedule.take_ended()
        waiting = [one for one in arrived if one.result is None]
        for number, one in enumerate(waiting):
            # Nothing that waits is about a board that a later one powers on or off.
            powers = [w.power_on_boards | w.power_off_boards for w in waiting]
            assert all(one.boards.isdisjoint(later) for later in powers[number + 1 :])
        found = schedule.next_step(now)
        if found is None:
            due = schedule.next_due()
            assert (due is None) == (not schedule)
            if due is not None:
                assert due > now
                now = due
            elif turn >= 40:
                break
            continue
        assert all(one.result is None for one in found.tasks)
        boards = frozenset[int]().union(*(one.to_power() for one in found.tasks))
        busy = [one for one in found.tasks if one.failures == 0]
        if found.stage in (Stage.POWER_ON, Stage.POWER_OFF):
            for one in found.tasks:
                number = arrived.index(one)
                for board in one.to_power():
                    assert number >= served.get(board, 0)
                    assert not any(board in later for later in wishes[number + 1 :])
                    served[board] = number
        if busy and data.draw(st.integers(0, 3)) == 0:
            for one in busy:
                one.failed(Failure("drawn"), now + RETRY)
        elif found.stage is Stage.POWER_ON:
            powered.update(dict.fromkeys(boards, True))
            for one in found.tasks:
                one.powered_on(now + SETTLE)
        elif found.stage is Stage.CHECK:
            bad = busy and data.draw(st.booleans())
            found.tasks[0].checked("drawn" if bad else None, now, now + RETRY)
        elif found.stage is Stage.LINKS:
            found.tasks[0].link_done()
        else:
            powered.update(dict.fromkeys(boards, False))
            for one in found.tasks:
                one.powered_off()
    assert not schedule
    assert len(ended) == len(arrived)
    assert {id(one) for one in ended} == {id(one) for one in arrived}
    assert all(one.result == (True, None) for one in ended)
    assert powered == wanted
