"""A raw session's streams over connections that break. covers: B6"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol.link import AgentRefused, Exited, Hello, Link, Started, StreamBytes, Took
from cc_bridge.protocol.raw import RawStreams, Start

START = Start.of(["claude"], {"A": "1", "CLAUDECODE": None}, "/w", linger=5)


def hello(state: str = "new") -> Hello:
    return Hello("0.1.0", "e", state, 0, (), resumed=False, raw=True)


def link() -> Link:
    made = Link("raw-x")
    made.greet()
    answer = {"hello": 1, "agent": "0.1.0", "epoch": "e", "session": "raw-x", "journal": "j", "state": "new"}
    made.receive_data(json.dumps({**answer, "seq": 0, "from": 1, "open": [], "raw": True}).encode() + b"\n")
    made.data_to_send()
    return made


def said(streams: RawStreams, over: Link) -> list[dict[str, Any]]:
    streams.say(over)
    return [json.loads(line) for line in over.data_to_send().splitlines()]


def running() -> tuple[RawStreams, Link]:
    streams, over = RawStreams(START), link()
    streams.connected(hello())
    said(streams, over)
    streams.receive([Started(9)])
    return streams, over


def stdin(frames: list[dict[str, Any]]) -> list[tuple[str, bytes | None]]:
    return [
        (frame["id"], None if frame["stdin"] is None else base64.b64decode(frame["stdin"]))
        for frame in frames
        if "stdin" in frame
    ]


def test_it_is_started_once_and_written_to_afterwards() -> None:
    streams, over = RawStreams(START), link()
    streams.connected(hello())
    streams.write(b"early")
    streams.signal("INT")
    [start] = said(streams, over)
    assert start == {"start": {"argv": ["claude"], "env": {"A": "1", "CLAUDECODE": None}, "cwd": "/w", "linger": 5}}
    assert said(streams, over) == []
    streams.receive([Started(9)])
    signal, *rest = said(streams, over)
    assert (signal, stdin(rest)) == ({"signal": "INT"}, [("c-1", b"early")])
    assert said(streams, over) == []


def test_it_is_not_started_again_where_it_was() -> None:
    streams, over = RawStreams(START), link()
    streams.connected(hello())
    said(streams, over)
    streams.connected(hello("running"))
    assert said(streams, over) == []
    streams.connected(hello())  # the agent has never heard of it
    assert "start" in said(streams, over)[0]


def test_what_was_not_answered_is_said_again_in_its_order() -> None:
    streams, over = running()
    for data in (b"a", b"b"):
        streams.write(data)
    streams.end_input()
    streams.end_input()
    streams.write(b"too late")
    assert stdin(said(streams, over)) == [("c-1", b"a"), ("c-2", b"b"), ("c-3", None)]
    streams.receive([Took("c-1", again=False)])
    streams.connected(hello("running"))
    assert stdin(said(streams, over)) == [("c-2", b"b"), ("c-3", None)]


def test_what_is_large_goes_as_it_is_taken() -> None:
    streams, over = running()
    data = bytes(range(256)) * 20_000
    streams.write(data)
    got = b""
    while frames := stdin(said(streams, over)):
        assert sum(len(part or b"") for _, part in frames) <= 1024 * 1024
        assert streams.backlog == (len(got) + sum(len(part or b"") for _, part in frames) < len(data))
        for name, part in frames:
            got += part or b""
            streams.receive([Took(name, again=False)])
    assert got == data


def test_output_waits_until_it_is_taken_and_the_end_is_kept() -> None:
    streams, over = running()
    streams.receive([StreamBytes("stdout", b"abc"), StreamBytes("stderr", b"d"), Exited(3)])
    assert (streams.buffered, streams.over) == (4, True)
    assert (streams.take(), streams.take(), streams.take()) == (
        StreamBytes("stdout", b"abc"),
        StreamBytes("stderr", b"d"),
        None,
    )
    streams.write(b"x")
    streams.signal("TERM")
    assert (streams.backlog, said(streams, over)) == (False, [])
    assert streams.exited == Exited(3)


@pytest.mark.parametrize("code", ["start", "stopping"])
def test_a_refused_start_is_the_end(code: str) -> None:
    streams = RawStreams(START)
    streams.receive([AgentRefused(code, "no")])
    assert streams.over
    streams, _ = running()
    streams.receive([AgentRefused("not_running", "no", id="c-1")])
    assert not streams.over


@given(st.data())
def test_each_byte_arrives_once_and_in_order_whatever_breaks(data: st.DataObject) -> None:
    """Connections deliver a part of what was said over each, also late, and answers are lost with them."""
    streams, over = running()
    written, passed_on, taken = b"", b"", set[str]()
    ended = False
    lines: list[list[tuple[str, bytes | None]]] = [[]]
    answers: list[list[str]] = [[]]

    def deliver(connection: int) -> None:
        nonlocal passed_on, ended
        if lines[connection]:
            name, part = lines[connection].pop(0)
            if name not in taken:
                assert not ended
                taken.add(name)
                passed_on += part or b""
                ended = part is None
            answers[connection].append(name)

    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["write", "say", "deliver", "answer", "cut", "late"])):
            case "write":
                part = data.draw(st.binary(min_size=1, max_size=3))
                written += part
                streams.write(part)
            case "say":
                lines[-1] += stdin(said(streams, over))
            case "deliver":
                deliver(-1)
            case "answer" if answers[-1]:
                streams.receive([Took(answers[-1].pop(0), again=False)])
            case "cut":
                streams.connected(hello("running"))
                lines.append([])
                answers.append([])
            case "late":  # what is left in a connection that the host has given up
                deliver(data.draw(st.integers(0, len(lines) - 1)))
    streams.end_input()
    while (more := stdin(said(streams, over))) or lines[-1] or answers[-1]:
        lines[-1] += more
        deliver(-1)
        for name in answers[-1]:
            streams.receive([Took(name, again=False)])
        answers[-1].clear()
    assert (passed_on, ended) == (written, True)
    assert not streams.backlog


def test_a_terminal_and_its_size() -> None:
    streams, over = RawStreams(Start.of(["claude"], {}, "/w", tty=(80, 24))), link()
    streams.connected(hello())
    streams.resize(90, 30)
    streams.resize(100, 40)
    [start] = said(streams, over)
    assert start["start"]["tty"] == [80, 24]
    streams.receive([Started(9)])
    assert said(streams, over) == [{"resize": [100, 40]}]
    assert said(streams, over) == []
