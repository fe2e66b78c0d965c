"""The order and merging of requests, without any BMP or clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.hardware.requests import AtomicRequests, FailureReason
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


def test_tasks_for_the_same_board_keep_their_order() -> None:
    first, second, third = task(on=(1,)), task(off=(1, 2)), task(on=(2,))
    schedule = schedule_of(first, second, third)
    assert step(schedule) == (Stage.POWER_ON, [first])
    first.powered_on(0.0)
    assert step(schedule) == (Stage.CHECK, [first])
    first.checked(None, 0.0, RETRY)
    assert step(schedule) == (Stage.LINKS, [first])
    first.link_done()
    assert schedule.take_ended() == [first]
    assert step(schedule) == (Stage.POWER_OFF, [second])
    second.powered_off()
    assert schedule.take_ended() == [second]
    assert step(schedule) == (Stage.POWER_ON, [third])


def test_the_same_power_change_twice_is_one_command() -> None:
    first, second = task(on=(1, 2)), task(on=(2, 3), links=(2,))
    schedule = schedule_of(first, second)
    assert step(schedule) == (Stage.POWER_ON, [first, second])


def test_the_same_power_change_after_the_first_was_sent_waits() -> None:
    first = task(on=(1,))
    schedule = schedule_of(first)
    step(schedule)
    first.powered_on(SETTLE)
    second = task(on=(1,))
    schedule.add(second, 0.0)
    assert schedule.next_step(0.0) is None
    assert step(schedule, SETTLE) == (Stage.CHECK, [first])


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
    assert schedule.take_ended() == [power]
    assert step(schedule) == (Stage.CHECK, [first])
    first.checked(None, 0.0, RETRY)
    assert step(schedule) == (Stage.LINKS, [first])
    assert first.next_link is not None
    assert first.next_link.board == 2
    assert links_only.next_link is None
    links_only.link_done()
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
    reason = FailureReason("broken", [1])
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
    failed.failed(FailureReason("broken"), RETRY)
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
    ended: list[Task] = []
    powered: dict[int, bool] = {}
    wanted: dict[int, bool] = {}
    now = 0.0
    for turn in range(200):
        if turn < 30 and data.draw(st.booleans()):
            one = task(data.draw(BOARDS), data.draw(BOARDS), data.draw(BOARDS))
            arrived.append(one)
            schedule.add(one, now + 0.05)
            wanted.update(dict.fromkeys(one.power_on_boards, True))
            wanted.update(dict.fromkeys(one.power_off_boards, False))
        found = schedule.next_step(now)
        if found is None:
            due = schedule.next_due()
            assert (due is None) == (not schedule)
            if due is not None:
                assert due > now
                now = due
            elif turn >= 30:
                break
            continue
        boards = frozenset[int]().union(*(one.to_power() for one in found.tasks))
        busy = [one for one in found.tasks if one.failures == 0]
        if busy and data.draw(st.integers(0, 3)) == 0:
            for one in busy:
                one.failed(FailureReason("drawn"), now + RETRY)
        elif found.stage is Stage.POWER_ON:
            powered.update(dict.fromkeys(boards, True))
            for one in found.tasks:
                one.powered_on(now + SETTLE)
        elif found.stage is Stage.CHECK:
            found.tasks[0].checked(None, now, now + RETRY)
        elif found.stage is Stage.LINKS:
            link = found.tasks[0].next_link
            if link is not None:
                later = arrived[arrived.index(found.tasks[0]) + 1 :]
                assert all(
                    link.board not in one.power_on_boards | one.power_off_boards
                    for one in later
                )
            found.tasks[0].link_done()
        else:
            powered.update(dict.fromkeys(boards, False))
            for one in found.tasks:
                one.powered_off()
        ended += schedule.take_ended()
    assert not schedule
    assert len(ended) == len(arrived)
    assert all(one.result == (True, None) for one in ended)
    assert powered == wanted
