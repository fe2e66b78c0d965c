"""How the server starts, reloads, works by itself, and ends."""

import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spalloc_server import __version__, server
from spalloc_server.controller import Controller
from spalloc_server.model.job_events import JobEvent
from spalloc_server.observe.observer import Observer
from spalloc_server.server import (
    SpallocServer,
    _CriticalStop,
)
from tests.support import ONE_TRIAD, Client, Site, free_port, ready, wait_until


def test_jobs_time_out(site: Site) -> None:
    site.write(ONE_TRIAD.replace("seconds_", "timeout_check_interval=0.05, seconds_"))
    client = site.connect(site.start())
    client.call("notify_job")
    job_id = client.call("create_job", owner="me", keepalive=0.1)
    forever = client.call("create_job", owner="me", keepalive=None)
    while not any(
        job_id in message.get("jobs_changed", []) and _is_destroyed(client, job_id)
        for message in [client.notification()]
    ):
        pass
    assert client.call("get_job_state", job_id)["reason"] == "Job timed out."
    assert client.call("get_job_state", forever)["state"] in (2, 3)


def _is_destroyed(client: Client, job_id: int) -> bool:
    listed = [job["job_id"] for job in client.call("list_jobs")]
    return job_id not in listed


def test_boards_are_given_out_soon_after_they_cooled_down(site: Site) -> None:
    site.write(
        ONE_TRIAD.replace(
            "seconds_before_free=0",
            "seconds_before_free=0.3, timeout_check_interval=3600",
        )
    )
    client = site.connect(site.start())
    client.call("create_job", 1, 1, owner="me")
    client.call("create_job", 1, 1, owner="me", keepalive=None)
    client.call("notify_job", 2)
    wait_until(lambda: ready(client, 1))
    before = time.monotonic()
    client.call("destroy_job", 1)
    assert client.call("get_job_state", 2)["state"] == 1
    assert client.notification() == {"jobs_changed": [2]}
    assert 0.3 <= time.monotonic() - before < 30
    wait_until(lambda: ready(client, 2))


# Life cycle


