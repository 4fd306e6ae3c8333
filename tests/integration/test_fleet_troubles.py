"""What callers of a fleet may do at once, and what must not come of it. covers: B21, L1, L2"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import (
    Allow,
    BridgeError,
    ClaudeInstance,
    ClaudeOptions,
    Decision,
    InvalidInput,
    LimitReached,
    LocalProcess,
    PositionGone,
    TextDelta,
    Verdict,
    Waiting,
)
from cc_bridge.channels.base import Channel
from cc_bridge.errors import InstanceDiffers, PlacementFailed
from cc_bridge.fleet import Fleet, OpenRequest
from cc_bridge.instances.registry import Registry
from tests.conftest import STUB

pytestmark = pytest.mark.anyio

LIMIT = 60.0

_TOUCH = '[[tool Bash {"command": "touch made-by-a-tool"}]]'


@pytest.fixture
async def make(
    make_record: Callable[..., ClaudeInstance], claude: str, claude_env: dict[str, str]
) -> AsyncIterator[Callable[[], ClaudeInstance]]:
    """Makes records of instances that stay, until the test is over."""
    made: list[ClaudeInstance] = []

    def make() -> ClaudeInstance:
        made.append(make_record(env=claude_env, ephemeral=False))
        return made[-1]

    yield make
    with anyio.CancelScope(shield=True):
        for record in made:
            await LocalProcess(record).remove(conversation=True)


async def test_another_one_sleeps_for_one_whose_node_has_gone_in_mid_turn(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node of a swarm has room for it until then; the turn ends as interrupted, and the next one works."""
    async with Fleet() as fleet:
        idle, busy = fleet.adopt(make()), fleet.adopt(make())
        assert await idle.send_command_and_wait("[[say idle]]", LIMIT) == (True, "idle")
        turn = await busy.submit("[[say begun]] [[hang]]")
        async for event in turn:
            if isinstance(event, TextDelta):
                break
        connect = busy.connect

        async def connect_where_there_is_room(greeting: bytes) -> Channel:
            if fleet.state(idle.name).state != "asleep":
                raise PlacementFailed("no suitable node (insufficient memory)", instance=busy.name, full=True)
            return await connect(greeting)

        monkeypatch.setattr(busy, "connect", connect_where_there_is_room)
        connection = fleet._open[busy.name][1]._driver.uplink.connection
        assert connection is not None
        await connection.channel.aclose()
        with anyio.fail_after(LIMIT):
            while fleet.state(idle.name).state != "asleep":
                await anyio.sleep(0.02)
            await turn.interrupt()
            assert (await turn.result()).text == "begun"


async def test_one_that_has_no_place_fails_at_once(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's sleep would help; also where a turn was cut off that ran."""
    async with Fleet() as fleet:
        busy = fleet.adopt(make())
        turn = await busy.submit("[[say begun]] [[hang]]")
        async for event in turn:
            if isinstance(event, TextDelta):
                break

        async def nowhere(greeting: bytes) -> Channel:
            raise PlacementFailed("no suitable node (scheduling constraints not satisfied)", instance=busy.name)

        connection = fleet._open[busy.name][1]._driver.uplink.connection
        assert connection is not None
        with monkeypatch.context() as patch, anyio.fail_after(LIMIT):
            patch.setattr(busy, "connect", nowhere)
            await connection.channel.aclose()
            result = await turn.result()
        assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "begun")
        assert "no suitable node" in result.error


async def test_a_turn_in_line_is_interrupted_at_once(make: Any) -> None:
    async with Fleet(most_awake=1) as fleet:
        busy, other = fleet.adopt(make()), fleet.adopt(make())
        running = await busy.submit("[[say a]] [[hang]]")
        async for event in running:
            if isinstance(event, TextDelta):
                break
        waiting = await other.submit("[[say b]]")
        assert isinstance(await anext(waiting), Waiting)
        with anyio.fail_after(LIMIT):
            await waiting.interrupt()
            assert not (await waiting.result()).ok
            await running.aclose()


@pytest.mark.parametrize("whose", ["the fleet's", "the instance's own"])
async def test_a_decision_that_cannot_be_sent_ends_nobody_else(make: Any, whose: str) -> None:
    async def decide(request: Any) -> Decision:
        return Allow(input={"command": object()})

    async def policy(request: OpenRequest) -> Decision:
        return await decide(request)

    async with Fleet(on_permission=policy, permission_wait=0.0) as fleet:
        one = fleet.adopt(make(), **({"on_permission": decide} if whose == "the instance's own" else {}))
        other = fleet.adopt(make())
        with anyio.fail_after(LIMIT):
            running = await other.submit("[[say x]] [[delay 1]] [[say y]]")
            turn = await one.submit(f"{_TOUCH} [[say done]]")
            try:
                await turn.result()
            except BridgeError:
                await turn.result()  # the reader is told why, once, and the turn goes on
            assert (await running.result()).text == "xy"


