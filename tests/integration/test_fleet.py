"""What a fleet does beside its contract: what it holds, how much it remembers, and its death. covers: B1, B21, P4"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import pytest

from cc_bridge import (
    Allow,
    ClaudeInstance,
    Decision,
    InstanceInterface,
    LocalProcess,
    PermissionRequest,
    Verdict,
)
from cc_bridge.fleet import Fleet, Heard, OpenRequest
from cc_bridge.fleet import feed as feed_module
from cc_bridge.testing.fleet_contract import text_of, until_results

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
        ended = anyio.Event()

        async def note_end() -> None:
            ended.set()

        async with Fleet(on_permission=decide) as fleet:
            fleet.open(record.name).after_turn = note_end
            with anyio.fail_after(LIMIT):
                found = await fleet.open(record.name).turn(turn.id)
                result = await found.result()
                await ended.wait()
        assert (result.verdict, result.text) == (Verdict.COMPLETED, "a\n\nb")
        assert (workspace / "made-by-a-tool").exists()


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
