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
    Asleep,
    Done,
    ErrorOutput,
    Exited,
    Hello,
    Link,
    LinkState,
    Now,
    Output,
    Position,
    Started,
    Status,
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
        AgentRefused("not_running", "no", id="id"),
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


def test_what_else_the_agent_says() -> None:
    turns = [{"id": "a", "read": True}, {"id": "b", "read": False}]
    said = lines(
        {"done": "a"},
        {"seq": 1, "done": "b"},
        {"seq": 2, "took": "b", "again": True},
        {"seq": 3, "exit": None},
        {"seq": 4, "exit": -9, "oom": True},
        {"seq": 5, "exit": 1, "oom": 1},
        {"seq": 6, "novelty": 1},
        {"error": "start", "message": "no such file", "errno": 2},
        {"status": {}, "turns": turns, "clients": 1},
        {"took": "b"},
    )
    link = opened()
    assert link.receive_data(said) == [
        Done("a"),
        Done("b"),
        Took("b", again=False),
        Exited(None),
        Exited(-9, out_of_memory=True),
        Exited(1, out_of_memory=False),
        AgentRefused("start", "no such file", 2),
        Status((("a", True), ("b", False))),
        Took("b", again=False),
    ]
    assert (link.last_seq, link.position) == (6, Position(6, "j")), "what is not understood is counted"


def test_what_claude_code_does_now() -> None:
    """Where the agent says so; one of 0.1.0 does not. What it says of others is bounded."""
    now = {"turn": "a", "seconds": 1, "silent": 0.5, "hosts": ["one", "x" * 1000], "more": 1}
    said = lines({"status": {"queue": ["b"]}, "turns": [], "now": now}, {"status": {}, "turns": [], "now": None})
    idle = {"turn": "", "hosts": ["host"] * 1000}
    first, old, quiet = opened().receive_data(said + lines({"status": None, "turns": [], "now": idle}))
    assert first == Status((), ("b",), Now("a", 1.0, 0.5, ("one", "x" * 100)))
    assert old == Status(())
    assert isinstance(quiet, Status)
    assert quiet.now is not None
    assert (quiet.now.turn, quiet.now.seconds, quiet.now.silent, len(quiet.now.hosts)) == ("", None, None, 200)


def test_a_host_says_what_it_is_called() -> None:
    link = Link(host="a program")
    link.greet()
    assert json.loads(link.data_to_send())["host"] == "a program"


def test_a_turn_is_asked_for_from_its_beginning() -> None:
    link = Link("other", turn="a")
    link.greet()
    assert json.loads(link.data_to_send()) == {"hello": 1, "session": "other", "turn": "a"}
    (hello,) = link.receive_data(lines({**HELLO, "from": 3}))
    assert isinstance(hello, Hello)
    assert hello.resumed
    assert link.position == Position(2, "j")


def test_before_the_hello_there_is_no_position() -> None:
    assert Link().position is None
    assert Link().last_seq == 0
    assert Link().session == "main"


def test_status_and_acknowledgement() -> None:
    link = opened(seq=7)
    link.ask_status()
    link.receive_data(lines({"seq": 8, "out": {}}, {"seq": 9, "started": 1}))
    link.acknowledge()
    assert [json.loads(line) for line in link.data_to_send().splitlines()] == [{"status": True}, {"ack": 9}]


MORE_WRONG = [
    {"seq": 1.0, "out": {}},
    {"seq": 1, "out": None},
    {"seq": 1, "out": []},
    {"seq": 1, "exit": True},
    {"seq": 1, "exit": 2**63},
    {"seq": 1, "started": -(2**63)},
    {"seq": 1, "done": 1},
    {"seq": 1, "started": "1"},
    {"seq": 2, "started": 1},
    {"done": 7},
    {"took": 7},
    {"error": "x", "message": "x", "errno": "2"},
    {"status": {}},
    {"status": {}, "turns": [{"id": 1, "read": True}]},
    {"status": {}, "turns": [{"id": "a"}]},
    {"status": {}, "turns": None},
    {"status": {"queue": "a"}, "turns": []},
    {"status": {}, "turns": [], "now": {}},
    {"status": {}, "turns": [], "now": {"turn": "", "hosts": [1]}},
    {"status": {}, "turns": [], "now": {"turn": "no id", "hosts": []}},
    {"status": {}, "turns": [], "now": {"turn": "", "hosts": [], "silent": -1}},
    {"status": {}, "turns": [], "now": {"turn": "", "hosts": [], "silent": True}},
    {"status": {}, "turns": [], "now": {"turn": "", "hosts": [], "seconds": 1e11}},
    {"status": {}, "turns": [], "now": {"turn": "", "hosts": [], "seconds": "1"}},
]


