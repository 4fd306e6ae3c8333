"""What somebody sees who only looks, by an agent's own words. covers: G10"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from cc_bridge.channels.base import Channel
from cc_bridge.channels.named_pipe import NobodyListens
from cc_bridge.errors import AgentUnavailable, BridgeError, ConnectionLost, ContainerNotRunning, EngineUnavailable
from cc_bridge.instances import activity
from cc_bridge.instances.activity import has_ended, look
from cc_bridge.instances.place import NoAgentPossible
from cc_bridge.turn import TurnInfo

pytestmark = pytest.mark.anyio

TURN, NEXT = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
NOW = {"turn": TURN, "seconds": 60, "silent": 1, "hosts": ["a host", ""]}
ASKS = {"type": "control_request", "request_id": "r", "request": {"subtype": "can_use_tool", "tool_name": "Bash"}}
STATUS = {"turns": [{"id": TURN, "read": False}, {"id": NEXT, "read": False}], "status": {"queue": [NEXT]}, "now": NOW}


class Looked(Channel):
    """An agent that answers a hello, and gives what it has kept."""

    kind = "pipes"

    def __init__(self, agent: Agent, hello: dict[str, Any]) -> None:
        self._agent = agent
        self._answers: list[dict[str, Any]] = []
        agent.hellos.append(hello)
        after = hello["have"][0] if "have" in hello else 0 if "turn" in hello else len(agent.frames)
        if "have" in hello and after < agent.gone:
            self._answers.append({"error": "gone", "message": "not kept"})
            return
        greeting = {"hello": 1, "agent": "9.9", "epoch": "e", "session": "main", "journal": agent.journal, "open": []}
        self._answers.append({**greeting, "state": agent.state, "seq": len(agent.frames), "from": after + 1})
        self._answers += [{"seq": number, **frame} for number, frame in enumerate(agent.frames, 1) if number > after]

    async def send(self, data: bytes) -> None:
        """A status, whatever is said."""
        self._answers.append(self._agent.status)

    async def receive(self) -> bytes:
        """One frame after the other."""
        if not self._answers:
            raise anyio.EndOfStream
        return json.dumps(self._answers.pop(0)).encode() + b"\n"

    async def aclose(self) -> None:
        """Nothing is left."""
        self._agent.open -= 1


class Agent:
    """What an agent says: its frames, its status, and what it was asked."""

    def __init__(self, *frames: dict[str, Any], status: dict[str, Any] = STATUS) -> None:
        self.frames, self.status = list(frames), status
        self.state, self.journal = "running", "j"
        self.gone = self.open = 0
        self.hellos: list[dict[str, Any]] = []

    async def way(self, greeting: bytes) -> Channel:
        self.open += 1
        return Looked(self, json.loads(greeting))


async def seen(agent: Agent) -> dict[str, Any]:
    sight = await look(agent.way, "x")
    assert sight is not None
    assert agent.open == 0, "a connection is left"
    return {**sight.describe()}


async def test_whose_turn_and_what_waits() -> None:
    agent = Agent({"took": TURN}, {"out": {"type": "assistant"}})
    found = await seen(agent)
    assert (found["activity"], found["turn"], found["waiting"], found["asks"]) == ("busy", TURN, 1, None)
    assert found["connected"] == ["a host", "an unnamed program"]
    assert found["turn_since"] < found["last_activity"]
    assert "process" in agent.hellos[0]["host"], "it says who looks"
    sight = await look(agent.way, "x")
    assert sight is not None
    running, waiting = sight.turns("x")
    assert (running.state, running.since is None, waiting) == ("running", False, TurnInfo(NEXT, False, "waiting"))


async def test_idle() -> None:
    found = await seen(Agent(status={**STATUS, "status": {}, "now": {"turn": "", "hosts": []}}))
    assert (found["activity"], found["turn"], found["last_activity"]) == ("idle", None, None)


async def test_asleep() -> None:
    """covers: B7"""
    agent = Agent(status={**STATUS, "status": {"state": "asleep"}, "now": {"turn": "", "hosts": []}})
    assert (await seen(agent))["activity"] == "asleep"
    sight = await look(agent.way, "x")
    assert sight is not None
    assert sight.describe(in_pane=True)["activity"] is None


@pytest.mark.parametrize("gone", [0, 3])
async def test_a_permission_that_is_asked_for(gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the newest frames, and where these are not kept, by the turn's own."""
    monkeypatch.setattr(activity, "_LATEST", 2)
    agent = Agent({"took": TURN}, {"out": {}}, {"out": ASKS}, {"err": "x"})
    agent.gone = gone
    found = await seen(agent)
    assert (found["activity"], found["asks"]) == ("permission", "Bash")
    assert agent.hellos[-1].get("turn") == (TURN if gone else None)
    agent.frames.append({"took": "c-1-r"})
    assert (await seen(agent))["activity"] == "busy"


