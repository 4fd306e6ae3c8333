"""Permission requests, read and answered beside whoever attends to the instance. covers: B4"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from cc_bridge.channels.base import Channel
from cc_bridge.channels.named_pipe import NobodyListens
from cc_bridge.decisions import Allow, Deny, request_digest
from cc_bridge.errors import AgentUnavailable, AlreadyDecided, ConnectionLost, InvalidInput
from cc_bridge.events import PermissionRequest
from cc_bridge.instances import open_requests as module
from cc_bridge.instances.open_requests import PendingRequest, RequestWatch, answer_request, open_requests
from cc_bridge.instances.place import NoAgentPossible

pytestmark = pytest.mark.anyio

TURN = "00000000-0000-4000-8000-000000000001"
ECHO = {"command": "echo hi"}


def asks(request_id: str = "r", tool: str = "Bash", given: Any = ECHO, **more: Any) -> dict[str, Any]:
    request = {"subtype": "can_use_tool", "tool_name": tool, "input": given, **more}
    return {"out": {"type": "control_request", "request_id": request_id, "request": request}}


class Line(Channel):
    """One connection to the agent."""

    kind = "pipes"

    def __init__(self, agent: Agent, hello: dict[str, Any]) -> None:
        self._agent = agent
        self._answers: list[dict[str, Any]] = []
        self._more = anyio.Event()
        count = len(agent.frames)
        after = hello["have"][0] if "have" in hello else 0 if "turn" in hello else count
        if "turn" in hello and agent.turn_is_gone:
            self._answers.append({"error": "gone", "message": "not kept"})
            return
        self.read = after
        greeting = {"hello": 1, "agent": "9.9", "epoch": "e", "session": "main", "journal": agent.journal, "open": []}
        self._answers.append({**greeting, "state": "running", "seq": count, "from": after + 1})
        agent.lines.append(self)

    async def send(self, data: bytes) -> None:
        for line in data.splitlines():
            self._agent.hear(self, json.loads(line))

    def tell(self, frame: dict[str, Any]) -> None:
        """To this one only."""
        self._answers.append(frame)
        self.wake()

    def wake(self) -> None:
        self._more.set()
        self._more = anyio.Event()

    async def receive(self) -> bytes:
        while not self._answers and self.read >= len(self._agent.frames):
            if self._agent.is_gone:
                raise anyio.EndOfStream
            await self._more.wait()
        if self._answers:
            return json.dumps(self._answers.pop(0)).encode() + b"\n"
        self.read += 1
        return json.dumps({"seq": self.read, **self._agent.frames[self.read - 1]}).encode() + b"\n"

    async def aclose(self) -> None:
        if self in self._agent.lines:
            self._agent.lines.remove(self)


class Agent:
    """What an agent keeps and says. ``given``: what Claude Code got."""

    def __init__(self, *frames: dict[str, Any]) -> None:
        self.frames = [{"took": TURN}, *frames]
        self.journal = "j"
        self.turn = TURN
        self.turn_is_gone = self.is_gone = False
        self.first: dict[str, Any] | None = None  # what it takes before the next answer
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda frame: None
        self.lines: list[Line] = []
        self.given: list[dict[str, Any]] = []

    async def way(self, greeting: bytes) -> Channel:
        return Line(self, json.loads(greeting))

    def say(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        for line in self.lines:
            line.wake()

    def hear(self, line: Line, frame: dict[str, Any]) -> None:
        if "status" in frame:
            now = {"turn": self.turn, "seconds": 60, "silent": 7, "hosts": []}
            line.tell({"status": {"state": "running", "queue": []}, "turns": [], "clients": 1, "now": now})
        elif "in" in frame:
            if self.is_gone:
                line.wake()
            elif refusal := self.answer(frame):
                line.tell(refusal)
            else:
                if self.first:
                    self.say(self.first)
                self.given.append(frame["in"])
                assert frame.get("for", "") == self.turn, "it could reach another turn"
                self.say({"took": frame["id"]})


async def only(agent: Agent) -> PendingRequest:
    (found,) = await open_requests(agent.way, "demo")
    assert not agent.lines, "a connection is left"
    return found


async def test_what_is_open_in_order_and_for_how_long() -> None:
    agent = Agent(asks("a", tool="Read"), asks("b"), {"took": "c-7-a"}, asks("c", tool="Edit"))
    found = await open_requests(agent.way, "demo")
    assert [(item.request.tool_name, item.turn, item.waited) for item in found] == [
        ("Bash", TURN, 7),
        ("Edit", TURN, 7),
    ]
    assert found[0].request.input == ECHO
    assert [item.id for item in found] == [item.id for item in await open_requests(agent.way, "demo")]


async def test_a_fleets_desk_has_the_same_id() -> None:
    asked = PermissionRequest("r", "Bash", ECHO)
    assert (await only(Agent(asks()))).id == request_digest("demo", TURN, asked)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_another_input_is_another_request(cancelled: bool) -> None:
    """An answer to what was seen must not allow what has taken its place."""
    agent = Agent(asks())
    seen = await only(agent)
    if cancelled:
        agent.say({"out": {"type": "control_cancel_request", "request_id": "r"}})
    agent.say(asks(given={"command": "rm -rf /"}))
    assert (await only(agent)).id != seen.id
    with pytest.raises(AlreadyDecided):
        await answer_request(agent.way, seen, Allow())
    assert agent.given == []


async def test_other_suggestions_are_another_request() -> None:
    """Who allows always has seen the rules that are kept."""
    rule = {"type": "addRules", "behavior": "allow", "rules": [{"toolName": "Bash"}]}
    agent = Agent(asks())
    seen = await only(agent)
    agent.say(asks(permission_suggestions=[rule]))
    assert (await only(agent)).id != seen.id
    with pytest.raises(AlreadyDecided):
        await answer_request(agent.way, seen, Allow())


async def test_what_is_asked_later_has_not_waited() -> None:
    agent = Agent(asks("a"))
    async with RequestWatch.open(agent.way, "demo") as watch:
        agent.say(asks("b"))
        while len(watch.open_requests) < 2:
            await watch.receive()
        assert [item.waited for item in watch.open_requests] == [7, 0]


async def test_an_answer_is_what_a_host_would_send() -> None:
    agent = Agent(asks())
    await answer_request(agent.way, await only(agent), Allow())
    (sent,) = agent.given
    assert sent["response"]["request_id"] == "r"
    assert sent["response"]["response"] == {"behavior": "allow", "updatedInput": ECHO}
    assert await open_requests(agent.way, "demo") == []
    assert not agent.lines


async def test_a_reason_and_another_input() -> None:
    agent = Agent(asks("a"), asks("b"))
    first, second = await open_requests(agent.way, "demo")
    await answer_request(agent.way, first, Deny("not now"))
    await answer_request(agent.way, second, Allow({"command": "true"}, ({"type": "setMode"},)))
    denied, allowed = (sent["response"]["response"] for sent in agent.given)
    assert denied == {"behavior": "deny", "message": "not now"}
    assert allowed == {
        "behavior": "allow",
        "updatedInput": {"command": "true"},
        "updatedPermissions": [{"type": "setMode"}],
    }


async def test_two_answers_at_once_one_is_told_that_it_was_late() -> None:
    agent, outcomes = Agent(asks()), []
    request = await only(agent)

    async def answer() -> None:
        try:
            await answer_request(agent.way, request, Allow())
            outcomes.append("first")
        except AlreadyDecided as error:
            outcomes.append(error.how)

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        group.start_soon(answer)
    assert sorted(outcomes) == ["first", "moot"]


@pytest.mark.parametrize(
    "first",
    [
        {"took": "c-3-r"},
        {"out": {"type": "control_cancel_request", "request_id": "r"}},
        {"out": {"type": "result"}},
        {"exit": 0},
    ],
    ids=str,
)
async def test_the_program_that_attends_was_first(first: dict[str, Any]) -> None:
    """At the same moment: the agent has told of it before it took the answer."""
    agent = Agent(asks())
    request = await only(agent)
    agent.first = first
    with pytest.raises(AlreadyDecided, match="decided already"):
        await answer_request(agent.way, request, Allow())


@pytest.mark.parametrize(
    "refusal",
    [
        lambda frame: {"took": frame["id"], "late": True},
        lambda frame: {"error": "not_running", "message": "it has ended", "id": frame["id"]},
    ],
)
async def test_the_turn_is_gone(refusal: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    agent = Agent(asks())
    request = await only(agent)
    agent.answer = refusal
    with pytest.raises(AlreadyDecided):
        await answer_request(agent.way, request, Allow())


async def test_an_agent_that_goes_away_may_have_taken_it() -> None:
    agent = Agent(asks())
    request = await only(agent)
    agent.answer = lambda frame: setattr(agent, "is_gone", True) or {"err": "x"}
    with pytest.raises(ConnectionLost, match="may have arrived or not"):
        await answer_request(agent.way, request, Allow())


async def test_without_an_agent_nothing_waits() -> None:
    async def way(greeting: bytes) -> Channel:
        raise NobodyListens("nobody")

    assert await open_requests(way, "demo") == []
    gone = PendingRequest("x", "demo", TURN, PermissionRequest("r", "Bash", ECHO))
    with pytest.raises(AgentUnavailable, match="no agent runs"):
        await answer_request(way, gone, Allow())


async def test_where_no_agent_can_run_it_is_said() -> None:
    async def way(greeting: bytes) -> Channel:
        raise NoAgentPossible("no Python")

    with pytest.raises(InvalidInput, match="only the program that began"):
        await open_requests(way, "demo")


async def test_a_silent_agent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT", 0.05)
    agent = Agent(asks())
    request = await only(agent)
    agent.answer = lambda frame: {"err": "x", "seq": len(agent.frames) + 1}
    agent.hear = lambda line, frame: None  # type: ignore[method-assign]
    with pytest.raises(AgentUnavailable, match="not answer in time"):
        await answer_request(agent.way, request, Allow())
    assert not agent.lines


async def test_more_than_is_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    with pytest.raises(AgentUnavailable, match="too long"):
        await open_requests(Agent(asks(), {"out": {"text": "x" * 200}}, {"out": {}}).way, "demo")


async def test_what_is_asked_in_the_background_has_no_turn() -> None:
    """And where the turn's beginning is not kept, the newest frames have to do."""
    agent = Agent(asks())
    agent.frames[0], agent.turn = {"err": "x"}, ""
    request = await only(agent)
    assert request.turn == ""
    await answer_request(agent.way, request, Allow())
    agent = Agent(asks())
    agent.turn_is_gone = True
    assert (await only(agent)).request.request_id == "r"


