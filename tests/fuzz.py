"""Lines that no decent client would send, and what a server makes of them.

``python -m tests.fuzz --lines 100000 --seed 1`` is the long form of ``test_fuzz.py``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support import ONE_TRIAD, Client, running_server

CONFIG = ONE_TRIAD.replace(
    "seconds_before_free=0", "seconds_before_free=0, max_retired_jobs=10_000_000"
)

MOST_JOBS = 10
"""How many living jobs each connection has before it begins to destroy them."""

CONNECTIONS = 16

BATCH = 10
"""How many lines are sent in one go."""

ENDS = {
    *("Job timed out.", "Cancelled: Job timed out."),
    "Cancelled: No suitable machines available.",
}
"""How jobs may end that nobody has destroyed."""

COMMANDS = [
    *("create_job", "create_job", "create_job", "destroy_job", "destroy_job"),
    *("job_keepalive", "get_job_state", "get_job_machine_info"),
    *("power_on_job_boards", "power_off_job_boards", "list_jobs", "list_machines"),
    *("notify_job", "no_notify_job", "notify_machine", "no_notify_machine"),
    *("get_board_position", "get_board_at_position", "where_is", "version"),
    *("report_problem", "clear_problem"),
]

NO_COMMANDS = ["nonsense", "__init__", "stop_and_join", "_turn", ""]

SANE = [
    *('create_job", "args": [], "kwargs": {"owner": "me"}',) * 3,
    'create_job", "args": [1, 1], "kwargs": {"owner": "me", "keepalive": null}',
    'create_job", "args": [2], "kwargs": {"owner": "me", "tags": ["default"]}',
    'create_job", "args": [9, 9], "kwargs": {"owner": "me"}',
    'create_job", "args": [0, 0, 1], "kwargs": {"owner": "me", "machine": "m"}',
    'create_job", "args": [], "kwargs": {"owner": "me", "keepalive": 0.01}',
    *('list_machines"', 'list_jobs"', 'version", "args": []', 'notify_job"'),
    'where_is", "kwargs": {"machine": "m", "chip_x": 3, "chip_y": 3}',
]

KEYWORDS = [
    *("owner", "owner", "owner", "owner", "keepalive", "machine", "tags", "min_ratio"),
    *("max_dead_boards", "max_dead_links", "require_torus", "job_id", "reason"),
    *("machine_name", "x", "y", "z", "cabinet", "frame", "board", "chip_x", "chip_y"),
    *("client", "self", "args", "kwargs", "ownerhost", "ip_address", "nonsense", ""),
]

# As they stand in a line of JSON, or of what is nearly JSON.
VALUES = [
    *("0", "1", "1", "2", "3", "-1", "7", "2147483648", "9223372036854775808"),
    *("1" + "0" * 400, "1.5", "-0.0", "1e308", "1e309", "NaN", "Infinity", "-Infinity"),
    *("true", "false", "null", '""', '"m"', '"me"', '"default"', '"\\u0000"'),
    *('"\\ud800"', '"é"', '"10.11.12.1"', '"' + "x" * 1025 + '"', "[]", "{}", "[[]]"),
    *('["default"]', '["nonsense"]', "[1]", '{"a": 1}', "[" * 50 + "]" * 50),
    *('"' + "y" * 17_000 + '"', '{"__class__": "object"}'),
]

# What is no JSON, or too much of it.
NO_VALUES = [
    *("01", "0x10", "'me'", "undefined", "1 2", "", "[" * 20_000 + "]" * 20_000),
    *('"' + "z" * 70_000 + '"', '"\\x"', "[1,]"),
]


class Fuzzer:
    """Sends lines over one connection after another, and books what is acknowledged."""

    def __init__(self, port: int, seed: str) -> None:
        self._port = port
        self._rng = random.Random(seed)
        self._client = Client(port)
        self._marks = 0
        self.lines = 0
        self.outcomes: Counter[str] = Counter()
        self.living: list[int] = []
        self.destroyed: set[int] = set()
        self._sent: list[bytes] = []

    # What is sent

    def _line(self) -> bytes:
        kind = self._rng.random()
        if kind < 0.85:
            return self._command()
        if kind < 0.99:
            return self._mutated(self._command())
        return self._rng.randbytes(self._rng.choice((1, 10, 1000)))

    def _command(self) -> bytes:
        if len(self.living) > MOST_JOBS:
            return self._destroy()
        if self._rng.random() < 0.3:
            return f'{{"command": "{self._rng.choice(SANE)}}}'.encode()
        odd = self._rng.random() < 0.02
        name = self._rng.choice(NO_COMMANDS if odd else COMMANDS)
        if name == "destroy_job" and self.living and self._rng.random() < 0.8:
            return self._destroy()
        args = [
            self._value() for _ in range(self._rng.choice((0, 0, 0, 1, 1, 2, 3, 4)))
        ]
        kwargs = {
            self._rng.choice(KEYWORDS): self._value()
            for _ in range(self._rng.choice((0, 1, 1, 2, 3)))
        }
        if name == "create_job" and self._rng.random() < 0.7:
            kwargs["owner"] = '"me"'
        pairs = ", ".join(f'"{key}": {value}' for key, value in kwargs.items())
        members = [f'"command": "{name}"']
        if args or self._rng.random() < 0.7:
            members.append(f'"args": [{", ".join(args)}]')
        if kwargs or self._rng.random() < 0.7:
            members.append(f'"kwargs": {{{pairs}}}')
        if self._rng.random() < 0.05:
            members.append(f'"{self._rng.choice(KEYWORDS)}": {self._value()}')
        self._rng.shuffle(members)
        return f"{{{', '.join(members)}}}".encode()

    def _destroy(self) -> bytes:
        job_id = self._rng.choice(self.living)
        reason = self._rng.choice(("", ', "why"', ", null", ", 7"))
        return f'{{"command": "destroy_job", "args": [{job_id}{reason}]}}'.encode()

    def _value(self) -> str:
        if self.living and self._rng.random() < 0.2:
            return str(self._rng.choice(self.living))
        # Those at the front are the more harmless ones.
        kind = self._rng.random()
        if kind < 0.5:
            return self._rng.choice(VALUES[:7])
        return self._rng.choice(VALUES if kind < 0.99 else NO_VALUES)

    def _mutated(self, line: bytes) -> bytes:
        data = bytearray(line)
        for _ in range(self._rng.choice((1, 1, 2, 5))):
            place = self._rng.randrange(len(data) + 1)
            other = place + self._rng.randrange(1, 20)
            change = self._rng.randrange(5)
            if change == 0:
                data[place:other] = b""
            elif change == 1:
                data[place:place] = self._rng.randbytes(1)
            elif change == 2:
                data[place:place] = data[place:other]
            elif change == 3:
                data[place:place] = self._rng.choice((b"\n", b'"', b"}", b",", b"\\"))
            elif place < len(data):
                data[place] ^= 1 << self._rng.randrange(8)
        return bytes(data)

    # What comes back

    def round(self, number: int) -> None:
        """Send some lines, each with a mark after it, and read up to the last mark."""
        self._sent = [self._line() for _ in range(number)]
        first = self._marks
        self._marks += number
        packet = b"".join(
            line
            + b'\n{"command": "get_job_state", "args": ["mark %d"]}\n' % (first + n)
            for n, line in enumerate(self._sent)
        )
        replies: list[Any] = []
        place = 0
        try:
            self._client.send(packet)
            while place < number:
                message = self._client.receive()
                if message is None:
                    break
                if f"'mark {first + place}'" in str(message.get("exception")):
                    self._book(self._sent[place], replies)
                    place += 1
                    replies = []
                elif message.keys() & {"return", "exception"}:
                    replies.append(message)
        except OSError:
            pass
        if place < number:
            # It is this line that was too much.
            self._book(self._sent[place], replies)
            self.outcomes["disconnected"] += 1
            self.close()
            self._client = Client(self._port)
        self.lines += min(place + 1, number)

    def _book(self, line: bytes, replies: list[Any]) -> None:
        """Note what the replies to a line, or to the lines in it, acknowledge."""
        commands = [part for part in line.split(b"\n") if part]
        for command, reply in zip(commands, replies, strict=False):
            if "exception" in reply:
                self.outcomes["exception"] += 1
                continue
            self.outcomes["returned"] += 1
            returned = reply["return"]
            if type(returned) is int:
                self.outcomes["created"] += 1
                self.living.append(returned)
            elif b"destroy_job" in command:
                self._note_destroyed(json.loads(command))

    def _note_destroyed(self, command: dict[str, Any]) -> None:
        if command["command"] != "destroy_job":
            return
        [job_id, *_] = command.get("args") or [command["kwargs"]["job_id"]]
        self.outcomes["destroyed"] += 1
        self.destroyed.add(job_id)
        if job_id in self.living:
            self.living.remove(job_id)

    def close(self) -> None:
        self._client.close()


def fuzz(
    folder: Path, lines: int, seed: int, scheduling: str = "backfill"
) -> Counter[str]:
    """Send so many lines to a real server, and check that it is none the worse."""
    config = CONFIG.replace(
        "seconds_before_free", f"scheduling={scheduling!r}, seconds_before_free"
    )
    with running_server(config, "--simulate", folder=folder) as server:
        fuzzers = [Fuzzer(server.port, f"{seed} {n}") for n in range(CONNECTIONS)]
        while sum(fuzzer.lines for fuzzer in fuzzers) < lines:
            for fuzzer in fuzzers:
                fuzzer.round(BATCH)
        living = {job_id for fuzzer in fuzzers for job_id in fuzzer.living}
        destroyed = set().union(*(fuzzer.destroyed for fuzzer in fuzzers))
        with Client(server.port) as client:
            listed = {job["job_id"] for job in client.call("list_jobs")}
            strangers = listed - living
            assert not strangers, f"nobody was told of {strangers}"
            assert not listed & destroyed, f"still there: {listed & destroyed}"
            # Another connection may have destroyed it.
            for job_id in living - listed - destroyed:
                state = client.call("get_job_state", job_id)
                assert state["state"] == 4, f"job {job_id} is lost: {state}"
                assert state["reason"] in ENDS or state["reason"].startswith(
                    "Cancelled: There is no machine "
                ), f"job {job_id}: {state}"
        for fuzzer in fuzzers:
            fuzzer.close()
        assert server.stop() == 0, server.log
        assert "Traceback" not in server.log, server.log
    return sum((fuzzer.outcomes for fuzzer in fuzzers), Counter())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scheduling", default="backfill")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(Path(folder), options.lines, options.seed, options.scheduling)
    print(
        f"{options.lines} lines in {time.monotonic() - began:.0f} s: {dict(outcomes)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
