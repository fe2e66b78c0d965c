"""The share of the interpreter, the names that are served, and bounded complaints."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.web.complaints import INTERVAL, Complaints, ProtocolLog
from spalloc_server.web.encoding import encode
from spalloc_server.web.hosts import ServedHosts
from spalloc_server.web.pace import BURST, SHARE, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_take_no_more_than_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, processor = Clock(), Clock()

    async def sleep(seconds: float) -> None:
        assert seconds > 0
        clock.now += seconds

    monkeypatch.setattr("asyncio.sleep", sleep)

    async def run() -> None:
        paced = Pace(clock, processor)
        for _ in range(200):
            await paced.wait()
            processor.now += 0.02
            clock.now += 0.02
        assert SHARE * clock.now + BURST == pytest.approx(processor.now, abs=0.05)
        # After a quiet time a page is served at once.
        clock.now += 60.0
        began = clock.now
        for _ in range(10):
            await paced.wait()
            processor.now += 0.02
        assert clock.now == began

    asyncio.run(run())


def test_each_complaint_is_a_line_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    complaints = Complaints(clock)
    for number in range(1000):
        complaints.note("bad", f"{number}\x1b[31m\nfake line")
        complaints.note("worse")
    assert caplog.messages == ["HTTP: bad: 0\\x1b[31m", "HTTP: worse"]
    clock.now = INTERVAL
    complaints.note("bad", "٣" * 1000)
    assert caplog.messages[2].startswith("HTTP: bad: \\u0663\\u0663")
    assert caplog.messages[2].endswith(" (1000 times)")
    assert len(caplog.messages[2]) < 1000
    log = ProtocolLog(complaints)
    log.debug("nothing")
    for _ in range(10):
        log.exception("Unhandled", exc_info=ValueError("x"))
    assert caplog.messages[3:] == ["HTTP: a request could not be handled: ValueError"]
    complaints.note("internal error", "/", exc_info=KeyError(1))
    assert caplog.records[-1].levelno == logging.ERROR
    assert caplog.records[-1].exc_info


def test_a_computer_is_served_by_its_name_in_full_and_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Lab7")
    monkeypatch.setattr("socket.getfqdn", lambda: "lab7.example.org.")
    hosts = ServedHosts(["page.example.net", "[2001:DB8::7]"])
    assert hosts.serves("lab7:80", "10.0.0.1")
    assert not hosts.serves("lab7.example.org", "10.0.0.1")
    hosts.find_full_name()
    assert hosts.serves("LAB7.example.org:8080", "10.0.0.1")
    assert hosts.serves("page.example.net", "10.0.0.1")
    assert hosts.serves("[2001:db8:0::7]:80", "10.0.0.1")
    assert hosts.serves("10.0.0.1", "10.0.0.1")
    assert hosts.serves("10.0.0.1", "::ffff:10.0.0.1")
    assert hosts.serves("[fe80::1]", "fe80::1%eth0")
    assert not hosts.serves("10.0.0.2", "10.0.0.1")
    assert not hosts.serves("example.org", "10.0.0.1")


@given(st.text())
def test_no_host_is_an_error(host: str) -> None:
    assert ServedHosts(["*"]).serves(host, "10.0.0.1")
    ServedHosts().serves(host, "10.0.0.1")


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(DOCUMENTS)
def test_documents_are_encoded_as_by_the_json_module(document: object) -> None:
    expected = json.loads(json.dumps(document))
    assert json.loads(encode(document)) == expected
