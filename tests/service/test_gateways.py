"""Programs that speak for others, and reads that keep no job alive."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.server import SpallocServer
from spalloc_server.service.gateways import Gateways, proof_of
from spalloc_server.storage.secret_file import read_or_make_secret, read_secret
from tests.support import (
    ONE_TRIAD,
    Client,
    CommandError,
    Site,
    running_server,
    wait_until,
)

SECRET = b"s" * 32


def prove(client: Client, secret: bytes) -> None:
    challenge = client.call("speak_for_others")
    assert client.call("speak_for_others", proof_of(secret, challenge)) is None


@pytest.fixture
def gateway(site: Site, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(SpallocServer, "gateways", Gateways(SECRET))
    client = site.connect(site.start())
    prove(client, SECRET)
    return client


def test_jobs_are_those_of_the_real_host(gateway: Client) -> None:
    job = gateway.call("create_job", owner="me", on_behalf_of="192.0.2.1")
    (listed,) = gateway.call("list_jobs")
    assert listed["keepalivehost"] == "192.0.2.1"
    gateway.call("job_keepalive", job, on_behalf_of="2001:DB8::1")
    assert gateway.call("describe_job", job)["keepalivehost"] == "2001:db8::1"
    # It holds for one command only.
    gateway.call("job_keepalive", job)
    assert gateway.call("describe_job", job)["keepalivehost"] == "127.0.0.1"


def test_a_command_that_fails_ends_it_too(gateway: Client) -> None:
    job = gateway.call("create_job", owner="me")
    with pytest.raises(CommandError, match="owner must be specified"):
        gateway.call("create_job", on_behalf_of="192.0.2.1")
    with pytest.raises(CommandError, match="unexpected keyword"):
        gateway.call("job_keepalive", job, wrong=1, on_behalf_of="192.0.2.1")
    gateway.call("job_keepalive", job)
    assert gateway.call("describe_job", job)["keepalivehost"] == "127.0.0.1"


def test_watching_on_behalf_of_others_is_watching(gateway: Client) -> None:
    gateway.call("notify_job", on_behalf_of="192.0.2.1")
    job = gateway.call("create_job", owner="me", on_behalf_of="192.0.2.1")
    assert gateway.notification() == {"jobs_changed": [job]}


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (None, "on_behalf_of must be a string, not None"),
        (7, "on_behalf_of must be a string, not 7"),
        ("there", "on_behalf_of must be an IP address, not 'there'"),
        ({"a": 1}, "on_behalf_of must be a string"),
    ],
)
def test_hosts_are_addresses(gateway: Client, host: Any, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        gateway.call("create_job", owner="me", on_behalf_of=host)
    assert gateway.call("list_jobs") == []


def test_others_speak_for_themselves(gateway: Client, site: Site) -> None:
    port = gateway.socket.getpeername()[1]
    with Client(port) as other:
        for name in ("create_job", "list_jobs", "notify_job"):
            with pytest.raises(CommandError, match="for gateways that have proved"):
                other.call(name, owner="me", on_behalf_of="192.0.2.1")
        assert other.call("list_jobs") == []


def test_a_proof_is_for_one_challenge_and_one_try(gateway: Client) -> None:
    port = gateway.socket.getpeername()[1]
    with Client(port) as other:
        with pytest.raises(CommandError, match="no challenge"):
            other.call("speak_for_others", proof_of(SECRET, ""))
        challenge = other.call("speak_for_others")
        for wrong in ("x", "\u00e4", 5, proof_of(b"t" * 32, challenge)):
            challenge = other.call("speak_for_others")
            with pytest.raises(CommandError, match="not the proof"):
                other.call("speak_for_others", wrong)
            with pytest.raises(CommandError, match="no challenge"):
                other.call("speak_for_others", proof_of(SECRET, challenge))
        assert other.call("speak_for_others") != other.call("speak_for_others")
        prove(other, SECRET)
        other.call("create_job", owner="me", on_behalf_of="192.0.2.1")


def test_a_server_without_a_secret_takes_nobody_for_a_gateway(client: Client) -> None:
    with pytest.raises(CommandError, match="started without --gateway-secret"):
        client.call("speak_for_others")
    with pytest.raises(CommandError, match="no challenge"):
        client.call("speak_for_others", proof_of(b"", ""))
    with pytest.raises(CommandError, match="for gateways that have proved"):
        client.call("job_keepalive", 1, on_behalf_of="192.0.2.1")


def test_describing_a_job_does_not_keep_it_alive(site: Site) -> None:
    site.write(
        ONE_TRIAD.replace("before_free=0", "before_free=0,timeout_check_interval=0.01")
    )
    client = site.connect(site.start())
    job = client.call("create_job", owner="me", keepalive=0.3)
    description = client.call("describe_job", job)
    assert description["owner"] == "me"
    assert description["keepalive"] == 0.3
    wait_until(lambda: client.call("describe_job", job)["state"] == 4, 10)
    description = client.call("describe_job", job)
    assert description["reason"] == "Job timed out."
    assert description["owner"] is None


def test_descriptions_say_all(client: Client) -> None:
    job = client.call("create_job", 3, owner="me", tags=["default"])
    wait_until(lambda: client.call("describe_job", job)["state"] == 3)
    description = client.call("describe_job", job)
    (listed,) = client.call("list_jobs")
    boards = client.call("get_job_machine_info", job)
    del boards["machine_name"]
    assert description == {**listed, **boards, "reason": None}
    unknown = client.call("describe_job", 99)
    assert unknown.pop("state") == 0
    assert set(unknown.values()) == {None}
    assert description.keys() == {*unknown, "state"}


def test_boards_are_found_by_their_address(client: Client) -> None:
    place = client.call("where_is", machine="m", x=0, y=0, z=2)
    assert client.call("where_is", ip_address="10.11.12.17") == place
    assert client.call("where_is", ip_address="10.11.12.18") is None
    with pytest.raises(CommandError, match="ip_address must be a string"):
        client.call("where_is", ip_address=1)


# The secret's file


def test_a_secret_is_made_once_for_its_user_only(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = read_or_make_secret(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) == 64
    assert read_secret(str(path)) == read_or_make_secret(str(path)) == secret
    assert os.listdir(tmp_path) == ["secret"]


@pytest.mark.parametrize(
    ("contents", "mode", "problem"),
    [
        (None, 0, "No such file or directory"),
        (b"s" * 64, 0o640, "others may read or write it; its mode should be 0600"),
        (b"s" * 64, 0o602, "others may read or write it; its mode should be 0600"),
        (b"short", 0o600, "has less than 32 characters"),
    ],
)
def test_secrets_that_are_none(
    tmp_path: Path, contents: bytes | None, mode: int, problem: str
) -> None:
    path = tmp_path / "secret"
    if contents is not None:
        path.write_bytes(contents)
        path.chmod(mode)
    with pytest.raises(OSError, match="secret file ") as caught:
        read_secret(str(path))
    assert caught.value.strerror == f"secret file {path}: {problem}"


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="secret file ") as caught:
        read_secret(str(tmp_path))
    assert caught.value.strerror == f"secret file {tmp_path}: is not a file"


def test_the_command_line_makes_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    options = ("--simulate", "--gateway-secret", str(path))
    with (
        running_server(ONE_TRIAD, *options, folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        prove(client, read_secret(str(path)))
        client.call("create_job", owner="me", on_behalf_of="192.0.2.1")
    path.chmod(0o644)
    with (
        pytest.raises(AssertionError, match="its mode should be 0600"),
        running_server(tmp_path / "spalloc.cfg", *options),
    ):
        pass
