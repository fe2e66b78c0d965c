"""What the server says about jobs, asked for without any client of spalloc."""

from typing import Any

from tests.support import Client, wait_until

UNKNOWN, QUEUED, POWER, READY, DESTROYED = range(5)
"""The states of jobs, as numbers on the wire"""


def get_only_job(server: Client) -> dict[str, Any]:
    """Return what the server lists of the only job that it has."""
    (job,) = server.call("list_jobs")
    assert isinstance(job, dict)
    return job


def get_state(server: Client, job_id: int) -> dict[str, Any]:
    """Return the state of a job, dead ones too."""
    state = server.call("get_job_state", job_id)
    assert isinstance(state, dict)
    return state


def wait_for_state(server: Client, job_id: int, state: int) -> dict[str, Any]:
    """Wait until a job is in a state, and return all that the server says of it."""
    wait_until(lambda: get_state(server, job_id)["state"] == state)
    return get_state(server, job_id)


def create_ready_job(server: Client, *args: int, **kwargs: Any) -> dict[str, Any]:
    """Create a job that nobody has to keep alive, and return the list's entry of it."""
    kwargs = {"owner": "somebody@example.org", "keepalive": None, **kwargs}
    job_id = server.call("create_job", *args, **kwargs)
    wait_for_state(server, job_id, READY)
    (job,) = (job for job in server.call("list_jobs") if job["job_id"] == job_id)
    assert isinstance(job, dict)
    return job
