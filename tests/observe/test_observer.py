"""Those who look on, several as one."""

from __future__ import annotations

import pytest

from spalloc_server.controller import Controller
from spalloc_server.model.job_events import JobEvent
from spalloc_server.model.job_tuples import JobState
from spalloc_server.observe.observer import Observer, Observers
from tests.recorded_bmps import BMPs, machine


class Told(Observer):
    """Notes what it is told, and may fail."""

    def __init__(self, fails: bool = False) -> None:
        self.told: list[str] = []
        self.fails = fails
        self.on_job_event = self.note_job

    def note(self, what: str) -> None:
        self.told.append(what)
        if self.fails:
            raise LookupError(what)

    def note_job(self, event: JobEvent) -> None:
        self.note(event.kind)

    def turned(self) -> None:
        self.note("turned")

    def reloading(self) -> None:
        self.note("reloading")

    def close(self) -> None:
        self.note("close")


@pytest.mark.parametrize("what", ["turned", "reloading", "close"])
def test_one_that_fails_keeps_nothing_from_the_others(what: str) -> None:
    first, bad, last = Told(), Told(fails=True), Told()
    with pytest.raises(LookupError, match=what):
        getattr(Observers([first, bad, last]), what)()
    assert [o.told for o in (first, bad, last)] == [[what]] * 3


def test_an_error_of_those_who_look_on_is_none_of_the_jobs(
    bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    good, bad = Told(), Told(fails=True)
    controller.on_job_event = Observers([bad, good]).on_job_event
    job_id = controller.create_job(None, owner="me")
    bmps.answer()
    assert controller.get_job_state(None, job_id).state is JobState.ready
    assert good.told == bad.told == ["created", "allocated", "power", "ready"]
    assert controller.failures == {"job event": 4}
    assert "LookupError" in caplog.text
