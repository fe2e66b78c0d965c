"""``--check``: what is in a config file, and what a running server would do with it.

Nothing is changed: no file is written, no lock taken, and the running server is only
asked to list its jobs and machines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from spalloc_server import __version__
from spalloc_server.command_line.log_formats import set_up_logging
from spalloc_server.command_line.options import Options
from spalloc_server.command_line.query import ServerQueryError, query
from spalloc_server.command_line.simulation import simulation
from spalloc_server.command_line.terminal import prepare_output, printable, say
from spalloc_server.config.changes import (
    Fingerprint,
    MachineChanges,
    compare_fingerprints,
    fingerprints,
    harmless_settings,
)
from spalloc_server.config.doubts import doubts_about, doubts_about_files
from spalloc_server.config.reading import read_configuration
from spalloc_server.config.script import ConfigFileError
from spalloc_server.configuration import Configuration
from spalloc_server.links import Links
from spalloc_server.storage import names
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.lock_file import LockHolder, lock_holder
from spalloc_server.storage.reference_state import reference_states

_ERROR: Final = "error: "
"""What a line begins with that is more than suspicious."""


class CheckRequest(NamedTuple):
    """What is to be checked."""

    config: str
    state_stem: str
    """The name that the state's files are made of: that of the config file, but in
    the folder of the state."""
    state_dir: str | None
    probe: bool


def check_only(options: Options) -> int:
    """Check a config file instead of running a server; gives the exit status."""
    prepare_output()
    set_up_logging("error", options.log_format)
    stem = names.stem_in(options.config, options.state_dir)
    request = CheckRequest(options.config, stem, options.state_dir, options.probe)
    if not options.simulate:
        return check(request)
    with simulation() as prepare:
        return check(request, prepare)


def check(
    request: CheckRequest, prepare: Callable[[Configuration], object] | None = None
) -> int:
    """Print what there is to say.

    :param prepare: called before BMPs are probed
    :return: the exit status: 0 if the server would take the configuration, and all BMPs
        that were probed answer, else 1
    """
    try:
        configuration = read_configuration(request.config)
        if request.probe and prepare is not None:
            prepare(configuration)
    except (ConfigFileError, OSError) as e:
        print(printable(f"{e}"), file=sys.stderr)
        return 1
    try:
        status = 0
        for line in findings(request, configuration):
            say(printable(line))
            if line.startswith(_ERROR):
                status = 1
    except OSError as e:
        print(printable(f"cannot print what was found: {e}"), file=sys.stderr)
        return 1
    return status


def findings(request: CheckRequest, configuration: Configuration) -> Iterator[str]:
    """Say what is in a configuration, and what a running server would do with it."""
    yield f"{request.config}: the configuration is valid"
    yield from _description(configuration)
    for doubt in doubts_about(configuration):
        yield f"suspicious: {doubt}"
    for doubt in doubts_about_files(request.config, request.state_dir):
        yield f"suspicious: {doubt}"
    for line in reference_states(request.config, request.state_stem):
        yield f"state: {line}"
    if request.probe:
        yield from _probe(configuration)
    yield from _effects(request, configuration)


# What is in the configuration


def _description(configuration: Configuration) -> Iterator[str]:
    for machine in configuration.machines:
        boards = set(machine.board_locations)
        dead = boards & machine.dead_boards
        yield (
            f"machine {machine.name}: {machine.width} x {machine.height} triads, "
            f"{len(boards)} boards, {len(boards - dead)} of them working; "
            f"tags: {', '.join(sorted(machine.tags)) or 'none'}"
        )
        for (cabinet, frame), bmp in sorted(machine.bmp_ips.items()):
            numbers = [
                location[2]
                for board, location in machine.board_locations.items()
                if location[:2] == (cabinet, frame) and board not in dead
            ]
            yield (
                f"  cabinet {cabinet} frame {frame}: BMP {bmp}, "
                f"{len(numbers)} working boards"
            )
        for board in sorted(dead):
            cabinet, frame, number = machine.board_locations[board]
            yield (
                f"  dead board {board}: cabinet {cabinet} frame {frame} board {number}"
            )
        for x, y, z, link in sorted(machine.dead_links):
            yield f"  dead link {x, y, z} {Links(link).name}"


def _probe(configuration: Configuration) -> Iterator[str]:
    frames = [
        (machine, frame, bmp)
        for machine in configuration.machines
        for frame, bmp in sorted(machine.bmp_ips.items())
    ]
    if not frames:
        return
    # Most of the time of a check would go into importing what it is done with.
    from spalloc_server.command_line.probe import problems_of_bmps

    problems = problems_of_bmps([bmp for *_, bmp in frames])
    for (machine, (cabinet, frame), _), problem in zip(frames, problems, strict=True):
        if problem is not None:
            yield (
                f"{_ERROR}machine {machine.name} cabinet {cabinet} frame {frame}: "
                f"{problem}"
            )
    yield f"probed: {problems.count(None)} of {len(frames)} BMPs answer"


# What a running server would do


def _effects(request: CheckRequest, configuration: Configuration) -> Iterator[str]:
    """Say what a reload would do to the server that runs with this config file."""
    try:
        holder = lock_holder(names.lock_file(request.state_stem))
    except (StateFileError, OSError) as e:
        yield f"server: {e}"
        return
    if holder is None:
        yield "server: none is running with this config file"
        return
    yield from _effects_on(holder, configuration)


def _effects_on(holder: LockHolder, configuration: Configuration) -> Iterator[str]:
    facts = holder.facts
    if not facts:
        yield f"server: process {holder.pid} is just starting"
        return
    host, port = facts["address"]
    yield (
        f"server: version {facts['version']}, process {holder.pid}, "
        f"at {host} port {port}"
    )
    if facts["version"] != __version__:
        yield f"suspicious: this check is of another version, {__version__}"
    old = {name: Fingerprint(*marks) for name, marks in facts["machines"].items()}
    changes = compare_fingerprints(old, fingerprints(configuration.machines))
    try:
        (jobs,) = query(host, port, "list_jobs")
    except ServerQueryError as e:
        yield f"server: cannot be asked for its jobs: {e}"
        jobs = []
    # A server of an earlier version does not tell what it has been configured to.
    settings = facts.get("settings", {})
    yield from _machine_lines(changes, configuration, settings)
    yield from _job_lines(changes, configuration, jobs)


def _machine_lines(
    changes: MachineChanges,
    configuration: Configuration,
    old: dict[str, dict[str, Any]],
) -> Iterator[str]:
    rebuilt = set(changes.removed) & set(changes.added)
    new = harmless_settings(configuration.machines)
    for name in changes.added:
        if name not in rebuilt:
            yield f"reload: adds machine {name}"
    for name in changes.removed:
        yield (
            f"reload: removes machine {name}"
            if name not in rebuilt
            else f"reload: changes machine {name}, which is wired or addressed anew"
        )
    for name in changes.modified:
        details = _differences(old[name], new[name]) if name in old else ""
        yield f"reload: changes machine {name}, jobs go on{details}"
    if not any(changes):
        yield "reload: changes no machine"


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What changes of a machine that its jobs survive."""
    parts = []
    for name in ("tags", "dead_boards", "dead_links"):
        before, after = (
            {item if isinstance(item, str) else tuple(item) for item in settings[name]}
            for settings in (old, new)
        )
        signs = [("+", after - before), ("-", before - after)]
        items = [f"{sign}{item}" for sign, some in signs for item in sorted(some)]
        if items:
            parts.append(f"; {name.replace('_', ' ')}: {' '.join(items)}")
    return "".join(parts)


def _job_lines(
    changes: MachineChanges, configuration: Configuration, jobs: list[dict[str, Any]]
) -> Iterator[str]:
    removed = set(changes.removed)
    names = {machine.name for machine in configuration.machines}
    lost = [job for job in jobs if job["allocated_machine_name"] in removed]
    for job in lost:
        yield (
            f"reload: destroys job {job['job_id']} of {job['owner']}: "
            f"{len(job['boards'])} boards of {job['allocated_machine_name']}"
        )
    for job in jobs:
        wanted = job["kwargs"].get("machine")
        waits = job["allocated_machine_name"] is None
        if waits and wanted in removed and wanted not in names:
            yield (
                f"reload: cancels queued job {job['job_id']} of {job['owner']}, which "
                f"asks for machine {wanted}"
            )
    if jobs and not lost:
        yield f"reload: destroys none of {len(jobs)} jobs"
