"""Programs of two machines and one instance: who drives it is decided by a lease, also for who sleeps through its end.

One of them is suspended (SIGSTOP) for longer than its lease, at any moment, again and again. ``make chaos ROUNDS=1000``
plays so many commands.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from cc_bridge import LocalProcess
from cc_bridge.instances.registry import Registry
from cc_bridge.testing import ScriptedModel
from tests.chaos.texts import command
from tests.chaos.two_programs import hear, play

pytestmark = pytest.mark.anyio

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
COMMANDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", 40))

PROGRAM = Path(__file__).with_name("leased.py")

#: Seconds of a lease, and for a command.
TTL, LIMIT = 0.4, 3.0


@pytest.fixture
async def start(
    make_record: Callable[..., Any], scripted_model: ScriptedModel, claude: str, tmp_path: Path
) -> AsyncIterator[Callable[[str, int], Any]]:
    """Starts programs of machines of their own, for one instance."""
    (tmp_path / "home").mkdir()
    record = make_record(env=scripted_model.claude_env(tmp_path / "home"), ephemeral=False)
    instance = LocalProcess(record)
    await instance.start()
    notes, started = tmp_path / "notes", []
    notes.mkdir()

    async def start_one(name: str, count: int) -> Process:
        env = {**os.environ, "CC_BRIDGE_HOME": str(tmp_path / f"machine-{name}"), "PYTHONPATH": str(Path.cwd())}
        argv = [sys.executable, str(PROGRAM), str(Registry().root), record.name, str(notes), str(TTL), name, str(count)]
        with (tmp_path / f"{name}.log").open("wb") as log:
            started.append(await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=log, env=env))
        return started[-1]

    yield start_one
    for process in started:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.aclose()
    await instance.remove()


@pytest.mark.long
@pytest.mark.timeout(60 + COMMANDS * LIMIT)
async def test_no_command_twice_and_none_lost(
    start: Callable[[str, int], Any], scripted_model: ScriptedModel, tmp_path: Path
) -> None:
    programs = {name: await start(name, COMMANDS // 2) for name in ("one", "two")}
    with anyio.fail_after(30 + COMMANDS * LIMIT):
        await play(programs, COMMANDS // 2, TTL, random.Random(SEED), scripted_model)
    log = "".join((tmp_path / f"{name}.log").read_text() for name in programs)
    assert "another program" in log, "somebody was overtaken"


@pytest.mark.long
async def test_a_program_that_was_killed_costs_the_next_its_lease_at_most(
    start: Callable[[str, int], Any], scripted_model: ScriptedModel
) -> None:
    """It is killed while it drives; the turn goes on, and the next program's command is answered after it."""
    killed, ended = await start("killed", 1000), dict[str, list[str]]()
    assert killed.stdout
    lines = BufferedByteReceiveStream(killed.stdout)
    for _ in range(3):
        await lines.receive_until(b"\n", 100_000)
    killed.kill()
    with anyio.fail_after(60):
        await hear(await start("next", 1), ended)
    turn_id, _, text = command("next", 0)
    assert ended[turn_id][:2] == ["completed", text]
