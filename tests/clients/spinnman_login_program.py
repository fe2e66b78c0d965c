"""A script that logs in at several gateways, and asks each for a board.

It runs in the environment of one release of SpiNNMan, without any of our own code:
``python spinnman_login_program.py URL...``. It prints a line for each URL: the state of
the job, or what is wrong. The jobs are left behind.
"""

import inspect
import logging
import sys
from typing import Any

from spinnman.config_setup import unittest_setup
from spinnman.spalloc import SpallocClient


def create_job(client: Any) -> Any:
    """Ask for a board, as the release does it."""
    if inspect.signature(client.create_job).parameters:
        return client.create_job(num_boards=1)
    from spinnman.data.spinnman_data_writer import SpiNNManDataWriter

    SpiNNManDataWriter.mock().set_n_required(1, None)
    return client.create_job()


def main(urls: list[str]) -> None:
    """Log in at each URL."""
    unittest_setup()
    logging.disable(logging.CRITICAL)
    for url in urls:
        try:
            with SpallocClient(url) as client:
                print(create_job(client).get_state().name)
        except Exception as e:
            print(f"{type(e).__name__}: {e}")


if __name__ == "__main__":
    main(sys.argv[1:])
