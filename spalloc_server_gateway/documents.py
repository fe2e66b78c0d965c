"""What clients are told, in the names of the newer interface. No network in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, TypeAlias

from spalloc_server.links import Links
from spalloc_server.model.job_tuples import JobState

Document: TypeAlias = dict[str, Any]
Place: TypeAlias = Sequence[int]

STATES: Final = {
    JobState.unknown: "UNKNOWN",
    JobState.queued: "QUEUED",
    JobState.power: "POWER",
    JobState.ready: "READY",
    JobState.destroyed: "DESTROYED",
}

CHIPS_OF_TRIAD: Final = 12
"""A triad is so many chips wide and high."""


def root_document(
    version: str, base: str, csrf_header: str, csrf_token: str
) -> Document:
    """The service itself.

    :param version: of the server, three numbers
    :param base: the URL of the service, without a slash at its end
    """
    major, minor, revision = (int(number) for number in version.split("."))
    return {
        "version": {
            "major-version": major,
            "minor-version": minor,
            "revision": revision,
        },
        "jobs-ref": f"{base}/jobs",
        "machines-ref": f"{base}/machines",
        "csrf-header": csrf_header,
        "csrf-token": csrf_token,
    }


def machine_document(
    machine: Mapping[str, Any],
    url: str,
    places: Mapping[tuple[int, ...], Place | None],
) -> Document:
    """A machine, as it is listed.

    :param machine: what the server's ``list_machines`` gives
    :param places: by (x, y, z), the (cabinet, frame, board) of dead boards
    """
    return {
        **_about_machine(machine),
        "uri": url,
        "dead-boards": [
            _board(board, places.get(tuple(board))) for board in machine["dead_boards"]
        ],
        "dead-links": _links(machine["dead_links"]),
    }


def machine_details(
    machine: Mapping[str, Any],
    url: str,
    places: Mapping[tuple[int, ...], Place | None],
) -> Document:
    """A machine that was asked for by itself."""
    lookups = ("physical-board", "logical-board", "chip", "board-ip")
    return {
        **_about_machine(machine),
        "down-boards": [
            _board(board, places.get(tuple(board))) for board in machine["dead_boards"]
        ],
        "down-links": _links(machine["dead_links"]),
        **{f"lookup-by-{name}": f"{url}/{name}" for name in lookups},
    }


def _about_machine(machine: Mapping[str, Any]) -> Document:
    return {name: machine[name] for name in ("name", "tags", "width", "height")}


def _board(board: Place, place: Place | None) -> Document:
    x, y, z = board
    cabinet, frame, number = place or (None, None, None)
    return {
        **{"x": x, "y": y, "z": z},
        **{"cabinet": cabinet, "frame": frame, "board": number},
        "address": None,
    }


def _links(links: Sequence[Sequence[int]]) -> list[list[Document]]:
    """Links that are dead; where it is known of one end only, that is told."""
    return [
        [{"board": {"x": x, "y": y, "z": z}, "direction": Links(link).name.upper()}]
        for x, y, z, link in links
    ]


def job_document(job: Mapping[str, Any], url: str, proxy_url: str) -> Document:
    """A job.

    :param job: what the server's ``describe_job`` gives
    :param url: that of the job, without a slash at its end
    :param proxy_url: that of its proxy
    """
    state = JobState(job["state"])
    document: Document = {
        "job-id": job["job_id"],
        "job-ref": url,
        "state": STATES[state],
        "owner": job["owner"],
        "start-time": _time(job["start_time"]),
        "finish-time": None,
        "reason": job["reason"],
        "keepalive-host": job["keepalivehost"],
        "keep-alive-time": None
        if job["keepalive"] is None
        else f"PT{round(job['keepalive'], 2):g}S",
        "keepalive-ref": f"{url}/keepalive",
        "machine-ref": f"{url}/machine",
        "power-ref": f"{url}/machine/power",
        "chip-ref": f"{url}/chip",
    }
    if job["args"] is not None:
        document["original-request"] = {
            "size": job["args"],
            **{name.replace("_", "-"): arg for name, arg in job["kwargs"].items()},
        }
    if state in (JobState.power, JobState.ready):
        document["proxy-ref"] = proxy_url
    return document


def _time(seconds: float | None) -> str | None:
    """A time in seconds since 1970, in the form of ISO 8601."""
    if seconds is None:
        return None
    time = datetime.fromtimestamp(seconds, timezone.utc)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_machine_document(
    job: Mapping[str, Any], url: str, machine_url: str
) -> Document:
    """The boards of a job that has some."""
    is_triads = len(job["boards"]) > 1
    return {
        # Of triads that reach from side to side of the machine or not.
        "width": job["width"] // CHIPS_OF_TRIAD if is_triads else 1,
        "height": job["height"] // CHIPS_OF_TRIAD if is_triads else 1,
        "depth": 3 if is_triads else 1,
        "connections": job["connections"],
        "machine-name": job["allocated_machine_name"],
        "machine-ref": machine_url,
        "boards": job["boards"],
        "power": power_name(job),
        "power-ref": f"{url}/machine/power",
    }


def power_name(job: Mapping[str, Any]) -> str:
    """Are the boards of a job on?"""
    return "ON" if job["power"] else "OFF"


def where_is_document(found: Mapping[str, Any], base: str) -> Document:
    """Where a board or chip is.

    :param found: what the server's ``where_is`` gives
    :param base: the URL of the service
    """
    job_id = found["job_id"]
    document: Document = {
        "machine": found["machine"],
        "machine-ref": f"{base}/machines/{found['machine']}",
        "chip": found["chip"],
        "board-chip": found["board_chip"],
        "logical-board-coordinates": found["logical"],
        "physical-board-coordinates": found["physical"],
    }
    if job_id is not None:
        document |= {
            "job-id": job_id,
            "job-ref": f"{base}/jobs/{job_id}",
            "job-chip": found["job_chip"],
        }
    return document
