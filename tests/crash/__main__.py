"""The long form of the crash test, on the command line."""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.crash.rounds import CrashTest


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scheduling", default="backfill")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    parts = {True: options.kills // 4, False: options.kills - options.kills // 4}
    for simulate, kills in parts.items():
        began = time.monotonic()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            test = CrashTest(folder, options.seed, simulate, stack, options.scheduling)
            try:
                test.run(kills)
            finally:
                seconds = time.monotonic() - began
                kind = "--simulate" if simulate else "boards that outlive the server"
                print(
                    f"{kind}: {test.kills.total()} kills, {test.jobs} jobs, "
                    f"{seconds:.0f} s"
                )
                for place, number in sorted(test.kills.items()):
                    print(f"{number:5} {place}")
    print("nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
