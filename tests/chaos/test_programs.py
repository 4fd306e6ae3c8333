"""Several programs on one instance: each answer to whom it belongs, in the order of acceptance.

Commands at random moments are waited for, left, given too little time, interrupted; somebody wants the instance to
sleep; and a program is killed whose commands wait. ``make chaos ROUNDS=300`` plays so many commands on each kind.
covers: B1, B7, C2, C8, C16
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from cc_bridge import DockerContainer, LocalProcess, TextDelta, TmuxInstance, Verdict
from cc_bridge.errors import InstanceBusy
from cc_bridge.testing import ScriptedModel

from .faults import process_of

pytestmark = pytest.mark.anyio

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
COMMANDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", 45))

PROGRAM = Path(__file__).with_name("program.py")

MakePrograms = Callable[..., Any]


@pytest.fixture
async def programs(
    make_record: Callable[..., Any], scripted_model: ScriptedModel, tmp_path: Path, kind: Any, request: Any
) -> AsyncIterator[list[Any]]:
    """Three objects for one instance, as three programs have them."""
    (tmp_path / "home").mkdir()
    fields: dict[str, Any] = {"env": scripted_model.claude_env(tmp_path / "home")}
    if kind is DockerContainer:
        images = request.getfixturevalue("images")
        fields = {"image": images.claude, "network": "host", "env": scripted_model.claude_env()}
    names = {DockerContainer: "docker", LocalProcess: "local", TmuxInstance: "tmux"}
    record = make_record(**{**fields, "kind": names[kind], "ephemeral": False})
    async with AsyncExitStack() as stack:
        made = [kind(record) for _ in range(3)]
        stack.push_async_callback(made[0].remove)
        for program in made:
            stack.push_async_callback(program.release)
        await made[0].start()
        yield made


class Commands:
    """What is asked, and of what is known how it must end."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.texts: dict[str, str] = {}
        self.completed: set[str] = set()

    def new(self) -> tuple[str, str]:
        """Id and prompt."""
        turn_id, number = str(uuid.uuid4()), len(self.texts)
        words = [f"w{number}.{piece} " for piece in range(self.rng.randint(1, 12))]
        self.texts[turn_id] = "".join(words).strip()
        said = "".join(f"[[say {word}]]" for word in words)
        return turn_id, f"[[pace 0.01]]{said} {turn_id}"

    def check(self, turn_id: str, result: Any, *, may_end: bool) -> None:
        """Whole, or where it was interrupted a beginning."""
        whole = self.texts[turn_id]
        if result.verdict is Verdict.COMPLETED:
            assert result.text.strip() == whole
            self.completed.add(turn_id)
        else:
            assert may_end, f"{whole!r}: {result.verdict} {result.error}"
            assert whole.startswith(result.text.strip())


async def use(program: Any, commands: Commands, how: str, moment: float, *, may_end: bool) -> None:
    turn_id, prompt = commands.new()
    turn = await program.submit(prompt, id=turn_id)
    if how == "wait":
        commands.check(turn_id, await turn.result(), may_end=may_end)
    elif how == "leave":
        async with turn:
            with anyio.move_on_after(moment):
                await anext(turn)
    elif how == "time-out":
        with anyio.move_on_after(moment):
            async with turn:
                commands.check(turn_id, await turn.result(), may_end=may_end)
    else:
        await anyio.sleep(moment)
        await turn.interrupt()
        commands.check(turn_id, await turn.result(), may_end=True)


async def kill_one(name: str, commands: Commands) -> list[str]:
    """A program is killed whose commands were accepted; their ids."""
    made = [commands.new() for _ in range(3)]
    argv = [sys.executable, str(PROGRAM), name, *(word for command in made for word in command)]
    async with await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=None) as process:
        assert process.stdout
        assert (await process.stdout.receive()).startswith(b"accepted")
        process.kill()
    return [turn_id for turn_id, _ in made]


@pytest.mark.long
@pytest.mark.timeout(max(300, COMMANDS * 10))
@pytest.mark.parametrize(
    "kind",
    [LocalProcess, pytest.param(TmuxInstance), pytest.param(DockerContainer, marks=pytest.mark.docker)],
)
async def test_commands_at_random(
    programs: list[Any], scripted_model: ScriptedModel, claude: str, tmux: None, kind: Any
) -> None:
    rng = random.Random(f"{SEED} {kind.__name__}")
    commands = Commands(rng)
    left: list[str] = []

    async def play(program: Any) -> None:
        for _ in range(COMMANDS // 3):
            how = rng.choice(["wait", "wait", "wait", "leave", "time-out", "interrupt"])
            await use(program, commands, how, rng.uniform(0, 0.3), may_end=False)

    async def put_to_sleep() -> None:
        for _ in range(0 if kind is TmuxInstance else COMMANDS // 3):
            await anyio.sleep(rng.uniform(0, 0.3))
            with suppress(InstanceBusy):
                await programs[0].sleep()

    async def kill() -> None:
        left.extend(await kill_one(programs[0].record.name, commands))

    with anyio.fail_after(max(240, COMMANDS * 8)):
        async with anyio.create_task_group() as group:
            for program in programs:
                group.start_soon(play, program)
            group.start_soon(kill)
            group.start_soon(put_to_sleep)
        for turn_id in left:
            found = await programs[0].turn(turn_id)
            commands.check(turn_id, await found.result(), may_end=False)
        accepted = [turn.id for turn in await programs[0].turns()]
    asked = [request.prompt.split()[-1] for request in scripted_model.requests if "[[pace" in request.prompt]
    assert len(asked) == len(set(asked)), "a command was asked twice"
    # The model may hear of one that was interrupted when the next one is there already.
    in_order = [turn_id for turn_id in asked if turn_id in commands.completed]
    assert [turn_id for turn_id in accepted if turn_id in commands.completed] == in_order


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["claude", "agent"])
@pytest.mark.parametrize(
    "kind",
    [LocalProcess, pytest.param(DockerContainer, marks=pytest.mark.docker)],
)
async def test_what_waits_survives_every_kill(
    programs: list[Any], scripted_model: ScriptedModel, claude: str, kind: Any, what: str
) -> None:
    """Of Claude Code, or of the agent, which ends Claude Code and where it runs, too."""
    rng = random.Random(f"{SEED} {kind.__name__} {what}")
    commands = Commands(rng)
    running = await programs[0].submit("[[say a]] [[hang]]")
    while not isinstance(await anext(running), TextDelta):
        pass
    waiting = await kill_one(programs[0].record.name, commands)
    pid = await process_of(SimpleNamespace(instance=programs[0]), what)
    assert pid
    with anyio.fail_after(120):
        os.kill(pid, signal.SIGKILL)
        assert (await running.result()).verdict is Verdict.INTERRUPTED
        async with anyio.create_task_group() as group:
            for program in programs:
                group.start_soon(partial(use, program, commands, "wait", 0.0, may_end=False))
        for turn_id in waiting:
            found = await programs[1].turn(turn_id)
            commands.check(turn_id, await found.result(), may_end=False)
    prompts = scripted_model.prompts
    assert all(count == 1 for prompt, count in prompts.items() if "[[pace" in prompt)
