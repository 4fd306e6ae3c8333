"""A fleet as the host: killed at random moments, with agents and Claude Codes killed and put to sleep beside it.

A new fleet follows each time. Every command that was accepted is answered once, whole, under its id; only who was
struck while it ran may have been interrupted. ``make chaos ROUNDS=300`` plays thirty rounds.
covers: B1, B4, B7, B21
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import Allow, BridgeError, ClaudeInstance, Decision, LocalProcess, TurnInterrupted, TurnResult, Verdict
from cc_bridge.fleet import Fleet, OpenRequest
from cc_bridge.testing import ScriptedModel

from .faults import left_behind
from .table import PROPERTY

pytestmark = pytest.mark.anyio

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
ROUNDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", "20")) // 10
INSTANCES = 5
FLEETS = 4
COMMANDS = 8
LIMIT = 180.0

#: Seconds within which an agent that was told to end has ended; fewer than one lingers that nobody wants.
GRACE = 4.0

HOST = Path(__file__).with_name("fleet_host.py")


@dataclass
class Command:
    """What is asked of whom, and what is known of it."""

    name: str
    prompt: str
    whole: str
    accepted: bool = False


@dataclass
class Round:
    """One round: what was asked, and who was struck how often."""

    rng: random.Random
    records: list[ClaudeInstance]
    made: Path
    commands: dict[str, Command]
    kills: Counter[str]

    def new(self, moment: float) -> tuple[str, str, str, float]:
        turn_id, number = str(uuid.uuid4()), len(self.commands)
        words = [f"w{number}.{piece} " for piece in range(self.rng.randint(1, 12))]
        said = "".join(f"[[say {word}]]" for word in words)
        if self.rng.random() < 0.4:
            tool = json.dumps({"command": f"echo {turn_id} >> {self.made}", "description": "note it"})
            said += f"[[tool Bash {tool}]]"
        said += "[[say end]]"
        name = self.rng.choice(self.records).name
        self.commands[turn_id] = Command(name, f"[[pace 0.01]]{said} {turn_id}", "".join(words) + "end")
        return name, turn_id, self.commands[turn_id].prompt, moment


@pytest.fixture
async def played(
    make_record: Callable[..., ClaudeInstance], scripted_model: ScriptedModel, tmp_path: Path, claude: str, number: int
) -> AsyncIterator[Round]:
    (tmp_path / "home").mkdir()
    env = scripted_model.claude_env(tmp_path / "home")
    records = [make_record(env=env, ephemeral=False) for _ in range(INSTANCES)]
    async with Fleet() as fleet:
        for record in records:
            await fleet.make(record)
    yield Round(random.Random(f"{SEED} fleet {number}"), records, tmp_path / "made-by-tools", {}, Counter())
    with anyio.CancelScope(shield=True):
        for record in records:
            await LocalProcess(record).remove(conversation=True)


async def play_one(round_: Round) -> None:
    """A fleet that gives commands until it is killed."""
    rng = round_.rng
    plan = {
        "most_awake": rng.choice([None, 3]),
        "decides": rng.random() < 0.7,
        "commands": [round_.new(rng.uniform(0, 2)) for _ in range(COMMANDS)],
    }
    said = b""
    async with await anyio.open_process([sys.executable, str(HOST), json.dumps(plan)], stderr=None) as host:
        assert host.stdout
        if rng.random() < 0.8:  # else perhaps before it has begun
            said += await host.stdout.receive()
        async with anyio.create_task_group() as group:
            group.start_soon(strike, round_)
            await anyio.sleep(rng.uniform(0, 3))
            host.kill()
        with suppress(anyio.EndOfStream):
            while True:
                said += await host.stdout.receive()
    for line in said.decode().splitlines():
        what, _, rest = line.partition(" ")
        assert what != "failed", f"a fleet that was not killed yet has failed a command: {rest}"
        if what == "accepted":
            round_.commands[rest].accepted = True


async def strike(round_: Round) -> None:
    """Agents and Claude Codes are killed, and put to sleep, at random moments."""
    rng = round_.rng
    for _ in range(rng.randint(0, 3)):
        await anyio.sleep(rng.uniform(0, 1))
        record, what = rng.choice(round_.records), rng.choice(["agent", "claude", "sleep"])
        if what == "sleep":
            somebody = LocalProcess(record)
            with suppress(BridgeError):  # it is busy, or being started or ended
                await somebody.sleep()
            await somebody.release()
        elif pid := process_of(record.name, what):
            round_.kills[record.name] += 1
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def process_of(name: str, what: str) -> int | None:
    """An instance's agent, or its Claude Code, whoever has started it; None: it does not run."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if " serve " in line and re.search(rf"/{name}\b", line):
                pid = int(path.parent.name)
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                return pid if what == "agent" else int(children[0]) if children else None
    return None


