"""The newest SpiNNMan, in this process, against a real gateway and a real server."""

import pytest
import requests
from spinn_utilities.config_holder import set_config
from spinnman.config_setup import unittest_setup
from spinnman.data.spinnman_data_writer import SpiNNManDataWriter
from spinnman.exceptions import SpallocException
from spinnman.spalloc import SpallocClient, SpallocState
from spinnman.spalloc.spalloc_allocator import spalloc_allocate_job

from tests.gateway.boards import Echo
from tests.gateway.support import Place
from tests.support import wait_until


def require_boards(number: int) -> None:
    """Say how many boards the next job is to have."""
    SpiNNManDataWriter.mock().set_n_required(number, None)


def trust(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have SpiNNMan trust the certificate of a gateway."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(place.ca))
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(place.ca))


@pytest.fixture(autouse=True)
def _spinnman(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    unittest_setup()
    trust(place, monkeypatch)
    for name in ("SPALLOC_USER", "SPALLOC_PASSWORD", "OIDC_BEARER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    require_boards(3)


def test_a_job_from_its_beginning_to_its_end(place: Place) -> None:
    with SpallocClient(place.url) as client:
        assert str(client.version) == "1.0.0"
        with client.create_job() as job:
            job.wait_until_ready()
            assert job.get_state() is SpallocState.READY
            assert job.get_connections() == {
                (0, 0): "127.0.1.1",
                (8, 4): "127.0.1.2",
                (4, 8): "127.0.1.3",
            }
            assert job.get_root_host() == "127.0.1.1"
            assert job.where_is_machine(9, 5) == (0, 0, 1)
            assert job.where_is_machine(200, 200) is None
            (listed,) = place.old_client().call("list_jobs")
            assert listed["owner"] == "anonymous"
            assert listed["keepalivehost"] == "127.0.0.1"
            assert listed["keepalive"] == pytest.approx(120, abs=1e-3)
            assert len(list(client.list_jobs())) == 1
        assert job.get_state() is SpallocState.DESTROYED
        assert list(client.list_jobs()) == []
        (machine,) = client.list_machines().values()
        assert (machine.name, machine.area) == ("m", (1, 1))
        assert machine.tags == frozenset({"default", "desk"})


@pytest.mark.parametrize(
    ("url", "owner"),
    [("https://me@localhost", "me"), ("https://me:secret@localhost", "me")],
)
def test_names_are_owners(place: Place, url: str, owner: str) -> None:
    with SpallocClient(f"{url}:{place.port}/spalloc/") as client:
        client.create_job()
        (listed,) = place.old_client().call("list_jobs")
        assert listed["owner"] == owner


def test_a_wrong_password_is_told(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = empty_place
    trust(place, monkeypatch)
    place.start_server()
    place.add_user("me", "secret")
    place.start_gateway("--users", str(place.users))
    with pytest.raises(SpallocException, match="name or the password is wrong"):
        SpallocClient(place.url, "me", "wrong")
    with pytest.raises(SpallocException, match="a user name and a password are needed"):
        SpallocClient(place.url)
    with SpallocClient(place.url, "me", "secret") as client:
        client.create_job()
    assert place.old_client().call("list_jobs")[0]["owner"] == "me"


def test_tokens_are_good_for_nobody_in_particular(place: Place) -> None:
    with SpallocClient(place.url, bearer_token="a.b.c") as client:
        client.create_job()
    assert place.old_client().call("list_jobs")[0]["owner"] == "anonymous"


def test_a_job_that_no_machine_can_have_is_refused(place: Place) -> None:
    require_boards(1000)
    with (
        SpallocClient(place.url) as client,
        pytest.raises(ValueError, match="No suitable machines available"),
    ):
        client.create_job()
    assert place.old_client().call("list_jobs") == []


@pytest.mark.parametrize(
    ("settings", "boards"),
    [
        ({"spalloc_triad": "0,0,2"}, [[0, 0, 2]]),
        ({"spalloc_physical": "0,0,1"}, [[0, 0, 1]]),
        ({"spalloc_ip_address": "127.0.1.2"}, [[0, 0, 1]]),
        (
            {"spalloc_width": "1", "spalloc_height": "1"},
            [[0, 0, 0], [0, 0, 1], [0, 0, 2]],
        ),
        ({"spalloc_machine": "m", "spalloc_triad": "0,0,1"}, [[0, 0, 1]]),
    ],
)
def test_boards_can_be_asked_for_in_every_way(
    place: Place, settings: dict[str, str], boards: list[list[int]]
) -> None:
    for name, value in settings.items():
        set_config("Machine", name, value)
    with SpallocClient(place.url) as client:
        client.create_job()
        (listed,) = place.old_client().call("list_jobs")
        assert listed["boards"] == boards


def test_a_job_that_others_end_is_noticed_at_once(place: Place) -> None:
    with SpallocClient(place.url) as client:
        job = client.create_job()
        state = job.wait_for_state_change(SpallocState.UNKNOWN)
        while state is not SpallocState.READY:
            state = job.wait_for_state_change(state)
        old = place.old_client()
        old.call("destroy_job", old.call("list_jobs")[0]["job_id"], "by others")
        assert job.wait_for_state_change(state) is SpallocState.DESTROYED


def test_boards_are_reached_through_the_proxy(place: Place) -> None:
    with (
        Echo("127.0.1.1", b"one ") as one,
        Echo("127.0.1.2", b"two ") as two,
        SpallocClient(place.url) as client,
        client.create_job() as job,
    ):
        wait_until(lambda: job.get_state() is SpallocState.READY)
        first = job.connect_to_board(0, 0, one.port)
        second = job.connect_to_board(8, 4, two.port)
        first.send(b"hello")
        second.send(b"hello")
        assert second.receive(20) == b"two hello"
        assert first.receive(20) == b"one hello"
        listener = job.open_udp_listener_connection()
        listener.send_to(b"hi", ("127.0.1.2", two.port))
        assert listener.receive(20) == b"two hi"
        for connection in (first, second, listener):
            connection.close()
        with pytest.raises(OSError, match="unrecognised ethernet chip"):
            job.connect_to_board(1, 1, one.port)


def test_the_allocator_of_the_toolchain(place: Place) -> None:
    set_config("Machine", "spalloc_server", place.url)
    set_config("Machine", "spalloc_use_proxy", "False")
    host, connections, controller = spalloc_allocate_job()
    assert host == "127.0.1.1"
    assert connections[8, 4] == "127.0.1.2"
    assert controller.where_is_machine(8, 4) == (0, 0, 1)
    with pytest.raises(ValueError, match="outside machine"):
        controller.where_is_machine(300, 0)
    assert not controller.proxying
    controller.close()
    wait_until(lambda: place.old_client().call("list_jobs") == [])


def test_the_allocator_with_the_proxy(place: Place) -> None:
    set_config("Machine", "spalloc_server", place.url)
    set_config("Machine", "spalloc_use_proxy", "True")
    with Echo("127.0.1.2", b"two ") as two:
        _, _, controller = spalloc_allocate_job()
        connection = controller.open_sdp_connection(8, 4, two.port)
        assert connection is not None
        connection.send(b"hello")
        assert connection.receive(20) == b"two hello"
        controller.close()


def test_clients_go_on_with_the_jobs_of_other_processes(place: Place) -> None:
    with SpallocClient(place.url) as client:
        job = client.create_job()
        wait_until(lambda: job.get_state() is SpallocState.READY)
        (listed,) = place.old_client().call("list_jobs")
        again = client.get_job(str(listed["job_id"]))
        assert again.get_state() is SpallocState.READY
        assert again.get_root_host() == "127.0.1.1"
        kept = job.get_session_credentials_for_db()
        cookies = {name: v for (kind, name), v in kept.items() if kind == "COOKIE"}
        reply = requests.get(
            f"{place.url}srv/spalloc/jobs/{listed['job_id']}",
            cookies=cookies,
            timeout=9,
        )
        assert reply.json()["state"] == "READY"
