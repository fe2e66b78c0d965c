"""Clients that ask for pages all the time: ``-m tests.hostile.http_load PORT CLIENTS``.

They go on until standard input ends, and then say how many answers there were.
"""

import http.client
import sys
import threading

PATHS = ("/", "/api/machines", "/api/jobs", "/metrics")


def hammer(port: int, first: int, end: threading.Event, answers: list[int]) -> None:
    """Ask for one path after the other, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    number = first
    while not end.is_set():
        connection.request("GET", PATHS[number % len(PATHS)])
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        answers.append(response.status)
        number += 1


if __name__ == "__main__":
    end, answers = threading.Event(), list[int]()
    threads = [
        threading.Thread(target=hammer, args=(int(sys.argv[1]), i, end, answers))
        for i in range(int(sys.argv[2]))
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    end.set()
    for thread in threads:
        thread.join()
    print(len(answers))
