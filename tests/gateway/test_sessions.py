"""Logins, cookies and tokens, with requests of every kind."""

import contextlib
import os
import re
import stat
from pathlib import Path

import pytest
import requests

from spalloc_server_gateway.context import COOKIE
from spalloc_server_gateway.run import KEY_FILE
from spalloc_server_gateway.sessions import (
    LOGIN_SECONDS,
    SESSION_SECONDS,
    Sessions,
)
from spalloc_server_gateway.users import Password, Users, UsersError, add_user
from tests.gateway.boards import open_proxy, words
from tests.gateway.support import Place, metric
from tests.support import wait_until

# Cookies


def test_cookies_have_the_letters_that_clients_take() -> None:
    sessions = Sessions(b"key")
    for user in ("a", "\u00e4\u20ac", "x" * 100):
        session = sessions.begin(user)
        assert re.fullmatch("[A-Z0-9]+", session.cookie)
        assert re.fullmatch("[-a-z0-9]+", session.csrf_token)
        assert sessions.find(session.cookie) == session
        # In another process, with the same key.
        assert Sessions(b"key").find(session.cookie) == session
        assert Sessions(b"other").find(session.cookie) is None


def test_cookies_that_are_not_ours_are_nobodys() -> None:
    sessions = Sessions(b"key")
    cookie = sessions.begin("me").cookie
    for wrong in (
        "",
        "A",
        "A" * 60,
        cookie[:-1],
        cookie + "A",
        "\u00e4",
        cookie.lower(),
    ):
        assert sessions.find(wrong) is None
    for place in range(len(cookie)):
        other = "B" if cookie[place] == "A" else "A"
        found = sessions.find(cookie[:place] + other + cookie[place + 1 :])
        # Only the bits that fill up the last letter may be others.
        assert found is None or place == len(cookie) - 1
    assert sessions.find(sessions.begin_login().cookie) is None


def test_sessions_end_by_and_by() -> None:
    now = 1e9
    sessions = Sessions(b"key", clock=lambda: now)
    session, login = sessions.begin("me"), sessions.begin_login()
    assert sessions.is_login(login.cookie, login.csrf_token)
    assert not sessions.is_login(login.cookie, session.csrf_token)
    assert not sessions.is_login(session.cookie, session.csrf_token)
    now += LOGIN_SECONDS + 1
    assert not sessions.is_login(login.cookie, login.csrf_token)
    assert sessions.find(session.cookie) == session
    now += SESSION_SECONDS
    assert sessions.find(session.cookie) is None


def test_sessions_end_with_the_password(tmp_path: Path) -> None:
    path = str(tmp_path / "users")
    add_user(path, "me", "one")
    add_user(path, "you", "one")
    sessions = Sessions(b"key", Users(path))
    mine, yours = sessions.begin("me"), sessions.begin("you")
    add_user(path, "me", "two")
    assert sessions.find(mine.cookie) is None
    assert sessions.find(yours.cookie) == yours
    os.unlink(path)
    add_user(path, "me", "two")
    assert sessions.find(yours.cookie) is None


# Users


def test_the_file_of_users_holds_no_passwords(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert add_user(str(path), "me", "secret")
    assert add_user(str(path), "you", "secret")
    assert not add_user(str(path), "me", "other")
    text = path.read_text()
    assert "secret" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    mine, yours = (line.split()[1] for line in text.splitlines())
    assert mine != yours
    users = Users(str(path))
    for name, password in (("me", "other"), ("you", "secret")):
        kept = users.find(name)
        assert kept is not None
        assert kept.is_for(password)
        assert not kept.is_for(password + "x")
    assert users.find("nobody") is None
    assert os.listdir(tmp_path) == ["users"]


def test_remarks_in_the_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("# those of the lab\n\n")
    path.chmod(0o600)
    add_user(str(path), "me", "secret")
    assert path.read_text().startswith("# those of the lab\n\nme scrypt$")


@pytest.mark.parametrize("name", ["", "#me", "a b", "a\nb", "x" * 101, " me"])
def test_names_that_nobody_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsersError, match="a user's name has"):
        add_user(str(tmp_path / "users"), name, "secret")
    assert os.listdir(tmp_path) == []


