"""Config files that are run in a process of their own, and given up there."""

import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spalloc_server.config import reading as reading_module
from spalloc_server.config.reading import (
    Waiting,
    begin_reading,
    read_configuration,
)
from spalloc_server.config.script import ConfigFileError
from spalloc_server.configuration import Configuration
from tests.support import ONE_TRIAD, TIMEOUT, wait_until


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "spalloc.cfg"


def error_of(config: Path, seconds: float = TIMEOUT) -> str:
    with pytest.raises(ConfigFileError) as caught:
        read_configuration(config, seconds)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{config}")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_configuration_comes_back(config: Path) -> None:
    config.write_text(ONE_TRIAD)
    [machine] = read_configuration(config).machines
    assert machine.bmp_ips == {(0, 0): "10.11.12.0"}


def test_it_can_be_waited_for_among_other_things(config: Path) -> None:
    config.write_text("configuration = Configuration(port=5)")
    reading = begin_reading(config)
    assert reading.poll() is None
    result = None
    while result is None:
        assert select.select([reading], [], [], TIMEOUT)[0]
        result = reading.poll()
    reading.close()
    assert result == Configuration(port=5)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("\nraise KeyboardInterrupt", ":2: KeyboardInterrupt"),
        ("x = (", r":1: '\(' was never closed"),
        ("", ": does not define the variable 'configuration'"),
        ("import os; os._exit(0)", r": ended its process \(exit status 0\) without "),
        ("import os; os._exit(7)", r": ended its process \(exit status 7\) without "),
        ("import os; os.abort()", r": crashed its process \(SIGABRT\)"),
        ("import os; os.kill(os.getpid(), 9)", r": crashed its process \(SIGKILL\)"),
        ("import ctypes; ctypes.string_at(0)", r": crashed its process \(SIGSEGV\)"),
        ("x = bytearray(10**11)", ":1: MemoryError"),
        ("x = []\nwhile True: x.append(bytes(10**8))", ":2: MemoryError"),
    ],
)
def test_whatever_a_script_does_is_an_error(
    config: Path, script: str, message: str
) -> None:
    config.write_text(script)
    assert re.match(message, error_of(config))


@pytest.mark.parametrize(
    "script",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "while True: pass",
        "import sys\nwhile True:\n    try: input()\n    except BaseException: pass",
        # The result's descriptor is closed, and nothing comes.
        "import os\nos.closerange(3, 100)\nwhile True: pass",
        # A process of the script's own has it too.
        "import os, time\nif os.fork(): os._exit(0)\ntime.sleep(1000)",
    ],
)
def test_a_script_without_end_is_given_up(config: Path, script: str) -> None:
    pid_file = config.with_name("pid")
    config.write_text(
        f"import os\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{script}"
    )
    began = time.monotonic()
    message = error_of(config, 1.0)
    assert time.monotonic() - began < 20
    assert re.match(
        r": (took more than 1 s, and was given up|closed what its result was to be|"
        r"ended its process)",
        message,
    )
    wait_until(lambda: not is_running(int(pid_file.read_text())))


def test_what_a_script_leaves_behind_is_ended(config: Path) -> None:
    pid_file = config.with_name("pid")
    config.write_text(
        "import os, subprocess, sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "configuration = Configuration(port=5)\n"
    )
    assert read_configuration(config).port == 5
    wait_until(lambda: not is_running(int(pid_file.read_text())))


def test_a_file_that_never_ends_and_one_that_never_begins(config: Path) -> None:
    os.mkfifo(config)
    assert "took more than 0.5 s" in error_of(config, 0.5)
    config.unlink()
    config.symlink_to("/dev/zero")
    assert re.match(r": (MemoryError|took more than)", error_of(config, 5.0))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\n",
        b"x\n",
        b"[]\n",
        b"{}\n",
        b'{"error": 5}\n',
        b'{"error": null, "size": 2}\n[]',
    ],
)
def test_a_result_that_makes_no_sense(config: Path, nonsense: bytes) -> None:
    config.write_text(
        "import os\nfor fd in range(3, 20):\n"
        f"    try: os.write(fd, {nonsense!r})\n"
        "    except OSError: pass\nos._exit(0)"
    )
    assert error_of(config).startswith(": gave a result that makes no sense")


