"""Runs the command line as a later version of this package would: ``-m`` this."""

import sys

import spalloc_server

VERSION = "1.99.0"


def main() -> int:
    spalloc_server.__version__ = VERSION
    from spalloc_server.server import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