HASH = str(Password.of("x"))


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("me", 0o600, "line 1 is no user with a password"),
        ("me secret", 0o600, "line 1 is no user with a password"),
        ("#\nme scrypt$3$8$1$aa==$aa==", 0o600, "line 2 is no user with a password"),
        ("me scrypt$1048576$99$1$aaaa$aaaa", 0o600, "line 1 is no user"),
        (f"me {HASH}\nme {HASH}", 0o600, "line 2: there is another me"),
        (f"me {HASH}", 0o644, "its mode should be 0600"),
    ],
    # The hash is another one in each process.
    ids=["no hash", "no such hash", "too short", "too dear", "twice", "mode"],
)
def test_files_that_are_none_of_users(
    tmp_path: Path, text: str, mode: int, problem: str
) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(UsersError, match=problem):
        Users(str(path))


def test_a_file_that_was_broken_meanwhile_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users"
    add_user(str(path), "me", "secret")
    users = Users(str(path))
    for text in ("nonsense", "", "# nobody\n"):
        path.write_text(text)
        assert users.find("me") is not None
    path.unlink()
    assert users.find("me") is not None


# Over the wire


def test_the_key_is_kept_for_the_next_gateway(place: Place) -> None:
    user = place.log_in("me")
    job = user.create()
    assert stat.S_IMODE((place.folder / KEY_FILE).stat().st_mode) == 0o600
    place.gateway.stop()
    place.start_gateway()
    assert user.ask("PUT", f"jobs/{job}/keepalive").status_code == 200
    assert user.state(job) in ("POWER", "READY")
    (place.folder / KEY_FILE).unlink()
    place.gateway.stop()
    place.start_gateway()
    assert user.ask("GET", f"jobs/{job}").status_code == 401


def test_the_cookie_is_set_in_the_form_that_clients_take(place: Place) -> None:
    page = place.get("system/login.html")
    assert page.status_code == 200
    (line,) = (line for line in page.text.splitlines() if "_csrf" in line)
    assert re.fullmatch('<input type="hidden" name="_csrf" value="[-a-z0-9]+" />', line)
    assert re.fullmatch(
        "JSESSIONID=[A-Z0-9]+; HttpOnly; Path=/; SameSite=Strict; Secure",
        page.headers["Set-Cookie"],
    )
    login = place.log_in("me").login
    assert login.status_code == 302
    assert login.headers["Location"] == f"{place.url}srv/spalloc/"
    # A base of its own, as other servers have it.
    page = place.get("spalloc/system/login.html")
    assert "Path=/spalloc;" in page.headers["Set-Cookie"]


def test_nothing_goes_without_a_session(place: Place) -> None:
    job = place.log_in("me").create()
    for method, path in (
        ("GET", ""),
        ("GET", "machines"),
        ("GET", "jobs/"),
        ("POST", "jobs/"),
        ("GET", f"jobs/{job}"),
        ("DELETE", f"jobs/{job}"),
        ("PUT", f"jobs/{job}/keepalive"),
        ("POST", f"jobs/{job}/machine/power"),
        ("GET", f"jobs/{job}/memory"),
    ):
        reply = requests.request(
            method,
            f"{place.url}srv/spalloc/{path}",
            verify=str(place.ca),
            timeout=60,
            cookies={COOKIE: str(place.get("system/login.html").cookies[COOKIE])},
        )
        assert reply.status_code == 401
        assert "log in first" in reply.text
        assert "Set-Cookie" not in reply.headers


