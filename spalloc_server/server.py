"""The server that shares out boards: its commands, and how it is launched.

The way of a command: the loop of `Server` reads a line of a client's
`.Connection`, `.commands` finds the method for it in
`SpallocServer`, and that checks its arguments and asks the
`.Controller`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import spalloc_server.admin.commands
import spalloc_server.admin.faults  # noqa: F401 (brings its commands, as that does)
from spalloc_server import __version__
from spalloc_server.command_line import run as cli
from spalloc_server.command_line.terminal import open_standard_streams
from spalloc_server.configuration import Configuration
from spalloc_server.controller import JobState
from spalloc_server.model.changes import (
    ClearProblem,
    CreateJob,
    DestroyJob,
    PowerOffJob,
    PowerOnJob,
    ReportProblem,
)
from spalloc_server.service import arguments, replies
from spalloc_server.service.base_server import DEFAULT_PORT, Server, _CriticalStop
from spalloc_server.service.gateways import Gateways
from spalloc_server.service.notifier import JOBS_CHANGED, MACHINES_CHANGED, Watches
from spalloc_server.service.registry import (
    _COMMANDS,
    changes,
    encodes,
    reads,
    spalloc_command,
)
from spalloc_server.wire.connection import Connection
from spalloc_server.wire.messages import LongReply

if TYPE_CHECKING:
    from spalloc_server.simulator import BMPSimulator

__all__ = [
    "DEFAULT_PORT",
    "_COMMANDS",
    "Server",
    "SpallocServer",
    "_CriticalStop",
    "main",
    "spalloc_command",
]

logger = logging.getLogger(__name__)

DEFAULT_KEEPALIVE = 60.0
"""Seconds of silence after which a job ends that does not say anything else."""


class SpallocServer(Server):
    """The server with all commands of the protocol, also as a context manager.

    Each command's first argument is the client that calls it; clients do not send it.
    Arguments are checked before anything changes; a `TypeError` or
    `ValueError` names the one that is wrong. Every command about a job keeps
    that job alive, and for a job or machine that does not exist it does nothing.
    """

    def __enter__(self) -> SpallocServer:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        self.stop_and_join()

    @spalloc_command
    @reads
    def version(self, _client: Connection) -> str:
        """Tell the server's version."""
        return __version__

    @spalloc_command
    @reads
    def speak_for_others(
        self, client: Connection, proof: str | None = None
    ) -> str | None:
        """Let a gateway prove that it knows the secret, see `.Gateways`.

        :param proof: for the challenge that was given before; None to get one
        :return: the challenge, None for a proof that is accepted
        """
        if proof is None:
            return self.gateways.challenge(client)
        self.gateways.prove(client, proof)
        return None

    # Jobs

    @spalloc_command
    @changes
    def create_job(  # noqa: DOC102 (it tells the keywords)
        self, client: Connection, *args: Any, **kwargs: Any
    ) -> CreateJob:
        """Ask for boards, and get the ID of the job that will have them.

        The forms are::

            create_job(owner="me")                   # any single board
            create_job(n, owner="me")                # at least n boards
            create_job(w, h, owner="me")             # w x h triads of boards
            create_job(x, y, z, machine="m", owner="me")  # this board

        The boards are powered on as soon as the job gets them. A job that no machine
        could ever run is created, too, but ends at once.

        :param owner: required, who asks
        :param keepalive: seconds of silence after which the job is destroyed (60), or
            None for never
        :param machine: the machine to use, None for any that has the tags
        :param tags: list of tags that the machine has to have, None for "default"; not
            together with ``machine``
        :param min_ratio: of the shape's height to its width, where only a number of
            boards is asked for (0.333)
        :param max_dead_boards: how many boards may be missing, None for any number
        :param max_dead_links: how many links may be dead, None for any number
        :param require_torus: only take boards whose edges are connected all around;
            not for single boards
        """
        size, options = arguments.check_create_job(args, kwargs)
        longest = self._configuration.longest_keepalive
        if longest is not None:
            asked = options.get("keepalive", DEFAULT_KEEPALIVE)
            asked = math.inf if asked is None else asked
            options["keepalive"] = float(min(asked, longest))
        return CreateJob(self._name(client), size, options)

    @spalloc_command
    @reads
    def job_keepalive(self, client: Connection, job_id: int) -> None:
        """Say that a job is still needed."""
        job_id = arguments.check_job_id(job_id)
        self._controller.job_keepalive(self._name(client), job_id)

    @spalloc_command
    @reads
    def get_job_state(self, client: Connection, job_id: int) -> dict[str, Any]:
        """Tell the state of a job: the fields of `.JobStateTuple`.

        Of a job that waits for boards also ``waiting``: see
        :py:class:`~spalloc_server.scheduling.waiting.Waiting`.
        """
        job_id = arguments.check_job_id(job_id)
        state = self._controller.get_job_state(self._name(client), job_id)
        waiting = self._controller.waiting(job_id)
        if waiting is None:
            return replies.job_state(state)
        return replies.waiting_job_state(state, waiting)

    @encodes("get_job_state")
    def _encoded_job_state(self, client: Connection, job_id: int) -> bytes:
        job_id = arguments.check_job_id(job_id)
        state = self._controller.get_job_state(self._name(client), job_id)
        is_queued = state.state is JobState.queued
        waiting = self._controller.waiting(job_id) if is_queued else None
        if waiting is None:
            return replies.job_state_reply(state)
        return replies.waiting_job_state_reply(state, waiting)

    @spalloc_command
    @reads
    def get_job_machine_info(self, client: Connection, job_id: int) -> dict[str, Any]:
        """Tell where a job's boards are, as `.JobMachineInfoTuple` does.

        ``connections`` is a list of ``[[x, y], hostname]``.
        """
        job_id = arguments.check_job_id(job_id)
        info = self._controller.get_job_machine_info(self._name(client), job_id)
        return replies.job_machine_info_reply(info)

    @spalloc_command
    @reads
    def describe_job(self, _client: Connection, job_id: int) -> dict[str, Any]:
        """Tell all there is to know of a job, without keeping it alive.

        The fields of `.JobTuple` and `.JobMachineInfoTuple`, and the reason if it has
        ended; None for those that do not apply.
        """
        job_id = arguments.check_job_id(job_id)
        waiting = self._controller.waiting
        return replies.job_description(*self._controller.describe_job(job_id), waiting)

    @spalloc_command
    @changes
    def power_on_job_boards(self, client: Connection, job_id: int) -> PowerOnJob:
        """Begin to power a job's boards on, or to reset those that are on."""
        return PowerOnJob(self._name(client), arguments.check_job_id(job_id))

    @spalloc_command
    @changes
    def power_off_job_boards(self, client: Connection, job_id: int) -> PowerOffJob:
        """Begin to power a job's boards off."""
        return PowerOffJob(self._name(client), arguments.check_job_id(job_id))

    @spalloc_command
    @changes
    def destroy_job(
        self, client: Connection, job_id: int, reason: str | None = None
    ) -> DestroyJob:
        """End a job and give its boards back; the reason is for people to read."""
        job_id = arguments.check_job_id(job_id)
        reason = arguments.check_reason(reason)
        return DestroyJob(self._name(client), job_id, reason)

    @spalloc_command
    @reads
    def list_jobs(self, _client: Connection) -> list[dict[str, Any]]:
        """List the jobs that have not ended, oldest first: `.JobTuple`."""
        waiting = self._controller.waiting
        return [replies.job_reply(job, waiting) for job in self._controller.list_jobs()]

    @encodes("list_jobs")
    def _encoded_jobs(self, _client: Connection) -> LongReply:
        jobs = self._controller.list_jobs()
        return replies.jobs_reply(jobs, self._controller.waiting_of)

    # Notifications

    @spalloc_command
    @reads
    def notify_job(self, client: Connection, job_id: int | None = None) -> None:
        """Begin to notify the client of changes of a job, None for all jobs.

        Notifications are ``{"jobs_changed": [job_id, ...]}``.
        """
        if job_id is not None:
            job_id = arguments.check_job_id(job_id)
        self._register_for_notifications(client, self._client_job_watches, job_id)

    @spalloc_command
    @reads
    def no_notify_job(self, client: Connection, job_id: int | None = None) -> None:
        """End what `notify_job` began, for a job or, with None, altogether.

        A single job cannot be taken out of all jobs.
        """
        if job_id is not None:
            job_id = arguments.check_job_id(job_id)
        self._unregister_for_notifications(client, self._client_job_watches, job_id)

    @spalloc_command
    @reads
    def notify_machine(
        self, client: Connection, machine_name: str | None = None
    ) -> None:
        """Begin to notify the client of changes of a machine, None for all machines.

        Notifications are ``{"machines_changed": [machine_name, ...]}``.
        """
        if machine_name is not None:
            machine_name = arguments.check_machine_name(machine_name)
        self._register_for_notifications(
            client, self._client_machine_watches, machine_name
        )

    @spalloc_command
    @reads
    def no_notify_machine(
        self, client: Connection, machine_name: str | None = None
    ) -> None:
        """End what `notify_machine` began, in the same way as for jobs."""
        if machine_name is not None:
            machine_name = arguments.check_machine_name(machine_name)
        self._unregister_for_notifications(
            client, self._client_machine_watches, machine_name
        )

    def _register_for_notifications(
        self, client: Connection, watchset: Watches, _id: int | str | None
    ) -> None:
        """Have a client watch something, None for everything of its kind."""
        self._notifier.watch(client, watchset, _id)

    def _unregister_for_notifications(
        self, client: Connection, watchset: Watches, _id: int | str | None
    ) -> None:
        """Undo `_register_for_notifications`, None for all of it."""
        self._notifier.unwatch(client, watchset, _id)

    @property
    def _client_job_watches(self) -> Watches:
        return self._notifier.job_watches

    @property
    def _client_machine_watches(self) -> Watches:
        return self._notifier.machine_watches

    def _send_change_notifications(self) -> None:
        """Notify those clients that watch them of changed jobs and machines."""
        jobs = self._controller.changed_jobs
        machines = self._controller.changed_machines
        try:
            if jobs:
                self._send_notifications(JOBS_CHANGED, jobs, self._client_job_watches)
            if machines:
                watches = self._client_machine_watches
                self._send_notifications(MACHINES_CHANGED, machines, watches)
        except Exception:
            # They are told in another turn: rather twice than never.
            self._controller.note_changed(jobs, machines)
            raise

    # Machines

    @spalloc_command
    @reads
    def list_machines(self, _client: Connection) -> list[dict[str, Any]]:
        """List the machines, highest priority first: `.MachineTuple`."""
        return [replies.machine_reply(m) for m in self._controller.list_machines()]

    @spalloc_command
    @changes
    def report_problem(
        self,
        client: Connection,
        ip_address: str,
        x: int | None = None,
        y: int | None = None,
        p: int | None = None,
        description: str | None = None,
    ) -> ReportProblem:
        """Say that something is wrong with the board that has this IP address.

        ``x`` and ``y`` may name a chip of the board and ``p`` one of its cores. Two
        reports by different jobs take a board out of service.
        """
        checked = arguments.check_problem(ip_address, x, y, p, description)
        # Before it is stored: reports without end would fill the disk.
        self._controller.check_problem(ip_address)
        return ReportProblem(self._name(client), *checked)

    @spalloc_command
    @reads
    def list_problems(
        self, _client: Connection, machine_name: str | None = None
    ) -> list[dict[str, Any]]:
        """List the boards that are out of service or were reported, and why.

        See `.Controller.list_problems` for what is told of each.
        """
        if machine_name is not None:
            machine_name = arguments.check_machine_name(machine_name)
        return self._controller.list_problems(machine_name)

    @encodes("list_problems")
    def _encoded_problems(
        self, _client: Connection, machine_name: str | None = None
    ) -> LongReply:
        if machine_name is not None:
            machine_name = arguments.check_machine_name(machine_name)
        boards = self._controller.boards_with_problems(machine_name)
        return replies.problems_reply(boards, self._controller.describe_problems)

    @spalloc_command
    @changes
    def clear_problem(
        self, client: Connection, machine_name: str, x: int, y: int, z: int
    ) -> ClearProblem:
        """Put a board back into service, and forget what was reported of it."""
        machine_name = arguments.check_machine_name(machine_name)
        board = arguments.check_coordinates(x=x, y=y, z=z)
        return ClearProblem(self._name(client), machine_name, *board)

    @spalloc_command
    @reads
    def get_board_position(
        self, _client: Connection, machine_name: str, x: int, y: int, z: int
    ) -> tuple[int, int, int] | None:
        """Tell the (cabinet, frame, board) where a board is; None if there is none."""
        machine_name = arguments.check_machine_name(machine_name)
        board = arguments.check_coordinates(x=x, y=y, z=z)
        return self._controller.get_board_position(machine_name, *board)

    @spalloc_command
    @reads
    def get_board_at_position(
        self, _client: Connection, machine_name: str, x: int, y: int, z: int
    ) -> tuple[int, int, int] | None:
        """Tell which board (x, y, z) is at a place, None if there is none.

        Here ``x``, ``y`` and ``z`` are the cabinet, the frame and the board in it.
        """
        machine_name = arguments.check_machine_name(machine_name)
        place = arguments.check_coordinates(x=x, y=y, z=z)
        return self._controller.get_board_at_position(machine_name, *place)

    @spalloc_command
    @reads
    def where_is(self, _client: Connection, **kwargs: Any) -> dict[str, Any] | None:
        """Tell where a board or chip is, None if there is none.

        The forms are::

            where_is(machine=..., x=..., y=..., z=...)
            where_is(machine=..., cabinet=..., frame=..., board=...)
            where_is(machine=..., chip_x=..., chip_y=...)
            where_is(job_id=..., chip_x=..., chip_y=...)
            where_is(ip_address=...)

        See `.describe_chip` for what is told.
        """
        return self._controller.where_is(**arguments.check_where_is(kwargs))