def test_history_is_told_from_the_first_moment_of_a_warm_start(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write(ONE_TRIAD)
    site.start().stop_and_join()
    observer = Observer()
    observer.on_job_event = list[JobEvent]().append
    monkeypatch.setattr(SpallocServer, "observer", observer)
    told_at_start = []
    start = Controller.start

    def observed_start(controller: Controller) -> None:
        told_at_start.append(controller.on_job_event)
        start(controller)

    monkeypatch.setattr(Controller, "start", observed_start)
    site.start()
    assert told_at_start == [observer.on_job_event]


def test_a_warm_start_goes_on_with_the_jobs(site: Site) -> None:
    first = site.start()
    client = site.connect(first)
    client.call("create_job", 1, 1, owner="me")
    client.call("create_job", owner="you")
    wait_until(lambda: ready(client, 1))
    before = client.call("list_jobs")
    first.stop_and_join()
    assert client.is_disconnected()
    assert not first.is_alive()
    assert not first.failed
    # The boards were left on.
    frame = site.simulator.frames["10.11.12.0"]
    assert frame.powered_boards == {0, 1, 2}

    second = site.start()
    client = site.connect(second)
    assert client.call("list_jobs") == before
    assert client.call("create_job", owner="me") == 3
    client.call("destroy_job", 1)
    wait_until(lambda: ready(client, 2))


def test_a_cold_start_discards_the_jobs(site: Site) -> None:
    first = site.start()
    site.connect(first).call("create_job", owner="me")
    first.stop_and_join()
    state = Path(first._state_filename)
    assert state == site.config.parent / f".spalloc.cfg.state.{__version__}"
    assert state.exists()
    second = site.start(cold_start=True)
    assert site.connect(second).call("list_jobs") == []
    second.stop_and_join()
    assert site.connect(site.start()).call("list_jobs") == []


def test_state_that_cannot_be_read_is_kept_aside(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    state = site.config.parent / f".spalloc.cfg.state.{__version__}"
    state.write_bytes(b"garbage")
    first = site.start()
    assert site.connect(first).call("list_jobs") == []
    first.stop_and_join()
    [aside] = site.config.parent.glob(".*unreadable*")
    assert aside.read_bytes() == b"garbage"
    assert str(aside) in caplog.text
    assert state.exists()


def test_state_that_cannot_be_saved_is_a_failure(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first = site.start()
    os.unlink(first._state_filename)
    os.mkdir(first._state_filename)
    first.stop_and_join()
    assert first.failed
    assert f"cannot save state to {first._state_filename}: " in caplog.text
    os.rmdir(first._state_filename)


def test_stopping_leaves_nothing_behind(site: Site) -> None:
    site.start().stop_and_join()
    threads = threading.active_count()
    descriptors = set(os.listdir("/proc/self/fd"))
    handler = signal.getsignal(signal.SIGHUP)
    with site.start() as running:
        address = running.address
        client = site.connect(running)
        client.call("create_job", owner="me")
        assert running.is_alive()
    client.close()
    running.stop_and_join()  # once more is harmless
    assert not running.is_alive()
    assert threading.active_count() == threads
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert signal.getsignal(signal.SIGHUP) == handler
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert sorted(os.listdir(site.config.parent)) == [
        f".spalloc.cfg.state.{__version__}",
        "spalloc.cfg",
    ]


def _state_of_others(site: Site) -> str:
    state = site.config.parent / f".spalloc.cfg.state.{__version__}"
    state.write_bytes(b"anything")
    state.chmod(0o666)
    return f"{state} is refused: others may write it"


def _broken_config(site: Site) -> str:
    site.write("x = 1\ny = 1 / 0\n")
    return rf"{site.config}:2: ZeroDivisionError: division by zero"


def _invalid_config(site: Site) -> str:
    site.write("configuration = 3")
    return f"{site.config}: 'configuration' should be a Configuration, not 3"


def _missing_config(site: Site) -> str:
    site.config.unlink()
    return f"{site.config}: cannot be read: No such file or directory"


def _second_server(site: Site) -> str:
    site.start()
    return f"state is in use by another server, process {os.getpid()}"


def _unusable_folder(site: Site) -> str:
    lock = site.config.parent / ".spalloc.cfg.state.lock"
    lock.mkdir()
    return f"cannot write state file {lock}: Is a directory"


def _port_in_use(site: Site) -> str:
    other = site.undo.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = other.getsockname()[1]
    site.write(f"configuration = Configuration(ip='127.0.0.1', port={port})")
    return f"cannot listen on 127.0.0.1 port {port}: Address already in use"


@pytest.mark.parametrize(
    "break_it",
    [
        _state_of_others,
        _broken_config,
        _invalid_config,
        _missing_config,
        _second_server,
        _unusable_folder,
        _port_in_use,
    ],
)
def test_what_keeps_the_server_from_starting_is_named(
    site: Site, break_it: Callable[[Site], str]
) -> None:
    problem = break_it(site)
    threads = threading.active_count()
    descriptors = set(os.listdir("/proc/self/fd"))
    handler = signal.getsignal(signal.SIGHUP)
    port = server.DEFAULT_PORT if break_it is _port_in_use else 0
    with pytest.raises(_CriticalStop) as caught:
        SpallocServer(str(site.config), port=port)
    assert re.search(problem, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert threading.active_count() == threads
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert signal.getsignal(signal.SIGHUP) == handler


# Configuration


def test_the_port_of_the_config_file_is_used_where_none_is_asked_for(
    site: Site,
) -> None:
    port = free_port()
    site.write(f"configuration = Configuration(ip='127.0.0.1', port={port})")
    with SpallocServer(str(site.config)) as running:
        assert running.address == ("127.0.0.1", port)
    assert site.start().address[1] != port


def test_listening_on_ipv6(site: Site) -> None:
    site.write("configuration = Configuration(ip='::1')")
    try:
        running = site.start()
    except _CriticalStop:
        pytest.skip("this machine has no IPv6")
    with Client(running.address[1], "::1") as client:
        client.call("create_job", owner="me")
    assert running.address[0] == "::1"


def hang_up(running: SpallocServer, caplog: pytest.LogCaptureFixture) -> str:
    """Send this process SIGHUP; returns what the server logs when it is done."""
    caplog.clear()
    os.kill(os.getpid(), signal.SIGHUP)
    return wait_until(
        lambda: (
            caplog.text if re.search(r"Machines: |stays in force", caplog.text) else ""
        )
    )


def test_sighup_reads_the_config_file_again(
    site: Site, running: SpallocServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.call("notify_machine")
    kept = client.call("create_job", 1, 1, owner="me")
    wait_until(lambda: ready(client, kept))
    client.notifications.clear()
    site.simulator.add_frame("10.11.13.0")
    two = ONE_TRIAD + ONE_TRIAD.replace('"m"', '"n"').replace(".12.0", ".13.0").replace(
        "configuration =", "second ="
    )
    site.write(
        two + "configuration = Configuration(configuration.machines + second.machines,"
        " seconds_before_free=1, max_retired_jobs=5, timeout_check_interval=77)"
    )
    assert "Machines: added: n" in hang_up(running, caplog)
    assert client.notification() == {"machines_changed": ["n"]}
    assert [m["name"] for m in client.call("list_machines")] == ["m", "n"]
    assert ready(client, kept)
    assert running._controller.seconds_before_free == 1
    assert running._controller.max_retired_jobs == 5
    assert running._configuration.timeout_check_interval == 77
    second = client.call("create_job", 1, 1, owner="me")
    assert client.call("get_job_machine_info", second)["machine_name"] == "n"

    site.write(ONE_TRIAD.replace('"m",', '"m", tags={"other"},'))
    assert "Machines: removed: n; changed: m" in hang_up(running, caplog)
    assert client.call("get_job_state", second)["reason"] == "Machine removed."
    assert ready(client, kept)
    assert "Machines: unchanged" in hang_up(running, caplog)


@pytest.mark.parametrize("config", ["oh no", "configuration = 1", None])
def test_a_reload_that_fails_keeps_the_old_configuration(
    site: Site,
    running: SpallocServer,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    config: str | None,
) -> None:
    before = client.call("list_machines")
    if config is None:
        site.config.unlink()
    else:
        site.write(config)
    log = hang_up(running, caplog)
    assert f"The old configuration stays in force: {site.config}" in log
    assert "Traceback" not in log
    assert client.call("list_machines") == before


def test_a_reload_can_move_the_server_to_another_address(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port, port2 = free_port(), free_port()
    site.write(f"configuration = Configuration(port={port})")
    with SpallocServer(str(site.config)) as running:
        client = site.connect(running)
        for ip, number in [("127.0.0.1", port), ("127.0.0.1", port2), ("", port)]:
            site.write(f"configuration = Configuration(ip={ip!r}, port={number})")
            hang_up(running, caplog)
            assert running.address == (ip or "0.0.0.0", number)
            assert site.connect(running).call("version") == __version__
        assert client.call("version") == __version__
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = taken.getsockname()[1]
            site.write(f"configuration = Configuration(port={other})")
            log = hang_up(running, caplog)
        assert f"port {other}: Address already in use; the old address is kept" in log
        assert running.address == ("0.0.0.0", port)
        assert site.connect(running).call("version") == __version__


def test_a_server_made_in_another_thread_leaves_sighup_alone(site: Site) -> None:
    handler = signal.getsignal(signal.SIGHUP)
    made: list[SpallocServer] = []
    thread = threading.Thread(target=lambda: made.append(site.start()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGHUP) == handler
    assert site.connect(made[0]).call("version") == __version__
    made[0].stop_and_join()
    assert signal.getsignal(signal.SIGHUP) == handler
