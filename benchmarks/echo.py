"""The least that a server of this design can do: a poll loop that echoes lines.

The limit that the server's throughput is compared with. Prints its port; serves until
it is killed. It has no interest in what it reads.
"""

import select
import socket


def main() -> None:
    """Echo whatever arrives, with one system call each to read and to write it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    sockets = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sockets[client.fileno()] = client
                poll.register(client, select.POLLIN)
                continue
            client = sockets[fd]
            try:
                data = client.recv(65536)
                client.send(data)
            except OSError:
                data = b""
            if not data:
                poll.unregister(fd)
                sockets.pop(fd).close()


if __name__ == "__main__":
    main()