def judge(round_: Round, results: dict[str, TurnResult], prompts: Counter[str]) -> list[tuple[str, str]]:
    """What is wrong: a verdict, and the facts."""
    made = Counter(round_.made.read_text().split() if round_.made.exists() else [])
    interrupted: Counter[str] = Counter()
    wrong: list[tuple[str, str]] = []
    for turn_id, command in round_.commands.items():
        if (result := results.get(turn_id)) is None:
            continue
        text = " ".join(result.text.split())
        if result.verdict in (Verdict.INTERRUPTED, Verdict.FAILED):
            interrupted[command.name] += 1
            whole = command.whole.startswith(text)
        elif result.verdict is Verdict.RECOVERED and not made[turn_id]:
            # Whose agent was killed while a permission waited: Claude Code has denied it, and told the model so.
            interrupted[command.name] += "[[tool" in command.prompt
            whole = text == command.whole
        else:
            whole = text == command.whole and made[turn_id] == ("[[tool" in command.prompt)
        if not whole:
            wrong.append(("lost", f"{command}: {made[turn_id]}, {result}"))
        if prompts[command.prompt] > 1 or made[turn_id] > 1:
            wrong.append(("duplicated", f"{command}: {made[turn_id]}, {prompts[command.prompt]}"))
    for name, count in interrupted.items():
        if count > round_.kills[name]:
            errors = [result.error for turn_id, result in results.items() if round_.commands[turn_id].name == name]
            wrong.append(("lost", f"{name}: {count} interrupted, {round_.kills[name]} killed: {errors}"))
    return wrong


async def still_left(records: list[ClaudeInstance], root: Path) -> list[str]:
    """What is left of them, when the last agents have had time to end: nobody here is told when another's child has."""
    left: list[str] = []
    with anyio.move_on_after(GRACE):
        while left := [what for record in records for what in left_behind(record, root)]:
            await anyio.sleep(0.05)
    return left


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_fleet_that_is_killed(
    played: Round, scripted_model: ScriptedModel, state_root: Path, number: int, record_property: Any
) -> None:
    async def decide(request: OpenRequest) -> Decision:
        return Allow()

    results: dict[str, TurnResult] = {}
    unread: list[tuple[str, str]] = []
    with anyio.fail_after(LIMIT):
        for _ in range(FLEETS):
            await play_one(played)
        async with Fleet(on_permission=decide) as fleet:

            async def ask(turn_id: str, command: Command) -> None:
                instance = fleet.open(command.name)
                known = command.accepted
                turn = await (instance.turn(turn_id) if known else instance.submit(command.prompt, id=turn_id))
                try:
                    results[turn_id] = await turn.result()
                except TurnInterrupted as error:
                    unread.append(("lost", f"{command}: {error}"))

            async with anyio.create_task_group() as group:
                for turn_id, command in played.commands.items():
                    group.start_soon(ask, turn_id, command)
            left = [f"a request: {request.tool_name}" for request in fleet.desk.open()]
            for record in played.records:
                await fleet.remove(record.name, conversation=True)
    left += await still_left(played.records, state_root)
    wrong = judge(played, results, scripted_model.prompts) + unread + [("left behind", what) for what in left]
    all_complete = all(result.ok for result in results.values())
    verdicts = sorted({verdict for verdict, _ in wrong})
    record_property(PROPERTY, ["fleet killed", "complete" if all_complete else "interrupted", *verdicts])
    assert not wrong, "\n".join(f"{verdict}: {facts}" for verdict, facts in wrong)
