"""The host's end of a connection: order, numbers, and refusal of garbage. covers: C9"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol.link import (
    TRANSITIONS,
    AgentRefused,
    ErrorOutput,
    Exited,
    Hello,
    Link,
    LinkState,
    Output,
    Position,
    Started,
    Took,
    Violated,
)

HELLO = {"hello": 1, "agent": "0.1.0", "epoch": "e", "session": "main", "journal": "j", "state": "new"}
HELLO |= {"seq": 7, "from": 8, "open": ["a"]}


def lines(*frames: Any) -> bytes:
    return b"".join((frame if isinstance(frame, bytes) else json.dumps(frame).encode()) + b"\n" for frame in frames)


def opened(seq: int = 0) -> Link:
    link = Link()
    link.greet()
    link.data_to_send()
    (hello,) = link.receive_data(lines({**HELLO, "seq": seq, "from": seq + 1}))
    assert isinstance(hello, Hello)
    return link


def test_hello() -> None:
    link = Link()
    link.greet()
    assert json.loads(link.data_to_send()) == {"hello": 1, "session": "main"}
    assert link.receive_data(lines(HELLO)) == [Hello("0.1.0", "e", "new", 7, ("a",), resumed=False)]
    assert link.state is LinkState.OPEN
    assert link.position == Position(7, "j")


def test_going_on_after_a_position() -> None:
    """covers: B1"""
    link = Link(after=Position(3, "j"))
    link.greet()
    assert json.loads(link.data_to_send()) == {"hello": 1, "session": "main", "have": [3, "j"]}
    hello, said = link.receive_data(lines({**HELLO, "from": 4}, {"seq": 4, "out": {}}))
    assert isinstance(hello, Hello)
    assert hello.resumed
    assert said == Output({})


@pytest.mark.parametrize("change", [{"from": 3}, {"from": 5}, {"from": 4, "journal": "another"}])
def test_an_agent_that_goes_on_elsewhere_is_refused(change: dict[str, Any]) -> None:
    link = Link(after=Position(3, "j"))
    link.greet()
    (violated,) = link.receive_data(lines({**HELLO, **change}))
    assert isinstance(violated, Violated)


def test_without_a_journal_nothing_can_go_on() -> None:
    link = Link()
    link.greet()
    link.receive_data(lines({**HELLO, "journal": ""}))
    assert link.position is None


def test_what_the_agent_says() -> None:
    said = lines(
        {"seq": 1, "started": 42},
        {"seq": 2, "took": "id"},
        {"took": "id", "again": True},
        b'{"seq":3,"out":{"type":"x"}}',
        {"seq": 4, "out": "no JSON"},
        {"seq": 5, "err": "oops"},
        {"error": "not_running", "message": "no", "id": "id"},
        {"novelty": 1},
        {"seq": 6, "exit": -9},
    )
    assert opened().receive_data(said) == [
        Started(42),
        Took("id", again=False),
        Took("id", again=True),
        Output({"type": "x"}),
        Output("no JSON"),
        ErrorOutput("oops"),
        AgentRefused("not_running", "no"),
        Exited(-9),
    ]


@given(st.lists(st.integers(0, 10**6)))
def test_any_cut_gives_the_same_events(positions: list[int]) -> None:
    data = lines(
        {**HELLO, "from": 1}, {"seq": 1, "started": 1}, {"seq": 2, "out": {"text": "é🙂"}}, {"seq": 3, "exit": 0}
    )
    whole, pieces = Link(), Link()
    for link in (whole, pieces):
        link.greet()
    ends = sorted({position % (len(data) + 1) for position in positions})
    events = [
        event
        for start, end in zip([0, *ends], [*ends, len(data)], strict=True)
        for event in pieces.receive_data(data[start:end])
    ]
    assert events == whole.receive_data(data)
    assert len(events) == 4


@given(st.binary())
def test_garbage_never_raises_and_closes_at_the_first(data: bytes) -> None:
    link = opened()
    events = link.receive_data(data + b"\n")
    violations = [event for event in events if isinstance(event, Violated)]
    assert len(violations) <= 1
    if violations:
        assert events[-1] == violations[0]
        assert link.closed
        assert link.receive_data(lines({"seq": 1, "exit": 0})) == []


WRONG = [
    {"seq": 2, "out": {}},  # a gap: something was lost
    {"seq": 0, "out": {}},  # a repeat: something twice
    {"seq": "1", "out": {}},
    {"seq": True, "out": {}},
    {"seq": 1, "out": 7},
    {"seq": 1, "err": {}},
    {"seq": 1, "took": 1},
    {"seq": 1, "exit": "0"},
    {"seq": 1, "exit": 1.5},
    {"seq": 1, "exit": [0]},
    {"took": None},
    {"error": 1, "message": "x"},
    {"error": "x"},
    HELLO,  # a second one
]


@pytest.mark.parametrize("frame", WRONG, ids=map(str, range(len(WRONG))))
def test_frames_that_break_a_rule(frame: dict[str, Any]) -> None:
    link = opened()
    (violated,) = link.receive_data(lines(frame))
    assert isinstance(violated, Violated)
    assert violated.reason
    assert link.closed


@pytest.mark.parametrize(
    "change", [{"hello": 2}, {"hello": "1"}, {"open": "a"}, {"open": [1]}, {"seq": None}, {"epoch": 1}, {"state": []}]
)
def test_hellos_that_break_a_rule(change: dict[str, Any]) -> None:
    link = Link()
    link.greet()
    (violated,) = link.receive_data(lines({**HELLO, **change}))
    assert isinstance(violated, Violated)


def test_output_before_the_hello_is_refused() -> None:
    link = Link()
    link.greet()
    (violated,) = link.receive_data(lines({"seq": 1, "out": {}}))
    assert isinstance(violated, Violated)


def test_a_refused_hello_closes() -> None:
    link = Link()
    link.greet()
    assert link.receive_data(lines({"error": "version", "message": "2, not 1"})) == [
        AgentRefused("version", "2, not 1")
    ]
    assert link.closed


def test_an_endless_line_is_refused_with_bounded_memory() -> None:
    link = opened()
    events: list[Any] = []
    for _ in range(70):
        events += link.receive_data(b"x" * 1024 * 1024)
    assert [type(event) for event in events] == [Violated]
    assert "67108864" in events[0].reason


def test_nothing_is_sent_before_the_hello_was_answered() -> None:
    link = Link()
    with pytest.raises(RuntimeError, match="a new link cannot send a frame"):
        link.shut_down()


def test_what_the_host_says() -> None:
    link = opened()
    link.start_claude(["claude"], {"A": "b"}, "/w")
    link.send_input("id", {"type": "user", "text": "é\u2028"})
    link.signal_claude("INT")
    link.declare_done("id")
    link.acknowledge()
    link.shut_down()
    data = link.data_to_send()
    assert [json.loads(line) for line in data.splitlines()] == [
        {"start": {"argv": ["claude"], "env": {"A": "b"}, "cwd": "/w"}},
        {"id": "id", "in": {"type": "user", "text": "é\u2028"}},
        {"signal": "INT"},
        {"done": "id"},
        {"ack": 0},
        {"shutdown": True},
    ]
    assert data.count(b"\n") == 6, "a line separator within a line"
    assert link.data_to_send() == b""


def test_every_state_can_end() -> None:
    for state, steps in TRANSITIONS.items():
        ends = [after for step, after in steps.items() if step.name == "END"]
        assert ends == [LinkState.CLOSED], state
