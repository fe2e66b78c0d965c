"""The start of the gateway: what is wrong is said in one line."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.gateway.support import Place
from tests.support import ServerProcess


def run(*options: str) -> tuple[int, str]:
    """Run the command, which is to fail; gives its status and what it prints."""
    process = ServerProcess(Path(), (), ["spalloc_server_gateway", *options])
    try:
        return process.wait(), process.log
    finally:
        process.kill()


def test_what_is_missing_is_said_in_one_line(empty_place: Place) -> None:
    place, folder = empty_place, empty_place.folder
    place.secret.write_text("s" * 32)
    place.secret.chmod(0o600)
    bad, readable, short, locked = (folder / n for n in ("bad", "users", "s", "locked"))
    bad.write_text("nonsense")
    bad.chmod(0o600)
    readable.write_text("")
    readable.chmod(0o644)
    short.write_text("s" * 31)
    short.chmod(0o600)
    key = load_pem_private_key(place.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    (folder / "state" / "spalloc_server_gateway.jobs").mkdir(parents=True)
    right = {
        "--cert": str(place.cert),
        "--key": str(place.key),
        "--secret": str(place.secret),
        "--state-dir": str(folder),
        "--listen": "127.0.0.1:0",
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option, value, problem in (
            (
                *("--listen", f"127.0.0.1:{port}"),
                f"cannot listen on 127.0.0.1 port {port}: Address already in use",
            ),
            ("--listen", "192.0.2.1:0", "cannot listen on 192.0.2.1 port 0: Cannot"),
            ("--cert", "none", "none: No such file or directory"),
            ("--cert", str(place.ca), "KEY_VALUES_MISMATCH"),
            ("--cert", str(bad), f"cannot use {bad} with {place.key}: "),
            ("--cert", str(folder), f"{folder}: Is a directory"),
            ("--key", "none", "none: No such file or directory"),
            ("--key", str(bad), f"cannot use {place.cert} with {bad}: "),
            ("--key", str(locked), f"cannot use {place.cert} with {locked}: "),
            ("--secret", "none", "secret file none: No such file or directory"),
            ("--secret", str(folder), f"secret file {folder}: is not a file"),
            ("--secret", str(short), f"secret file {short}: has less than 32"),
            (
                *("--secret", str(readable)),
                f"secret file {readable}: others may read or write it; its mode should",
            ),
            ("--users", "none", "none: No such file or directory"),
            ("--users", str(folder), f"{folder}: Is a directory"),
            ("--users", str(bad), f"{bad}: line 1 is no user with a password"),
            ("--users", str(readable), f"{readable}: others may read or write it"),
            (
                *("--state-dir", "/none"),
                "/none/spalloc_server_gateway.key: No such file or directory",
            ),
            (
                *("--state-dir", str(bad)),
                f"{bad}/spalloc_server_gateway.key: Not a directory",
            ),
            (
                *("--state-dir", f"{folder}/state"),
                f"{folder}/state/spalloc_server_gateway.jobs: Is a directory",
            ),
        ):
            options = {**right, option: value}
            code, text = run(
                *(word for pair in options.items() for word in pair),
                *([] if option == "--users" else ["--open"]),
            )
            assert code == 1, (option, value, text)
            assert problem in text
            assert text.count("\n") == 1, text


def test_what_is_not_installed_is_said_in_one_line() -> None:
    missing = "import sys; sys.modules['aiohttp'] = None; "
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            missing + "from spalloc_server_gateway.__main__ import main; main()",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == (
        "spalloc_server_gateway: aiohttp is not installed: install "
        "spalloc_server[gateway]\n"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "one of --users and --open is needed"),
        (["--open", "--users", "x"], "one of --users and --open is needed"),
        (["--open"], "either --cert and --key or --behind-proxy is needed"),
        (["--open", "--cert", "x"], "--cert and --key go together"),
        (["--add-user", "me"], "--add-user needs --users"),
        (["--listen", "here:1"], "invalid address value: 'here:1'"),
        (["--listen", "1:99999"], "invalid address value"),
        (["--server", "x:y"], "invalid address value: 'x:y'"),
        (["--behind-proxy", "ftp://x"], "invalid URL value"),
    ],
)
def test_arguments_that_cannot_be_used(options: list[str], problem: str) -> None:
    code, text = run(*options)
    assert (code, problem in text) == (2, True), text


def test_plain_http_behind_a_front_end(empty_place: Place) -> None:
    place = empty_place
    place.start_server()
    url = "https://lab.example/spin/"
    place.start_gateway("--open", "--behind-proxy", url, tls=False)
    base = f"http://127.0.0.1:{place.port}"
    for prefix in ("/spin", ""):
        page = requests.get(f"{base}{prefix}/system/login.html", timeout=60)
        assert "Path=/spin;" in page.headers["Set-Cookie"]
        assert "Secure" in page.headers["Set-Cookie"]
        token = re.search('value="([-a-z0-9]+)" />', page.text)
        assert token is not None
        cookie = page.headers["Set-Cookie"].split("=")[1].split(";")[0]
        login = requests.post(
            f"{base}{prefix}/system/perform_login",
            data={"_csrf": token[1], "username": "me"},
            cookies={"JSESSIONID": cookie},
            allow_redirects=False,
            timeout=60,
        )
        assert login.headers["Location"] == f"{url}srv/spalloc/"
        cookie = login.headers["Set-Cookie"].split("=")[1].split(";")[0]
        root = requests.get(
            f"{base}{prefix}/srv/spalloc/", cookies={"JSESSIONID": cookie}, timeout=60
        ).json()
        assert root["jobs-ref"] == f"{url}srv/spalloc/jobs"
        created = requests.post(
            f"{base}{prefix}/srv/spalloc/jobs",
            cookies={"JSESSIONID": cookie},
            headers={
                root["csrf-header"]: root["csrf-token"],
                "X-Forwarded-For": "192.0.2.99, 192.0.2.7",
            },
            json={},
            timeout=60,
        )
        assert created.headers["Location"].startswith(f"{url}srv/spalloc/jobs/")
        job = place.old_client().call("describe_job", created.json()["job-id"])
        assert job["keepalivehost"] == "192.0.2.7"
