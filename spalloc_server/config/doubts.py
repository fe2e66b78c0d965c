"""What is allowed in a configuration, but hardly ever meant."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterable, Iterator

from spalloc_server.configuration import Configuration, Machine
from spalloc_server.coordinates import Board, BoardLink, board_down_link
from spalloc_server.links import Links

MANY_DEAD = 0.25
"""Which part of a machine's boards may be dead before it is worth a word."""

SHORT_REST = 1.0
"""Seconds of rest after which real boards do not come up reliably."""

LONG_INTERVAL = 120.0
"""Seconds between checks with which jobs end much later than they should."""

MAX_NAMED = 4
"""How many of the same kind are named before the others are only counted."""


def doubts_about(configuration: Configuration) -> Iterator[str]:
    """Say what is suspicious about a configuration, each in one line."""
    if not configuration.machines:
        yield "there is no machine"
    elif not any("default" in machine.tags for machine in configuration.machines):
        yield "no machine has the tag 'default', so jobs must ask for machines or tags"
    if configuration.port != 22244:
        yield "'port' is deprecated: use --port"
    if configuration.seconds_before_free < SHORT_REST and configuration.machines:
        yield (
            f"seconds_before_free is {configuration.seconds_before_free:g}: boards "
            "switched on again too soon come up unstable"
        )
    if configuration.timeout_check_interval > LONG_INTERVAL:
        yield (
            f"timeout_check_interval is {configuration.timeout_check_interval:g} s: "
            "jobs may end up to that much later than they should"
        )
    if configuration.allowed_networks == []:
        yield "allowed_networks is empty, so nobody can connect"
    group = configuration.admin_group
    if group is not None and not _is_group(group):
        yield f"admin_group: there is no group {group!r} on this computer"
    for machine in configuration.machines:
        for doubt in _doubts_about_machine(machine):
            yield f"machine {machine.name}: {doubt}"


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _doubts_about_machine(machine: Machine) -> Iterator[str]:
    boards = set(machine.board_locations)
    dead = boards & machine.dead_boards
    if not machine.tags:
        yield "it has no tags, so jobs must ask for it by name"
    if not boards - dead:
        yield "none of its boards work"
        return
    if len(dead) > MANY_DEAD * len(boards):
        yield f"{len(dead)} of its {len(boards)} boards are dead"
    elsewhere = machine.spinnaker_ips.keys() - boards - machine.dead_boards
    if elsewhere:
        yield (
            f"spinnaker_ips has boards that are not there: {_some(map(str, elsewhere))}"
        )
    one_way = [
        link for link in machine.dead_links if _far_end(link, machine) is not None
    ]
    one_way = [
        link for link in one_way if _far_end(link, machine) not in machine.dead_links
    ]
    if one_way:
        yield (
            "dead in one direction only: "
            + _some(f"{x, y, z} {Links(link).name}" for x, y, z, link in one_way)
        )
    lonely = [
        board
        for board in boards - dead
        if all((*board, link) in machine.dead_links for link in Links)
    ]
    if lonely:
        yield f"all links of {_some(map(str, lonely))} are dead"


def _far_end(link: BoardLink, machine: Machine) -> BoardLink | None:
    """The same link seen from its other end; None where nothing works there."""
    x, y, z, direction = link
    far: Board = board_down_link(x, y, z, direction, machine.width, machine.height)[:3]
    if (x, y, z) in machine.dead_boards or far in machine.dead_boards:
        return None
    return (*far, Links(direction).opposite)


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - MAX_NAMED
    text = ", ".join(ordered[:MAX_NAMED])
    return f"{text} and {more} more" if more > 0 else text


def doubts_about_files(config: str, state_dir: str | None) -> Iterator[str]:
    """Say what is suspicious about where the server reads and writes."""
    for path in (config, os.path.dirname(os.path.abspath(config))):
        mode = os.stat(path).st_mode
        # What is sticky, like /tmp, lets nobody replace the file of another.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield f"everybody may write {path}, and the config file runs as a program"
    folder = state_dir or os.path.dirname(os.path.abspath(config))
    if not os.path.isdir(folder):
        yield f"the folder for the state, {folder}, does not exist"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"you may not write to the folder for the state, {folder}"
