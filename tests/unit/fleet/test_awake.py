"""Who may be awake: never more than fit, nobody waits while there is room, first come first served. covers: P4"""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest

from cc_bridge.errors import AgentUnavailable, InstanceBusy
from cc_bridge.fleet import awake as module
from cc_bridge.fleet.awake import Awake, Seat

pytestmark = pytest.mark.anyio

MB = 1024 * 1024


class Claude:
    """One that is awake, asleep, or falling asleep, for as long as a test wants."""

    def __init__(
        self, awake: Awake, name: str = "one", memory: int | None = 100 * MB, *, is_spare: bool = False
    ) -> None:
        self.awake = awake
        self.name = name
        self.memory = memory
        self.busy = self.runs = False
        self.slept = 0
        self.error: Exception | None = None
        self.told: list[int] = []
        self.may_sleep = anyio.Event()
        self.may_sleep.set()
        self.seat = Seat(awake, name, self.sleep, lambda: self.busy, self.measure, is_spare=is_spare)

    async def sleep(self) -> None:
        await self.may_sleep.wait()
        if self.busy or self.error:
            raise self.error or InstanceBusy("it is not idle", instance=self.name)
        self.slept += 1
        self.runs = False

    async def measure(self) -> int | None:
        await anyio.lowlevel.checkpoint()
        return self.memory if self.runs else None

    async def begin(self) -> None:
        self.busy = True
        await self.seat.take(self.told.append)
        self.runs = True

    def end(self) -> None:
        self.busy = False
        self.seat.rest(awake=True)


async def sat(*claudes: Claude) -> None:
    for claude in claudes:
        await claude.begin()


