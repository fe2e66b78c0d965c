"""Runs the server: ``python -m spalloc_server``."""

import sys

from spalloc_server.server import main

if __name__ == "__main__":
    sys.exit(main())
