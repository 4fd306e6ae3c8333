"""A fleet: instances that one program attends to, whoever reads. covers: B1, B21, P4"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import (
    Allow,
    ClaudeInstance,
    Decision,
    InstanceInterface,
    InstanceNotFound,
    InvalidInput,
    LocalProcess,
    PermissionRequest,
    PositionGone,
    TextDelta,
    TurnResult,
    Verdict,
)
from cc_bridge.errors import InstanceDiffers, LimitReached
from cc_bridge.fleet import Fleet, Heard, OpenRequest
from cc_bridge.fleet import feed as feed_module
from cc_bridge.testing import ScriptedModel

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


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


def text_of(heard: list[Heard]) -> str:
    return "".join(item.event.text for item in heard if isinstance(item.event, TextDelta))


async def until_results(feed: Any, count: int = 1) -> list[Heard]:
    """What a feed says, up to so many ends of turns."""
    heard: list[Heard] = []
    with anyio.fail_after(LIMIT):
        async for item in feed:
            heard.append(item)
            count -= isinstance(item.event, TurnResult)
            if not count:
                break
    return heard


class TestInstances:
    async def test_one_name_is_one_instance(self, fleet: Fleet, record: ClaudeInstance) -> None:
        instance = await fleet.make(record)
        assert fleet.open(record.name) is instance
        assert await fleet.make(record) is instance
        assert record.name in fleet.names()
        other = replace(record, workspace=Path("/elsewhere"))
        with pytest.raises(InstanceDiffers, match="workspace"):
            await fleet.make(other)

    async def test_no_more_than_there_may_be(self, record: ClaudeInstance, make_record: Any) -> None:
        async with Fleet(most_instances=1) as fleet:
            await fleet.make(record)
            with pytest.raises(LimitReached, match="as many as there may be"):
                await fleet.make(make_record())

    async def test_what_is_not_there(self, fleet: Fleet) -> None:
        with pytest.raises(InstanceNotFound):
            fleet.open("nobody")
        with pytest.raises(InvalidInput, match="is no position"):
            async with aclosing(fleet.feed("nobody", after="yesterday")) as feed:
                await anext(feed)

    async def test_after_its_end_it_says_so(self, record: ClaudeInstance) -> None:
        async with Fleet() as fleet:
            instance = await fleet.make(record)
        with pytest.raises(InvalidInput, match="within its `async with`"):
            await instance.send_command_and_wait("hello", LIMIT)

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


class TestAttended:
    async def test_a_turn_goes_on_though_nobody_reads(
        self, record: ClaudeInstance, workspace: Path, scripted_model: ScriptedModel
    ) -> None:
        async def decide(request: OpenRequest) -> Decision:
            return Allow()

        async with Fleet(on_permission=decide) as fleet:
            instance = await fleet.make(record)
            first = await instance.submit(f"{_TOUCH} [[repeat 3000 x]]")
            second = await instance.submit("[[say second]]")
            with anyio.fail_after(LIMIT):
                while scripted_model.prompts["[[say second]]"] == 0:
                    await anyio.sleep(0.05)
                assert (await second.result()).text == "second"
                assert (await first.result()).text == "x" * 3000
        assert (workspace / "made-by-a-tool").exists()

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
        async with Fleet(on_permission=decide) as fleet:
            with anyio.fail_after(LIMIT):
                found = await fleet.open(record.name).turn(turn.id)
                result = await found.result()
        assert (result.verdict, result.text) == (Verdict.COMPLETED, "a\n\nb")
        assert (workspace / "made-by-a-tool").exists()


class TestFeeds:
    async def test_all_that_is_said_whoever_asked(self, fleet: Fleet, record: ClaudeInstance) -> None:
        instance = await fleet.make(record)
        other = LocalProcess(record)
        async with aclosing(fleet.feed(record.name)) as feed:
            with anyio.fail_after(LIMIT):
                async with anyio.create_task_group() as group:
                    heard: list[Heard] = []

                    async def listen() -> None:
                        heard.extend(await until_results(feed, 2))

                    group.start_soon(listen)
                    await anyio.wait_all_tasks_blocked()
                    assert await other.send_command_and_wait("[[say theirs]]") == (True, "theirs")
                    assert await instance.send_command_and_wait("[[say ours]]") == (True, "ours")
        await other.release()
        assert text_of(heard) == "theirsours"
        places = [item.at for item in heard]
        assert places == sorted(set(places))
        assert len({item.turn for item in heard}) == 2

    async def test_a_position_is_understood_by_another_fleet(self, fleet: Fleet, record: ClaudeInstance) -> None:
        instance = await fleet.make(record)
        async with aclosing(fleet.feed(record.name)) as feed:
            turn = await instance.submit("[[say a b c d e f]]")
            heard = await until_results(feed)
        await instance.send_command_and_wait("[[say later]]", LIMIT)
        for number in (0, len(heard) // 2, len(heard) - 1):
            async with (
                Fleet(name="another") as another,
                aclosing(another.feed(record.name, after=str(heard[number].at))) as feed,
            ):
                rest = await until_results(feed, 2 if number < len(heard) - 1 else 1)
            assert rest[: len(heard) - number - 1] == heard[number + 1 :]
            assert text_of(rest).endswith("later")
        assert turn.id == heard[0].turn

    async def test_what_is_kept_nowhere(self, fleet: Fleet, record: ClaudeInstance) -> None:
        await fleet.make(record)
        with anyio.fail_after(LIMIT), pytest.raises(PositionGone):
            async with aclosing(fleet.feed(record.name, after="nojournal.7.0")) as feed:
                await anext(feed)

    async def test_readers_at_any_pace_over_one_connection(
        self, fleet: Fleet, record: ClaudeInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        instance = await fleet.make(record)
        feeds = [fleet.feed(record.name) for _ in range(50)]
        heard: list[list[Heard]] = [[] for _ in feeds]
        ready = anyio.Semaphore(0)

        async def read(number: int) -> None:
            ready.release()
            async for item in feeds[number]:
                heard[number].append(item)
                if isinstance(item.event, TurnResult):
                    break
                for _ in range(number % 5):
                    await anyio.lowlevel.checkpoint()
            await feeds[number].aclose()

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                for number in range(len(feeds)):
                    group.start_soon(read, number)
                for _ in feeds:
                    await ready.acquire()
                await anyio.wait_all_tasks_blocked()
                turn = await instance.submit("[[repeat 1500 word,]]")
                while not heard[0]:
                    await anyio.sleep(0.01)
                assert len((await instance.get_activity())["connected"]) == 1
                await turn.result()
        assert {text_of(items) for items in heard} == {"word," * 1500}
        assert all(items == heard[0] for items in heard)

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
