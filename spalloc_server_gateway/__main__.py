"""``python -m spalloc_server_gateway``, and the command of that name."""

import sys


def main() -> int:
    """Run the gateway from the command line, see `run.main`.

    :return: the exit status
    """
    try:
        from spalloc_server_gateway import run
    except ModuleNotFoundError as e:
        print(
            f"spalloc_server_gateway: {e.name} is not installed: install "
            "spalloc_server[gateway]",
            file=sys.stderr,
        )
        return 1
    return run.main()


if __name__ == "__main__":
    sys.exit(main())
