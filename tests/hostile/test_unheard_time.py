"""Jobs outlive time in which the server could not hear their clients."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from spalloc_server.service.timers import Timers
from tests.support import Client, ServerProcess, running_server, wait_until

JOBS = 20

CONFIG = """
configuration = Configuration(
    machines=[Machine.single_board("m", bmp_ip="bmp", spinnaker_ip="board")],
    timeout_check_interval=0.1,
)
"""


class Owner:
    """Keeps a job alive as released clients do: a call, its answer, a pause."""

    def __init__(self, port: int, keepalive: float) -> None:
        self.client = Client(port)
        self.job_id = self.client.call("create_job", owner="me", keepalive=keepalive)
        self._pause = keepalive / 5
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self.client.call("job_keepalive", self.job_id)
            except OSError:
                return

    def end(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self.client.close()


@contextmanager
def owners(
    server: ServerProcess, keepalive: float, number: int = JOBS
) -> Iterator[list[Owner]]:
    with ExitStack() as stack:
        found = []
        for _ in range(number):
            found.append(Owner(server.port, keepalive))
            stack.callback(found[-1].end)
        yield found


def stop_for(server: ServerProcess, seconds: float) -> None:
    """Suspend a server, as with the machine that it runs on."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        # Time itself is what is tested.
        threading.Event().wait(seconds)
    finally:
        server.process.send_signal(signal.SIGCONT)


def living_jobs(server: ServerProcess) -> int:
    with Client(server.port) as client:
        return len(client.call("list_jobs"))


@pytest.mark.parametrize("times", [1, 3])
def test_nobody_times_out_while_the_server_is_suspended(
    tmp_path: Path, times: int
) -> None:
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        owners(server, keepalive=1.0) as all_owners,
    ):
        for _ in range(times):
            stop_for(server, 2.5)
            assert living_jobs(server) == JOBS
        # Still alive when all of them have been heard again.
        until = time.monotonic() + 1.5
        wait_until(lambda: time.monotonic() > until)
        assert living_jobs(server) == JOBS
        # And silence that the server has listened to counts as ever.
        for owner in all_owners:
            owner.end()
        wait_until(lambda: living_jobs(server) == 0, 10)


def test_a_stop_between_hearing_and_looking_ends_no_job(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is woken, reads, is stopped, and looks who has timed out."""
    job_id = client.call("create_job", owner="me", keepalive=1.0)
    is_check_due = Timers.is_check_due
    stopped = threading.Event()

    def stop_once(timers: Timers, now: float) -> bool:
        if not stopped.is_set():
            threading.Event().wait(1.5)
            stopped.set()
            timers.check_soon()
        return is_check_due(timers, now)

    monkeypatch.setattr(Timers, "is_check_due", stop_once)
    assert stopped.wait(10)
    assert client.call("get_job_state", job_id)["keepalive"] == 1.0


def test_input_that_waits_is_read_before_anybody_times_out(tmp_path: Path) -> None:
    """The keepalive of one comes after many commands, and from many clients."""
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(Client(server.port)) for _ in range(200)]
        # Long enough for all that is done before and after the stop, on a busy machine.
        jobs = [c.call("create_job", owner="me", keepalive=5.0) for c in clients]
        server.process.send_signal(signal.SIGSTOP)
        for client, job_id in zip(clients, jobs, strict=True):
            for _ in range(100):
                client.send_command("version")
            client.send_command("job_keepalive", job_id)
        threading.Event().wait(5.5)
        server.process.send_signal(signal.SIGCONT)
        for client in clients:
            for _ in range(101):
                assert "exception" not in client.reply()
        assert living_jobs(server) == len(jobs)


def test_a_reload_that_takes_long_ends_no_job(tmp_path: Path) -> None:
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        owners(server, keepalive=1.0, number=150),
    ):
        server.config_file.write_text(f"import time\ntime.sleep(2.5)\n{CONFIG}")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("read again")
        assert living_jobs(server) == 150