class TestNumber:
    async def test_who_rested_longest_sleeps(self) -> None:
        awake = Awake(2)
        first, second, third = (Claude(awake, name) for name in ("first", "second", "third"))
        await sat(first, second)
        second.end()
        first.end()
        first.seat.rested_at = second.seat.rested_at + 1
        with anyio.fail_after(5):
            await third.begin()
        assert (first.slept, second.slept, len(awake)) == (0, 1, 2)

    async def test_another_one_sleeps_where_there_is_no_room_after_all(self) -> None:
        awake = Awake(None)
        first, second = Claude(awake, "first"), Claude(awake, "second")
        await sat(first, second)
        assert not await second.seat.make_room()
        first.end()
        assert await second.seat.make_room()
        assert (first.slept, second.slept, len(awake)) == (1, 0, 1)

    async def test_who_waits_hears_its_place_and_comes_in_order(self) -> None:
        awake = Awake(1)
        busy, first, second = (Claude(awake, name) for name in ("busy", "first", "second"))
        await sat(busy)
        order: list[str] = []

        async def begin(claude: Claude) -> None:
            await claude.begin()
            order.append(claude.name)
            claude.end()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(begin, first)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(begin, second)
                await anyio.wait_all_tasks_blocked()
                assert (first.told, second.told) == ([0], [1])
                busy.end()
        assert order == ["first", "second"]

    async def test_who_gives_up_waiting_keeps_nobody(self) -> None:
        awake = Awake(1)
        busy, first, second = (Claude(awake, name) for name in ("busy", "first", "second"))
        await sat(busy)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                scope = anyio.CancelScope()

                async def give_up() -> None:
                    with scope:
                        await first.begin()

                group.start_soon(give_up)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(second.begin)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
                assert second.told == [1, 0]
                busy.end()
        assert (first.seat in awake, second.seat in awake) == (False, True)

    async def test_one_that_gives_up_while_another_falls_asleep_for_it(self) -> None:
        awake = Awake(1)
        idle, first, second = (Claude(awake, name) for name in ("idle", "first", "second"))
        await sat(idle)
        idle.end()
        idle.may_sleep = anyio.Event()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(first.begin)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            idle.may_sleep.set()
            await second.begin()
        assert (len(awake), first.seat in awake) == (1, False)

    @pytest.mark.parametrize("by_command", [True, False], ids=["command", "wake"])
    async def test_one_that_is_called_back_while_it_falls_asleep_keeps_its_room(self, by_command: bool) -> None:
        awake = Awake(1)
        idle, other = Claude(awake, "idle"), Claude(awake, "other")
        await sat(idle)
        idle.end()
        idle.may_sleep = anyio.Event()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(other.begin)
                await anyio.wait_all_tasks_blocked()
                idle.busy = by_command
                await idle.seat.take(idle.told.append)
                idle.error = InstanceBusy("it has been called back", instance="idle")
                idle.may_sleep.set()
                await anyio.wait_all_tasks_blocked()
                assert (other.seat in awake, idle.seat in awake) == (False, True)
                group.cancel_scope.cancel()

    async def test_one_that_sleeps_and_is_woken_meanwhile_keeps_its_room(self) -> None:
        awake = Awake(1)
        idle, other = Claude(awake, "idle"), Claude(awake, "other")
        await sat(idle)
        idle.end()
        idle.may_sleep = anyio.Event()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(other.begin)
                await anyio.wait_all_tasks_blocked()
                idle.busy = True
                await idle.seat.take(idle.told.append)
                idle.busy = False  # the agent was not told of it when it slept
                idle.may_sleep.set()
                await anyio.wait_all_tasks_blocked()
                assert idle.slept == 2, "the first sleep was undone by the call"
        assert (len(awake), other.seat in awake) == (1, True)

    async def test_one_that_cannot_sleep_is_passed_over(self) -> None:
        awake = Awake(2)
        stuck, idle, other = (Claude(awake, name) for name in ("stuck", "idle", "other"))
        await sat(stuck, idle)
        stuck.end()
        idle.end()
        stuck.error = AgentUnavailable("it does not answer", instance="stuck")
        with anyio.fail_after(5):
            await other.begin()
        assert (stuck.seat in awake, idle.slept) == (True, 1)

    async def test_two_tasks_of_one_instance_have_one_seat(self) -> None:
        awake = Awake(1)
        first, one = Claude(awake), Claude(awake)
        await first.begin()
        told: list[int] = []
        async with anyio.create_task_group() as group:
            group.start_soon(one.begin)
            group.start_soon(one.seat.take, told.append)
            await anyio.wait_all_tasks_blocked()
            assert (one.told, told, len(awake)) == ([0], [0], 1)
            first.end()
        assert (first.slept, len(awake), one.seat.is_awake) == (1, 1, True)

    async def test_a_task_that_gives_up_leaves_the_line_to_the_other_of_its_instance(self) -> None:
        awake = Awake(1)
        first, one = Claude(awake), Claude(awake)
        await first.begin()
        async with anyio.create_task_group() as group, anyio.create_task_group() as given_up:
            given_up.start_soon(one.begin)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(one.seat.take, lambda ahead: None)
            await anyio.wait_all_tasks_blocked()
            given_up.cancel_scope.cancel()
            one.busy = False
            first.end()
        assert one.seat.is_awake


class TestMemory:
    async def test_the_largest_must_fit_beside_what_is_used(self) -> None:
        awake = Awake(None, 350 * MB)
        claudes = [Claude(awake, str(number)) for number in range(4)]
        with anyio.fail_after(5):
            for claude in claudes:
                await claude.begin()
                claude.end()
        assert [claude.slept for claude in claudes] == [1, 0, 0, 0]

    async def test_one_alone_may_use_more(self) -> None:
        awake = Awake(None, 50 * MB)
        first, second = Claude(awake, "first"), Claude(awake, "second")
        with anyio.fail_after(5):
            await first.begin()
            first.end()
            await second.begin()
        assert (first.slept, len(awake)) == (1, 1)

    async def test_what_nobody_can_measure_counts_as_the_largest(self) -> None:
        awake = Awake(None, 1000 * MB)
        seen, unseen = Claude(awake, "seen", 300 * MB), Claude(awake, "unseen", None)
        await sat(seen, unseen)
        await awake.measure(seen.seat)
        assert awake.memory == 600 * MB

    async def test_who_has_grown_has_others_sleep_when_its_turn_ends(self) -> None:
        awake = Awake(None, 500 * MB)
        grows, idle = Claude(awake, "grows"), Claude(awake, "idle")
        await sat(grows, idle)
        idle.end()
        grows.memory = 450 * MB
        with anyio.fail_after(5):
            await awake.measure(grows.seat)
        assert (idle.slept, grows.slept) == (1, 0)

    async def test_what_cannot_be_measured_now_counts_as_before(self) -> None:
        awake = Awake(None, 1000 * MB)
        claude = Claude(awake)
        await sat(claude)
        await awake.measure(claude.seat)

        async def fail() -> int | None:
            raise AgentUnavailable("it does not answer", instance="one")

        claude.seat.measure = fail
        await awake.measure(claude.seat)
        assert awake.memory == 100 * MB


