"""Whose jobs were: in memory, in the file, and as others are told."""

import errno
import stat
from pathlib import Path

import pytest

from spalloc_server_gateway.owners import Owners
from tests.gateway.support import Place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def test_owners_are_there_for_the_next_gateway(path: Path) -> None:
    owners = Owners(str(path))
    names = ["me", "\u00e4 \u20ac\n", '"]', ""]
    for number, name in enumerate(names, 1):
        assert not owners.note(number, name, 1e9 + number / 3)
        owners.note(number, name, 1e9 + number / 3)
    assert len(path.read_text().splitlines()) == len(names)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for kept in (owners, Owners(str(path)), Owners(str(path))):
        assert [kept.find(number) for number in range(1, 5)] == names
        assert kept.find(5) is None


def test_the_oldest_are_forgotten_and_the_file_stays_short(path: Path) -> None:
    owners = Owners(str(path), limit=10)
    for number in range(100):
        owners.note(number, "me", 1e9 + number)
        assert len(path.read_text().splitlines()) <= 20
    for kept in (owners, Owners(str(path), limit=10)):
        assert [number for number in range(100) if kept.find(number)] == [
            *range(90, 100)
        ]


def test_damage_harms_only_what_is_damaged(path: Path) -> None:
    path.write_bytes(
        b'[1, "me", 1e9]\nnonsense\n\xff\xfe\n[2]\n[3, 4, 5]\n{"a": 1}\nnull\n'
        b'["x", "me", 1]\n[[], "me", 1]\n[7, "you", 1e9]\n[8, "you'
    )
    owners = Owners(str(path))
    assert [number for number in range(10) if owners.find(number)] == [1, 7]
    owners.note(9, "me", 2e9)
    assert Owners(str(path)).find(9) == "me"


def test_another_server_that_counts_from_the_beginning(path: Path) -> None:
    owners = Owners(str(path))
    for number in (1, 2, 3, 7):
        owners.note(number, "me", 1e9 + number)
    # A job that was not asked about so far, and one whose time is not quite the same.
    assert not owners.note(5, "me", 1e9 + 5)
    assert not owners.note(5, "me", 1e9 + 5.5)
    # The seventh was there before the second began.
    assert owners.note(2, "you", 2e9)
    for kept in (owners, Owners(str(path))):
        assert [kept.find(number) for number in range(8)] == [
            *(None, None, "you", None, None, None, None, None)
        ]


def test_a_file_that_cannot_be_written_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owners = Owners(str(path))

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", full)
        for number in range(3):
            owners.note(number, "me", 1e9 + number)
    assert [owners.find(number) for number in range(3)] == ["me"] * 3
    assert caplog.messages == [f"{path}: No space left on device"]


def test_ended_jobs_are_their_owners_over_a_restart(place: Place) -> None:
    mine, yours = place.log_in("me"), place.log_in("you")
    old = place.old_client()
    job, other = mine.create(), old.call("create_job", owner="them")
    assert yours.ask("PUT", f"jobs/{other}/keepalive").status_code == 200
    hidden = old.call("create_job", owner="me")
    for job_id in (job, other, hidden):
        old.call("destroy_job", job_id, "enough")
    for _ in range(2):
        ended = mine.ask("GET", f"jobs/{job}").json()
        assert (ended["state"], ended["reason"]) == ("DESTROYED", "enough")
        assert mine.ask("DELETE", f"jobs/{job}").status_code == 204
        # Of this one nobody was asked while it was there: nobody is told.
        assert mine.ask("GET", f"jobs/{hidden}").status_code == 404
        unknown = yours.ask("GET", "jobs/98765").text
        for job_id in (job, other, hidden):
            for method in ("GET", "DELETE"):
                told = yours.ask(method, f"jobs/{job_id}")
                assert (told.status_code, told.text) == (404, unknown)
        place.gateway.stop()
        place.start_gateway()
        place.server.stop()
        place.start_server(port=place.server.port)
        old = place.old_client()
    # Their times are the same after a restart, so that nothing seems to begin anew.
    third = mine.create()
    place.server.stop()
    place.start_server(port=place.server.port)
    assert mine.state(third) != "DESTROYED"
    assert mine.state(job) == "DESTROYED"
