"""One that is attended to and needs a lease: whoever only listens has given it up. covers: B11, B21"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest

from cc_bridge import BridgeError, Verdict
from cc_bridge.bridge.surroundings import DrivingLease
from cc_bridge.channels.base import Channel
from cc_bridge.cluster.lease import Lease, ended_under, started_under
from cc_bridge.errors import ConnectionLost, EngineUnavailable
from cc_bridge.fleet import attended as module
from cc_bridge.fleet.attended import Attended
from cc_bridge.fleet.awake import Awake, Seat
from cc_bridge.logs import Log
from tests.unit.bridge.keeping_agent import KeepingAgent, Line
from tests.unit.bridge.test_driver import TURN
from tests.unit.bridge.test_driver import Place as Surroundings
from tests.unit.bridge.test_driving import OTHER
from tests.unit.cluster.test_lease import Place, lease

pytestmark = pytest.mark.anyio

LIMIT = 20.0


class Agent(KeepingAgent):
    """Its Claude Code answers what it is asked beside the turns."""

    def answer(self, line: Line, frame: dict[str, Any]) -> None:
        message = frame.get("in")
        if not isinstance(message, dict) or message.get("type") != "control_request":
            super().answer(line, frame)
        elif frame["id"] not in self.given:
            self.given.append(frame["id"])
            self.say(took=frame["id"])
            answered = {"subtype": "success", "request_id": message["request_id"], "response": {}}
            self.out(type="control_response", response=answered)


class Beside:
    guard: Any = None
    runs = False


class Home(Surroundings):
    """With a lease, which is taken before something begins."""

    before_result = None

    def __init__(self, of: DrivingLease | None = None) -> None:
        super().__init__()
        self.lease = of  # type: ignore[assignment]
        self.beside, self.agent = Beside(), Agent()

    async def connect(self, greeting: bytes) -> Channel:
        await anyio.lowlevel.checkpoint()
        return Line(self.agent, greeting, None, deaf=False)

    def starting(self, abandon: Any, *, drives: bool = False) -> Any:
        @asynccontextmanager
        async def starting() -> AsyncIterator[None]:
            async with started_under(self.lease if drives else None):  # type: ignore[arg-type]
                yield

        return starting()

    async def is_running(self) -> bool:
        return True

    def let_go(self) -> None:
        pass


class Host:
    patience = 5.0

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self._group = group

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._group.start_soon(task)

    def check(self) -> None:
        pass

    def turn_ended(self, *about: Any) -> None:
        pass

    def does(self, state: Any) -> None:
        pass

    async def decide(self, *about: Any) -> Any:
        await anyio.sleep_forever()


@asynccontextmanager
async def attended(home: Home) -> AsyncIterator[Attended]:
    async def sleep() -> None:
        pass

    async with anyio.create_task_group() as group:
        made: list[Attended] = []
        seat = Seat(Awake(None), "demo", sleep, lambda: made[0].keeps_awake)
        made.append(Attended(home, Log("demo", "swarm"), host=Host(group), seat=seat))  # type: ignore[arg-type]
        with anyio.fail_after(LIMIT):
            yield made[0]
        group.cancel_scope.cancel()


async def ask(instance: Attended, turn: str) -> Verdict:
    return (await (await instance.submit("hello", turn)).result()).verdict


async def at_rest(instance: Attended) -> None:
    """Whoever attends to it only listens by now."""
    while not instance._lingers:
        await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("somebody_listens", [False, True])
async def test_the_next_command_is_sent_although_the_lease_could_not_be_given_up(somebody_listens: bool) -> None:
    note = Place()
    home = Home(of := lease(note))
    tries = 0

    async def give_up() -> None:
        nonlocal tries
        tries += 1
        note.away = EngineUnavailable("the manager is away for a moment")
        await Lease.give_up(of)
        note.away = None

    async with attended(home) as instance:
        if somebody_listens:
            await instance.listen(start=False)
        of.give_up = give_up  # type: ignore[method-assign]
        assert await ask(instance, TURN) is Verdict.COMPLETED
        await at_rest(instance)
        assert tries == 1, "and whoever listens does not try it again and again"
        assert await ask(instance, OTHER) is Verdict.COMPLETED


@pytest.mark.parametrize("somebody_listens", [False, True])
async def test_a_request_is_sent_while_somebody_only_listens(somebody_listens: bool) -> None:
    """The model is another one, between two turns."""
    home = Home(lease(Place()))
    async with attended(home) as instance:
        if somebody_listens:
            await instance.listen(start=False)
        assert await ask(instance, TURN) is Verdict.COMPLETED
        await at_rest(instance)
        assert await instance.request({"subtype": "set_model", "model": "another"}) == {}


async def test_a_command_is_sent_under_a_lease_that_somebody_else_keeps() -> None:
    """Somebody puts it to sleep, say."""
    home = Home(of := lease(Place()))
    async with attended(home) as instance:
        async with ended_under(of, 1.0):
            assert await ask(instance, TURN) is Verdict.COMPLETED
            await at_rest(instance)
            assert of.fence is not None
            assert await ask(instance, OTHER) is Verdict.COMPLETED
        assert of.fence is None


async def test_a_request_keeps_nobody_there_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER", 0.2)
    home = Home()
    async with attended(home) as instance:
        assert await ask(instance, TURN) is Verdict.COMPLETED
        await at_rest(instance)
        await instance.request({"subtype": "set_model", "model": "another"})
        while instance.channel_kind is not None:
            await anyio.sleep(0.01)


async def test_what_was_closed_while_claude_code_ran_goes_on_with_the_next_command() -> None:
    """Another program's, or this one's that let go of it, with nothing said in between."""
    home = Home()
    async with attended(home) as instance:
        assert await ask(instance, TURN) is Verdict.COMPLETED
        await instance.aclose()
        assert await ask(instance, OTHER) is Verdict.COMPLETED


async def test_of_two_removals_that_fail_nothing_is_left() -> None:
    home = Home()
    async with attended(home) as instance:
        first, second = anyio.Event(), anyio.Event()

        async def remove(fails: anyio.Event) -> None:
            with pytest.raises(EngineUnavailable), instance.leaving(ConnectionLost("it was removed", instance="demo")):
                await fails.wait()
                raise EngineUnavailable("away")

        async with anyio.create_task_group() as group:
            group.start_soon(remove, first)
            group.start_soon(remove, second)
            await anyio.wait_all_tasks_blocked()
            first.set()
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(BridgeError, match="it was removed"):
                await instance.submit("hello", OTHER)
            second.set()
        assert await ask(instance, TURN) is Verdict.COMPLETED
