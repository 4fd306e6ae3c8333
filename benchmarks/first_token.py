"""A warm turn of one token by the scripted model: until its first token, and until its end is known."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from cc_bridge import ClaudeInstance, DockerContainer, InstanceInterface, LocalProcess, TmuxInstance
from cc_bridge.events import TextDelta, TurnResult
from cc_bridge.instances.process_place import find_claude
from cc_bridge.protocol.command_line import ClaudeOptions, claude_argv

from .figures import Figure, Sheet
from .stage import default_image, milli, scripted_model

TITLE = "a warm turn of one token: until the first token, and until the end is known"
ROUNDS, BLOCK = 20, 8
NEW_ONES = 6
PROMPT = "[[say one]]"

FLOOR = "claude fed by hand (the floor)"
LOCAL = "LocalProcess, over pipes"
DOCKER = "DockerContainer, over pipes"
PANE = "TmuxInstance, the interactive one"

#: Until the first token, and until the end, of each turn; and a turn.
Times = tuple[list[float], list[float]]
Act = Callable[[], Awaitable[tuple[float, float]]]


class ByHand:
    """The floor: a warm claude, fed on stdin, its stdout searched for the first delta and the result."""

    def __init__(self, env: dict[str, str], home: Path) -> None:
        argv = [find_claude(), *claude_argv(ClaudeOptions())[1:]]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, env={**os.environ, **env, "HOME": str(home)}, cwd=home
        )

    def turn(self) -> tuple[float, float]:
        assert self._process.stdin
        assert self._process.stdout
        # With an id, as everybody sends who wants to know whose answer it is.
        message = {"type": "user", "message": {"role": "user", "content": PROMPT}, "uuid": str(uuid.uuid4())}
        began = time.perf_counter()
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        first = 0.0
        for line in self._process.stdout:
            if not first and b'"text_delta"' in line:
                first = time.perf_counter() - began
            if b'"type":"result"' in line:
                break
        return first, time.perf_counter() - began

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


async def one_turn(instance: InstanceInterface, prompt: str = PROMPT) -> tuple[float, float]:
    """Seconds until the first token, and until the end is known."""
    began, first = time.perf_counter(), 0.0
    async for event in instance.stream(prompt):
        if isinstance(event, TextDelta) and not first:
            first = time.perf_counter() - began
        if isinstance(event, TurnResult):
            return first, time.perf_counter() - began
    raise RuntimeError("no result")


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
        workspace = Path(scratch, "work")
        workspace.mkdir()
        # A home for each: Claude Code watches its configuration, which another one would write.
        homes = [Path(scratch, f"home-{number}") for number in range(4)]
        for home in homes:
            home.mkdir()
        Path(scratch).chmod(0o755)
        workspace.chmod(0o777)
        numbers = iter(range(10))

        def record(kind: str, **fields: Any) -> ClaudeInstance:
            name = f"bench-{os.getpid()}-{next(numbers)}"
            return ClaudeInstance.of(name=name, kind=kind, workspace=workspace, ephemeral=True, **fields)

        async with default_image() as image, AsyncExitStack() as stack:
            instances: dict[str, InstanceInterface] = {}
            local = record("local", env={**env, "HOME": str(homes[0])})
            instances[LOCAL] = await stack.enter_async_context(LocalProcess(local))
            if image:
                for name, kind in ((DOCKER, DockerContainer), ("DockerContainer, by attached exec", _ByExec)):
                    there = record("docker", image=image, network="host", env=env)
                    instances[name] = await stack.enter_async_context(kind(there))
            else:
                sheet.note("no engine answers here: no containers")
            turns: dict[str, Act] = {name: partial(one_turn, instance) for name, instance in instances.items()}
            turns[FLOOR] = _by_hand(stack.enter_context(closing(ByHand(env, homes[1]))))
            turns["the Agent SDK's client"] = await stack.enter_async_context(_agent_sdk(env, homes[2]))
            times, added = await in_blocks(turns)
            await stack.aclose()
            # Its Claude Code draws, also after the turn, so it is measured when the others have gone.
            async with TmuxInstance(record("tmux", env=env)) as pane:
                times[PANE] = (await in_blocks({PANE: partial(one_turn, pane)}))[0][PANE]
            times["a new exec, or process, per command"] = _new_ones(env, homes[3], image)
        _tell(sheet, times, added)


class _ByExec(DockerContainer):
    """Pipes are not to be had."""

    @property
    def _has_pipes(self) -> bool:
        return False


def _by_hand(hand: ByHand) -> Act:
    async def turn() -> tuple[float, float]:
        return hand.turn()

    return turn


async def in_blocks(turns: dict[str, Act], floor: str = FLOOR) -> tuple[dict[str, Times], dict[str, list[float]]]:
    """Some turns of each in every round, and what each has added to the floor's first tokens in that round.

    Several in a row, without the first two, because a Claude Code that has rested is slower; in an order that changes.
    """
    times: dict[str, Times] = {name: ([], []) for name in turns}
    added: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(ROUNDS):
        medians = {}
        for name in [*turns][number % len(turns) :] + [*turns][: number % len(turns)]:
            block = [await turns[name]() for _ in range(BLOCK)][2:]
            for samples, values in zip(times[name], zip(*block, strict=True), strict=True):
                samples += values
            medians[name] = statistics.median(first for first, _ in block)
        for name, median in medians.items():
            added[name].append(median - medians.get(floor, 0.0))
    return times, added


@asynccontextmanager
async def _agent_sdk(env: dict[str, str], home: Path) -> AsyncIterator[Act]:
    """The Agent SDK's own client, kept open."""
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, StreamEvent

    options = ClaudeAgentOptions(
        cli_path=find_claude(), cwd=str(home), env={**env, "HOME": str(home)}, include_partial_messages=True
    )
    async with ClaudeSDKClient(options) as client:

        async def turn() -> tuple[float, float]:
            began, first = time.perf_counter(), 0.0
            await client.query(PROMPT)
            async for message in client.receive_response():
                if not first and isinstance(message, StreamEvent) and "text_delta" in str(message.event):
                    first = time.perf_counter() - began
                if isinstance(message, ResultMessage):
                    break
            return first, time.perf_counter() - began

        yield turn


