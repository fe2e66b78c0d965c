"""State of every schema that ever landed is read, with all that was in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.control.plain_state import SCHEMA, from_plain, to_plain
from spalloc_server.control.state import PRESENT_RULES
from spalloc_server.controller import Controller
from spalloc_server.plain.shapes import PlainDataError
from spalloc_server.storage.legacy import load_schema_1
from spalloc_server.storage.plain_pickle import load_data
from tests.recorded_bmps import BMPs
from tests.storage.golden.make import answer, describe

FOLDER = Path(__file__).parent / "golden"

NAMES = sorted(path.stem for path in FOLDER.glob("*.state"))


def controller_of(data: object) -> Controller:
    return Controller.restored(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_all_that_was_in_a_state_is_read(name: str, bmps: BMPs) -> None:
    contents = (FOLDER / f"{name}.state").read_bytes()
    if name.startswith("1-"):
        data, _ = load_schema_1(contents)
    else:
        data = load_data(contents)
    controller = controller_of(data)
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    described = describe(controller)
    if "scheduling" not in expected:
        # Older than all rules but one, which is what is gone on with.
        assert described["scheduling"]["settings"]["scheduling"] == "fifo"
        assert described["scheduling"]["kept"] == {}
        expected["scheduling"] = described["scheduling"]
    if not expected["problems"]:
        # Older than boards' problems.
        assert described["problems"] == []
    expected.setdefault("withheld", {"drained": [], "closed": {}, "all_closed": None})
    assert described == expected
    # And what is kept of it from now on is the same.
    assert describe(controller_of(controller.__getstate__())) == expected
    state = from_plain(controller.__getstate__())
    assert to_plain(state)["schema"] == SCHEMA
    # Only what is stored under the rules of its time can be followed by its journal.
    assert state.rules == (PRESENT_RULES if name[0] in "45" else 3)
    # It can be gone on with.
    controller.start()
    assert controller.__getstate__()["rules"] == PRESENT_RULES
    bmps.answer()
    assert controller.get_job_state(None, 11).state == 3
    controller.destroy_job(None, 11)
    bmps.answer()
    assert controller._state.ending_jobs == {}
    assert controller.create_job(None, owner="new") == expected["next_id"]


def with_ip(board: tuple[int, int, int], ip: object) -> Any:
    """State of schema 4, in which a configuration could give dead boards any IP."""
    data = load_data((FOLDER / "4-orders.state").read_bytes())
    data["machines"][0]["spinnaker_ips"][board] = ip
    return data


def test_a_dead_board_whose_ip_was_no_text_keeps_no_state_from_being_read() -> None:
    state = from_plain(with_ip((3, 1, 2), None))
    assert (3, 1, 2) not in state.machines["m"].spinnaker_ips
    assert (3, 1, 1) in state.machines["m"].spinnaker_ips


def test_another_ip_that_is_no_text_is_named() -> None:
    expected = r"machine m: the IP of board \[0, 0, 1\] is 5, not a text"
    with pytest.raises(PlainDataError, match=expected):
        from_plain(with_ip((0, 0, 1), 5))


def test_there_is_a_golden_file_of_the_present_schema() -> None:
    assert any(name.startswith(f"{SCHEMA}-") for name in NAMES)
    assert answer is not None
