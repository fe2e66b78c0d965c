"""The process: its sockets and files, its start and its end."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import getpass
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from spalloc_server.command_line.log_formats import set_up_logging
from spalloc_server.command_line.terminal import open_standard_streams, prepare_output
from spalloc_server.storage.secret_file import read_or_make_secret, read_secret
from spalloc_server.web.complaints import Complaints
from spalloc_server.web.connections import Connections
from spalloc_server.web.runner import set_up_runner
from spalloc_server_gateway.app import Router
from spalloc_server_gateway.certificate import Certificate, CertificateError
from spalloc_server_gateway.context import Gateway
from spalloc_server_gateway.jobs import Jobs
from spalloc_server_gateway.link import Link
from spalloc_server_gateway.logins import Logins
from spalloc_server_gateway.options import Options, parse_arguments
from spalloc_server_gateway.owners import Owners
from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.sessions import Sessions
from spalloc_server_gateway.systemd import Systemd, inherited_socket
from spalloc_server_gateway.users import Users, UsersError, add_user

logger = logging.getLogger(__name__)

KEY_FILE: Final = "spalloc_server_gateway.key"
JOBS_FILE: Final = "spalloc_server_gateway.jobs"
TLS_BYTES: Final = 32 * 1024
BACKLOG: Final = 1024
SHUTDOWN_SECONDS: Final = 5.0
"""How long requests may go on when the gateway is to end."""


class StartError(Exception):
    """The gateway cannot start; the message says why, in one line."""


def main(args: Sequence[str] | None = None, patience: Patience | None = None) -> int:
    """Run the gateway from the command line until it is told to stop.

    ``SIGINT`` and ``SIGTERM`` end it in good order. ``SIGHUP`` has it read the
    certificate again.

    :param args: the arguments, those of the process if None
    :param patience: how long is waited, if that is not to be as it should
    :return: the exit status: 1 where it could not start
    :raises SystemExit: for arguments that cannot be used
    """
    open_standard_streams()
    options = parse_arguments(args)
    if options.add_user is not None:
        return _add_user(options.users or "", options.add_user)
    set_up_logging(options.log_level, options.log_format)
    try:
        gateway, listening, certificate = _set_up(options, patience or Patience())
    except (StartError, CertificateError) as e:
        logger.critical("%s", e)
        return 1
    _raise_descriptor_limit()
    asyncio.run(_serve(gateway, listening, certificate))
    return 0


def _add_user(path: str, name: str) -> int:
    prepare_output()
    try:
        if sys.stdin.isatty():
            password = getpass.getpass(f"Password of {name}: ")
            if getpass.getpass("Once more: ") != password:
                raise UsersError("these were two passwords")
        else:
            password = sys.stdin.readline().rstrip("\n")
        is_new = add_user(path, name, password)
    except UsersError as e:
        print(f"spalloc_server_gateway: {e}", file=sys.stderr)
        return 1
    print(f"{name} {'is a new user' if is_new else 'has a new password'}")
    return 0


def _set_up(
    options: Options, patience: Patience
) -> tuple[Gateway, socket.socket, Certificate | None]:
    """Take all that is needed from outside.

    :raises StartError: if something is not there
    :raises CertificateError: if that is the certificate
    """
    try:
        users = None if options.users is None else Users(options.users)
        if options.secret is not None:
            read_secret(options.secret)
        key = read_or_make_secret(os.path.join(options.state_dir, KEY_FILE))
        owners = Owners(os.path.join(options.state_dir, JOBS_FILE))
    except UsersError as e:
        raise StartError(str(e)) from None
    except OSError as e:
        problem = e.strerror or str(e)
        # Problems with secrets say which file it is.
        raise StartError(
            f"{e.filename}: {problem}" if e.filename else problem
        ) from None
    certificate = None
    _spare_memory()
    if options.cert is not None and options.key is not None:
        certificate = Certificate(options.cert, options.key)
    if options.secret is None:
        logger.warning("Without --secret, all jobs seem to come from this computer")
    link = Link(*options.server, options.secret)
    gateway = Gateway(
        link,
        Jobs(link, patience, owners),
        Sessions(key, users),
        Logins(users, patience),
        options.behind_proxy,
    )
    listening = inherited_socket(os.environ) or _listen(*options.listen)
    return gateway, listening, certificate


def _spare_memory() -> None:
    """Have connections of TLS take 32 KiB each to read into, rather than 256 KiB."""
    if hasattr(asyncio.sslproto.SSLProtocol, "max_size"):  # from Python 3.11 on
        asyncio.sslproto.SSLProtocol.max_size = TLS_BYTES


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as e:
        reason = (e.strerror or str(e)).partition(" (while")[0]
        raise StartError(f"cannot listen on {host} port {port}: {reason}") from None


async def _serve(
    gateway: Gateway, listening: socket.socket, certificate: Certificate | None
) -> None:
    """Serve until a signal comes."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _read_again, certificate)
    complaints = Complaints()
    router = Router(gateway, complaints)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", router.handle)
    runner, make_protocol = await set_up_runner(
        app, complaints, SHUTDOWN_SECONDS, auto_decompress=False
    )
    tls = None if certificate is None else certificate.context
    connections = Connections(listening, make_protocol, complaints, tls)
    router.connections = connections
    link = asyncio.create_task(gateway.link.run())
    accepting = asyncio.create_task(connections.run())
    systemd = Systemd.from_environment(os.environ)
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    logger.info("Serving %s://%s:%d/", "http" if tls is None else "https", host, port)
    systemd.tell("READY=1", f"STATUS=Serving on {host} port {port}")
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait(
        (stopping, link, accepting), return_when=asyncio.FIRST_COMPLETED
    )
    systemd.tell("STOPPING=1")
    # No more are taken in; who waits is answered.
    gateway.jobs.stopping.set()
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    await router.proxies.close()
    await connections.finish(SHUTDOWN_SECONDS)
    await runner.cleanup()
    link.cancel()
    await asyncio.gather(link, return_exceptions=True)
    gateway.logins.close()
    listening.close()
    logger.info("Stopped")
    for task in done - {stopping}:
        task.result()


def _read_again(certificate: Certificate | None) -> None:
    """Take a new certificate for connections that come from now on, if it is right."""
    if certificate is not None:
        try:
            certificate.read()
        except CertificateError as e:
            logger.error("The certificate stays as it was: %s", e)
        else:
            logger.info("The certificate was read again")


def _raise_descriptor_limit() -> None:
    """Allow as many connections as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as e:
        logger.warning("The limit of open files stays: %s", e)
