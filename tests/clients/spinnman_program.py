"""A script of a user: a job through SpiNNMan, by an ``https://`` URL.

It runs in the environment of one release of SpiNNMan, without any of our own code:
``python spinnman_program.py URL PORT``, where PORT is the UDP port at which two boards
send back what they get. It prints what it has seen, as JSON.
"""

import inspect
import json
import logging
import sys
import time
from typing import Any

from spinnman.config_setup import unittest_setup
from spinnman.spalloc import SpallocClient, SpallocState


def create_job(client: Any) -> Any:
    """Ask for three boards, as the release does it."""
    if inspect.signature(client.create_job).parameters:
        return client.create_job(num_boards=3)
    # Since 7.4.0 all of it comes from the configuration.
    from spinnman.data.spinnman_data_writer import SpiNNManDataWriter

    SpiNNManDataWriter.mock().set_n_required(3, None)
    return client.create_job()


def main(url: str, port: int) -> None:
    """Do all of it, and print what was seen."""
    unittest_setup()
    logging.disable(logging.CRITICAL)
    seen: dict[str, Any] = {}
    with SpallocClient(url) as client:
        seen["version"] = str(client.version)
        seen["machines"] = sorted(client.list_machines())
        with create_job(client) as job:
            began = time.monotonic()
            job.wait_until_ready()
            seen["seconds"] = time.monotonic() - began
            seen["state"] = job.get_state().name
            seen["root"] = job.get_root_host()
            connections = job.get_connections()
            seen["connections"] = sorted([list(c), ip] for c, ip in connections.items())
            seen["where"] = list(job.where_is_machine(9, 5))
            seen["jobs"] = len(list(client.list_jobs()))
            seen["echoes"] = []
            for chip in ((0, 0), (8, 4)):
                connection = job.connect_to_board(*chip, port)
                connection.send(b"hello")
                seen["echoes"].append(connection.receive(20).decode())
                connection.close()
            listener = job.open_udp_listener_connection()
            listener.send_to(b"hi", (connections[8, 4], port))
            seen["echoes"].append(listener.receive(20).decode())
            listener.close()
            assert job.get_state() is SpallocState.READY
        seen["end"] = job.get_state().name
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