@pytest.mark.parametrize("frame", MORE_WRONG, ids=map(str, range(len(MORE_WRONG))))
def test_more_frames_that_break_a_rule(frame: dict[str, Any]) -> None:
    (violated,) = opened().receive_data(lines(frame, {"seq": 1, "exit": 0}))
    assert isinstance(violated, Violated), "and nothing after it is believed"


def test_numbers_as_large_as_an_honest_agent_may_send() -> None:
    assert opened().receive_data(lines({"seq": 1, "exit": 2**63 - 1})) == [Exited(2**63 - 1)]


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"from": 1, "seq": 0}, True),
        ({"from": 0, "seq": 7}, False),
        ({"from": 8, "seq": 7}, True),
        ({"from": 9, "seq": 7}, False),
        ({"from": True}, False),
        ({"journal": 1}, False),
        ({"agent": None}, False),
        ({"hello": True}, False),
        ({"open": []}, True),
        ({"open": ["a", None]}, False),
        ({"seq": 2**63}, False),
    ],
)
def test_the_frames_that_a_hello_promises_are_there(change: dict[str, Any], valid: bool) -> None:
    link = Link()
    link.greet()
    (event,) = link.receive_data(lines({**HELLO, **change}))
    assert isinstance(event, Hello if valid else Violated)
    assert link.closed is not valid


@pytest.mark.parametrize("key", ["hello", "agent", "epoch", "state", "seq", "from", "journal", "open"])
def test_a_hello_that_lacks_something(key: str) -> None:
    link = Link()
    link.greet()
    (event,) = link.receive_data(lines({name: value for name, value in HELLO.items() if name != key}))
    assert isinstance(event, Violated)


def test_a_violation_names_what_was_wrong_and_quotes_little() -> None:
    (violated,) = opened().receive_data(lines({"seq": 1, "err": 7, "pad": "x" * 1000}))
    assert "'err' is not text" in violated.reason
    assert len(violated.reason) < 200
    (violated,) = opened().receive_data(lines({"hello": 1, "pad": "x" * 1000}))
    assert "an open link cannot receive a hello" in violated.reason.replace("a open", "an open")
    assert len(violated.reason) < 200


def test_what_came_before_a_violation_counts() -> None:
    events = opened().receive_data(lines({"seq": 1, "out": "x"}, {"seq": 3, "out": "y"}, {"seq": 2, "out": "z"}))
    assert events[0] == Output("x")
    assert [type(event) for event in events[1:]] == [Violated]


def test_a_refusal_while_it_is_open_closes_nothing() -> None:
    link = opened()
    assert link.receive_data(lines({"error": "stopping", "message": "x"})) == [AgentRefused("stopping", "x")]
    assert link.receive_data(lines({"seq": 1, "exit": 0})) == [Exited(0)]


def test_nothing_is_heard_after_a_refused_hello() -> None:
    link = Link()
    link.greet()
    events = link.receive_data(lines({"error": "gone", "message": "x"}, HELLO))
    assert events == [AgentRefused("gone", "x")]


@pytest.mark.parametrize(
    ("before", "step"),
    [("new", "send a frame"), ("greeted", "send a frame"), ("greeted", "say hello"), ("closed", "send a frame")],
)
def test_a_caller_s_mistake_names_state_and_step(before: str, step: str) -> None:
    link = Link()
    if before != "new":
        link.greet()
    if before == "closed":
        link.receive_data(b"nonsense\n")
    sent = link.data_to_send()
    with pytest.raises(RuntimeError, match=f"a {before} link cannot {step}"):
        link.greet() if step == "say hello" else link.send_input("a", {})
    assert link.data_to_send() == b"", f"nothing but {sent!r} goes out"


