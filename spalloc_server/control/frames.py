"""The controllers of the frames of all machines, and of machines that are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol, TypeAlias

from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.configuration import Machine
from spalloc_server.hardware.requests import AtomicRequests

#: (cabinet, frame)
Frame = tuple[int, int]

Frames: TypeAlias = dict[Frame, AsyncBMPController]
"""The controllers of one machine. A machine that is made anew gets another one."""

MakeController: TypeAlias = Callable[
    [str, "Callable[[], object] | None"], AsyncBMPController
]
"""Makes a frame's controller from the hostname of its BMP, and what its thread is to
call first."""


class OnAnswer(Protocol):
    """Told whether a BMP answers, by the thread of its frame."""

    def __call__(
        self, machine_name: str, frame: Frame, frames: Frames, problem: str | None, /
    ) -> object:
        """Take what is wrong, None if it answers.

        :param frames: those of the machine that the BMP belongs to, or did
        """


class FrameControllers:
    """Makes, finds and retires the controller of each frame.

    For whoever holds the controller's lock; nothing in here waits.
    """

    def __init__(self) -> None:
        self._frames: dict[str, Frames] = {}
        # Of their BMPs.
        self._hostnames: dict[str, dict[Frame, str]] = {}
        # Those of removed machines, that may still have something to finish, with
        # the hostnames of their BMPs.
        self._retired: list[tuple[str, AsyncBMPController]] = []

    def make(
        self,
        machine: Machine,
        make: MakeController,
        on_thread_start: Callable[[], object] | None = None,
    ) -> None:
        """Make a controller for each frame of a machine.

        A BMP that those of removed machines are still busy with is left to them until
        they have finished; no other waits for that.

        :param on_thread_start: called first by the thread of each of them
        """
        frames: Frames = {}
        self._frames[machine.name] = frames
        self._hostnames[machine.name] = dict(machine.bmp_ips)
        self._retired = [
            (hostname, old)
            for hostname, old in self._retired
            if not getattr(old, "has_ended", False)
        ]
        predecessors: dict[str, list[AsyncBMPController]] = {}
        for hostname, old in self._retired:
            predecessors.setdefault(hostname, []).append(old)
        for frame, hostname in machine.bmp_ips.items():
            start = on_thread_start
            if hostname in predecessors:
                start = partial(_join_all, predecessors[hostname], on_thread_start)
            frames[frame] = make(hostname, start)

    def watch(self, machine_name: str, on_answer: OnAnswer) -> None:
        """Find out from now on whether the BMPs of a machine answer.

        :param on_answer: told when one does not answer, and when it does again; it may
            be told at once, so the machine has to be in place
        """
        frames = self._frames[machine_name]
        for frame, controller in frames.items():
            # Nothing more is asked of one than to be given requests; one that cannot
            # say whether its BMP is there is taken to have one.
            watch = getattr(controller, "watch", None)
            if watch is not None:
                watch(partial(on_answer, machine_name, frame, frames))

    def retire(self, machine_name: str) -> None:
        """Have those of a machine that goes, if there are any, end after what they
        have to do.
        """
        for frame, controller in self._frames.pop(machine_name, {}).items():
            # All of it: nobody would do it again. One that has only `stop` does so.
            getattr(controller, "finish", controller.stop)()
            self._retired.append((self._hostnames[machine_name][frame], controller))
        self._hostnames.pop(machine_name, None)

    def of_machine(self, machine_name: str) -> Frames | None:
        """The controllers of a machine, None if there is no such machine."""
        return self._frames.get(machine_name)

    def add_requests(
        self, machine_name: str, frame: Frame, requests: AtomicRequests
    ) -> None:
        """Hand requests to a frame; while the server is being stopped, they are lost.

        :raises KeyError: if there is no such machine or frame
        """
        controller = self._frames[machine_name][frame]
        with contextlib.suppress(RuntimeError):  # its thread has ended
            controller.add_requests(requests)

    def all(self) -> list[AsyncBMPController]:
        """Every controller that may still have something to do."""
        return [
            *(controller for _, controller in self._retired),
            *(c for frames in self._frames.values() for c in frames.values()),
        ]


def _join_all(
    controllers: Iterable[AsyncBMPController], then: Callable[[], object] | None
) -> None:
    """Wait until controllers have ended. Blocks."""
    for controller in controllers:
        controller.join()
    if then is not None:
        then()
