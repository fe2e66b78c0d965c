"""A real server and a real gateway, and what is needed to talk to it."""

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
import trustme

from spalloc_server_gateway.context import COOKIE, CSRF_HEADER
from spalloc_server_gateway.users import add_user
from tests.support import (
    Client,
    ServerProcess,
    free_port,
    running_server,
    wait_until,
)

BOARDS = """
configuration = Configuration(
    machines=[
        Machine(
            "m",
            tags={"default", "desk"},
            width=1,
            height=1,
            board_locations={(0, 0, z): (0, 0, z) for z in range(3)},
            bmp_ips={(0, 0): "10.11.12.0"},
            spinnaker_ips={(0, 0, z): f"127.0.1.{z + 1}" for z in range(3)},
        )
    ],
    ip="127.0.0.1",
    seconds_before_free=0,
    timeout_check_interval=0.05,
)
"""
"""One machine of three boards, for which echoes on loopback stand in."""


RUN_WITH_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
command = [sys.executable, "-m", "spalloc_server_gateway", *sys.argv[2:]]
os.execv(sys.executable, command)
"""


class Place:
    """A server, a gateway to it, and a folder for the files of both."""

    def __init__(self, folder: Path, undo: ExitStack) -> None:
        self.folder = folder
        self.undo = undo
        self.secret = folder / "secret"
        self.users = folder / "users"
        self.ca = folder / "ca.pem"
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.make_certificate()
        self.server: ServerProcess
        self.gateway: ServerProcess
        self.port = 0
        self.program = "spalloc_server_gateway"
        """The module that is run as the gateway."""

    def make_certificate(self) -> None:
        """Write a new certificate of a new authority."""
        ca = trustme.CA()
        cert = ca.issue_cert("localhost", "127.0.0.1")
        ca.cert_pem.write_to_path(str(self.ca))
        for number, blob in enumerate(cert.cert_chain_pems):
            blob.write_to_path(str(self.cert), append=number > 0)
        cert.private_key_pem.write_to_path(str(self.key))

    def start_server(
        self, config: str = BOARDS, port: int = 0, chips: bool = False
    ) -> ServerProcess:
        """Start the server.

        :param config: its configuration
        :param port: that of the one before, or 0 for any
        :param chips: is it to simulate chips, too?
        """
        config_file = self.folder / "spalloc.cfg"
        config_file.write_text(config)
        self.server = self.undo.enter_context(
            running_server(
                config_file,
                "--simulate-chips" if chips else "--simulate",
                *("--gateway-secret", str(self.secret)),
                *(("--port", str(port)) if port else ()),
            )
        )
        return self.server

    def start_gateway(
        self, *options: str, connected: bool = True, tls: bool = True
    ) -> ServerProcess:
        """Start the gateway; for anybody, where no options are given.

        :param connected: is the server to be waited for?
        :param tls: is it to speak TLS?
        """
        self.gateway = ServerProcess(
            self.folder,
            (),
            [
                self.program,
                *("--server", f"127.0.0.1:{self.server.port}"),
                *("--listen", f"127.0.0.1:{self.port}"),
                *("--secret", str(self.secret), "--state-dir", str(self.folder)),
                *(("--cert", str(self.cert), "--key", str(self.key)) if tls else ()),
                *(options or ["--open"]),
            ],
        )
        self.undo.callback(self.gateway.kill)
        found = self.gateway.wait_for_log(r"Serving https?://\S+:(\d+)/")
        self.port = int(found[1])
        if connected and tls:
            wait_until(lambda: self.get("healthz").status_code == 200)
        return self.gateway

    def beside(
        self, folder: Path, undo: ExitStack, program: str, *options: str
    ) -> "Place":
        """Another gateway to the same server.

        :param folder: for its files
        :param program: the module that is run
        :param options: its options
        """
        place = Place(folder, undo)
        place.server, place.secret, place.program = self.server, self.secret, program
        place.cert, place.key, place.ca = self.cert, self.key, self.ca
        place.start_gateway(*options)
        return place

    def hold_socket(self) -> socket.socket:
        """Hold the port of the gateway as systemd does, instead of the one before."""
        self.gateway.stop()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        return listening

    def start_with_socket(self, listening: socket.socket) -> subprocess.Popen[bytes]:
        """Start the gateway with a listening socket that it inherits."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", RUN_WITH_SOCKET, str(listening.fileno())),
                *("--server", f"127.0.0.1:{self.server.port}", "--open"),
                *("--secret", str(self.secret), "--state-dir", str(self.folder)),
                *("--cert", str(self.cert), "--key", str(self.key)),
            ],
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
        self.undo.callback(process.wait)
        self.undo.callback(process.kill)
        return process

    def add_user(self, name: str, password: str) -> None:
        """Add a user, or change the password."""
        add_user(str(self.users), name, password)

    def add_user_by_command(self, name: str, password: str) -> str:
        """The same by the command; what it prints."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "spalloc_server_gateway"),
                *("--users", str(self.users), "--add-user", name),
            ],
            input=f"{password}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, verify=str(self.ca), timeout=60, **options)

    def old_client(self) -> Client:
        """A client of the server itself."""
        return self.undo.enter_context(Client(self.server.port))

    def connect(self) -> socket.socket:
        """A connection on which nothing was sent."""
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def connect_securely(self) -> ssl.SSLSocket:
        """The same with TLS."""
        return self.tls().wrap_socket(self.connect(), server_hostname="localhost")

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def log_in(self, user: str | None = None, password: str | None = None) -> "User":
        return User(self, user, password)


def metric(place: Place, name: str) -> float:
    """One of the gateway's metrics."""
    for line in place.get("metrics").text.splitlines():
        if line.startswith(f"spalloc_gateway_{name} "):
            return float(line.split()[1])
    raise AssertionError(name)


