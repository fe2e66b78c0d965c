"""The machines and settings in force: what a new configuration changes of them."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from spalloc_server.config.changes import compare_machines
from spalloc_server.configuration import Machine
from spalloc_server.control.availability import Availability
from spalloc_server.control.change_log import ChangeLog
from spalloc_server.control.frames import FrameControllers
from spalloc_server.control.sick_boards import SickBoards
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board
from spalloc_server.model.board_states import BoardState, states_of_boards
from spalloc_server.model.changes import Configured
from spalloc_server.model.job_tuples import JobState, MachineTuple
from spalloc_server.model.load import Load, MachineLoad, boards_asked
from spalloc_server.model.machine_record import machine_from_record, machine_to_record


class Settings(NamedTuple):
    """What a configuration says beside the machines."""

    max_retired_jobs: int
    """Of how many ended jobs the reason is remembered."""
    seconds_before_free: float
    """How long boards powered off from now on stay unused."""
    first_board_retry: float
    """Seconds until a board out of service is tried again; twice as long each time
    after that."""
    longest_board_retry: float
    """But never longer than these seconds."""
    scheduling: str
    """Who is tried where the head of a queue does not fit, see `JobQueue`."""
    longest_overtaking: float
    """For how many seconds the head of a queue may be overtaken at most."""
    boards_per_owner: int | None
    """How many boards an owner may hold at a time; None for any number."""
    jobs_per_owner: int | None
    """How many jobs an owner may have that have not ended; None for any number."""


class MachineSet:
    """Keeps the machines, and all that knows them, in step with the configuration.

    For whoever holds the controller's lock.
    """

    def __init__(
        self,
        state: State,
        log: ChangeLog,
        frames: FrameControllers,
        sick_boards: SickBoards,
        availability: Availability,
        make_frames: Callable[[Machine], object],
    ) -> None:
        """Look after machines.

        :param state: its `machines` are only changed in here
        :param log: what is changed goes through it
        :param frames: of all machines
        :param availability: knows which boards jobs may have
        :param make_frames: makes the controllers of a new machine's frames
        """
        self._state = state
        self._log = log
        self._frames = frames
        self._sick_boards = sick_boards
        self._availability = availability
        self._make_frames = make_frames
        # Names of machines that are being added or removed: half of it may be done.
        self._unfinished: frozenset[str] = frozenset()
        # While a configuration is being put in force: those of before.
        self._settings_before: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        state = self._state
        return Settings(
            state.max_retired_jobs,
            state.job_queue.seconds_before_free,
            state.health.first_interval,
            state.health.longest_interval,
            state.job_queue.scheduling,
            state.job_queue.longest_overtaking,
            *state.job_queue.limits,
        )

    def configure(
        self, settings: Settings, machines: Mapping[str, Machine] | None = None
    ) -> None:
        """Have settings and machines in force, if they are not already.

        Jobs on machines that are removed are destroyed.

        :param machines: by name, highest priority first; None leaves them
        """
        old = self.settings._asdict()
        changed = {
            name: value
            for name, value in settings._asdict().items()
            if value != old[name]
        }
        records = None
        # As lists: the order of machines counts.
        if machines is not None and list(machines.items()) != list(
            self._state.machines.items()
        ):
            records = [machine_to_record(machine) for machine in machines.values()]
        if changed or records is not None:
            self._log.happen(Configured(changed, records))

    def apply(self, change: Configured) -> None:
        """Have a new configuration in force."""
        self._settings_before = self.settings
        added: Collection[str] = ()
        # As one change: nobody starts by rules that are half the old ones.
        with self._state.job_queue:
            self._set(self.settings._replace(**change.settings))
            if change.machines is not None:
                machines = map(machine_from_record, change.machines)
                added = self._change_machines(
                    OrderedDict((m.name, m) for m in machines)
                )
            # From here on it is in force, whatever comes of it.
            self._settings_before = None
        self._state.forget_old_jobs()
        # After all that comes of the change: an answer is an event of its own.
        if not self._log.is_dormant:
            for name in added:
                self.watch_frames(name)

    def _set(self, settings: Settings) -> None:
        state, queue = self._state, self._state.job_queue
        state.max_retired_jobs = settings.max_retired_jobs
        queue.seconds_before_free = settings.seconds_before_free
        state.health.first_interval = settings.first_board_retry
        state.health.longest_interval = settings.longest_board_retry
        queue.scheduling = settings.scheduling
        queue.longest_overtaking = settings.longest_overtaking
        queue.set_limits(settings.boards_per_owner, settings.jobs_per_owner)

    def _change_machines(self, machines: OrderedDict[str, Machine]) -> Collection[str]:
        """Have other machines in force; the names of those that are new."""
        state = self._state
        changes = compare_machines(state.machines, machines)
        self._unfinished = frozenset({*changes.removed, *changes.added})
        with state.job_queue:
            for name in changes.removed:
                self._remove(name)
                self._sick_boards.machine_removed(name, comes_back=name in machines)
                if name not in machines:
                    state.withheld.forget_machine(name)
            for name in changes.added:
                self._add(machines[name])
            for name in changes.modified:
                machine = machines[name]
                dead, withheld = self._availability.dead_and_withheld(machine)
                state.job_queue.modify_machine(
                    name, machine.tags, dead, machine.dead_links
                )
                state.job_queue.withhold(name, withheld)
            for name in machines:
                state.job_queue.move_machine_to_end(name)
            state.machines = machines
            state.boards.set_machines(machines.values())
            state.changed_machines.update(*changes)
            self._unfinished = frozenset()
        return changes.added

    def mend(self) -> None:
        """Put in order what an error in the midst of a new configuration has left.

        The settings and machines that were in force still are. Jobs on a machine that
        was to be replaced, or to go, have ended.
        """
        unfinished, self._unfinished = self._unfinished, frozenset()
        settings, self._settings_before = self._settings_before, None
        if settings is None:
            return
        state = self._state
        with state.job_queue as queue:
            self._set(settings)
            for name in unfinished:
                with contextlib.suppress(KeyError):
                    self._remove(name)
                machine = state.machines.get(name)
                if machine is not None:
                    self._add(machine)
            for name, machine in state.machines.items():
                dead, _ = self._availability.dead_and_withheld(machine)
                queue.modify_machine(name, machine.tags, dead, machine.dead_links)
                queue.move_machine_to_end(name)
        for name in unfinished & state.machines.keys():
            self.watch_frames(name)

    def _add(self, machine: Machine) -> None:
        if not self._log.is_dormant:
            self._make_frames(machine)
        dead, withheld = self._availability.dead_and_withheld(machine)
        self._state.job_queue.add_machine(
            machine.name,
            machine.width,
            machine.height,
            machine.tags,
            dead,
            machine.dead_links,
        )
        self._state.job_queue.withhold(machine.name, withheld)

    def _remove(self, name: str) -> None:
        """Remove a machine, destroying its jobs.

        The controllers of its frames first finish what they have to do.
        """
        self._state.job_queue.remove_machine(name)
        for job in self._state.ending_jobs.values():
            if job.machine.name == name:
                job.machine_removed = True
        if not self._log.is_dormant:
            self._frames.retire(name)

    def watch_frames(self, name: str) -> None:
        """Find out from now on whether the BMPs of a machine answer."""
        self._frames.watch(name, self._sick_boards.bmp_heard)

    def tuples(self) -> list[MachineTuple]:
        """What those who ask about all machines are told."""
        return [
            MachineTuple(
                machine.name,
                machine.tags,
                machine.width,
                machine.height,
                self._availability.dead_boards(machine),
                machine.dead_links,
            )
            for machine in self._state.machines.values()
        ]

    def board_states(self, name: str) -> dict[Board, BoardState]:
        """The state of every board of a machine.

        :raises KeyError: if there is no such machine
        """
        machine = self._state.machines[name]
        return states_of_boards(
            machine,
            self._availability.boards_out(machine),
            self._state.job_queue.holdings(name),
            self._state.boards,
            self._state.ending_jobs.values(),
            self._availability.drained(machine),
        )

    def load(self) -> Load:
        """How busy the machines are."""
        in_use: Counter[str] = Counter()
        waiting = wanted = 0
        for job in self._state.jobs.values():
            if job.boards is not None and job.machine is not None:
                in_use[job.machine.name] += len(job.boards)
            elif job.state is JobState.queued:
                waiting += 1
                wanted += boards_asked(job.args)
        machines = {}
        for machine in self._state.machines.values():
            withheld = self._availability.dead_boards(machine) - machine.dead_boards
            boards = len(machine.board_locations.keys() - machine.dead_boards)
            machines[machine.name] = MachineLoad(
                boards, in_use[machine.name], len(withheld)
            )
        return Load(machines, waiting, wanted)
