"""What a new configuration changes: settings and machines, and who is told of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from spalloc_server import __version__
from spalloc_server.config.changes import (
    compare_machines,
    fingerprints,
    harmless_settings,
)
from spalloc_server.configuration import Configuration, Machine
from spalloc_server.control.change_log import EventFailedError
from spalloc_server.control.machine_set import Settings
from spalloc_server.controller import Controller

logger = logging.getLogger(__name__)

Machines = Mapping[str, Machine]
"""Machines by name, highest priority first."""


def put_in_force(controller: Controller, configuration: Configuration) -> str:
    """Have a controller go by the settings and machines of a configuration.

    :return: what has changed of the machines, in one line
    """
    settings = Settings(
        configuration.max_retired_jobs,
        configuration.seconds_before_free,
        configuration.first_board_retry,
        configuration.longest_board_retry,
        configuration.scheduling,
        configuration.longest_overtaking,
        configuration.boards_per_owner,
        configuration.jobs_per_owner,
    )
    old = controller.machines
    new = {machine.name: machine for machine in configuration.machines}
    _announce_losses(controller, old, new)
    try:
        controller.configure(settings, new)
    except EventFailedError:
        in_force = list(controller.machines.items()) == list(new.items())
        if not in_force or controller.settings != settings:
            raise
        # It is in force, and something that has come of it had to be mended.
    summary = _summary(old, new)
    logger.info("Machines: %s", summary)
    return summary


def facts(configuration: Configuration, address: tuple[str, int]) -> dict[str, Any]:
    """Where a server is and what it serves, for ``--check``."""
    return {
        "version": __version__,
        "address": address,
        "machines": fingerprints(configuration.machines),
        "settings": harmless_settings(configuration.machines),
    }


def _announce_losses(controller: Controller, old: Machines, new: Machines) -> None:
    """Log which running jobs a change of machines is about to destroy."""
    removed = set(compare_machines(old, new).removed)
    for job in controller.list_jobs() if removed else ():
        name = job.allocated_machine_name
        if name in removed:
            logger.warning(
                "Job %d of %s (%d boards) will be destroyed: machine %s %s",
                job.job_id,
                job.owner,
                len(job.boards or ()),
                name,
                "has been rewired or readdressed"
                if name in new
                else "has been removed",
            )


def _summary(old: Machines, new: Machines) -> str:
    """What has changed between two sets of machines, in one line."""
    changes = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    parts = [f"{what}: {', '.join(names)}" for what, names in changes.items() if names]
    return "; ".join(parts) or "unchanged"
