"""Any commands in any order, over a real socket, against a small model of jobs.

The machine is one triad, and jobs ask for all of it or for more: so of the jobs there
are, the oldest has the boards and all others wait; where owners take turns, it is all
one owner.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from tests.support import ONE_TRIAD, Client, CommandError, Site, wait_until

NO_MACHINE = "Cancelled: No suitable machines available."

ALL = st.sampled_from([[1, 1], [2], [3]])

TOO_MUCH = st.sampled_from([[2, 1], [4], [1, 0, 0]])

OWNERS = st.text(min_size=1, max_size=20)

KEEPALIVES = st.one_of(st.none(), st.floats(1000, 1e300), st.integers(1000, 2**40))

JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
).filter(lambda value: value is not None)


class Jobs(RuleBasedStateMachine):
    """The server, and what it ought to say."""

    ids = Bundle("ids")
    scheduling = "fifo"
    only_owner: str | None = None

    @initialize()
    def start(self) -> None:
        self.undo = ExitStack()
        folder = self.undo.enter_context(tempfile.TemporaryDirectory())
        self.site = Site(Path(folder), self.undo)
        self.site.write(
            ONE_TRIAD.replace(
                "seconds_before_free",
                f"scheduling={self.scheduling!r}, seconds_before_free",
            )
        )
        self.server = self.site.start()
        self.clients = [self.site.connect(self.server) for _ in range(2)]
        self.turn = 0
        self.next_id = 1
        self.living: dict[int, dict[str, Any]] = {}
        self.ended: dict[int, str | None] = {}

    def teardown(self) -> None:
        if hasattr(self, "undo"):
            self.undo.close()

    @property
    def client(self) -> Client:
        """Each time the other."""
        self.turn += 1
        return self.clients[self.turn % 2]

    @rule(target=ids, args=ALL, owner=OWNERS, keepalive=KEEPALIVES)
    def create(self, args: list[int], owner: str, keepalive: float | None) -> int:
        owner = self.only_owner or owner
        job_id = self.client.call("create_job", *args, owner=owner, keepalive=keepalive)
        assert job_id == self.next_id
        self.next_id += 1
        self.living[job_id] = {
            "job_id": job_id,
            "owner": owner,
            "keepalive": keepalive,
            "args": args,
            "kwargs": {},
            "keepalivehost": "127.0.0.1",
        }
        return int(job_id)

    @rule(target=ids, args=TOO_MUCH)
    def create_too_much(self, args: list[int]) -> int:
        job_id = self.client.call("create_job", *args, owner="me")
        assert job_id == self.next_id
        self.next_id += 1
        self.ended[job_id] = NO_MACHINE
        return int(job_id)

    @rule(junk=JUNK, name=st.sampled_from(["owner", "tags", "machine", "nonsense"]))
    def create_wrongly(self, junk: Any, name: str) -> None:
        kwargs = {"owner": "me", "keepalive": "long", name: junk}
        with pytest.raises(CommandError):
            self.client.call("create_job", **kwargs)

    @rule(target=ids, job_id=consumes(ids), reason=st.none() | st.text(max_size=20))
    def destroy(self, job_id: int, reason: str | None) -> Any:
        queued = job_id in self.living and job_id != min(self.living)
        assert self.client.call("destroy_job", job_id, reason) is None
        if job_id in self.living:
            del self.living[job_id]
            self.ended[job_id] = f"Cancelled: {reason or ''}" if queued else reason
        return job_id if job_id % 3 else multiple()

    @rule(job_id=ids, on=st.booleans())
    def power(self, job_id: int, on: bool) -> None:
        name = f"power_{'on' if on else 'off'}_job_boards"
        assert self.client.call(name, job_id) is None
        if job_id in self.living and job_id == min(self.living):
            self.living[job_id]["power"] = on

    @rule(job_id=ids)
    def keep_alive(self, job_id: int) -> None:
        assert self.client.call("job_keepalive", job_id) is None

    @rule(junk=JUNK)
    def ask_wrongly(self, junk: Any) -> None:
        for name in ("destroy_job", "power_on_job_boards", "get_job_state"):
            with pytest.raises(CommandError, match="job_id"):
                self.client.call(name, junk)

    @rule()
    def restart(self) -> None:
        self.server.stop_and_join()
        self.site.write(
            ONE_TRIAD.replace(
                "seconds_before_free",
                f"scheduling={self.scheduling!r}, seconds_before_free",
            )
        )
        self.server = self.site.start()
        self.clients = [self.site.connect(self.server) for _ in range(2)]

    @invariant()
    def the_server_says_so_too(self) -> None:
        if not hasattr(self, "server"):
            return
        oldest = min(self.living, default=None)
        if oldest is not None:
            self.living[oldest].setdefault("power", True)
            wait_until(lambda: self._state(oldest) == 3)
        listed = self.client.call("list_jobs")
        assert [job["job_id"] for job in listed] == sorted(self.living)
        for job in listed:
            expected = {"power": None, **self.living[job["job_id"]]}
            if job["job_id"] == oldest:
                expected |= {"state": 3, "allocated_machine_name": "m"}
                assert sorted(job.pop("boards")) == [[0, 0, z] for z in range(3)]
            else:
                expected |= {"state": 1, "allocated_machine_name": None}
                assert job.pop("boards") is None
                (place,) = job.pop("waiting")["queues"]
                waiting = sorted(self.living)[1:]
                assert place["place"] == waiting.index(job["job_id"]) + 1
            assert job.pop("start_time") > 0
            assert job == expected
        for job_id, reason in self.ended.items():
            state = self.client.call("get_job_state", job_id)
            assert (state["state"], state["reason"]) == (4, reason)
        assert self._state(self.next_id) == 0
        frame = self.site.simulator.frames["10.11.12.0"]
        on = oldest is not None and self.living[oldest]["power"]
        wait_until(lambda: frame.powered_boards == ({0, 1, 2} if on else set()))

    def _state(self, job_id: int) -> int:
        state = self.client.call("get_job_state", job_id)["state"]
        assert isinstance(state, int)
        return state


class JobsOfOne(Jobs):
    """The same where owners take turns."""

    scheduling = "backfill"
    only_owner = "one"


SETTINGS = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TestJobsOfOne = pytest.mark.slow(JobsOfOne.TestCase)
TestJobsOfOne.settings = SETTINGS

TestJobs = pytest.mark.slow(Jobs.TestCase)
TestJobs.settings = SETTINGS