def _new_ones(env: dict[str, str], home: Path, image: str) -> Times:
    """A new `docker exec claude -p` for each command, as many do it; without Docker a new process."""
    name = f"cc-bridge-bench-new-{os.getpid()}"
    words = [find_claude(), "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages", PROMPT]
    settings = {**env, "HOME": str(home)}
    if image:
        run = ["docker", "run", "-d", "--rm", "--name", name, "--network", "host", "--entrypoint", "sleep"]
        subprocess.run([*run, image, "600"], check=True, stdout=subprocess.DEVNULL)
        exported = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
        words = ["docker", "exec", *exported, name, "claude", *words[1:]]
        settings = {}
    firsts, wholes = [], []
    try:
        for _ in range(NEW_ONES + 1):
            began, first = time.perf_counter(), 0.0
            with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, **settings}, cwd=home) as process:
                assert process.stdout
                for line in process.stdout:
                    if not first and b'"text_delta"' in line:
                        first = time.perf_counter() - began
                    if b'"type":"result"' in line:
                        wholes.append(time.perf_counter() - began)
            firsts.append(first)
    finally:
        if image:
            subprocess.run(["docker", "rm", "-f", name], check=False, stdout=subprocess.DEVNULL)
    return firsts[1:], wholes[1:]


def _tell(sheet: Sheet, times: dict[str, Times], added: dict[str, list[float]]) -> None:
    bases: list[Figure] = []
    for index, moment in enumerate(("first token", "whole answer")):
        floor = sheet.add(f"{moment}: {FLOOR}", milli(times[FLOOR][index]), "ms")
        bases.append(floor)
        for name, found in times.items():
            if name != FLOOR:
                aim = {"most": 1.1} if index == 0 and name in (LOCAL, DOCKER) else {}
                _ = sheet.add(f"{moment}: {name}", milli(found[index]), "ms", floor, **aim)
    pipes = DOCKER if DOCKER in times else LOCAL
    for name in dict.fromkeys((pipes, LOCAL)):
        sheet.add(f"first token: added by {name}", milli(added[name]), "ms", most=1.0)
    slow = next(figure for figure in sheet.figures if figure.name.startswith("first token: a new exec"))
    quick = next(figure for figure in sheet.figures if figure.name == f"first token: {pipes}")
    sheet.add("first token: how much sooner than a new exec", slow.value / quick.value, "times", least=30)
    sheet.add("first token: the same of the floor itself", slow.value / bases[0].value, "times")
