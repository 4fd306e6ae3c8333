"""The proxy's end of the way out, with agents that keep to the protocol and others."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cc_bridge.protocol.egress import (
    MOST_STREAMS,
    WINDOW,
    Arrived,
    Attached,
    Credited,
    Cut,
    EgressEvent,
    EgressLink,
    Ended,
    Opened,
    answer,
    greeting,
)
from cc_bridge.protocol.link_events import AgentRefused, Violated

HELLO = {"hello": 1, "agent": "0.2.0", "epoch": "e", "session": "egress", "port": 3128}


def lines(*frames: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(frame).encode() + b"\n" for frame in frames)


def data(stream: int, size: int) -> dict[str, Any]:
    return {"stream": stream, "data": base64.b64encode(bytes(size)).decode()}


def said(link: EgressLink) -> list[dict[str, Any]]:
    return [json.loads(line) for line in link.data_to_send().splitlines()]


@pytest.fixture
def link() -> EgressLink:
    made = EgressLink()
    made.greet()
    assert said(made) == [{"hello": 1, "session": "egress"}]
    assert made.receive_data(lines(HELLO)) == [Attached("0.2.0", "e", 3128)]
    return made


def carry(link: EgressLink, stream: int) -> None:
    assert link.receive_data(lines({"open": stream})) == [Opened(stream)]
    assert link.accept(stream)
    assert said(link) == [{"accept": stream}]


def violated(events: list[EgressEvent]) -> bool:
    return bool(events) and isinstance(events[-1], Violated)


def test_what_is_said_over_pipes_of_a_streams_own() -> None:
    assert json.loads(greeting(7)) == {"hello": 1, "session": "egress", "stream": 7}
    assert answer(7) == b'{"hello":1,"session":"egress","stream":7}\n'


@pytest.mark.parametrize(
    "frame",
    [{**HELLO, "hello": 2}, {**HELLO, "port": -1}, {**HELLO, "agent": 1}, {"open": 1}, {"state": "new", "hello": 1}],
)
def test_what_is_no_hello(frame: dict[str, Any]) -> None:
    link = EgressLink()
    assert violated(link.receive_data(lines(frame, HELLO)))
    assert link.closed
    assert link.receive_data(lines(HELLO)) == []


def test_an_agent_without_a_way_out_and_one_of_an_older_release() -> None:
    link = EgressLink()
    refusal = {"error": "egress", "message": "none" * 100}
    assert link.receive_data(lines(refusal, HELLO)) == [AgentRefused("egress", "none" * 50)]
    assert link.closed
    [event] = EgressLink().receive_data(lines({key: HELLO[key] for key in HELLO if key != "port"}))
    assert isinstance(event, Violated)
    assert "older" not in event.reason
    assert "no way out" in event.reason


def test_a_stream_from_its_beginning_to_its_end(link: EgressLink) -> None:
    carry(link, 7)
    assert link.send(7, b"question") == 8
    link.send_end(7)
    assert said(link) == [{"stream": 7, "data": "cXVlc3Rpb24="}, {"stream": 7, "end": True}]
    assert link.send(7, b"more") == 0
    events = link.receive_data(lines({"stream": 7, "data": "YW5zd2Vy"}, {"stream": 7, "end": True}))
    assert events == [Arrived(7, b"answer"), Ended(7)]
    link.reset(7)  # which is over
    link.give_back(7, 6)
    link.send_end(7)
    assert said(link) == []
    assert link.receive_data(lines({"stream": 7, "credit": 6}, {"stream": 7, "reset": True})) == []


def test_refused_and_given_up(link: EgressLink) -> None:
    link.receive_data(lines(*({"open": number} for number in range(3))))
    link.refuse(0)
    assert link.receive_data(lines({"stream": 1, "reset": True}, {"stream": 0, "reset": True})) == [Cut(1)]
    assert link.forget(2)
    for number in range(3):
        assert not link.accept(number)
        link.refuse(number)
    assert said(link) == [{"refuse": 0}]


def test_either_side_cuts(link: EgressLink) -> None:
    carry(link, 1)
    carry(link, 2)
    link.reset(1)
    assert said(link) == [{"stream": 1, "reset": True}]
    assert link.receive_data(lines(data(1, 10), {"stream": 2, "reset": True})) == [Cut(2)]
    assert link.room(1) == link.room(2) == 0


def test_no_more_is_sent_than_there_is_credit_for(link: EgressLink) -> None:
    carry(link, 1)
    assert link.send(1, bytes(WINDOW + 1)) == WINDOW
    assert [len(base64.b64decode(frame["data"])) for frame in said(link)] == [65536] * 4
    assert link.room(1) == link.outgoing == 0
    assert link.receive_data(lines({"stream": 1, "credit": 100})) == [Credited(1)]
    assert link.send(1, bytes(WINDOW)) == 100
    assert [len(base64.b64decode(frame["data"])) for frame in said(link)] == [100]
    assert violated(link.receive_data(lines({"stream": 1, "credit": WINDOW + 1})))


def test_no_more_is_taken_than_credit_was_given_for(link: EgressLink) -> None:
    carry(link, 1)
    link.receive_data(lines(*[data(1, WINDOW // 4)] * 4))
    link.give_back(1, WINDOW // 4 - 1)
    assert said(link) == []
    link.give_back(1, 1)
    assert said(link) == [{"stream": 1, "credit": WINDOW // 4}]
    assert link.receive_data(lines(data(1, WINDOW // 4))) == [Arrived(1, bytes(WINDOW // 4))]
    assert violated(link.receive_data(lines(data(1, 1))))


@pytest.mark.parametrize(
    "frame",
    [
        {"open": "7"},
        {"open": -1},
        {"open": True},
        {"open": 2**60},
        {"open": 1},
        {"stream": 1, "data": "!"},
        {"stream": 1, "data": 5},
        {"stream": 1, "credit": -1},
        {"stream": [1]},
        {"error": 1},
        {"x": "x" * 100_000},
    ],
)
def test_frames_that_end_the_connection(link: EgressLink, frame: dict[str, Any]) -> None:
    carry(link, 1)
    assert violated(link.receive_data(lines(frame, {"open": 2})))
    assert link.receive_data(lines({"open": 3})) == []


def test_bytes_after_the_end(link: EgressLink) -> None:
    carry(link, 1)
    assert violated(link.receive_data(lines({"stream": 1, "end": True}, data(1, 1))))


def test_a_million_announcements(link: EgressLink) -> None:
    events = link.receive_data(lines(*({"open": number} for number in range(10_000))))
    assert violated(events)
    assert len(events) == 2 * MOST_STREAMS + 1


numbers = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("open"), numbers),
    st.tuples(st.sampled_from(["accept", "refuse", "forget", "reset", "send_end"]), numbers),
    st.tuples(st.sampled_from(["send", "give_back", "data", "credit"]), numbers, st.integers(0, 100_000)),
    st.tuples(st.sampled_from(["end", "cut"]), numbers),
)


@given(st.lists(steps, max_size=60), st.integers(1, 5000))
@example([("open", 0), ("accept", 0), ("credit", 0, 1)], 1)
def test_whatever_comes_accounts_stay_within_their_bounds(plan: list[tuple[Any, ...]], cut_at: int) -> None:
    link = EgressLink()
    link.receive_data(lines(HELLO))
    unread = dict.fromkeys(range(4), 0)
    for kind, number, *rest in plan:
        match kind:
            case "accept" | "refuse" | "forget" | "reset" | "send_end":
                if getattr(link, kind)(number) and kind == "accept":
                    unread[number] = 0
                continue
            case "send":
                assert link.send(number, bytes(rest[0])) <= rest[0]
                continue
            case "give_back":
                count = min(rest[0], unread[number])
                unread[number] -= count
                link.give_back(number, count)
                continue
            case "open":
                frame: dict[str, Any] = {"open": number}
            case "data":
                frame = data(number, min(rest[0], 65536))
            case "credit":
                frame = {"stream": number, "credit": rest[0]}
            case _:
                frame = {"stream": number, "end" if kind == "end" else "reset": True}
        text = lines(frame)
        for event in [e for start in range(0, len(text), cut_at) for e in link.receive_data(text[start:][:cut_at])]:
            if isinstance(event, Arrived):
                unread[event.stream] += len(event.data)
                assert unread[event.stream] <= WINDOW
            assert isinstance(event, Violated) == link.closed
        assert all(0 <= link.room(number) <= WINDOW for number in range(4))
        for frame in said(link):
            assert frame.get("credit", 1) > 0