def test_the_limit_of_a_frame_can_be_lower() -> None:
    link = Link(limit=300)
    link.greet()
    link.receive_data(lines(HELLO))
    (violated,) = link.receive_data(lines({"seq": 8, "out": "x" * 300}))
    assert isinstance(violated, Violated)


def test_more_turns_than_can_wait_are_refused_in_a_hello() -> None:
    link = Link()
    link.greet()
    (violated,) = link.receive_data(lines({**HELLO, "queue": [f"t-{n}" for n in range(4097)]}))
    assert isinstance(violated, Violated)


def test_of_many_open_turns_the_newest_are_known() -> None:
    """An honest agent may have more: of programs that were killed before they had read to the end."""
    link = Link()
    link.greet()
    (hello,) = link.receive_data(lines({**HELLO, "open": [f"t-{n}" for n in range(5000)]}))
    assert isinstance(hello, Hello)
    assert (len(hello.open_ids), hello.open_ids[-1]) == (4096, "t-4999")


@pytest.mark.parametrize("count", [4096, 4097])
@pytest.mark.parametrize("where", ["turns", "queue"])
def test_more_turns_than_an_agent_remembers_are_refused_in_a_status(where: str, count: int) -> None:
    names = [f"t-{n}" for n in range(count)]
    turns = [{"id": name, "read": True} for name in names] if where == "turns" else []
    status = {"status": {"queue": names if where == "queue" else []}, "turns": turns}
    (event,) = opened().receive_data(lines(status))
    assert isinstance(event, Violated if count > 4096 else Status)


def test_an_agents_version_is_short() -> None:
    link = Link()
    link.greet()
    (hello,) = link.receive_data(lines({**HELLO, "agent": "x" * 1000}))
    assert isinstance(hello, Hello)
    assert hello.agent == "x" * 100


def test_sleep() -> None:
    """covers: B7"""
    link = opened()
    link.start_claude(["claude"], {}, "/w", sleep=600, stop=86_400)
    link.put_to_sleep()
    assert [json.loads(line) for line in link.data_to_send().splitlines()] == [
        {"start": {"argv": ["claude"], "env": {}, "cwd": "/w", "sleep": 600, "stop": 86_400}},
        {"sleep": True},
    ]
    assert link.receive_data(lines({"seq": 1, "exit": 0, "asleep": True}, {"asleep": True})) == [
        Exited(0, asleep=True),
        Asleep(),
    ]
    refused = link.receive_data(lines({"error": "busy", "message": "it has a turn"}))
    assert refused == [AgentRefused("busy", "it has a turn")]
    status = {"turns": [], "status": {"state": "asleep" + "x" * 100}}
    assert link.receive_data(lines(status)) == [Status((), state="asleep" + "x" * 14)]
    assert link.receive_data(lines({**status, "status": {"state": 7}})) == [Status(())]


@pytest.mark.parametrize(("said", "after"), [({}, None), ({"sleep": 0}, 0), ({"sleep": 600.5}, 600.5)])
def test_the_hello_says_when_it_sleeps(said: dict[str, Any], after: float | None) -> None:
    link = Link()
    link.greet()
    (hello,) = link.receive_data(lines({**HELLO, **said}))
    assert isinstance(hello, Hello)
    assert hello.sleep_after == after


@pytest.mark.parametrize(("said", "pid"), [({}, None), ({"pid": None}, None), ({"pid": 9}, 9)])
def test_the_hello_says_the_process(said: dict[str, Any], pid: int | None) -> None:
    link = Link()
    link.greet()
    (hello,) = link.receive_data(lines({**{key: value for key, value in HELLO.items() if key != "pid"}, **said}))
    assert isinstance(hello, Hello)
    assert hello.pid == pid


@pytest.mark.parametrize("said", [-1, "soon", True])
def test_a_hello_that_says_no_time_is_refused(said: Any) -> None:
    link = Link()
    link.greet()
    (violated,) = link.receive_data(lines({**HELLO, "sleep": said}))
    assert isinstance(violated, Violated)