def test_changes_need_the_token(place: Place) -> None:
    user, other = place.log_in("me"), place.log_in("me")
    job = user.create()
    for headers in (
        {},
        {"X-CSRF-TOKEN": "x"},
        {"X-CSRF-TOKEN": "\u00e4"},
        other.headers,
    ):
        for method, path in (
            ("DELETE", f"jobs/{job}"),
            ("PUT", f"jobs/{job}/keepalive"),
            ("POST", "jobs"),
        ):
            encoded = {k: v.encode() for k, v in headers.items()}
            reply = user.ask(method, path, headers=encoded)
            assert (reply.status_code, reply.text) == (
                403,
                "the header X-CSRF-TOKEN is missing or wrong\n",
            )
    assert user.state(job) != "DESTROYED"


def test_logins_fail_with_a_message_and_without_a_cookie(empty_place: Place) -> None:
    place = empty_place
    place.start_server()
    assert place.add_user_by_command("me", "secret") == "me is a new user\n"
    place.program = "tests.gateway.impatient"
    place.start_gateway("--users", str(place.users))
    for user, password in (
        ("me", "wrong"),
        ("nobody", "secret"),
        ("me", None),
        (None, None),
        (None, "secret"),
        ("me", "secret" * 1000),
        ("", ""),
    ):
        failed = place.log_in(user, password).login
        assert failed.status_code == 401
        assert set(failed.json()) == {"message"}
        assert "Set-Cookie" not in failed.headers
    assert place.log_in("me", "secret").login.status_code == 302
    # As it stands in a URL, from which clients take it; or a name of its own.
    place.add_user("you@example.org", "secret")
    place.add_user("you%40example.org", "other")
    place.add_user("us@example.org", "secret")
    assert place.log_in("us%40example.org", "secret").login.status_code == 302
    assert place.log_in("you%40example.org", "other").login.status_code == 302
    assert place.log_in("you@example.org", "secret").login.status_code == 302
    # Users are added while the gateway runs.
    place.add_user("new", "secret")
    assert place.log_in("new", "secret").create()
    text = place.get("metrics").text
    assert "spalloc_gateway_failed_logins_total 7.0" in text
    assert "spalloc_gateway_logins_total 5.0" in text
    token = {"Authorization": "Bearer x"}
    assert place.get("system/login.html", headers=token).status_code == 401


def test_what_was_open_ends_with_the_session(empty_place: Place) -> None:
    place = empty_place
    place.start_server()
    place.add_user("me", "secret")
    place.add_user("you", "secret")
    place.start_gateway("--users", str(place.users))
    mine, yours = place.log_in("me", "secret"), place.log_in("you", "secret")
    with contextlib.ExitStack() as undo:
        for user in (mine, yours):
            job = user.create()
            user.wait_until_ready(job)
            proxy = undo.enter_context(contextlib.closing(open_proxy(user, job)))
            proxy.send_binary(words(3, 1))
            proxy.recv()
        assert metric(place, "channels") == 2
        text = place.users.read_text()
        place.users.write_text(re.sub("(?m)^me .*$", "", text))
        wait_until(lambda: metric(place, "channels") == 1)
        wait_until(lambda: metric(place, "proxies") == 1)
        proxy.send_binary(words(3, 1))
        assert proxy.recv()[:8] == words(3, 1)
        assert mine.ask("GET", "").status_code == 401
        assert yours.ask("GET", "").status_code == 200


def test_forms_need_the_token_of_their_page(place: Place) -> None:
    one, other = (place.get("system/login.html") for _ in range(2))
    token = re.search('value="([-a-z0-9]+)" />', one.text)
    assert token is not None
    for cookies, form in (
        ({}, {"_csrf": token[1]}),
        ({COOKIE: str(other.cookies[COOKIE])}, {"_csrf": token[1]}),
        ({COOKIE: str(one.cookies[COOKIE])}, {}),
        ({COOKIE: "nonsense"}, {"_csrf": token[1]}),
    ):
        reply = requests.post(
            f"{place.url}system/perform_login",
            cookies=cookies,
            data=form,
            verify=str(place.ca),
            timeout=60,
        )
        assert reply.status_code == 403
        assert "too old" in reply.json()["message"]
        assert "Set-Cookie" not in reply.headers
