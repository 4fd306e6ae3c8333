"""The bridge and an agent that keeps what Claude Code says: turns, permissions, what is resumed, found and refused.

covers: B1, C12, C16
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from cc_bridge.bridge import attempts, driver, kept_turns, uplink
from cc_bridge.bridge.bridge import Bridge
from cc_bridge.bridge.permissions import leave_to_others
from cc_bridge.bridge.surroundings import Ending, Launch
from cc_bridge.channels.base import Channel
from cc_bridge.errors import (
    AgentUnavailable,
    ClaudeNotFound,
    ClaudeStartError,
    ConnectionLost,
    InvalidInput,
    TurnNotFound,
)
from cc_bridge.events import TextDelta, ToolUse, TurnResult, Verdict
from cc_bridge.instance import Allow, Deny
from cc_bridge.instances.life import Step
from cc_bridge.instances.steps import Steps
from cc_bridge.logs import Log

pytestmark = pytest.mark.anyio


class Wire(Channel):
    """One connection to an :class:`Agent`."""

    def __init__(self, agent: Agent, kind: str) -> None:
        self.kind = kind
        self.agent = agent
        self.waiting: list[bytes] = []
        self.changed = anyio.Event()
        self.broken = self.closed = False

    def give(self, frame: dict[str, Any]) -> None:
        self.waiting.append(json.dumps(frame).encode() + b"\n")
        self.changed.set()

    def cut(self) -> None:
        self.broken = True
        self.changed.set()

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.broken or self.closed:
            raise anyio.BrokenResourceError
        for line in data.splitlines():
            self.agent.receive(self, json.loads(line))

    async def receive(self) -> bytes:
        while True:
            await anyio.lowlevel.checkpoint()
            if self.closed:
                raise anyio.ClosedResourceError
            if self.waiting:
                return self.waiting.pop(0)
            if self.broken:
                raise anyio.EndOfStream
            self.changed = anyio.Event()
            await self.changed.wait()

    async def aclose(self) -> None:
        self.closed = True
        self.changed.set()


class Agent:
    """Numbers and keeps what its Claude Code says, which does as its prompts say; also a place for a bridge."""

    name = "demo"
    claude_hint = "Install it."
    lease = None

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.taken: dict[str, int] = {}
        self.steps = Steps(self.name)
        self.wires: list[Wire] = []
        self.heard: list[dict[str, Any]] = []
        self.running = False
        self.refusal: dict[str, Any] | None = None
        self.gone = False
        self.better: str | None = None
        self.announces: list[dict[str, Any]] | None = None
        self.sessions: list[str] = []
        self.asked_to_resume: list[str] = []
        self.unavailable = 0
        self.mute = False
        self.turn = ""

    # The place

    def exists(self) -> bool:
        return True

    def pop_ending(self) -> Ending:
        return Ending("the container was removed", 137, out_of_memory=True)

    async def connect(self, greeting: bytes) -> Channel:
        if self.unavailable:
            self.unavailable -= 1
            raise AgentUnavailable("nobody is there", instance=self.name)
        return await self._connected("pipes", greeting)

    async def rest(self) -> bool:
        return await self.steps.rest()

    def starting(
        self, abandon: Callable[[], Awaitable[None]], *, drives: bool = False
    ) -> AbstractAsyncContextManager[None]:
        return self.steps.take(Step.START)

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        kind, self.better = self.better, None
        return await self._connected(kind, greeting) if kind else None

    async def _connected(self, kind: str, greeting: bytes) -> Wire:
        wire = Wire(self, kind)
        self.wires.append(wire)
        await wire.send(greeting)
        return wire

    async def launch(self, session_id: str) -> Launch:
        self.asked_to_resume.append(session_id)
        return Launch(["claude"], {"KEY": "x"}, "/w", announces=self.announces is not None)

    async def read_transcript(self, session_id: str) -> list[str] | None:
        return None

    def session_changed(self, session_id: str) -> None:
        self.sessions.append(session_id)

    # The agent

    def say(self, **frame: Any) -> None:
        self.frames.append({"seq": len(self.frames) + 1, **frame})
        for wire in self.wires:
            if not (wire.closed or wire.broken):
                wire.give(self.frames[-1])

    def receive(self, wire: Wire, frame: dict[str, Any]) -> None:
        self.heard.append(frame)
        if "hello" in frame:
            self._greet(wire, frame)
        elif "start" in frame and not self.running:
            if self.refusal:
                wire.give(self.refusal)
                return
            if self.mute:
                return
            self.running = True
            self.say(started=1)
            for said in self.announces or []:
                self.say(**said)
        elif "in" in frame:
            self._input(wire, frame["id"], frame["in"])
        elif "done" in frame:
            wire.give({"done": frame["done"]})
        elif "status" in frame and not self.mute:
            turns = [{"id": name, "read": False} for name in self.taken if not name.startswith("c-")]
            wire.give({"status": {}, "turns": turns})
        elif frame.get("signal") == "KILL":
            self.end(-9)

    def _greet(self, wire: Wire, frame: dict[str, Any]) -> None:
        after = len(self.frames)
        if "have" in frame:
            after = frame["have"][0]
        elif "turn" in frame:
            after = self.taken.get(frame["turn"], 0) - 1
        if self.gone or after < 0:
            wire.give({"error": "gone", "message": "not kept"})
            return
        state = "running" if self.running else "new"
        hello = {"hello": 1, "agent": "9.9", "epoch": "e", "session": "main", "journal": "j", "state": state}
        wire.give({**hello, "seq": len(self.frames), "from": after + 1, "open": []})
        for kept in self.frames[after:]:
            wire.give(kept)

    def end(self, code: int | None) -> None:
        self.running = False
        self.say(exit=code)

    def _input(self, wire: Wire, name: str, message: dict[str, Any]) -> None:
        if not self.running:
            wire.give({"error": "not_running", "message": "it does not run"})
        elif name in self.taken:
            wire.give({"took": name, "again": True})
        else:
            self.say(took=name)
            self.taken[name] = len(self.frames)
            self._claude(message)

    # Claude Code

    def out(self, **message: Any) -> None:
        self.say(out=message)

    def answer(self, text: str) -> None:
        self.out(type="assistant", message={"content": [{"type": "text", "text": text}]})
        self.out(type="result", subtype="success", result=text, user_message_uuids=[self.turn], session_id="s")

    def _claude(self, message: dict[str, Any]) -> None:
        if message["type"] == "user":
            self.turn = message["uuid"]
            self.out(
                type="system",
                subtype="init",
                session_id="s",
                user_message_uuids=[self.turn],
                claude_code_version="2.1.329",
            )
            text = message["message"]["content"]
            if text == "ask":
                request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}
                self.out(type="control_request", request_id="r", request=request)
            elif text != "wait":
                self.answer(f"you said {text}")
        elif message["type"] == "control_response":
            self.answer(json.dumps(message["response"]["response"]))
        elif message["request"]["subtype"] == "interrupt":
            fields = {"subtype": "error_during_execution", "is_error": True, "user_message_uuids": [self.turn]}
            self.out(type="result", **fields)

    def cut(self) -> None:
        for wire in self.wires:
            wire.cut()


def bridge(agent: Agent, **options: Any) -> Bridge:
    return Bridge(agent, Log("demo", "memory"), **{"silence": 30, "interrupt_limit": 10, **options})


async def result_of(made: Bridge, text: str, turn_id: str | None = None) -> TurnResult:
    with anyio.fail_after(20):
        async with await made.submit(text, turn_id) as turn:
            return await turn.result()


async def test_a_command_and_what_is_known_after_it() -> None:
    agent = Agent()
    made = bridge(agent, session_id="before")
    assert (made.session_id, made.channel_kind, made.agent_version, made.claude_version) == ("before", None, None, None)
    assert (await result_of(made, "hello")).text == "you said hello"
    assert (made.session_id, made.channel_kind, made.agent_version) == ("s", "pipes", "9.9")
    assert (made.claude_version, made.instance_name) == ("2.1.329", "demo")
    assert agent.asked_to_resume == ["before"]
    assert agent.sessions == ["s"], "told once, when it changed"
    assert [frame["start"] for frame in agent.heard if "start" in frame] == [
        {"argv": ["claude"], "env": {"KEY": "x"}, "cwd": "/w"}
    ]
    assert (await result_of(made, "again")).text == "you said again"
    assert agent.sessions == ["s"]
    assert len(agent.wires) == 1
    await made.aclose()
    assert agent.wires[0].closed
    assert made.channel_kind is None


@pytest.mark.parametrize(
    "name", ["x", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "", "{354bf62f-526e-438a-a795-224051a3e155}"]
)
async def test_an_id_is_a_uuid_as_python_writes_it(name: str) -> None:
    made = bridge(Agent())
    if name:
        with pytest.raises(InvalidInput, match="UUID"):
            await made.submit("hello", name)
    else:
        turn = await made.submit("hello", None)
        assert str(uuid.UUID(turn.id)) == turn.id


async def test_a_turn_goes_on_over_a_new_connection_from_where_it_was() -> None:
    agent = Agent()
    made = bridge(agent)
    async with await made.submit("wait") as turn:
        assert (await anext(turn.__aiter__())).session_id == "s"
        agent.cut()
        async with anyio.create_task_group() as group:

            async def answer() -> None:
                await anyio.wait_all_tasks_blocked()
                agent.answer("late")

            group.start_soon(answer)
            result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "late")
    hellos = [frame for frame in agent.heard if "hello" in frame]
    assert [hello.get("have", [None, None])[1] for hello in hellos] == [None, "j"]
    assert len([frame for frame in agent.heard if "in" in frame]) == 1, "it was sent once"


async def test_it_is_tried_again_and_again_until_somebody_is_there() -> None:
    agent = Agent()
    made = bridge(agent)
    async with await made.submit("wait") as turn:
        await anext(turn.__aiter__())
        agent.cut()
        agent.unavailable = 3
        agent.answer("late")
        with anyio.fail_after(20):
            assert (await turn.result()).text == "late"
    assert agent.unavailable == 0


async def test_what_is_not_kept_ends_the_turn_with_that() -> None:
    agent = Agent()
    made = bridge(agent)
    async with await made.submit("wait") as turn:
        await anext(turn.__aiter__())
        agent.gone = True
        agent.cut()
        with anyio.fail_after(20):
            result = await turn.result()
    assert (result.verdict, "not kept" in result.error) == (Verdict.INTERRUPTED, True)


async def test_how_long_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (uplink._RESUME_LIMIT, uplink._LONGEST_PAUSE) == (30, 2)
    assert (driver._START_LIMIT, kept_turns._STATUS_LIMIT, attempts._RETRIES) == (30, 10, 3)
    monkeypatch.setattr(uplink, "_RESUME_LIMIT", 0)
    agent = Agent()
    made = bridge(agent)
    async with await made.submit("wait") as turn:
        await anext(turn.__aiter__())
        agent.cut()
        result = await turn.result()
    assert result.verdict is Verdict.INTERRUPTED
    assert len(agent.wires) == 1


async def test_a_better_channel_is_taken_before_a_turn() -> None:
    agent = Agent()
    made = bridge(agent)
    await result_of(made, "one")
    agent.better = "better"
    assert (await result_of(made, "two")).text == "you said two"
    assert (made.channel_kind, agent.wires[0].closed) == ("better", True)
    assert "have" in [frame for frame in agent.heard if "hello" in frame][1]


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        ({"error": "start", "message": "no such file", "errno": 2}, ClaudeNotFound, "is not there: no such file"),
        ({"error": "start", "message": "denied", "errno": 13}, ClaudeStartError, "cannot be started: denied"),
        ({"error": "stopping", "message": "it ends"}, ConnectionLost, "the agent: it ends"),
    ],
)
async def test_what_the_agent_refuses(refusal: dict[str, Any], error: type[Exception], words: str) -> None:
    agent = Agent()
    agent.refusal = refusal
    made = bridge(agent)
    with pytest.raises(error, match=f"demo: .*{words}") as caught:
        await made.make_ready()
    if error is ClaudeNotFound:
        assert "Install it." in str(caught.value)
    agent.refusal = None
    assert (await result_of(made, "hello")).text == "you said hello"


async def test_a_command_that_is_refused_again_and_again_fails_with_the_reason() -> None:
    agent = Agent()
    made = bridge(agent)
    await made.make_ready()
    receive = agent.receive

    def always_ended(wire: Wire, frame: dict[str, Any]) -> None:
        if "in" in frame:
            agent.running = False
        receive(wire, frame)

    agent.receive = always_ended  # type: ignore[method-assign]
    result = await result_of(made, "hello")
    assert (result.verdict, result.error) == (Verdict.FAILED, "it does not run")
    assert len([frame for frame in agent.heard if "in" in frame]) == 4, "once, and three tries more"


async def test_an_agent_that_does_not_react(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_START_LIMIT", 0)
    agent = Agent()
    agent.mute = True
    with pytest.raises(ConnectionLost, match="does not react"):
        await bridge(agent).make_ready()


async def test_what_announces_itself_is_waited_for() -> None:
    agent = Agent()
    agent.announces = [{"out": {"type": "system", "subtype": "status"}}]
    assert (await result_of(bridge(agent), "hello")).text == "you said hello"
    agent = Agent()
    agent.announces = [{"err": "no login"}, {"exit": 1}]
    with pytest.raises(ClaudeStartError, match="ended at once: no login"):
        await bridge(agent).make_ready()
    agent = Agent()
    agent.announces = [{"exit": 1}]
    with pytest.raises(ClaudeStartError, match="ended at once: it said nothing"):
        await bridge(agent).make_ready()


async def test_the_place_may_know_how_it_ended() -> None:
    agent = Agent()
    made = bridge(agent)
    async with await made.submit("wait") as turn:
        await anext(turn.__aiter__())
        agent.end(None)
        result = await turn.result()
    assert (result.error, result.exit_code, result.out_of_memory) == ("the container was removed", 137, True)
    assert (await result_of(made, "hello")).text == "you said hello"
    assert agent.asked_to_resume == ["", "s"]


Decide = Callable[[Any], Awaitable[Any]]


def deciding(decision: Any) -> Decide:
    async def decide(request: Any) -> Any:
        assert (request.tool_name, request.input) == ("Bash", {"command": "ls"})
        return decision

    return decide


@pytest.mark.parametrize(
    ("decide", "answer"),
    [
        (None, {"behavior": "deny", "message": Deny().reason}),
        (deciding(Deny("No.")), {"behavior": "deny", "message": "No."}),
        (deciding(Allow()), {"behavior": "allow", "updatedInput": {"command": "ls"}}),
        (deciding(Allow({"command": "pwd"})), {"behavior": "allow", "updatedInput": {"command": "pwd"}}),
        (deciding(Allow({})), {"behavior": "allow", "updatedInput": {}}),
    ],
)
async def test_permissions(decide: Decide | None, answer: dict[str, Any]) -> None:
    result = await result_of(bridge(Agent(), on_permission=decide), "ask")
    assert json.loads(result.text) == answer


async def test_a_decision_that_does_not_come_is_a_refusal() -> None:
    async def never(request: Any) -> Any:
        await anyio.sleep_forever()

    result = await result_of(bridge(Agent(), on_permission=never, permission_limit=0), "ask")
    assert json.loads(result.text) == {"behavior": "deny", "message": "Nobody has decided in time."}


async def failing(request: Any) -> Any:
    raise ZeroDivisionError("in on_permission")


@pytest.mark.parametrize(
    ("decide", "error", "says"),
    [
        (failing, ZeroDivisionError, "in on_permission"),
        (deciding(True), InvalidInput, r"returned True.*Allow\(\) or Deny"),
        (deciding(None), InvalidInput, r"returned None.*Allow\(\) or Deny"),
        (lambda request: Allow(), InvalidInput, "no coroutine function.*async def"),
    ],
)
async def test_an_error_in_on_permission_is_the_readers_and_denies(
    decide: Decide, error: type[Exception], says: str
) -> None:
    """It comes as it is, not in a group, and reading may go on. covers: B4, L3"""
    made = bridge(Agent(), on_permission=decide)
    async with await made.submit("ask") as turn:
        with pytest.raises(error, match=says):
            await turn.result()
        result = await turn.result()
    assert json.loads(result.text)["behavior"] == "deny"
    assert (await result_of(made, "hello")).text == "you said hello"


async def test_a_decision_that_somebody_else_has_taken_is_not_waited_for() -> None:
    agent = Agent()

    async def never(request: Any) -> Any:
        agent.out(type="control_cancel_request", request_id="r")
        agent.answer("done")
        await anyio.sleep_forever()

    assert (await result_of(bridge(agent, on_permission=never), "ask")).text == "done"
    assert not [frame for frame in agent.heard if "in" in frame and frame["id"].startswith("c-")]


async def test_an_interrupt_waits_for_the_end_and_its_reader_gets_the_result() -> None:
    agent = Agent()
    made = bridge(agent)
    await made.interrupt()
    await made.interrupt_quietly(10)
    assert agent.heard == [], "nothing runs"
    async with await made.submit("wait") as turn:
        await anext(turn.__aiter__())
        await made.interrupt()
        assert (await turn.result()).verdict is Verdict.INTERRUPTED
    async with await made.submit("wait") as turn:
        await anext(turn.__aiter__())
        await made.interrupt_quietly(10)
        assert (await turn.result()).verdict is Verdict.INTERRUPTED


async def test_what_is_kept_can_be_listed_over_a_connection_of_its_own() -> None:
    agent = Agent()
    made = bridge(agent)
    name = str(uuid.uuid4())
    await result_of(made, "hello", name)
    running = await made.submit("wait")
    await anext(running.__aiter__())
    waiting = await made.submit("later")
    assert [(info.id, info.read) for info in await made.turns()] == [
        (name, False),
        (running.id, False),
        (waiting.id, False),
    ]
    assert (len(agent.wires), agent.wires[1].closed) == (2, True)
    await made.aclose()


async def test_an_agent_that_does_not_say_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_turns, "_STATUS_LIMIT", 0)
    agent = Agent()
    agent.mute = True
    with pytest.raises(AgentUnavailable, match="does not say what it keeps"):
        await bridge(agent).turns()
    assert agent.wires[0].closed


async def test_a_turn_of_another_life_is_found_and_read_from_its_beginning() -> None:
    agent = Agent()
    name = str(uuid.uuid4())
    await result_of(bridge(agent), "hello", name)
    agent.sessions.clear()
    made = bridge(agent)
    found = await made.find(name)
    events = [event async for event in found]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["you said hello"]
    assert agent.sessions == [], "it may be long ago"
    assert agent.wires[-1].closed, "its connection was its own"
    with pytest.raises(TurnNotFound, match="there is no turn"):
        await made.find(str(uuid.uuid4()))
    assert agent.wires[-1].closed


async def test_an_id_that_was_given_before_is_joined_and_not_run_again() -> None:
    agent = Agent()
    name = str(uuid.uuid4())
    await result_of(bridge(agent), "hello", name)
    made = bridge(agent)
    assert (await result_of(made, "hello", name)).text == "you said hello"
    users = [frame for frame in agent.heard if "in" in frame and frame["in"]["type"] == "user"]
    assert len(users) == 2
    assert len([frame for frame in agent.frames if "took" in frame]) == 1
    assert (await result_of(made, "next")).text == "you said next"


async def test_a_turn_that_waits_here_is_found_here() -> None:
    agent = Agent()
    made = bridge(agent)
    running = await made.submit("wait")
    await anext(running.__aiter__())
    waiting = await made.submit("later")
    assert (await made.find(waiting.id)).id == waiting.id
    assert len(agent.wires) == 1
    await made.aclose("the test has ended")
    assert (await waiting.result()).error == "the test has ended"
    assert (await running.result()).verdict is Verdict.INTERRUPTED


async def test_what_was_not_understood_is_counted() -> None:
    agent = Agent()
    agent.announces = [{"out": {"type": "novelty"}}]
    made = bridge(agent)
    await result_of(made, "hello")
    assert made.unknown_messages == {"novelty": 1}


async def test_defaults() -> None:
    assert Ending("x") == Ending("x", None, out_of_memory=False)
    made = Bridge(Agent(), Log("demo", "memory"))
    assert (made._conversation._silence, made._conversation._interrupt_limit, made._permissions._limit) == (30, 10, 300)


async def test_a_joined_turn_has_its_permission_decided() -> None:
    """By who joins it: the program that had begun it may be gone. covers: B4"""
    agent, name = Agent(), str(uuid.uuid4())
    first, second = bridge(agent), bridge(agent, on_permission=deciding(Allow()))
    begun = await first.submit("ask", name)
    await anext(begun)
    result = await result_of(second, "ask", name)
    assert json.loads(result.text)["behavior"] == "allow"


async def test_who_leaves_a_joined_turn_ends_it_where_it_runs() -> None:
    agent = Agent()
    first, second = bridge(agent), bridge(agent)
    name = str(uuid.uuid4())
    running = await first.submit("wait", name)
    await anext(running.__aiter__())
    async with await second.submit("wait", name) as joined:
        await anext(joined.__aiter__())
    assert (await running.result()).verdict is Verdict.INTERRUPTED
    assert agent.wires[-1].closed, "the connection of the turn that was joined"
    assert (await result_of(second, "wait", name)).verdict is Verdict.INTERRUPTED, "it can be asked for again"
    await first.aclose()
    await second.aclose()


async def test_who_leaves_decisions_to_others_only_looks_at_what_it_follows() -> None:
    """It is not counted among those connected, who may decide. What it has begun itself is its own."""
    agent = Agent()
    first, second = bridge(agent), bridge(agent, on_permission=leave_to_others)
    name = str(uuid.uuid4())
    await anext((await first.submit("wait", name)).__aiter__())
    await second.find(name)
    await second.make_ready()
    hellos = [frame for frame in agent.heard if "hello" in frame]
    assert [("turn" in hello, hello.get("look", False)) for hello in hellos] == [
        (False, False),
        (True, True),
        (False, False),
    ]
    for made in (first, second):
        await made.aclose("the test has ended")


async def test_closing_ends_what_is_followed_too() -> None:
    agent = Agent()
    first, second = bridge(agent), bridge(agent)
    name = str(uuid.uuid4())
    await anext((await first.submit("wait", name)).__aiter__())
    found = await second.find(name)
    await second.aclose("the test has ended")
    assert (await found.result()).error == "the test has ended"
    assert agent.wires[-1].closed


async def test_a_turn_that_is_joined_unread_is_closed_with_the_others() -> None:
    """Its reader comes too late, is told so, and connects to nobody."""
    agent, name = Agent(), str(uuid.uuid4())
    await result_of(bridge(agent), "hello", name)
    made = bridge(agent)
    joined = await made.submit("hello", name)
    assert (await result_of(made, "next")).text == "you said next"
    wires = len(agent.wires)
    await made.aclose("the test has ended")
    result = await joined.result()
    assert (result.verdict, result.error) == (Verdict.INTERRUPTED, "the test has ended")
    assert len(agent.wires) == wires


async def test_a_joined_turn_can_be_interrupted_as_any_other() -> None:
    agent, name = Agent(), str(uuid.uuid4())
    first, second = bridge(agent), bridge(agent)
    running = await first.submit("wait", name)
    await anext(running.__aiter__())
    joined = await second.submit("wait", name)
    await anext(joined.__aiter__())
    with anyio.fail_after(20):
        await second.interrupt()
        assert (await joined.result()).verdict is Verdict.INTERRUPTED
        assert (await running.result()).verdict is Verdict.INTERRUPTED
    await first.aclose()


async def test_nobody_waits_for_a_reader_who_is_far_behind() -> None:
    """Its turn goes on over a connection of its own, and nothing of it is lost. covers: L3"""
    agent = Agent()
    made = bridge(agent)
    slow = await made.submit("wait")
    await anext(slow.__aiter__())
    for number in range(3000):
        use = {"type": "tool_use", "id": str(number), "name": "Bash", "input": {}}
        agent.out(type="assistant", message={"content": [use]})
    agent.answer("done")
    assert (await result_of(made, "hello")).text == "you said hello"
    with anyio.fail_after(20):
        used = [event.tool_use_id async for event in slow if isinstance(event, ToolUse)]
    assert used == [str(number) for number in range(3000)]
    assert [wire.closed for wire in agent.wires] == [False, True], "its own connection ends with it"
    await made.aclose()


async def test_who_has_found_a_turn_that_waits_may_leave_it() -> None:
    agent = Agent()
    made = bridge(agent)
    running = await made.submit("wait")
    await anext(running.__aiter__())
    waiting = await made.submit("later")
    async with await made.find(waiting.id):
        pass
    await running.interrupt()
    with anyio.fail_after(20):
        assert (await waiting.result()).text == "you said later"
    await made.aclose()


async def test_before_the_end_nobody_is_connected_to_for_an_interrupt() -> None:
    agent = Agent()
    made = bridge(agent)
    turn = await made.submit("wait")
    await anext(turn.__aiter__())
    await made._driver.uplink.disconnect()
    await made.interrupt_quietly(10)
    assert len(agent.wires) == 1
    await made.aclose()


async def test_who_is_far_behind_is_waited_for_where_the_agent_keeps_nothing() -> None:
    """There is nothing to be read from by another connection, so its events are not thrown away."""
    agent = Agent()
    made = bridge(agent)
    slow = await made.submit("wait")
    await anext(slow.__aiter__())
    assert made._driver.uplink.connection is not None
    made._driver.uplink.connection.link._journal = ""
    for number in range(3000):
        use = {"type": "tool_use", "id": str(number), "name": "Bash", "input": {}}
        agent.out(type="assistant", message={"content": [use]})
    agent.answer("done")
    other: list[TurnResult] = []

    async def ask() -> None:
        other.append(await result_of(made, "hello"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert other == [], "it waits"
        used = [event.tool_use_id async for event in slow if isinstance(event, ToolUse)]
    assert len(used) == 3000
    assert [result.text for result in other] == ["you said hello"]
    assert len(agent.wires) == 1
