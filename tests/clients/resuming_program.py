"""A user's program that means to keep its boards when the server is restarted.

Its arguments are the port of the server, how many seconds the job is to live without
its client, and the boards that it asks for. At each line on its standard input it
prints what it knows about its job; at the line ``reset`` it resets the boards first.
When the input ends, it destroys its job.
"""

import sys
from typing import Any

from tests.clients.job_program import OWNER, describe, import_client


def is_reachable(client: Any, job: Any) -> bool:
    """Find out if the server can still be asked about the job, by this object."""
    try:
        # Returns at once: no job of its own is unknown. In old releases this connects
        # again; from 2.0.1 on, it fails for ever after the connection was lost.
        job.wait_for_state_change(client.JobState.unknown)
    except Exception as error:
        if type(error).__name__ != "ProtocolError":
            raise
        return False
    return True


def main(arguments: list[str]) -> None:
    client = import_client()
    port, keepalive, *boards = map(int, arguments)
    server = {"hostname": "127.0.0.1", "port": port, "timeout": 30.0}
    server["reconnect_delay"] = 0.1
    job = client.Job(*boards, owner=OWNER, keepalive=float(keepalive), **server)
    job.wait_until_ready()
    describe(job)
    for line in sys.stdin:
        if not is_reachable(client, job):
            # The manual's way to go on with an existing job. (The process that the
            # lost object has started to keep it alive has died of the same.)
            job = client.Job(resume_job_id=job.id, **server)
        if line.strip() == "reset":
            job.reset()
            job.wait_until_ready()
        describe(job)
    job.destroy()


if __name__ == "__main__":
    main(sys.argv[1:])
