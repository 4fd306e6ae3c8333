"""What a fleet does beside its contract: what it holds, how much it remembers, and its death. covers: B1, B21, P4"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from cc_bridge import (
    Allow,
    BridgeError,
    ClaudeInstance,
    ClaudeOptions,
    Decision,
    Event,
    InstanceInterface,
    InvalidInput,
    LocalProcess,
    PermissionRequest,
    TextDelta,
    Turn,
    TurnResult,
    Verdict,
)
from cc_bridge.fleet import Fleet, Heard, OpenRequest
from cc_bridge.fleet import feed as feed_module
from cc_bridge.testing.fleet_contract import text_of, until_results
from cc_bridge.turn import Keep
from tests.conftest import STUB

pytestmark = pytest.mark.anyio

LIMIT = 60.0

_TOUCH = '[[tool Bash {"command": "touch made-by-a-tool"}]]'


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet() as fleet:
        yield fleet


@pytest.fixture
async def record(
    make_record: Callable[..., ClaudeInstance], claude: str, claude_env: dict[str, str]
) -> AsyncIterator[ClaudeInstance]:
    """Of an instance that stays, until the test is over."""
    record = make_record(env=claude_env, ephemeral=False)
    yield record
    with anyio.CancelScope(shield=True):
        await LocalProcess(record).remove(conversation=True)


MakeStub = Callable[[], ClaudeInstance]


@pytest.fixture
def make_stub(make_record: Callable[..., ClaudeInstance], tmp_path: Path) -> MakeStub:
    """Makes records of instances that have the stub in Claude Code's place."""
    return lambda: make_record(env={"HOME": str(tmp_path)}, claude=ClaudeOptions(program=str(STUB)))


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


async def request_of(fleet: Fleet) -> OpenRequest:
    """The one that waits at the desk, as soon as its instance waits for it."""
    watch = fleet.desk.watch()
    while True:
        for request in fleet.desk.open():
            if request.attended:
                return request
        await anext(watch)


def never_kept(begun: anyio.Event) -> Keep:
    """What is done before an answer is told, and takes for ever."""

    async def keep() -> str:
        begun.set()
        await anyio.sleep_forever()
        return ""

    return keep


async def cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


