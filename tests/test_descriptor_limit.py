"""What the server does, and what that costs, when file descriptors run out."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spalloc_server import __version__
from tests.support import ONE_TRIAD, Client, ServerProcess, running_server, wait_until

LIMIT = 120


@contextmanager
def few_descriptors(server: ServerProcess) -> Iterator[None]:
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (LIMIT, limits[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)


def cpu_seconds(server: ServerProcess) -> float:
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.slow
def test_at_the_limit_newcomers_are_turned_away_and_the_loop_does_not_spin(
    tmp_path: Path,
) -> None:
    with (
        running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server,
        Client(server.port) as early,
    ):
        job_id = early.call("create_job", owner="me")
        with few_descriptors(server):
            clients = [
                socket.create_connection(("127.0.0.1", server.port))
                for _ in range(LIMIT * 2)
            ]
            # All are either in or turned away; none is left hanging.
            turned_away = LIMIT * 2 - LIMIT
            wait_until(lambda: sum(map(is_closed, clients)) >= turned_away)
            began, before = time.monotonic(), cpu_seconds(server)
            while time.monotonic() - began < 1:
                # Who is in is served as ever, and what is stored is stored.
                early.call("create_job", owner="me")
                assert early.call("get_job_state", job_id)["state"] in (2, 3)
                with socket.create_connection(("127.0.0.1", server.port)) as late:
                    wait_until(lambda late=late: is_closed(late))  # type: ignore[misc]
                time.sleep(0.1)
            assert cpu_seconds(server) - before < 0.5 * (time.monotonic() - began)
            server.wait_for_log("ERROR Out of file descriptors")
            for client in clients:
                client.close()

        def is_let_in() -> bool:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b'{"command": "version"}\n')
                try:
                    return __version__.encode() in client.recv(100)
                except ConnectionResetError:
                    return False

        wait_until(is_let_in)
        assert server.log.count("Out of file descriptors") <= 2
        assert "Traceback" not in server.log