class _CommandLineServer(SpallocServer):
    """The server with what only the command line offers."""

    def __init__(self, options: cli.Options, prepare: cli.Prepare) -> None:
        self._prepare = prepare
        self._options = options
        self.watch_config = options.watch_config
        self.state_dir = options.state_dir
        try:
            self.observer = cli.make_observer(options)
        except ImportError as e:
            raise _CriticalStop(f"--http needs spalloc_server[web]: {e}") from e
        if options.gateway_secret is not None:
            # Few servers have gateways.
            from spalloc_server.storage.secret_file import read_or_make_secret

            try:
                secret = read_or_make_secret(options.gateway_secret)
            except OSError as e:
                raise _CriticalStop(e.strerror) from e
            self.gateways = Gateways(secret)
        port = DEFAULT_PORT if options.port is None else options.port
        super().__init__(options.config, options.cold_start, port)

    def _choose_port(self, configuration: Configuration) -> int:
        # Only here is it known whether 22244 was asked for or is the default.
        return configuration.port if self._options.port is None else self._options.port

    def _choose_ip(self, configuration: Configuration) -> str:
        # Who tries it out does not want to be found by others.
        return configuration.ip or ("127.0.0.1" if self._options.simulate else "")

    def _prepare_hardware(self, configuration: Configuration) -> None:
        self._prepare(configuration)

    @property
    def simulator(self) -> BMPSimulator | None:
        return self._prepare.simulator


def main(args: Sequence[str] | None = None) -> int:
    """Run the server from the command line until it is told to stop.

    ``SIGINT`` and ``SIGTERM`` stop it in good order, ``SIGHUP`` makes it read its
    config file again. Returns the exit status: 1 where it could not start or ended by
    an error.

    :param args: the arguments, those of the process if None
    :raises SystemExit: for arguments that cannot be used
    """
    open_standard_streams()
    return run(cli.parse_arguments(args))


def run(options: cli.Options, early: Sequence[int] = ()) -> int:
    """Do what `main` does, with arguments that have been read already.

    :param early: signals that have come, and may still, before this handles them
    """
    try:
        return cli.run(_CommandLineServer, options, early)
    except _CriticalStop as e:
        logger.critical("%s", e)
        return 1
