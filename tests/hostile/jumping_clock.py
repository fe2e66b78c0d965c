"""Runs the real command line with a wall clock that can be set forwards and back.

``python -m tests.hostile.jumping_clock FILE [argument of spalloc_server ...]``, where
FILE has the seconds by which the clock is wrong.
"""

import sys
import time
from pathlib import Path

from spalloc_server.server import main

if __name__ == "__main__":
    right, wrong_by = time.time, Path(sys.argv[1])
    time.time = lambda: right() + float(wrong_by.read_text())
    sys.exit(main(sys.argv[2:]))
