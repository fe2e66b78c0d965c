"""What a new configuration does, as the parts of the controller see it."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.controller import Controller
from tests.recorded_bmps import BMPs, machine


@pytest.fixture
def controller(bmps: BMPs) -> Controller:
    controller = Controller(seconds_before_free=0)
    controller.machines = named(machine("a"), machine("b"), machine("c"))
    return controller


def named(*machines: Machine) -> OrderedDict[str, Machine]:
    return OrderedDict((machine.name, machine) for machine in machines)


def test_machines_are_in_the_order_of_the_last_configuration(
    controller: Controller,
) -> None:
    new = named(machine("d"), machine("c", width=2), machine("a", tags={"default"}))
    controller.machines = new
    assert list(controller.machines.items()) == list(new.items())
    assert [told.name for told in controller.list_machines()] == ["d", "c", "a"]
    job_id = controller.create_job(None, 1, 1, owner="me")
    assert controller.get_job_machine_info(None, job_id).machine_name == "d"


def test_boards_are_found_where_the_last_configuration_has_them(
    controller: Controller,
) -> None:
    assert controller.get_board_at_position("c", 0, 0, 1) == (0, 0, 1)
    assert controller.get_board_position("c", 1, 0, 0) is None
    controller.machines = named(machine("c", width=2))
    assert controller.get_board_position("c", 1, 0, 0) == (0, 1, 0)
    assert controller.get_board_at_position("c", 0, 1, 0) == (1, 0, 0)
    assert controller.get_board_at_position("b", 0, 0, 1) is None
    with pytest.raises(ValueError, match="belongs to no board"):
        controller.report_problem("board-b-0-0-0")


def test_what_was_given_out_is_a_copy(controller: Controller) -> None:
    machines = controller.machines
    machines.clear()
    assert list(controller.machines) == ["a", "b", "c"]
    controller.machines = {}
    assert controller.list_machines() == []


def test_changes_noted_are_told_once(controller: Controller, bmps: BMPs) -> None:
    assert controller.changed_machines == {"a", "b", "c"}
    changed = controller.changed_machines
    controller.report_problem("board-a-0-0-0")
    on_answer = bmps["bmp-b-0"].on_answer
    assert on_answer is not None
    on_answer("silent")
    assert changed == set()
    assert controller.changed_machines == {"b"}
