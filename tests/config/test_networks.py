"""From where clients may connect: the check alone, and with real connections."""

import socket
from pathlib import Path

import pytest

from spalloc_server.config.networks import AllowedNetworks, checked_networks
from spalloc_server.server import SpallocServer, _CriticalStop
from spalloc_server.wire.listener import Listener
from tests.support import ONE_TRIAD, Client, Site, wait_until


@pytest.mark.parametrize(
    ("networks", "host", "allowed"),
    [
        (None, "1.2.3.4", True),
        (None, "", True),
        ([], "127.0.0.1", False),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8", "11.0.0.1"], "11.0.0.1", True),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "::ffff:10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::1", False),
        (["::/0"], "2001:db8::1", True),
        (["::/0"], "10.0.0.1", False),
        (["0.0.0.0/0", "::/0"], "10.0.0.1", True),
        (["fe80::/10"], "fe80::1%lo", True),
        (["0.0.0.0/0"], "", False),
    ],
)
def test_who_is_allowed(networks: list[str] | None, host: str, allowed: bool) -> None:
    assert checked_networks(networks) == networks
    assert (host in AllowedNetworks(networks)) == allowed


def test_any_iterable_of_networks_is_kept_as_a_list() -> None:
    assert checked_networks(("::1", "10.0.0.0/8")) == ["::1", "10.0.0.0/8"]
    assert checked_networks(iter(["::1"])) == ["::1"]


def is_let_in(server: SpallocServer, source: str) -> bool:
    """Does the server talk to a client that comes from this address?"""
    with socket.create_connection(server.address, 30, (source, 0)) as client:
        try:
            client.sendall(b'{"command": "version"}\n')
            return bool(client.recv(100))
        except ConnectionError:
            return False


def test_only_allowed_networks_get_in_and_reloading_changes_them(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def allow(networks: str) -> None:
        site.write(
            ONE_TRIAD.replace("seconds_", f"allowed_networks={networks}, seconds_")
        )

    allow('["127.0.0.0/30", "127.9.0.0/16"]')
    running = site.start()
    kept = Client(running.address[1])
    assert kept.call("version")
    assert is_let_in(running, "127.9.8.7")
    for _ in range(3):
        assert not is_let_in(running, "127.0.0.4")
    assert running.stats.refused == {"network not allowed": 3}
    # Not a line for each of them.
    assert caplog.text.count("no allowed network") == 1
    assert (
        "1 connections closed that come from no allowed network; last: 127.0.0.4"
        in (caplog.text)
    )
    allow('["127.0.0.4"]')
    running.request_reload()
    wait_until(lambda: is_let_in(running, "127.0.0.4"))
    assert not is_let_in(running, "127.0.0.1")
    # Who is in already stays in.
    assert kept.call("version")
    allow('["127.0.0.4", "nonsense"]')
    running.request_reload()
    wait_until(lambda: "does not appear to be an IPv4 or IPv6 network" in caplog.text)
    assert is_let_in(running, "127.0.0.4")
    allow("None")
    running.request_reload()
    wait_until(lambda: is_let_in(running, "127.0.0.1"))
    kept.close()


@pytest.mark.parametrize(
    ("networks", "ipv4", "ipv6"),
    [
        ('["127.0.0.0/8"]', True, False),
        ('["::1"]', False, True),
        ('["::ffff:127.0.0.0/104", "::1"]', True, True),
    ],
)
def test_ipv4_clients_of_an_ipv6_server(
    site: Site, networks: str, ipv4: bool, ipv6: bool
) -> None:
    site.write(f"configuration = Configuration(ip='::', allowed_networks={networks})")
    try:
        running = site.start()
    except _CriticalStop:
        pytest.skip("this machine has no IPv6")
    port = running.address[1]
    for host, allowed in (("127.0.0.1", ipv4), ("::1", ipv6)):
        with Client(port, host) as client:
            if allowed:
                job_id = client.call("create_job", owner="me", keepalive=None)
                assert job_id >= 1
            else:
                assert client.is_disconnected()


def test_the_last_log_line_is_made_up_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener("127.0.0.1", 0)
    listener.allowed = ()
    monkeypatch.setattr("spalloc_server.wire.listener.LOG_INTERVAL", 3600.0)

    def turn_away(number: int) -> None:
        for _ in range(number):
            with socket.create_connection(listener.address) as client:

                def is_closed(client: socket.socket = client) -> bool:
                    assert listener.accept() == []
                    client.setblocking(False)
                    try:
                        return client.recv(1) == b""
                    except BlockingIOError:
                        return False

                wait_until(is_closed)

    turn_away(5)
    listener._not_allowed._next_log = 0.0
    turn_away(1)
    listener.close()
    counts = [message.split()[0] for message in caplog.messages]
    assert counts == ["1", "5"]


def test_a_config_file_names_the_network_at_fault(tmp_path: Path, site: Site) -> None:
    site.write('configuration = Configuration(allowed_networks=["10.0.0.1/8"])')
    with pytest.raises(_CriticalStop, match=r":1: ValueError.*10\.0\.0\.1/8 has host"):
        site.start()
