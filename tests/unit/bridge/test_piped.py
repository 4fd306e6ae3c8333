"""A raw session without an event loop: what is copied where, and what ends it. covers: B19, C13"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread
from typing import Any

import pytest

from cc_bridge.bridge.piped import PipedSession, Stopped
from cc_bridge.protocol.link import Exited, Link
from cc_bridge.protocol.raw import RawStreams, Start

from .scripted_channel import HELLO

NEW = HELLO | {"raw": True}
STARTED = {"seq": 1, "started": 9}


def out(seq: int, data: bytes, stream: str = "stdout") -> dict[str, Any]:
    return {"seq": seq, stream: base64.b64encode(data).decode()}


class Wires:
    """Both ends of everything that is copied between, and an agent's frames."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        from_agent, self.to_host = self.pipe()
        self.from_host, to_agent = self.pipe()
        self.stdin, self.typed = self.pipe()
        self.printed, self.stdout = self.pipe()
        self.complained, self.stderr = self.pipe()
        self.arrivals, self.arrived = self.pipe()
        link = Link("raw-x")
        link.greet()
        link.data_to_send()
        self.session = PipedSession(RawStreams(Start.of(["claude"], {}, "/w")), "raw-x", link, (from_agent, to_agent))

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            os.set_blocking(end, False)
            self._stack.callback(self.close, end)
        return ends

    def close(self, end: int) -> None:
        try:
            os.close(end)
        except OSError:
            pass  # it was closed by who had it

    def say(self, *frames: dict[str, Any]) -> None:
        os.write(self.to_host, b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))

    def begin(self, *frames: dict[str, Any]) -> None:
        self.say(NEW)
        assert self.session._welcome()
        self.say(*frames)

    def copy(self) -> Stopped:
        streams = self.stdin, self.stdout, self.stderr
        return self.session.copy(self.arrivals, lambda data, of: of.signal(data.decode()), standard=streams)

    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self.from_host, 2**20).splitlines()]


@pytest.fixture
def wires() -> Iterator[Wires]:
    with ExitStack() as stack:
        yield Wires(stack)


def test_its_output_is_written_where_it_belongs(wires: Wires) -> None:
    data = bytes(range(256)) * 64  # several writes
    wires.begin(STARTED, out(2, data), out(3, b"oh", "stderr"), {"seq": 4, "exit": 3})
    assert wires.copy() is Stopped.OVER
    assert wires.session.streams.exited == Exited(3)
    assert (os.read(wires.printed, 2**20), os.read(wires.complained, 9)) == (data, b"oh")
    assert [next(iter(frame)) for frame in wires.heard()] == ["start", "forget"]


def test_input_its_end_and_signals_are_passed_on(wires: Wires) -> None:
    os.write(wires.typed, b"words")
    os.close(wires.typed)
    os.write(wires.arrived, b"INT")
    wires.begin(STARTED)
    heard = b""

    def agent() -> None:
        nonlocal heard
        os.set_blocking(wires.from_host, True)
        while b'"c-2"' not in heard or b'"signal"' not in heard:
            heard += os.read(wires.from_host, 4096)
        wires.say({"took": "c-1"}, {"took": "c-2"}, {"seq": 2, "exit": 0})

    thread = Thread(target=agent, daemon=True)
    thread.start()
    assert wires.copy() is Stopped.OVER
    thread.join()
    frames = [json.loads(line) for line in heard.splitlines()]
    assert frames[1:3] == [{"signal": "INT"}, {"id": "c-1", "stdin": base64.b64encode(b"words").decode()}]
    assert frames[3]["id"] == "c-2"


def test_a_reader_that_has_gone(wires: Wires) -> None:
    os.close(wires.printed)
    wires.begin(STARTED, out(2, b"x"))
    assert wires.copy() is Stopped.UNREAD


def test_a_closed_stderr_is_no_end(wires: Wires) -> None:
    os.close(wires.complained)
    wires.begin(STARTED, out(2, b"x", "stderr"), out(3, b"y"), {"seq": 4, "exit": 0})
    assert wires.copy() is Stopped.OVER
    assert os.read(wires.printed, 9) == b"y"


def test_a_connection_that_ends_leaves_where_to_go_on(wires: Wires) -> None:
    wires.begin(STARTED, out(2, b"x"))
    os.close(wires.to_host)
    assert wires.copy() is Stopped.LOST
    assert os.read(wires.printed, 9) == b"x"
    position = wires.session.position
    assert position
    assert position.seq == 2


@pytest.mark.parametrize("hello", [HELLO, {"error": "busy", "message": "no"}, {"hello": 99}])
def test_an_agent_that_cannot_is_left_to_the_other_way(wires: Wires, hello: dict[str, Any]) -> None:
    wires.say(hello)
    assert not wires.session._welcome()


def test_an_agent_that_breaks_the_rules_is_left(wires: Wires) -> None:
    wires.begin(STARTED, out(7, b"x"))
    assert wires.copy() is Stopped.LOST