class TestSpares:
    async def test_they_go_after_all_that_rest(self) -> None:
        awake = Awake(2)
        spare, idle = Claude(awake, "spare", is_spare=True), Claude(awake, "idle")
        await sat(spare, idle)
        spare.end()
        idle.end()
        idle.seat.rested_at = spare.seat.rested_at + 1
        first, second = Claude(awake, "first"), Claude(awake, "second")
        with anyio.fail_after(5):
            await first.begin()
            assert (idle.slept, spare.slept) == (1, 0)
            await second.begin()
        assert spare.slept == 1

    async def test_a_conversation_in_flow_does_not_sleep_for_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        awake = Awake(1)
        idle, spare = Claude(awake, "idle"), Claude(awake, "spare", is_spare=True)
        await sat(idle)
        idle.end()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(spare.begin)
                await anyio.wait_all_tasks_blocked()
                assert idle.slept == 0
                idle.seat.rested_at -= module._SETTLED
                awake.look_again()
        assert (idle.slept, spare.seat in awake) == (1, True)

    async def test_commands_come_first(self) -> None:
        awake = Awake(1)
        busy, spare, command = Claude(awake, "busy"), Claude(awake, "spare", is_spare=True), Claude(awake, "command")
        await sat(busy)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(spare.begin)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(command.begin)
                await anyio.wait_all_tasks_blocked()
                awake.leave(busy.seat)
                await anyio.wait_all_tasks_blocked()
                assert (command.seat in awake, spare.seat in awake) == (True, False)
                group.cancel_scope.cancel()

    async def test_one_that_is_taken_takes_its_room_along(self) -> None:
        awake = Awake(1)
        spare, taken = Claude(awake, "spare", is_spare=True), Claude(awake, "taken")
        await sat(spare)
        spare.seat.give_to(taken.seat)
        spare.seat.rest(awake=True)  # its object has not quite gone
        assert (taken.seat in awake, len(awake)) == (True, 1)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_comes_in_whatever_order(seed: int) -> None:
    chance = random.Random(seed)
    most, limit = chance.choice([1, 2, 3, None]), chance.choice([None, 250 * MB, 500 * MB])
    awake = Awake(most, limit)
    claudes = [Claude(awake, f"c{number}") for number in range(8)]
    claudes.append(Claude(awake, "spare", 100 * MB, is_spare=True))
    waiting: list[str] = []
    served: list[str] = []
    scopes: dict[str, anyio.CancelScope] = {}

    def check() -> None:
        running = [claude for claude in claudes if claude.runs]
        assert most is None or len(running) <= most
        used = sum(claude.memory or 0 for claude in running)
        assert limit is None or used <= limit

    async def use(claude: Claude, steps: Callable[[], int]) -> None:
        scopes[claude.name] = scope = anyio.CancelScope()
        with scope:
            if not claude.seat.is_spare and claude.seat not in awake:
                waiting.append(claude.name)
            await claude.begin()
            check()
            if claude.name in waiting:
                served.append(waiting.pop(0))
                assert served[-1] == claude.name, "first come, first served"
            for _ in range(steps()):
                await anyio.lowlevel.checkpoint()
        if claude.name in waiting:
            waiting.remove(claude.name)
        if claude.seat in awake:
            claude.end()
        claude.busy = False
        awake.look_again()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(60):
                claude = chance.choice(claudes)
                if not claude.busy:
                    claude.busy = True
                    group.start_soon(use, claude, lambda: chance.randrange(20))
                elif claude.name in waiting and chance.random() < 0.3:
                    scopes[claude.name].cancel()
                for _ in range(chance.randrange(6)):
                    await anyio.lowlevel.checkpoint()
            with anyio.fail_after(module._AGAIN / 2):  # whoever waits is told, and need not look again
                while waiting:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
