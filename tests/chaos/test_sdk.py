"""A client of the Agent SDK's over an instance, while connections break and agents, Claude Code or containers end.

The oracle: the scripted answers are known, and each round's client has received all of them, or a beginning of them and
an error of the SDK's that says why; and each question has reached the model at most once. covers: B6, C13
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    ProcessError,
    StreamEvent,
    TextBlock,
)

from cc_bridge import DockerContainer, LocalProcess
from cc_bridge.sdk import BridgeTransport
from cc_bridge.testing import ScriptedModel

from .rig import LIMIT, cut_at_random

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:.*was garbage collected before it had been exhausted:ResourceWarning"),
]

SEED = os.environ.get("CC_BRIDGE_CHAOS_SEED", "1")
ROUNDS = int(os.environ.get("CC_BRIDGE_CHAOS_ROUNDS", "3"))

OPTIONS = ClaudeAgentOptions(include_partial_messages=True)


@dataclass
class Round:
    """A client and what it is asked, what it has heard, and what has struck it."""

    instance: Any
    chance: random.Random
    transport: BridgeTransport
    questions: list[tuple[str, str]]
    pieces: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    begun: anyio.Event = field(default_factory=anyio.Event)
    struck: bool = False
    error: Exception | None = None

    @property
    def answer(self) -> str:
        return "".join(answer for _, answer in self.questions)


def a_round(instance: Any, number: str) -> Round:
    chance = random.Random(f"{SEED}-{number}")
    questions = []
    for turn in range(chance.randint(1, 3)):
        words = [f"{turn}.{word} " for word in range(chance.randint(1, 40))]
        said = "".join(f"[[say {word}]]" for word in words)
        questions.append((f"[[pace 0.01]]{said} round {number}, turn {turn}", "".join(words)))
    return Round(instance, chance, BridgeTransport(instance, OPTIONS), questions)


async def converse(round_: Round) -> None:
    """As a program would: a client, a turn after the other, and what goes wrong is caught."""
    try:
        async with ClaudeSDKClient(OPTIONS, round_.transport) as client:
            for question, _ in round_.questions:
                await client.query(question)
                round_.begun.set()
                async for message in client.receive_response():
                    hear(round_, message)
    except (CLIConnectionError, ProcessError) as error:
        round_.error = error


def hear(round_: Round, message: Any) -> None:
    if isinstance(message, StreamEvent) and message.event.get("delta", {}).get("type") == "text_delta":
        round_.pieces.append(message.event["delta"]["text"])
    elif isinstance(message, AssistantMessage):
        round_.whole += [block.text for block in message.content if isinstance(block, TextBlock)]


async def cut(round_: Round) -> None:
    """Connections break by the bytes that have passed, up to eight of them."""


async def kill_agent(round_: Round) -> None:
    os.kill(round_.instance._place._process.pid, signal.SIGKILL)


async def kill_claude(round_: Round) -> None:
    assert round_.transport._session is not None
    await round_.transport._session.signal("KILL")


async def restart_container(round_: Round) -> None:
    await anyio.run_process(["docker", "restart", "--time", "0", round_.instance.container])


Fault = Callable[[Round], Awaitable[None]]


async def play(round_: Round, fault: Fault) -> None:
    """Have the fault strike at some moment of the conversation, which may be over by then."""
    connect, look = round_.instance.connect, round_.instance.connect_to_look
    made = cut_at_random(round_.instance, round_.chance) if fault is cut else []

    async def strike() -> None:
        await round_.begun.wait()
        await anyio.sleep(round_.chance.uniform(0, 0.02 * len(round_.answer.split())))
        await fault(round_)
        round_.struck = True

    try:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(strike)
                await converse(round_)
                if not round_.struck and round_.error is None:
                    group.cancel_scope.cancel()
    finally:
        round_.instance.connect, round_.instance.connect_to_look = connect, look
    round_.struck = round_.struck or any(channel.cut for channel in made)


def judge(round_: Round, fault: Fault, model: ScriptedModel) -> str:
    """What is wrong, or nothing."""
    pieces, whole, error = "".join(round_.pieces), "".join(round_.whole), round_.error
    asked = [model.prompts[question] for question, _ in round_.questions]
    if max(asked) > 1:
        return f"asked more than once: {asked}"
    if error is None:
        return "" if pieces == whole == round_.answer else f"not what was said: {pieces!r}, {whole!r}"
    if fault is cut:
        return f"a connection that broke was noticed: {error!r}"
    if not (round_.answer.startswith(pieces) and round_.answer.startswith(whole)):
        return f"no beginning of what was said: {pieces!r}, {whole!r}"
    causes: dict[Fault, tuple[type[Exception], str]] = {
        kill_agent: (CLIConnectionError, "ended with its agent"),
        restart_container: (CLIConnectionError, "ended with its agent"),
        kill_claude: (ProcessError, "exit code -9"),
    }
    kind, why = causes[fault]
    return "" if isinstance(error, kind) and why in str(error) else f"without its cause: {error!r}"


async def rounds(instance: Any, model: ScriptedModel, count: int, faults: list[Fault], name: str) -> None:
    """Count what has come of them, and say which went wrong."""
    outcomes: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        fault, round_ = faults[number % len(faults)], a_round(instance, f"{name}-{number}")
        await play(round_, fault)
        if found := judge(round_, fault, model):
            wrong.append(f"round {number} of seed {SEED}, {fault.__name__}: {found}")
        end = "complete" if round_.error is None else type(round_.error).__name__
        outcomes[f"{fault.__name__} {'struck' if round_.struck else 'came too late'}: {end}"] += 1
    print(name, dict(sorted(outcomes.items())))
    assert not wrong, "\n".join(wrong)


async def test_a_client_has_all_or_a_beginning_and_the_cause(
    make_record: Any, claude: str, claude_env: dict[str, str], scripted_model: ScriptedModel
) -> None:
    instance = LocalProcess(make_record(env=claude_env))
    try:
        await rounds(instance, scripted_model, ROUNDS, [cut, kill_agent, kill_claude], "local")
    finally:
        await instance.cleanup()


@pytest.mark.docker
async def test_so_has_one_whose_container_is_restarted(
    make_record: Any, images: Any, scripted_model: ScriptedModel
) -> None:
    fields = {"image": images.claude, "network": "host", "env": scripted_model.claude_env()}
    instance = DockerContainer(make_record(kind="docker", **fields))
    try:
        await rounds(instance, scripted_model, max(1, ROUNDS // 3), [restart_container, cut, kill_claude], "container")
    finally:
        await instance.cleanup()
