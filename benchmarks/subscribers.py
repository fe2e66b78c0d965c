"""Many clients that are told of every change, in a process of their own."""

import json
import select
import socket
import subprocess
import sys
import time

from benchmarks.environments import FOLDER
from benchmarks.servers import HOST, encode


class Subscribers:
    """Clients that watch all jobs, and note when they are told of changes."""

    def __init__(self, port: int, clients: int) -> None:
        """Connect them all."""
        self._expected: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.subscribers", str(port), str(clients)],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the subscribers could not connect")

    def __enter__(self) -> "Subscribers":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def expect(self, changed_at: float) -> None:
        """Note when a change was asked for, by `time.perf_counter`."""
        self._expected.append(changed_at)

    def finish(self) -> float:
        """Wait for all that is due; how late 99 % of the notifications were, in s."""
        output, _ = self._process.communicate("end\n", timeout=60)
        # For each client when it was told of its changes, in order.
        told: list[list[float]] = json.loads(output)
        delays: list[float] = []
        for times in told:
            if len(times) < len(self._expected):
                raise RuntimeError(f"told of {len(times)} of {len(self._expected)}")
            delays += [t - e for t, e in zip(times, self._expected, strict=False)]
        delays.sort()
        return delays[int(0.99 * len(delays))]


def main() -> None:
    """Subscribe, note the times, and print them when there is nothing more to come."""
    port, clients = map(int, sys.argv[1:])
    sockets: dict[int, socket.socket] = {}
    told: dict[int, list[float]] = {}
    poll = select.epoll()
    for _ in range(clients):
        client = socket.create_connection((HOST, port), timeout=60)
        client.sendall(encode("notify_job"))
        client.recv(4096)
        sockets[client.fileno()] = client
        told[client.fileno()] = []
        poll.register(client.fileno(), select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    ending = False
    while True:
        events = poll.poll(0.5)
        if ending and not events:
            break
        for fd, _ in events:
            if fd == sys.stdin.fileno():
                ending = True
                poll.unregister(fd)
            else:
                data = sockets[fd].recv(65536)
                # A change is a job ID; several may come in one notification.
                changes = data.count(b"\n") + data.count(b",")
                told[fd] += [time.perf_counter()] * changes
    print(json.dumps(list(told.values())))


if __name__ == "__main__":
    main()