async def test_nothing_begins_again_what_is_being_removed(make_record: Any, tmp_path: Path) -> None:
    async with Fleet() as fleet:
        stub = {"env": {"HOME": str(tmp_path)}, "claude": ClaudeOptions(program=str(STUB))}
        held = fleet.adopt(make_record(ephemeral=False, **stub))
        assert (await held.send_command_and_wait("before", LIMIT))[0]
        errors: list[str] = []

        async def ask(pause: float) -> None:
            await anyio.sleep(pause)
            try:
                async with await held.submit("meanwhile") as turn:
                    await turn.result()
            except BridgeError as error:
                errors.append(error.what)

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(ask, number / 100)
                await fleet.remove(held.name)
            assert fleet.names() == []
            await ask(0)
        assert errors[-1] == "it was removed"
        assert held.record.name not in Registry().names()


async def test_who_listens_to_one_that_is_removed_is_told(make: Any) -> None:
    async with Fleet() as fleet:
        instance = await fleet.make(make())
        with anyio.fail_after(LIMIT), pytest.raises(BridgeError, match="removed"):
            async with anyio.create_task_group() as group, aclosing(fleet.feed(instance.name)) as feed:
                group.start_soon(remove_later, fleet, instance.name)
                try:
                    async for _ in feed:
                        pass
                except BridgeError as error:
                    told = error
                    group.cancel_scope.cancel()
            raise told


async def remove_later(fleet: Fleet, name: str) -> None:
    await anyio.wait_all_tasks_blocked()
    with anyio.CancelScope(shield=True):
        await fleet.remove(name)


async def test_no_more_than_there_may_be_also_at_once(make: Any) -> None:
    refused: list[str] = []
    async with Fleet(most_instances=1) as fleet:

        async def try_to_make(record: ClaudeInstance) -> None:
            try:
                await fleet.make(record)
            except LimitReached:
                refused.append(record.name)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(try_to_make, make())
        assert len(fleet.names()) == 1
    assert len(refused) == 2


async def test_a_wrong_record_leaves_nothing(make: Any, tmp_path: Any) -> None:
    record = make()
    async with LocalProcess(record) as other:
        await other.start()
    async with Fleet() as fleet:
        with pytest.raises(InstanceDiffers):
            await fleet.make(replace(record, workspace=tmp_path))
        assert fleet.adopt(record) is fleet.open(record.name)
        assert await fleet.open(record.name).send_command_and_wait("[[say hi]]", LIMIT) == (True, "hi")


async def test_who_was_stopped_has_left_its_seat(make: Any) -> None:
    async with Fleet(most_awake=1) as fleet:
        first = await fleet.make(make())
        await first.stop()
        with anyio.fail_after(LIMIT):
            while fleet.awake:
                await anyio.sleep(0.02)
        assert await fleet.adopt(make()).send_command_and_wait("[[say hi]]", LIMIT) == (True, "hi")


@pytest.mark.parametrize("limit", [0.02, 0.1, 0.2])
async def test_one_whose_making_was_given_up_is_not_there(make: Any, limit: float) -> None:
    """Whenever it is given up: it is there whole, or not at all."""
    record = make()
    async with Fleet() as fleet:
        with anyio.move_on_after(limit) as scope:
            await fleet.make(record)
        assert (record.name in fleet.names()) is not scope.cancelled_caught
        await anyio.sleep(0.5)
        assert (record.name in fleet.names()) is not scope.cancelled_caught


async def test_who_listens_is_told_when_nobody_is_there_any_more(make: Any) -> None:
    """The agent has ended by another program's doing; and the fleet."""
    record = make()
    async with Fleet() as fleet:
        await fleet.make(record)
        with anyio.fail_after(LIMIT), pytest.raises(BridgeError):
            async with anyio.create_task_group() as group:
                told: list[BridgeError] = []

                async def listen() -> None:
                    try:
                        async with aclosing(fleet.feed(record.name)) as feed:
                            async for _ in feed:
                                pass
                    except BridgeError as error:
                        told.append(error)

                group.start_soon(listen)
                await anyio.wait_all_tasks_blocked()
                await LocalProcess(record).stop()
            raise told[0]


async def test_a_position_before_there_was_an_agent_is_gone(make: Any) -> None:
    async with Fleet() as fleet:
        await fleet.make(make())
        name = fleet.names()[0]
        with anyio.fail_after(LIMIT), pytest.raises(PositionGone):
            async with aclosing(fleet.feed(name, after=".0.0")) as feed:
                await anext(feed)


async def test_a_fleet_is_used_once(make: Any) -> None:
    fleet = Fleet()
    async with fleet:
        with pytest.raises(InvalidInput, match="in use already"):
            await fleet.__aenter__()
    with pytest.raises(InvalidInput, match="make another one"):
        await fleet.__aenter__()
