"""The files of the page, and the state that is behind it, without a browser."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest

from spalloc_server.web.pages import FILES, PUBLISHED
from tests.support import ONE_TRIAD, TIMEOUT, ServerProcess, running_server

STATIC = resources.files("spalloc_server.web").joinpath("static")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("pages")
    options = ("--simulate", "--http", "0")
    with running_server(ONE_TRIAD, *options, folder=folder) as server:
        yield server


def ask(
    server: ServerProcess, path: str, method: str = "GET", **headers: str
) -> http.client.HTTPResponse:
    port = int(server.wait_for_log(r"Serving http://127\.0\.0\.1:(\d+)/")[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with closing(connection):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=sent)
        response = connection.getresponse()
        response.read()
        return response


def paths() -> list[str]:
    return ["/" if name == "index.html" else f"/static/{name}" for name in FILES]


def test_all_files_are_served_and_no_others() -> None:
    assert {path.name for path in STATIC.iterdir()} == set(FILES)


@pytest.mark.parametrize("path", paths())
def test_a_file(server: ServerProcess, path: str) -> None:
    response = ask(server, path)
    assert response.status == 200
    name = path.rpartition("/")[2] or "index.html"
    assert response.headers.get_content_type() == FILES[name]
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    again = ask(server, path, If_None_Match=response.headers["ETag"])
    assert again.status == 304
    assert "default-src 'none'" in again.headers["Content-Security-Policy"]
    assert ask(server, path, "HEAD").status == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(server, path, method).status == 405


def test_files_beside_them_are_not_served(server: ServerProcess) -> None:
    for path in ("/static/", "/static/../pages.py", "/static/%2e%2e/app.py", "/x"):
        assert ask(server, path).status == 404


def test_nothing_is_loaded_from_elsewhere() -> None:
    # What is not ours is known to the last byte; it names addresses in comments.
    for name in FILES.keys() - PUBLISHED.keys():
        text = STATIC.joinpath(name).read_text(encoding="utf-8")
        others = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\s\"']*", text))
        assert others <= {"http://www.w3.org/2000/svg"}, name


def test_uplot_is_as_it_was_published() -> None:
    for name, expected in PUBLISHED.items():
        assert sha256(STATIC.joinpath(name).read_bytes()).hexdigest() == expected


def test_data_never_become_markup() -> None:
    """What can turn a text into elements or code is not used at all."""
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|srcdoc"
    for name in FILES:
        text = STATIC.joinpath(name).read_text(encoding="utf-8")
        assert re.findall(ways + r"|new Function|createContextualFragment", text) == []
    index = STATIC.joinpath("index.html").read_text(encoding="utf-8")
    # The policy would refuse them.
    assert re.findall(r"\son\w+=|style=|<style|javascript:", index) == []


def test_the_files_are_part_of_the_distribution() -> None:
    setup = Path(__file__).resolve().parents[2] / "setup.py"
    assert '"spalloc_server.web": ["static/*"]' in setup.read_text(encoding="utf-8")