def memory(place: Place) -> int:
    """Bytes of memory that the gateway has."""
    text = Path(f"/proc/{place.gateway.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+) kB", text)
    assert found is not None
    return 1024 * int(found[1])


class SharedPlace:
    """A place for one test after the other. A test may leave it broken."""

    def __init__(
        self,
        make_folder: Callable[[], Path],
        program: str = "spalloc_server_gateway",
        config: str = BOARDS,
    ) -> None:
        """Begin without a place.

        :param make_folder: makes an empty folder
        :param program: the module that is run as the gateway
        :param config: the server's configuration
        """
        self._make_folder = make_folder
        self._program = program
        self._config = config
        self._place: Place | None = None

    def __enter__(self) -> "SharedPlace":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.undo.close()

    def ready(self) -> Place:
        """A place where everything runs, the one of before if possible."""
        if self._place is None:
            self._place = Place(self._make_folder(), ExitStack())
            self._place.program = self._program
            # A port that no other process takes while the server is away.
            self._place.start_server(self._config, free_port())
            self._place.start_gateway()
        return self._place

    def tidy(self) -> None:
        """End all jobs, or leave the place if something of it has ended."""
        place = self._place
        if place is None:
            return
        processes = place.server.process, place.gateway.process
        if any(process.poll() is not None for process in processes):
            self._leave()
            return
        with Client(place.server.port) as old:
            for job in old.call("list_jobs"):
                old.call("destroy_job", job["job_id"])
            wait_until(lambda: not old.call("list_jobs"))


class User:
    """Somebody who is logged in, and sends requests of any kind."""

    def __init__(self, place: Place, user: str | None, password: str | None) -> None:
        self.place = place
        page = place.get("system/login.html")
        match = re.search(
            r'<input type="hidden" name="_csrf" value="(.*)" />', page.text
        )
        assert match is not None
        form = {
            "_csrf": match[1],
            "username": user,
            "password": password,
            "submit": "submit",
        }
        self.login = requests.post(
            f"{place.url}system/perform_login",
            cookies={COOKIE: str(page.cookies[COOKIE])},
            data={name: value for name, value in form.items() if value is not None},
            verify=str(place.ca),
            allow_redirects=False,
            timeout=60,
        )
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        if COOKIE in self.login.cookies:
            self.cookies = {COOKIE: str(self.login.cookies[COOKIE])}
            root = self.ask("GET", "").json()
            assert root["csrf-header"] == CSRF_HEADER
            self.headers = {root["csrf-header"]: root["csrf-token"]}

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to a path of the service."""
        options = {"cookies": self.cookies, "headers": self.headers, **options}
        return requests.request(
            method,
            f"{self.place.url}srv/spalloc/{path}",
            verify=str(self.place.ca),
            allow_redirects=False,
            timeout=options.pop("timeout", 60),
            **options,
        )

    def create(self, **body: Any) -> int:
        """Create a job, and return its number."""
        reply = self.ask("POST", "jobs/", json=body)
        assert reply.status_code == 201, reply.text
        job_id: int = reply.json()["job-id"]
        return job_id

    def state(self, job_id: int, **params: str) -> str:
        reply = self.ask("GET", f"jobs/{job_id}/", params=params)
        assert reply.status_code == 200, reply.text
        state: str = reply.json()["state"]
        return state

    def wait_until_ready(self, job_id: int) -> None:
        wait_until(lambda: self.state(job_id) == "READY")