HOSTILE = [
    asks("r" * 10_000),
    asks("\x1b[2J‮"),
    asks("", given={}),
    asks("-", given={"a": ["\ud800", None, 1e308, {"b": "\0"}]}),
    asks("r", tool="x" * 100_000),
    asks("r", suggestions="no list", permission_suggestions={"a": 1}),
    asks("r", given="no object"),
    {"out": {"type": "control_request", "request_id": ["r"], "request": {"subtype": "can_use_tool"}}},
    {"out": {"type": "control_request", "request": None}},
]


@pytest.mark.parametrize("frame", HOSTILE, ids=lambda frame: json.dumps(frame)[:60])
async def test_hostile_requests_are_listed_and_answered_or_left_out(frame: dict[str, Any]) -> None:
    """And never hide or decide another one."""
    agent = Agent(frame, asks("other"))
    found = await open_requests(agent.way, "demo")
    assert found[-1].request.request_id == "other"
    for request in found:
        await answer_request(agent.way, request, Deny())
    assert [sent["response"]["request_id"] for sent in agent.given][-1] == "other"
    assert len(agent.given) == len(found)


async def test_requests_with_names_alike_are_told_apart() -> None:
    """Their ids differ in characters that a control message's id cannot have."""
    agent = Agent(asks("r!"), asks("r?", given={"command": "rm -rf /"}))
    first, _ = await open_requests(agent.way, "demo")
    await answer_request(agent.way, first, Allow())
    assert [sent["response"]["request_id"] for sent in agent.given] == ["r!"]
    assert agent.given[0]["response"]["response"]["updatedInput"] == ECHO


async def test_a_watch_sees_another_input_under_the_same_name() -> None:
    agent = Agent(asks())
    async with RequestWatch.open(agent.way, "demo") as watch:
        (seen,) = watch.open_requests
        agent.say(asks(given={"command": "rm -rf /"}))
        await watch.receive()
        (now,) = watch.open_requests
        assert now.id != seen.id
        with pytest.raises(AlreadyDecided):
            await watch.answer(seen, Allow())
    assert agent.given == []


async def test_a_watch_hears_what_comes_and_goes() -> None:
    agent = Agent()
    async with RequestWatch.open(agent.way, "demo") as watch:
        assert watch.open_requests == []
        agent.say(asks())
        await watch.receive()
        assert [item.request.request_id for item in watch.open_requests] == ["r"]
        agent.say({"took": "c-1-r"})
        await watch.receive()
        assert (watch.open_requests, len(watch.closed)) == ([], 1)
        agent.is_gone = True
        agent.say({"err": "the end"})
        await watch.receive()
        with pytest.raises(ConnectionLost):
            await watch.receive()
