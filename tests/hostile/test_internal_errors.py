"""Errors of the server itself, in the midst of a command.

Whatever raises, and wherever: the command is refused, nothing else suffers, no boards
are lost, and a crash after that does not bring back what was refused.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from spalloc_server.allocator import Allocator
from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.control.deadlines import Deadlines
from spalloc_server.control.job_lifecycle import JobLifecycle
from spalloc_server.control.job_power import JobPower
from spalloc_server.control.machine_set import MachineSet
from spalloc_server.control.parts import Parts
from spalloc_server.control.state import State
from spalloc_server.controller import Controller
from spalloc_server.job_queue import JobQueue
from spalloc_server.model.board_index import BoardIndex
from spalloc_server.model.job import _Job
from spalloc_server.model.keepalives import Keepalives
from spalloc_server.observe.observer import Observer
from spalloc_server.scheduling.limits import Limits
from spalloc_server.scheduling.recent import RecentTimes
from spalloc_server.server import SpallocServer
from spalloc_server.service import loop
from spalloc_server.service.config_source import ConfigSource
from spalloc_server.service.notifier import Notifier
from spalloc_server.service.reception import Reception
from spalloc_server.service.timers import Timers
from spalloc_server.storage import store as store_module
from spalloc_server.storage.lock_file import StateLock
from spalloc_server.storage.rewriting import Rewriting
from spalloc_server.storage.store import StateStore
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.connection import Connection
from tests.support import ONE_TRIAD, Client, CommandError, Site, ready, wait_until

MESSAGE = "something is wrong in here"


class InjectedError(Exception):
    """Something that nobody expects."""


class Fault:
    """Has a method raise once when that has been armed, before or after its work.

    It is put in place before the server is made, which remembers some methods.
    """

    def __init__(self, undo: ExitStack, holder: type, name: str, after: bool) -> None:
        self._original = getattr(holder, name)
        self._after = after
        self.name = name
        self.armed = False
        fault = self

        def method(*args: Any, **kwargs: Any) -> Any:
            return fault(*args, **kwargs)

        undo.enter_context(mock.patch.object(holder, name, method))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.armed:
            return self._original(*args, **kwargs)
        self.armed = False
        if self._after:
            self._original(*args, **kwargs)
        raise InjectedError(MESSAGE)

    def strike(self, client: Client, command: str, *args: Any, **kwargs: Any) -> None:
        """Have a command meet the error, which is all that it says."""
        self.armed = True
        client.send_command(command, *args, **kwargs)
        reply = client.reply()
        assert MESSAGE in reply.get("exception", ""), reply


def restart_as_after_a_kill(site: Site, server: SpallocServer) -> SpallocServer:
    """Have another server go on from the files as they are now."""
    folder = site.config.parent
    copy = folder / "copy"
    copy.mkdir()
    for path in folder.glob(".spalloc.cfg.state*"):
        shutil.copy2(path, copy / path.name)
    server.stop_and_join()
    for path in folder.glob(".spalloc.cfg.state*"):
        path.unlink()
    for path in copy.iterdir():
        shutil.copy2(path, folder / path.name)
    return site.start()


def jobs_of(client: Client) -> list[tuple[int, str, int]]:
    return [
        (job["job_id"], job["owner"], job["state"]) for job in client.call("list_jobs")
    ]


CREATING = [
    *((Allocator, "alloc"), (BoardIndex, "occupy"), (JobLifecycle, "allocated")),
    *((JobLifecycle, "set_power"), (JobLifecycle, "_tell")),
    *((JobPower, "request"), (JobQueue, "add_job"), (JobQueue, "make_job")),
    *((Keepalives, "watch"), (Limits, "take_on"), (Limits, "hold")),
    *((RecentTimes, "add"), (_Job, "give_boards")),
    (AsyncBMPController, "add_requests"),
]

DESTROYING = [
    *((BoardIndex, "leave"), (JobLifecycle, "destroy"), (JobLifecycle, "end")),
    *((JobLifecycle, "set_power"), (JobLifecycle, "_tell"), (JobPower, "request")),
    *((JobQueue, "destroy_job"), (Limits, "release"), (RecentTimes, "add")),
    *((State, "forget_old_jobs"), (AsyncBMPController, "add_requests")),
]

POWERING = [
    *((JobLifecycle, "power_off"), (JobLifecycle, "set_power"), (JobPower, "request")),
    *((JobLifecycle, "_tell"), (AsyncBMPController, "add_requests")),
]

FORGETFUL = ONE_TRIAD.replace("seconds_", "max_retired_jobs=0, seconds_")
"""Nothing is kept of a job that ends, so that each time there is one to forget."""

QUICK = ((JobLifecycle, "set_power"), (JobQueue, "add_job"), (BoardIndex, "leave"))

POINTS = [
    pytest.param(
        *(command, holder, name, after),
        id=f"{command}-{when}-{holder.__name__}.{name}",
        marks=pytest.mark.slow if (holder, name) not in QUICK else (),
    )
    for command, points in (
        ("create_job", CREATING),
        ("destroy_job", DESTROYING),
        ("power_off_job_boards", POWERING),
    )
    for holder, name in points
    for after, when in ((False, "before"), (True, "after"))
]


@pytest.mark.parametrize(("command", "holder", "name", "after"), POINTS)
def test_an_error_in_the_midst_of_a_command_costs_that_command_only(
    tmp_path: Path, command: str, holder: type, name: str, after: bool
) -> None:
    with ExitStack() as undo:
        fault = Fault(undo, holder, name, after)
        site = Site(tmp_path, undo)
        site.write(FORGETFUL)
        server = site.start()
        client = site.connect(server)
        kept = client.call("create_job", owner="kept", keepalive=None)
        other = client.call("create_job", owner="other", keepalive=None)
        wait_until(lambda: ready(client, kept) and ready(client, other))
        if command == "create_job":
            fault.strike(client, command, owner="new", keepalive=None)
        else:
            fault.strike(client, command, other)
        # Nothing is half done.
        wait_until(lambda: all(state in (1, 3) for _, _, state in jobs_of(client)))
        assert ready(client, kept)
        ids = [job_id for job_id, _, _ in jobs_of(client)]
        assert ids in ([kept], [kept, other])
        # What others were told since is kept, what was refused does not come back.
        last = client.call("create_job", owner="last", keepalive=None)
        wait_until(lambda: ready(client, last))
        before = jobs_of(client)
        again = restart_as_after_a_kill(site, server)
        client = site.connect(again)
        wait_until(lambda: jobs_of(client) == before)
        # All boards can be had: none has been lost.
        for job_id, _, _ in before:
            client.call("destroy_job", job_id)
        whole = client.call("create_job", 1, 1, owner="all", keepalive=None)
        wait_until(lambda: ready(client, whole))


@pytest.mark.slow
def test_boards_are_not_lost_until_a_restart(tmp_path: Path) -> None:
    with ExitStack() as undo:
        faults = {
            command: [
                Fault(undo, holder, name, after)
                for holder, name in points
                for after in (False, True)
            ]
            for command, points in (
                ("create_job", CREATING),
                ("destroy_job", DESTROYING),
            )
        }
        site = Site(tmp_path, undo)
        site.write(FORGETFUL)
        server = site.start()
        client = site.connect(server)
        for fault in faults["create_job"]:
            fault.strike(client, "create_job", owner="new", keepalive=None)
            assert jobs_of(client) == []
            use_all(server, client)
        for fault in faults["destroy_job"]:
            job_id = client.call("create_job", owner="me", keepalive=None)
            wait_until(lambda job_id=job_id: ready(client, job_id))  # type: ignore[misc]
            fault.strike(client, "destroy_job", job_id)
            for left, _, _ in jobs_of(client):
                client.call("destroy_job", left)
            use_all(server, client)


def use_all(server: SpallocServer, client: Client) -> None:
    """Have a job get all boards there are, which none may be missing of."""
    whole = client.call("create_job", 1, 1, owner="all", keepalive=None)
    wait_until(lambda: ready(client, whole))
    client.call("destroy_job", whole)
    wait_until(lambda: not server.controller._state.ending_jobs)


def test_while_the_whole_cannot_be_written_nothing_is_promised(tmp_path: Path) -> None:
    with ExitStack() as undo:
        fault = Fault(undo, JobLifecycle, "create", after=False)
        site = Site(tmp_path, undo)
        client = site.connect(site.start())
        client.call("create_job", owner="first", keepalive=None)
        full = OSError(28, "No space left on device")
        with mock.patch.object(StateStore, "_rewrite", side_effect=full):
            fault.strike(client, "create_job", owner="refused", keepalive=None)
            with pytest.raises(CommandError, match="cannot be stored"):
                client.call("create_job", owner="late", keepalive=None)
        assert [owner for _, owner, _ in jobs_of(client)] == ["first"]
        wait_until(lambda: is_created(client, "late"))


def test_others_wait_while_much_state_is_written_and_are_not_refused(
    tmp_path: Path,
) -> None:
    with ExitStack() as undo:
        fault = Fault(undo, JobLifecycle, "create", after=True)
        # As if there were many jobs, which a child process then writes.
        undo.enter_context(mock.patch.object(store_module, "JOBS_AT_ONCE", 0))
        begun = undo.enter_context(
            mock.patch.object(store_module, "Rewriting", wraps=Rewriting)
        )
        site = Site(tmp_path, undo)
        server = site.start()
        client, other = site.connect(server), site.connect(server)
        first = client.call("create_job", owner="first", keepalive=None)
        for number in range(1, 4):
            fault.strike(client, "create_job", owner="refused", keepalive=None)
            for client_of in (client, other):
                client_of.send_command("create_job", owner="next", keepalive=None)
                client_of.send_command("job_keepalive", first)
            assert "return" in client.reply()
            assert "return" in other.reply()
            assert client.reply() == other.reply() == {"return": None}
            assert begun.call_count == number
        before = jobs_of(client)
        client = site.connect(restart_as_after_a_kill(site, server))
        assert [job[:2] for job in jobs_of(client)] == [job[:2] for job in before]


def is_created(client: Client, owner: str) -> bool:
    client.send_command("create_job", owner=owner, keepalive=None)
    return "return" in client.reply()


OFTEN = ONE_TRIAD.replace(
    "    machines=[", "    timeout_check_interval=0.1, machines=["
)

LOOP = [
    *((Timers, "check"), (Timers, "give_out_free_boards"), (ConfigSource, "poll")),
    *((Notifier, "send"), (StateStore, "commit_events"), (StateLock, "look")),
    *((Reception, "look"), (Observer, "turned"), (Controller, "destroy_silent_jobs")),
    *((Controller, "check_free"), (Clients, "note_events")),
    (Parts, "look_after_boards"),
]


def test_an_error_in_the_loop_itself_costs_nobody_anything(tmp_path: Path) -> None:
    with ExitStack() as undo:
        faults = [
            Fault(undo, holder, name, after)
            for holder, name in LOOP
            for after in (False, True)
        ]
        site = Site(tmp_path, undo)
        site.write(OFTEN)
        # The first look is at the start, and the next after this.
        undo.enter_context(mock.patch.object(loop, "LOOK_SECONDS", 0.1))
        server = site.start()
        client = site.connect(server)
        for number, fault in enumerate(faults, 1):
            fault.armed = True
            wait_until(lambda: is_created(client, "me"))
            (job_id,) = (job_id for job_id, _, _ in jobs_of(client))
            wait_until(lambda job_id=job_id: ready(client, job_id))  # type: ignore[misc]
            wait_until(lambda fault=fault: not fault.armed)  # type: ignore[misc]
            wait_until(lambda: server.store.problem is None)
            client.call("destroy_job", job_id)
            told = server.internal_errors
            assert sum(told.values()) == number, (fault.name, told)
        use_all(server, client)
        assert server.is_alive()


def test_a_watcher_misses_nothing_because_of_an_error(tmp_path: Path) -> None:
    with ExitStack() as undo:
        before = Fault(undo, Notifier, "send", after=False)
        notify = Fault(undo, Connection, "notify", after=False)
        site = Site(tmp_path, undo)
        server = site.start()
        watcher, other, client = (site.connect(server) for _ in range(3))
        watcher.call("notify_job")
        before.armed = True
        job_id = client.call("create_job", owner="me", keepalive=None)
        assert watcher.notification() == {"jobs_changed": [job_id]}
        assert server.internal_errors == {"notifications": 1}
        # An error with one of them costs that one its connection, and no other's news.
        wait_until(lambda: ready(client, job_id))
        other.call("notify_job")
        notify.armed = True
        client.call("destroy_job", job_id)
        assert watcher.is_disconnected()
        while job_id not in other.notification()["jobs_changed"]:
            pass
        assert server.internal_errors == {"notifications": 1}


def test_an_error_in_a_reload_leaves_the_old_configuration_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as undo:
        faults = [
            Fault(undo, MachineSet, "_add", after=True),
            Fault(undo, JobQueue, "set_limits", after=False),
        ]
        site = Site(tmp_path, undo)
        server = site.start()
        client = site.connect(server)
        kept = client.call("create_job", owner="kept", keepalive=None)
        wait_until(lambda: ready(client, kept))
        second = ONE_TRIAD.replace('"m"', '"n"').replace("10.11.12", "10.11.13")
        both = f"{ONE_TRIAD}\nold = configuration.machines\n{second}\n"
        both += "configuration = configuration._replace("
        both += "machines=[*old, *configuration.machines], jobs_per_owner=9)\n"
        for fault in faults:
            site.write(both)
            fault.armed = True
            before = server.config_source.finished
            server.request_reload()
            wait_until(lambda before=before: server.config_source.finished > before)  # type: ignore[misc]
            assert server.config_source.outcome.problem == "there was an internal error"
            assert [m["name"] for m in client.call("list_machines")] == ["m"]
            assert server.controller.settings.jobs_per_owner is None
            assert ready(client, kept)
        server.request_reload()
        wait_until(lambda: len(client.call("list_machines")) == 2)
        assert server.controller.settings.jobs_per_owner == 9
        assert ready(client, kept)


RESULTS = [
    *((JobLifecycle, "ready"), (JobLifecycle, "free"), (JobLifecycle, "frame_done")),
    *((Deadlines, "time_out"), (BoardIndex, "leave"), (JobQueue, "free")),
]


def test_an_error_in_a_frames_thread_costs_nobody_anything(tmp_path: Path) -> None:
    with ExitStack() as undo:
        faults = [
            Fault(undo, holder, name, after)
            for holder, name in RESULTS
            for after in (False, True)
            if (name, after) != ("frame_done", False)  # then it does not know of it
        ]
        site = Site(tmp_path, undo)
        site.write(OFTEN)
        server = site.start()
        client = site.connect(server)
        kept = client.call("create_job", owner="kept", keepalive=None)
        wait_until(lambda: ready(client, kept))
        for fault in faults:
            fault.armed = True
            job_id = client.call("create_job", owner="me", keepalive=0.3)
            wait_until(lambda job_id=job_id: job_id not in ids(client))  # type: ignore[misc]
            # No command is refused because of it, and what is stored is what there is.
            other = client.call("create_job", owner="other", keepalive=None)
            wait_until(lambda other=other: ready(client, other))  # type: ignore[misc]
            client.call("destroy_job", other)
            wait_until(lambda: not server.controller._state.ending_jobs)
            assert not fault.armed, fault.name
        assert ready(client, kept)
        before = jobs_of(client)
        client = site.connect(restart_as_after_a_kill(site, server))
        assert jobs_of(client) == before
        client.call("destroy_job", kept)
        whole = client.call("create_job", 1, 1, owner="all", keepalive=None)
        wait_until(lambda: ready(client, whole))


def ids(client: Client) -> list[int]:
    return [job_id for job_id, _, _ in jobs_of(client)]
