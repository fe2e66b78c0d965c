"""A script of a user who waits: what becomes of a job, line by line.

It runs in the environment of one release of SpiNNMan, without any of our own code:
``python spinnman_waiting_program.py URL SECONDS``. The job asks for one board and ends
after so many seconds without a keepalive; they come twice as often.
"""

import inspect
import logging
import sys
from typing import Any

from spinnman.config_setup import unittest_setup
from spinnman.spalloc import SpallocClient, SpallocState, spalloc_client


def create_job(client: Any, seconds: int) -> Any:
    """Ask for a board, as the release does it."""
    if inspect.signature(client.create_job).parameters:
        job = client.create_job(num_boards=1, keepalive=seconds)
    else:
        from spinnman.data.spinnman_data_writer import SpiNNManDataWriter

        SpiNNManDataWriter.mock().set_n_required(1, None)
        job = client.create_job()
    if hasattr(job, "launch_keepalive_task"):
        job.launch_keepalive_task(period=seconds / 2)
    return job


def main(url: str, seconds: int) -> None:
    """Tell each state that the job comes to, until it has ended."""
    unittest_setup()
    logging.disable(logging.CRITICAL)
    if hasattr(spalloc_client, "KEEP_ALIVE_PERIOND"):
        spalloc_client.KEEP_ALIVE_PERIOND = seconds
    with SpallocClient(url) as client:
        job = create_job(client, seconds)
        state = SpallocState.UNKNOWN
        while state is not SpallocState.DESTROYED:
            state = job.wait_for_state_change(state)
            print(state.name, flush=True)
        job.destroy()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
