"""A host's connection in the agent: what it is given, when it counts as clogged, how it ends. covers: C9, C16"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cc_bridge_agent import client as module
from cc_bridge_agent import wire
from cc_bridge_agent.client import Client
from tests.unit.agent.stepping import StepLoop, drain


class Host:
    """Both ends of a connection: the agent's client, over two pipes or a socket, and bare descriptors."""

    def __init__(self, kind: str = "pipes") -> None:
        self.loop: Any = StepLoop()
        self.lines: list[bytes] = []
        self.closed: list[str] = []
        self.drained = 0
        if kind == "pipes":
            read, self.write = os.pipe()
            self.read, write = os.pipe()
        else:
            ours, theirs = socket.socketpair()
            read = write = theirs.detach()
            self.read = self.write = ours.detach()
        for fd in (read, write, self.read, self.write):
            os.set_blocking(fd, False)
        self.client = Client(self.loop, "name", read, write, self._line, self._closed, self._drained)

    def _line(self, client: Client, line: bytes) -> None:
        assert client is self.client
        self.lines.append(line)
        if line == b"bye":
            client.close("bye")

    def _closed(self, client: Client, why: str) -> None:
        assert client.closed
        self.closed.append(why)

    def _drained(self, client: Client) -> None:
        assert not client.clogged
        self.drained += 1

    def say(self, data: bytes) -> None:
        os.write(self.write, data)
        self.loop.step()

    def hear(self) -> bytes:
        self.loop.step()
        data = b""
        while read := drain(self.read):
            data += read
            self.loop.step()
        return data

    def end(self) -> None:
        for fd in {self.read, self.write} - {-1}:
            os.close(fd)
        self.read = self.write = -1


@pytest.fixture(params=["pipes", "socket"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    made = Host(request.param)
    yield made
    made.end()
    made.client.close("the test has ended")


def test_lines_in_and_frames_out(host: Host) -> None:
    host.say(b"one\ntw")
    assert host.lines == [b"one"]
    host.say(b"o\nthree\n")
    assert host.lines == [b"one", b"two", b"three"]
    host.client.send(b"a")
    host.client.send(b"")
    host.client.send(b"b")
    assert host.hear() == b"ab"
    assert (host.closed, host.client.closed, host.client.gone) == ([], False, False)


def test_nothing_is_given_to_it_at_first(host: Host) -> None:
    client = host.client
    assert (client.given, client.acknowledged, client.feed, client.session) == (0, 0, None, "")


def test_only_what_waits_is_waited_for(host: Host) -> None:
    """An idle connection wakes nobody."""
    assert [writable for _, writable in host.loop.watched.values() if writable] == []
    host.client.send(b"x" * 500_000)
    assert len([writable for _, writable in host.loop.watched.values() if writable]) == 1
    assert len(host.hear()) == 500_000
    assert [writable for _, writable in host.loop.watched.values() if writable] == []
    host.say(b"still read\n")
    assert host.lines == [b"still read"]


def test_it_is_clogged_beyond_a_mebibyte_and_told_when_it_is_not_any_more(host: Host) -> None:
    assert module.HIGH_WATER == 2**20
    host.client.send(b"x" * 400_000)
    assert host.client.clogged is False
    host.client.send(b"x" * 1_400_000)
    assert host.client.clogged is True
    assert host.drained == 0
    assert len(host.hear()) == 1_800_000
    assert (host.client.clogged, host.drained) == (False, 1)


def test_just_a_mebibyte_is_not_clogged(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.client.send(b"x" * 3_000_000)
    waiting = 3_000_000 - len(drain(host.read))
    monkeypatch.setattr(module, "HIGH_WATER", waiting)
    assert not host.client.clogged
    monkeypatch.setattr(module, "HIGH_WATER", waiting - 1)
    assert host.client.clogged


def test_back_pressure_leaves_frames_in_the_pipe(host: Host) -> None:
    host.client.pause_reading(True)
    host.say(b"later\n")
    assert host.lines == []
    host.client.send(b"x" * 500_000)
    assert len(host.hear()) == 500_000, "it is written to meanwhile"
    assert host.lines == []
    host.client.pause_reading(False)
    host.loop.step()
    assert host.lines == [b"later"]


def test_the_host_s_end(host: Host) -> None:
    host.say(b"last\n")
    host.end()
    host.loop.step()
    assert host.lines == [b"last"]
    assert host.closed == ["end of file"]
    assert host.client.closed
    assert host.client.gone
    assert host.loop.watched == {}


def test_a_host_that_reads_no_more_is_still_heard() -> None:
    host = Host("pipes")
    os.close(host.read)
    host.client.send(b"x" * 2_000_000)
    assert (host.client.gone, host.client.closed, host.client.clogged) == (True, False, False)
    host.client.send(b"more")
    host.read = -1
    host.say(b"last words\n")
    assert host.lines == [b"last words"]
    host.end()
    host.loop.step()
    assert host.closed == ["end of file"]


def test_a_clogged_host_that_goes_is_not_drained_for_nothing() -> None:
    host = Host("pipes")
    host.client.send(b"x" * 2_000_000)
    os.close(host.read)
    host.read = -1
    host.loop.step()
    assert host.client.gone
    assert not host.client.clogged
    host.end()
    host.loop.step()
    assert host.closed == ["end of file"]


def test_it_is_closed_once_and_gives_its_descriptors_back(host: Host) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ends = 1 if host.read == host.write else 2
    host.client.close("why")
    host.client.close("again")
    assert host.closed == ["why"]
    assert host.loop.watched == {}
    assert len(os.listdir("/proc/self/fd")) == before - ends
    host.client.send(b"x")
    host.client.pause_reading(True)
    assert host.loop.watched == {}


def test_after_its_end_no_line_is_believed(host: Host) -> None:
    host.say(b"one\nbye\ntwo\n")
    assert host.lines == [b"one", b"bye"]
    assert host.closed == ["bye"]


def test_a_line_beyond_the_limit_is_refused_by_name(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.client._splitter.limit = 10
    host.say(b"ok\n" + b"x" * 20)
    assert host.lines == [b"ok"]
    frame = json.loads(drain(host.read))
    assert frame["error"] == "protocol"
    assert "the limit is 10" in frame["message"]
    assert host.closed == [frame["message"]]
    assert wire.LineSplitter().limit == wire.MAX_FRAME


def test_a_refusal_is_said_and_ends_it(host: Host) -> None:
    host.client.refuse("version", "2, not 1")
    assert json.loads(drain(host.read)) == {"error": "version", "message": "2, not 1"}
    assert host.closed == ["2, not 1"]


def test_a_connection_that_was_reset_is_closed_with_the_reason() -> None:
    host = Host("socket")
    made = socket.socket(fileno=os.dup(host.write))
    made.close()
    host.client.send(b"unread")
    host.end()  # with something unread: a reset
    host.loop.step()
    assert len(host.closed) == 1
    assert host.client.closed