async def test_more_than_is_read_is_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_MOST_BYTES", 100)
    found = await seen(Agent({"out": ASKS}, {"out": {"text": "x" * 200}}, {"out": {}}))
    assert (found["activity"], found["asks"]) == ("busy", None)


async def test_an_agent_of_0_1_0_says_little() -> None:
    agent = Agent(status={"status": {}, "turns": STATUS["turns"]})
    found = await seen(agent)
    assert (found["activity"], found["turn"], found["channel"], found["connected"]) == (None, None, "pipes", [])
    sight = await look(agent.way, "x")
    assert sight is not None
    assert [turn.state for turn in sight.turns("x")] == ["", ""]


async def test_what_stands_in_for_an_agent_is_not_asked() -> None:
    agent = Agent()
    agent.journal = ""
    assert (await seen(agent))["activity"] is None


@pytest.mark.parametrize("error", [NobodyListens, ContainerNotRunning])
async def test_no_agent_runs(error: Callable[[str], Exception]) -> None:
    async def way(greeting: bytes) -> Channel:
        raise error("nobody")

    assert await look(way, "x") is None
    assert await has_ended(way, "x", 0)


async def test_whether_claude_code_has_ended() -> None:
    agent = Agent({"started": 1})
    assert not await has_ended(agent.way, "x", 0)
    agent.state = "exited"
    assert await has_ended(agent.way, "x", 0)
    assert agent.open == 0


async def test_garbage_behind_the_hello_is_no_answer() -> None:
    """The link is closed before the status can be asked for."""

    class Garbage(Looked):
        async def receive(self) -> bytes:
            return await super().receive() + b"garbage\n"

    async def way(greeting: bytes) -> Channel:
        return Garbage(Agent(), json.loads(greeting))

    sight = await look(way, "x")
    assert sight is not None
    assert (sight.status, sight.describe()["activity"]) == (None, None)


@pytest.mark.parametrize(
    ("error", "told"),
    [(AgentUnavailable, AgentUnavailable), (ConnectionLost, AgentUnavailable), (EngineUnavailable, EngineUnavailable)],
)
async def test_an_agent_that_does_not_answer_is_not_said_to_be_none(
    error: type[BridgeError], told: type[BridgeError]
) -> None:
    async def way(greeting: bytes) -> Channel:
        raise error("nobody")

    with pytest.raises(told):
        await look(way, "x")


async def test_an_agent_that_is_slow_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "_LIMIT", 0)

    async def way(greeting: bytes) -> Channel:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(AgentUnavailable, match="does not answer"):
        await look(way, "x")


async def test_a_pipe_that_is_full_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may fill it before its hello."""
    agent, asked = Agent(), anyio.Event()

    class Full(Looked):
        async def send(self, data: bytes) -> None:
            asked.set()
            await anyio.sleep_forever()

    async def way(greeting: bytes) -> Channel:
        agent.open += 1
        return Full(agent, json.loads(greeting))

    found: list[Any] = []

    async def seen() -> None:
        found.append(await look(way, "x"))

    monkeypatch.setattr(activity, "_LIMIT", math.inf)
    with anyio.move_on_after(10) as limit:
        async with anyio.create_task_group() as group:
            group.start_soon(seen)
            await asked.wait()
            group.cancel_scope.cancel()
    assert (limit.cancelled_caught, found, agent.open) == (False, [], 0)


async def test_where_no_agent_can_run_claude_code_is_run_directly() -> None:
    async def way(greeting: bytes) -> Channel:
        raise NoAgentPossible("no Python")

    sight = await look(way, "x")
    assert sight is not None
    assert (sight.describe()["channel"], sight.describe()["activity"]) == ("direct", None)


async def test_a_pane_without_a_turn_from_here_is_not_called_idle() -> None:
    """A person may have begun one, which the agent does not know."""
    sight = await look(Agent(status={**STATUS, "status": {}, "now": {"turn": "", "hosts": []}}).way, "x")
    assert sight is not None
    assert (sight.describe(in_pane=True)["activity"], sight.describe()["activity"]) == (None, "idle")
    sight = await look(Agent().way, "x")
    assert sight is not None
    assert sight.describe(in_pane=True)["activity"] == "busy"
