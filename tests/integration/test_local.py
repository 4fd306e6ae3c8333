"""A local process, and hosts that die. covers: C8, C12, C16, M1"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import (
    Allow,
    ClaudeOptions,
    InvalidInput,
    LocalProcess,
    PermissionRequest,
    ToolResult,
    TurnInterrupted,
)
from cc_bridge.errors import AgentUnavailable, InstanceNotFound
from cc_bridge.instances.registry import Registry
from tests.conftest import STUB

pytestmark = pytest.mark.anyio

HOST = """
import sys, anyio
from pathlib import Path
from cc_bridge import ClaudeInstance, ClaudeOptions, LocalProcess

async def main():
    record = ClaudeInstance.of(name=sys.argv[1], kind="local", workspace=Path(sys.argv[2]), ephemeral=True,
                               env={"HOME": sys.argv[2]}, claude=ClaudeOptions(program=sys.argv[3]))
    async with LocalProcess(record) as instance:
        print(instance._place._process.pid, flush=True)
        async for piece in instance.send_command("no-result"):
            print(piece, flush=True)

anyio.run(main)
"""


def ends(pidfd: int, seconds: float = 30) -> bool:
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_a_host_that_dies_leaves_no_process(workspace: Path, number: signal.Signals) -> None:
    """Killed: the agent ends by itself, once nobody has been there for its time (LINGER)."""
    name = f"test-dying-{number.name.lower()}"
    code = (
        HOST
        if number is not signal.SIGKILL
        else "import cc_bridge.instances.process_place as l; l.LINGER = 0.2\n" + HOST
    )
    argv = [sys.executable, "-c", code, name, str(workspace), str(STUB)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as host:
        assert host.stdout
        agent = os.pidfd_open(int(host.stdout.readline()))
        assert host.stdout.readline() == "All of it.\n"
        host.send_signal(number)
        host.wait(30)
    assert ends(agent)
    if number is signal.SIGINT:
        assert name not in Registry().names()
    else:
        Registry().home(name).remove()


async def test_a_killed_agent_interrupts_and_is_started_again(make_stubbed: Any) -> None:
    instance = await make_stubbed()
    with pytest.raises(TurnInterrupted) as caught:
        async for _ in instance.send_command("sleeps-on-sigint"):
            instance._place._process.kill()
    assert caught.value.text == "Working"
    assert "the agent was ended by signal 9" in str(caught.value)
    assert await instance.send_command_and_wait("plain", 30) == (True, "Hello, you.")


async def test_an_instance_that_stays_is_found_again(make_record: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    options = ClaudeOptions(program=str(STUB))
    record = make_record(ephemeral=False, env={"HOME": str(tmp_path / "home")}, claude=options)
    async with LocalProcess(record) as first:
        await first.send_command_and_wait("plain", 30)
        session = (await first.get_info())["session_id"]
    again = LocalProcess(Registry().load(record.name))
    assert await again.is_running(), "it was to stay"
    assert await again.send_command_and_wait("plain", 30) == (True, "Hello, you.")
    assert (await again.get_info())["session_id"] == session
    await again.remove()
    assert not await again.is_running()
    with pytest.raises(InstanceNotFound):
        Registry().load(record.name)


async def test_claude_works_in_the_workspace(make_record: Callable[..., Any], make_local: Any, workspace: Path) -> None:
    instance = await make_local()
    prompt = '[[tool Bash {"command": "pwd", "description": "where"}]] [[say done]]'
    async with instance:
        results = [event.content async for event in instance.stream(prompt) if isinstance(event, ToolResult)]
    assert str(workspace) in str(results)


async def test_workspace_missing(make_record: Callable[..., Any], tmp_path: Path) -> None:
    instance = LocalProcess(make_record(workspace=tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="does not exist"):
        await instance.start()
    (tmp_path / "file").write_text("")
    other = LocalProcess(make_record(workspace=tmp_path / "file"))
    with pytest.raises(InvalidInput, match="is not a directory"):
        await other.start()
    await instance.cleanup()
    await other.cleanup()


async def test_an_ephemeral_instance_that_lives_keeps_its_home(make_stubbed: Any) -> None:
    """Also where nobody can be seen from here, as with an engine elsewhere, and whoever sweeps."""
    instance = await make_stubbed()
    await instance.start()
    home = Registry().home(instance.name)
    shutil.rmtree(home.pipes)
    os.utime(home.path / "record.json", (0, 0))
    assert instance.name not in Registry().sweep()
    assert home.exists()


async def test_an_instance_that_was_removed_is_not_made_again(make_stubbed: Any) -> None:
    """By `cc-bridge rm --force`, say, while an answer is read."""
    instance = await make_stubbed()
    with pytest.raises(TurnInterrupted):
        async for _ in instance.send_command("sleeps-on-sigint"):
            Registry().home(instance.name).remove()
            instance._place._process.kill()
    assert instance.name not in Registry().names()
    assert not await instance.is_running()


async def test_connecting_again_is_given_up_in_the_end(make_stubbed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cc_bridge.bridge.uplink._RESUME_LIMIT", 0.5)
    instance = await make_stubbed()

    async def connect(_greeting: bytes) -> None:
        raise AgentUnavailable("nobody is there", instance=instance.name)

    with anyio.fail_after(10), pytest.raises(TurnInterrupted, match="nobody is there") as caught:
        async for _ in instance.send_command("sleeps-on-sigint"):
            monkeypatch.setattr(instance, "connect", connect)
            await instance._bridge._driver.uplink.connection.aclose()
    assert caught.value.text == "Working"
    monkeypatch.undo()
    found = await instance.turn((await instance.turns())[0].id)
    await found.interrupt()
    assert (await found.result()).text == "Working", "it was not to be lost for that"


async def test_a_permission_is_decided_by_the_next_host(make_local: Any, workspace: Path) -> None:
    """covers: B1, B4"""
    asked = anyio.Event()

    async def die(_request: PermissionRequest) -> Allow:
        asked.set()
        await anyio.sleep_forever()
        return Allow()

    async def allow(_request: PermissionRequest) -> Allow:
        decided.append(1)
        return Allow()

    decided: list[int] = []
    command = json.dumps({"command": "touch made", "description": "make a file"})
    first = await make_local(on_permission=die)
    turn = await first.submit(f"[[tool Bash {command}]] [[say done]]")
    async with anyio.create_task_group() as group:
        group.start_soon(turn.result)
        with anyio.fail_after(30):
            await asked.wait()
        group.cancel_scope.cancel()
    await first.release()
    for expected in (1, 1):  # who reads it once more is not asked again
        later = LocalProcess(first.record, on_permission=allow)
        with anyio.fail_after(30):
            assert (await (await later.turn(turn.id)).result()).text == "done"
        assert len(decided) == expected
        await later.release()
    assert (workspace / "made").exists()


async def test_two_hosts_at_once_share_one_agent(make_stubbed: Any) -> None:
    one = await make_stubbed()
    two = LocalProcess(one.record)
    assert await one.send_command_and_wait("repeats one", 30) == (True, "repeats one")
    assert await two.send_command_and_wait("repeats two", 30) == (True, "repeats two")
    assert two._place._process is None, "it has started an agent of its own"
    assert await one.send_command_and_wait("repeats three", 30) == (True, "repeats three")
    await two.release()