def test_what_a_script_prints_goes_to_standard_error(config: Path) -> None:
    config.write_text("print('hello')\nconfiguration = Configuration(port=5)")
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from spalloc_server.config.reading import *; "
            "print(read_configuration(sys.argv[1]).port)",
            str(config),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("5\n", "hello\n")


def test_a_script_finds_the_modules_that_the_server_finds(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "of_our_site.py").write_text("PORT = 5")
    (tmp_path / "json.py").write_text("raise ValueError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    config.write_text(
        "import json, of_our_site\nconfiguration = Configuration(port=of_our_site.PORT)"
    )
    assert read_configuration(config).port == 5


def test_waiting_can_be_given_up(config: Path) -> None:
    begun = config.with_name("begun")
    config.write_text(f"open({str(begun)!r}, 'w').close()\nwhile True: pass")
    waiting = Waiting()
    said = "spalloc.cfg: was given up, as the server is to stop$"

    def wait() -> None:
        with pytest.raises(ConfigFileError, match=said):
            waiting.read(config)
        done.set()

    done = threading.Event()
    threading.Thread(target=wait).start()
    wait_until(begun.exists)
    waiting.give_up()
    assert done.wait(TIMEOUT)
    # Told before, it does not even begin to wait.
    began = time.monotonic()
    wait()
    assert time.monotonic() - began < 10
    waiting.allow()
    config.write_text("configuration = Configuration(port=5)")
    assert waiting.read(config).port == 5


def test_one_that_is_begun_early_is_read_once(config: Path) -> None:
    times = config.with_name("times")
    config.write_text(
        f"open({str(times)!r}, 'a').write('x')\nconfiguration = Configuration(port=5)\n"
    )
    waiting = Waiting()
    waiting.begin(str(config))
    wait_until(times.exists)
    assert waiting.read(str(config)).port == 5
    assert times.read_text() == "x"
    # It is another one that was begun, or none any more.
    waiting.begin(str(config.with_name("other.cfg")))
    assert waiting.read(str(config)).port == 5
    assert waiting.read(str(config)).port == 5
    assert times.read_text() == "xxx"
    waiting.forget()


@pytest.mark.parametrize("end", [Waiting.give_up, Waiting.forget])
def test_one_that_is_begun_early_and_not_wanted(
    config: Path, end: Callable[[Waiting], None]
) -> None:
    pid = config.with_name("pid")
    config.write_text(
        "import os\n"
        f"open({str(pid)!r}, 'w').write(str(os.getpid()) + '.')\n"
        "while True: pass"
    )
    descriptors = os.listdir("/proc/self/fd")
    waiting = Waiting()
    waiting.begin(str(config))
    wait_until(lambda: pid.exists() and pid.read_text().endswith("."))
    end(waiting)
    wait_until(lambda: not is_running(int(pid.read_text()[:-1])))
    waiting.forget()
    assert os.listdir("/proc/self/fd") == descriptors


def test_one_that_cannot_even_be_begun(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(config))
        waiting.begin(str(config))
    config.write_text("configuration = Configuration(port=5)")
    assert waiting.read(str(config)).port == 5


def test_what_is_for_the_server_is_not_for_its_config_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    config.write_text(
        "import os\n"
        "configuration = Configuration(port=int('NOTIFY_SOCKET' in os.environ))"
    )
    assert read_configuration(config).port == 0


def test_what_cannot_be_run_at_all(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors = os.listdir("/proc/self/fd")
    monkeypatch.setattr(sys, "executable", str(config))
    assert error_of(config) == ": cannot be run: No such file or directory"
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_description_that_is_too_long(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "RESULT_BYTES", 100)
    config.write_text(ONE_TRIAD)
    assert error_of(config) == ": describes more than fits into 100 bytes"
