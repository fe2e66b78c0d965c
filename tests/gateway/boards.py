"""What stands in for boards: UDP sockets on loopback that answer."""

import socket
import struct
import threading
from types import TracebackType
from typing import TypeVar

import websocket

from tests.gateway.support import User

Left = TypeVar("Left", bound="UDPThread")


class UDPThread:
    """Answers the datagrams that come to a socket, until it is left."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, sender = self.socket.recvfrom(65535)
            if data == b"end":
                return
            reply = self.reply_to(data, sender)
            if reply is not None:
                self.socket.sendto(reply, sender)

    def reply_to(self, data: bytes, sender: tuple[str, int]) -> bytes | None:
        """What to send back, None for nothing. In the thread."""
        raise NotImplementedError

    def __enter__(self: Left) -> Left:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        self.socket.sendto(b"end", self.socket.getsockname())
        self._thread.join(10)
        self.socket.close()


class Echo(UDPThread):
    """Sends back what comes, with its own mark before it."""

    def __init__(self, address: str, mark: bytes, port: int = 0) -> None:
        self.heard: list[tuple[bytes, tuple[str, int]]] = []
        self._mark = mark
        super().__init__(address, port)
        self.port: int = self.socket.getsockname()[1]

    def reply_to(self, data: bytes, sender: tuple[str, int]) -> bytes:
        self.heard.append((data, sender))
        return self._mark + data


def words(*numbers: int) -> bytes:
    """The words of a proxy's frame."""
    return struct.pack(f"<{len(numbers)}I", *numbers)


def open_proxy(user: User, job_id: int) -> websocket.WebSocket:
    """Open the WebSocket to the boards of a job."""
    url = f"wss://localhost:{user.place.port}/proxy/{job_id}"
    return websocket.create_connection(
        url,
        timeout=20,
        header=user.headers,
        cookie="; ".join(f"{k}={v}" for k, v in user.cookies.items()),
        sslopt={"ca_certs": str(user.place.ca)},
        origin="localhost",
    )
