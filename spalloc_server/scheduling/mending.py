"""Put in order who has which boards, after an error in the midst of a change."""

from __future__ import annotations

from collections.abc import Container, Mapping

from spalloc_server.scheduling.machine import _Machine
from spalloc_server.scheduling.state import QueueState


def put_in_order(
    state: QueueState, with_boards: Mapping[int, bool], ending: Container[int]
) -> None:
    """Drop jobs that nobody knows, and take back boards that no job has.

    Who stands where, and what owners have, is to be found out anew after that.

    :param with_boards: the jobs that have not ended, and whether each has boards
    :param ending: the jobs that have ended, but have not been freed
    """
    for machine in state.machines.values():
        machine.allocator.mend()
    # One that was to hold the boards of another may have changed its number.
    jobs = list(state.jobs.values())
    state.jobs.clear()
    state.jobs.update((job.id, job) for job in jobs)
    for job in list(state.jobs.values()):
        if job.id in ending and job.allocation_id is not None:
            job.pending, job.ending = False, True
        elif job.id not in with_boards:
            del state.jobs[job.id]
        elif not with_boards[job.id]:
            job.pending, job.ending = True, False
            job.machine = job.allocation_id = None
        else:
            job.ending = False
    for machine in state.machines.values():
        machine.holders = {
            job.allocation_id: job
            for job in state.jobs.values()
            if job.machine is machine and job.allocation_id is not None
        }
        _free_unheld(machine)


def _free_unheld(machine: _Machine) -> None:
    """Take back the boards of a machine that no job has."""
    for allocation_id, is_cooling, _ in list(machine.allocator.holdings()):
        if not is_cooling and allocation_id not in machine.holders:
            machine.allocator.free(allocation_id)