class TestInstances:
    async def test_idle_ones_hold_nothing(
        self, fleet: Fleet, record: ClaudeInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cc_bridge.fleet.attended._LINGER", 0.05)
        instance = await fleet.make(record)
        assert await instance.send_command_and_wait("[[say hello]]", LIMIT) == (True, "hello")
        with anyio.fail_after(LIMIT):
            while (await instance.get_activity())["connected"]:
                await anyio.sleep(0.02)
        assert not [path for path in open_files() if record.name in path]
        assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")

    async def test_none_is_opened_while_the_fleet_ends(
        self,
        record: ClaudeInstance,
        make_record: Callable[..., ClaudeInstance],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It would be left as it is, and who waits for it, too."""
        ending, was_refused = anyio.Event(), anyio.Event()

        async def clean_up_later(clean_up: Callable[[], Awaitable[None]]) -> None:
            ending.set()
            await was_refused.wait()
            await clean_up()

        async def open_another(fleet: Fleet) -> None:
            await ending.wait()
            with pytest.raises(InvalidInput, match="within its `async with`"):
                fleet.adopt(make_record())
            was_refused.set()

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group, Fleet() as fleet:
                instance = await fleet.make(record)
                monkeypatch.setattr(instance, "cleanup", partial(clean_up_later, instance.cleanup))
                group.start_soon(open_another, fleet)

    async def test_one_that_is_removed_while_it_stands_in_line_ends_what_was_wanted_of_it(
        self, make_stub: MakeStub
    ) -> None:
        """And nobody waits for its seat."""
        async with Fleet(most_awake=1) as fleet:
            awake, in_line = await fleet.make(make_stub()), fleet.adopt(make_stub())
            turn = await awake.submit("output-stops")
            errors: list[str] = []

            async def ask() -> None:
                with pytest.raises(BridgeError) as caught:
                    await in_line.set_model("another")
                errors.append(str(caught.value))

            with anyio.fail_after(LIMIT):
                async with anyio.create_task_group() as group:
                    group.start_soon(ask)
                    await anyio.wait_all_tasks_blocked()
                    await fleet.remove(in_line.name)
                    await turn.interrupt()
                assert "it was removed" in errors[0]
                assert (await (await awake.submit("plain")).result()).verdict is Verdict.COMPLETED

    async def test_two_who_remove_it_take_nothing_away_from_who_makes_it_again(self, make_stub: MakeStub) -> None:
        record = make_stub()
        async with Fleet() as fleet:
            await fleet.make(record)
            made: list[InstanceInterface] = []

            async def remove_and_make() -> None:
                await fleet.remove(record.name)
                made.append(await fleet.make(record))

            with anyio.fail_after(LIMIT):
                async with anyio.create_task_group() as group:
                    group.start_soon(remove_and_make)
                    group.start_soon(fleet.remove, record.name)
            assert fleet.open(record.name) is made[0]

    async def test_a_permission_that_was_asked_when_it_was_released_is_asked_again(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        """The next command waits behind it."""
        instance = await fleet.make(record)
        turn = await instance.submit(f"[[say a]] {_TOUCH} [[say b]]")
        with anyio.fail_after(LIMIT):
            async for event in turn:
                if isinstance(event, PermissionRequest):
                    break
            await instance.release()
            second = await instance.submit("[[say second]]")
            fleet.desk.answer((await request_of(fleet)).id, Allow())
            assert (await second.result()).text == "second"

    async def test_who_listens_is_told_that_another_program_has_ended_it_also_after_a_release(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        instance = await fleet.make(record)
        heard = anyio.Event()

        async def listen() -> None:
            with pytest.raises(BridgeError, match="the agent closed the connection"):
                async with aclosing(fleet.feed(record.name)) as feed:
                    async for item in feed:
                        if item.event == TextDelta("again"):
                            heard.set()

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                await anyio.wait_all_tasks_blocked()
                await instance.release()
                assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")
                await heard.wait()
                other = LocalProcess(record)
                await other.stop()
                await other.release()

    @pytest.mark.parametrize("somebody_listens", [False, True])
    async def test_a_request_wakes_one_that_sleeps(
        self, fleet: Fleet, record: ClaudeInstance, somebody_listens: bool
    ) -> None:
        instance = await fleet.make(record)

        async def listen() -> None:
            async with aclosing(fleet.feed(record.name)) as feed:
                async for _ in feed:
                    pass

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                if somebody_listens:
                    group.start_soon(listen)
                assert await instance.send_command_and_wait("[[say hello]]", LIMIT) == (True, "hello")
                await instance.sleep()
                assert await instance.commands()
                group.cancel_scope.cancel()


class TestAttended:
    async def test_other_programs_turns_are_attended_to(self, record: ClaudeInstance, workspace: Path) -> None:
        """The program that began the turn has gone, and nobody else would decide."""

        async def decide(request: OpenRequest) -> Decision:
            return Allow()

        other = LocalProcess(record)
        turn = await other.submit(f"[[say a]] {_TOUCH} [[say b]]")
        async for event in turn:
            if isinstance(event, PermissionRequest):
                break
        await other.release()
        kept: list[str] = []

        def keep(of_turn: str) -> Keep:
            async def note() -> str:
                kept.append(of_turn)
                return ""

            return note

        async with Fleet(on_permission=decide) as fleet:
            fleet.open(record.name).before_result = keep
            with anyio.fail_after(LIMIT):
                found = await fleet.open(record.name).turn(turn.id)
                result = await found.result()
        assert (result.verdict, result.text) == (Verdict.COMPLETED, "a\n\nb")
        assert kept == [turn.id]
        assert (workspace / "made-by-a-tool").exists()


class TestResultsThatWait:
    """What ends with a turn may have to be kept before it counts."""

    async def test_all_else_is_told_meanwhile_and_then_why_a_turn_does_not_count(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        """To who reads the turn, to who listens, and to who reads again what was said."""
        instance = await fleet.make(record)
        begun, may_go_on = anyio.Event(), anyio.Event()

        async def keep() -> str:
            begun.set()
            await may_go_on.wait()
            return "it was not kept"

        instance.before_result = lambda turn: keep
        listening: list[Heard] = []

        async def listen() -> None:
            async with aclosing(fleet.feed(record.name)) as feed:
                listening.extend(await until_results(feed))

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                await anyio.wait_all_tasks_blocked()
                turn = await instance.submit("[[say hello]]")
                said: list[Event] = []
                while TextDelta("hello") not in said:
                    said.append(await anext(turn))
                await begun.wait()
                with anyio.CancelScope() as waiting:
                    group.start_soon(cancel_when_blocked, waiting)
                    said += [event async for event in turn]
                assert not any(isinstance(event, TurnResult) for event in said)
                async with aclosing(fleet.feed(record.name, turn=turn.id)) as feed:
                    assert [(await anext(feed)).event for _ in said] == said
                    may_go_on.set()
                    results = [await turn.result(), (await anext(feed)).event]
        for result in [*results, listening[-1].event]:
            assert isinstance(result, TurnResult)
            assert (result.verdict, result.text, result.error) == (Verdict.INTERRUPTED, "hello", "it was not kept")

    async def test_a_mistake_there_ends_neither_the_fleet_nor_the_turn_unheard(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        instance = await fleet.make(record)

        async def fail() -> str:
            raise RuntimeError("a mistake")

        instance.before_result = lambda turn: fail
        with anyio.fail_after(LIMIT):
            result = await (await instance.submit("[[say hello]]")).result()
            assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "hello")
            assert "a mistake" in result.error
            instance.before_result = None
            assert await instance.send_command_and_wait("[[say again]]", LIMIT) == (True, "again")

    async def test_the_next_turn_begins_meanwhile_and_is_told_afterwards(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        instance = await fleet.make(record)
        ended, may_go_on = [anyio.Event(), anyio.Event()], anyio.Event()

        async def keep() -> str:
            next(event for event in ended if not event.is_set()).set()
            await may_go_on.wait()
            return ""

        instance.before_result = lambda turn: keep
        with anyio.fail_after(LIMIT):
            first, second = await instance.submit("[[say one]]"), await instance.submit("[[say two]]")
            await ended[0].wait()
            may_go_on.set()
            assert [(await turn.result()).text for turn in (second, first)] == ["two", "one"]
        assert ended[1].is_set()

    async def test_what_is_read_again_from_the_journal_is_kept_before_it_is_told(self, record: ClaudeInstance) -> None:
        """A program ended between a turn's end and its being kept; the next one has not heard it."""
        begun, kept = anyio.Event(), []

        async def keep() -> str:
            kept.append("kept")
            return "it was not kept"

        with anyio.fail_after(LIMIT):
            async with Fleet() as fleet:
                instance = await fleet.make(record)
                instance.before_result = lambda turn: never_kept(begun)
                turn = await instance.submit("[[say hello]]")
                await begun.wait()
            async with Fleet() as fleet:
                instance = fleet.open(record.name)
                instance.before_result = lambda turn: keep
                result = await (await instance.turn(turn.id)).result()
        assert (result.verdict, result.text, kept) == (Verdict.INTERRUPTED, "hello", ["kept"])

    async def test_it_is_kept_once_whoever_reads_it(self, record: ClaudeInstance) -> None:
        async with Fleet() as fleet:
            turn = await (await fleet.make(record)).submit("[[say hello]]")
            await turn.result()
        kept: list[str] = []

        async def keep() -> str:
            await anyio.lowlevel.checkpoint()
            kept.append("kept")
            return "it was not kept"

        results: list[TurnResult] = []

        async def read(instance: InstanceInterface) -> None:
            results.append(await (await instance.turn(turn.id)).result())

        with anyio.fail_after(LIMIT):
            async with Fleet() as fleet:
                instance = fleet.open(record.name)
                instance.before_result = lambda turn: keep
                async with anyio.create_task_group() as group:
                    for _ in range(5):
                        group.start_soon(read, instance)
        assert [result.verdict for result in results] == [Verdict.INTERRUPTED] * 5
        assert kept == ["kept"]

    async def test_who_is_cancelled_meanwhile_has_lost_nothing(self, record: ClaudeInstance) -> None:
        async with Fleet() as fleet:
            turn = await (await fleet.make(record)).submit("[[say hello]]")
            said = [event async for event in turn]
        begun, may_go_on = anyio.Event(), anyio.Event()

        async def keep() -> str:
            begun.set()
            await may_go_on.wait()
            return ""

        again: list[Event] = []

        async def read(turn: Turn) -> None:
            while (event := await anext(turn, None)) is not None:
                again.append(event)

        with anyio.fail_after(LIMIT):
            async with Fleet() as fleet:
                instance = fleet.open(record.name)
                instance.before_result = lambda turn: keep
                found = await instance.turn(turn.id)
                async with anyio.create_task_group() as group:
                    group.start_soon(read, found)
                    await begun.wait()
                    group.cancel_scope.cancel()
                may_go_on.set()
                await read(found)
        assert again == said

    async def test_who_is_removed_is_told_what_was_held(self, fleet: Fleet, record: ClaudeInstance) -> None:
        instance = await fleet.make(record)
        begun = anyio.Event()

        instance.before_result = lambda turn: never_kept(begun)
        results: list[TurnResult] = []

        async def read(turn: Turn) -> None:
            results.append(await turn.result())

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(read, await instance.submit("[[say hello]]"))
                await begun.wait()
                await fleet.remove(record.name, conversation=True)
        assert [(result.verdict, result.text) for result in results] == [(Verdict.COMPLETED, "hello")]

    async def test_turns_that_have_no_answer_are_told_at_once_and_kept_together(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        instance = await fleet.make(record)
        kept: list[str] = []

        async def keep() -> str:
            kept.append("kept")
            await anyio.sleep_forever()
            return ""

        instance.before_result = lambda turn: keep
        with anyio.fail_after(LIMIT):
            turns = [await instance.submit("[[say hello]] [[hang]]")] + [await instance.submit("x") for _ in range(5)]
            while not isinstance(await anext(turns[0]), TextDelta):
                pass
            await instance.stop()
            results = [await turn.result() for turn in turns]
        assert {result.verdict for result in results} == {Verdict.INTERRUPTED}
        assert kept == ["kept"]

    async def test_who_reads_one_when_the_fleet_ends_is_told(self, record: ClaudeInstance) -> None:
        begun = anyio.Event()

        errors: list[BridgeError] = []

        async def read(turn: Turn) -> None:
            try:
                await turn.result()
            except BridgeError as error:
                errors.append(error)

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group, Fleet() as fleet:
                instance = await fleet.make(record)
                instance.before_result = lambda turn: never_kept(begun)
                group.start_soon(read, await instance.submit("[[say hello]]"))
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
        assert [error.what for error in errors] == [
            "the fleet is not in use: its instances live within its `async with`"
        ]


class TestFeeds:
    async def test_who_listens_starts_nothing(self, fleet: Fleet, record: ClaudeInstance) -> None:
        instance = await fleet.make(record)
        await instance.stop()
        heard: list[Heard] = []

        async def listen() -> None:
            async with aclosing(fleet.feed(record.name)) as feed:
                heard.extend(await until_results(feed))

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            assert not await instance.is_running()
            assert await instance.send_command_and_wait("[[say hello]]", LIMIT) == (True, "hello")
        assert text_of(heard) == "hello"

    async def test_who_falls_behind_memory_loses_nothing(
        self, fleet: Fleet, record: ClaudeInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(feed_module.Feed.__init__, "__defaults__", (300, 1024 * 1024))
        instance = await fleet.make(record)
        async with aclosing(fleet.feed(record.name)) as feed:
            with anyio.fail_after(LIMIT):
                async with anyio.create_task_group() as group:
                    first: list[Heard] = []

                    async def begin() -> None:
                        first.append(await anext(feed))

                    group.start_soon(begin)
                    await anyio.wait_all_tasks_blocked()
                    turn = await instance.submit("[[repeat 2500 word,]]")
                assert await instance.send_command_and_wait("[[say next]]") == (True, "next")
                heard = first + await until_results(feed, 2)
                assert text_of(heard) == "word," * 2500 + "next"
                assert len({item.at for item in heard}) == len(heard)
                assert (await turn.result()).text == "word," * 2500


#: A fleet that begins a turn which asks for a permission, and says when it does; nobody decides.
HOST = """
import sys, anyio
from cc_bridge.fleet import Fleet

async def main():
    async def decide(request):
        print("asked", flush=True)
        await anyio.sleep_forever()

    async with Fleet(on_permission=decide) as fleet:
        instance = fleet.open(sys.argv[1], permission_limit=1000)
        await instance.submit(sys.argv[3], sys.argv[2])
        await instance.submit("[[say second]]", sys.argv[4])
        await anyio.sleep_forever()

anyio.run(main)
"""


async def test_a_fleet_that_is_killed_has_lost_nothing(record: ClaudeInstance, workspace: Path) -> None:
    """Turns that run and wait, and a permission that nobody has decided. covers: B4"""
    async with Fleet() as fleet:
        await fleet.make(record)
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    argv = [sys.executable, "-c", HOST, record.name, first, f"[[say a]] {_TOUCH} [[say b]]", second]
    async with await anyio.open_process(argv, stderr=None, stdin=subprocess.DEVNULL) as host:
        assert host.stdout is not None
        try:
            with anyio.fail_after(LIMIT):
                assert (await host.stdout.receive()).startswith(b"asked")
        finally:
            host.send_signal(signal.SIGKILL)
    asked: list[str] = []

    async def decide(request: OpenRequest) -> Decision:
        asked.append(request.tool_name)
        return Allow()

    async with Fleet(on_permission=decide) as fleet:
        instance: InstanceInterface = fleet.open(record.name)
        with anyio.fail_after(LIMIT):
            assert (await (await instance.turn(second)).result()).text == "second"
            assert (await (await instance.turn(first)).result()).text == "a\n\nb"
    assert asked == ["Bash"]
    assert (workspace / "made-by-a-tool").exists()


class TestBatches:
    async def test_they_are_what_a_feed_says_with_what_is_there_in_one(
        self, fleet: Fleet, record: ClaudeInstance
    ) -> None:
        instance = await fleet.make(record)
        turn = await instance.submit("[[repeat 50 word ]]")
        await turn.result()
        async with aclosing(fleet.feed(record.name, turn=turn.id)) as feed:
            heard = [item async for item in feed]
        async with aclosing(fleet.batches(record.name, turn=turn.id)) as feed:
            batches = [batch async for batch in feed]
        assert [item for batch in batches for item in batch] == heard
        assert all(batches), "none is empty"
        assert len(batches) < len(heard) / 2, "it is all there already"
