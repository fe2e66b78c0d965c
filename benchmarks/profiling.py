"""Where the loop's time goes under load: ``python -m benchmarks.profiling``.

The server of this tree is loaded by clients that call again as soon as they have their
replies, and its thread is watched by ``cProfile``. That makes calls of Python functions
look dearer than they are, so that the order says more than the times.
"""

import argparse
import cProfile
import io
import pstats
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

from benchmarks import environments
from benchmarks.environments import FOLDER, Release
from benchmarks.load import Callers
from benchmarks.servers import encode, site
from spalloc_server.server import main as spalloc_server
from spalloc_server.service.base_server import Server

SERVE: Final = "--serve-to"
STOP_SECONDS: Final = 30.0


@dataclass(frozen=True)
class ProfiledRelease(Release):
    """This tree, whose servers leave a profile when they stop."""

    output: Path = Path()

    @property
    def command(self) -> list[str]:
        """This program, as the server."""
        return [self.python, "-m", "benchmarks.profiling", SERVE, str(self.output)]


def main() -> int:
    """Load a server and print where its thread was, or be that server."""
    if sys.argv[1:2] == [SERVE]:
        return _serve(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling")
    parser.add_argument("--command", default="job_keepalive", help="what is called")
    parser.add_argument("--clients", type=int, default=16, help="by how many")
    parser.add_argument("--seconds", type=float, default=3.0, help="and for how long")
    parser.add_argument("--lines", type=int, default=20, help="functions to print")
    options = parser.parse_args()
    print(profile(options.command, options.clients, options.seconds, options.lines))
    return 0


def profile(command: str, clients: int, seconds: float, lines: int) -> str:
    """The functions that took most time, each without those that it called."""
    ours = environments.ours()
    with tempfile.TemporaryDirectory(prefix="spalloc-profile-") as folder:
        output = Path(folder, "profile")
        release = ProfiledRelease(ours.name, ours.python, False, output=output)
        with site(release, 4) as place, place.running() as server:
            with server.client() as client:
                job_id = client.call("create_job", owner="me", keepalive=None)
            packets = [[encode(command, job_id)]] * clients
            with Callers(server.port, packets) as callers:
                calls = callers.run(seconds).calls
            if not server.stop(STOP_SECONDS):
                raise RuntimeError("the server does not stop")
        text = io.StringIO()
        statistics = pstats.Stats(str(output), stream=text)
    statistics.sort_stats("tottime").print_stats(lines)
    table = text.getvalue()[text.getvalue().index("   ncalls") :].rstrip()
    table = re.sub(rf"{re.escape(str(FOLDER))}/|/\S*/(?=\w+\.py)", "", table)
    return f"{calls:,} calls of {command} by {clients} clients\n\n{table}"


def _serve(output: Path, args: list[str]) -> int:
    """Be a server whose thread is profiled, until it is to stop."""
    profiler = cProfile.Profile()
    run, shut_down = Server._run, Server._shut_down

    def profiled_run(server: Server) -> None:
        profiler.enable()
        run(server)

    def unprofiled_shut_down(server: Server) -> None:
        profiler.disable()
        profiler.dump_stats(output)
        shut_down(server)

    with (
        mock.patch.object(Server, "_run", profiled_run),
        mock.patch.object(Server, "_shut_down", unprofiled_shut_down),
    ):
        return spalloc_server(args)


if __name__ == "__main__":
    sys.exit(main())
