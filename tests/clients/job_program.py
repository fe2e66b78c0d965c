"""A user's program, run by the Python that has a release of the client.

It does what a user does with ``Job``: asks the server on the port that is its first
argument for the boards that the others say, and has them as long as it works. At each
line on its standard input, ``off`` or ``reset``, it does that with the boards, and
prints what it knows about its job.
"""

import importlib
import json
import sys
from typing import Any

OWNER = "programmer@example.org"


def import_client() -> Any:
    """Import the client, by the name that it has in this release."""
    try:
        return importlib.import_module("spalloc_client")
    except ImportError:
        return importlib.import_module("spalloc")


def describe(job: Any) -> None:
    """Print all that a job says about itself, as a line of JSON."""
    connections = [[x, y, host] for (x, y), host in sorted(job.connections.items())]
    description = {
        "id": job.id,
        "state": int(job.state),
        "power": job.power,
        "hostname": job.hostname,
        "size": [job.width, job.height],
        "machine": job.machine_name,
        "boards": job.boards,
        "connections": connections,
    }
    print(json.dumps(description), flush=True)


def main(arguments: list[str]) -> None:
    port, *boards = map(int, arguments)
    server = {"hostname": "127.0.0.1", "port": port, "timeout": 30.0}
    with import_client().Job(*boards, owner=OWNER, **server) as job:
        describe(job)
        for line in sys.stdin:
            if line.strip() == "reset":
                job.reset()
            else:
                job.set_power(False)
            job.wait_until_ready()
            describe(job)


if __name__ == "__main__":
    main(sys.argv[1:])
