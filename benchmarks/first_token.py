"""A warm turn of one token by the scripted model: until its first token, and until its end is known."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cc_bridge import ClaudeInstance, DockerContainer, InstanceInterface, LocalProcess, TmuxInstance
from cc_bridge.events import TextDelta, TurnResult
from cc_bridge.instances.local_process import find_claude
from cc_bridge.protocol.command_line import ClaudeOptions, claude_argv

from .figures import Figure, Sheet
from .stage import default_image, milli, scripted_model

TITLE = "a warm turn of one token: until the first token, and until the end is known"
TURNS = 60
BLOCKS = 6
NEW_ONES = 6
PROMPT = "[[say one]]"

Times = tuple[list[float], list[float]]


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
        message = {"type": "user", "message": {"role": "user", "content": PROMPT}, "uuid": _uuid()}
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


def _uuid() -> str:
    import uuid

    return str(uuid.uuid4())


async def _turn(instance: InstanceInterface) -> tuple[float, float]:
    began, first = time.perf_counter(), 0.0
    async for event in instance.stream(PROMPT):
        if isinstance(event, TextDelta) and not first:
            first = time.perf_counter() - began
        if isinstance(event, TurnResult):
            return first, time.perf_counter() - began
    raise RuntimeError("no result")


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
        home, workspace = Path(scratch, "home"), Path(scratch, "work")
        home.mkdir()
        workspace.mkdir()
        Path(scratch).chmod(0o755)
        workspace.chmod(0o777)
        records: dict[str, Any] = {
            "LocalProcess, over pipes": (LocalProcess, {"kind": "local", "env": {**env, "HOME": str(home)}}),
            "TmuxInstance, the interactive one": (TmuxInstance, {"kind": "tmux", "env": env}),
        }
        async with default_image() as image:
            if image:
                docker = {"kind": "docker", "image": image, "network": "host", "env": env}
                records["DockerContainer, over pipes"] = (DockerContainer, docker)
                records["DockerContainer, by attached exec"] = (_ByExec, docker)
            else:
                sheet.note("no engine answers here: no containers")
            instances: dict[str, InstanceInterface] = {}
            hand = ByHand(env, home)
            try:
                for number, (name, (kind, fields)) in enumerate(records.items()):
                    record = ClaudeInstance.of(
                        name=f"bench-{os.getpid()}-{number}", workspace=workspace, ephemeral=True, **fields
                    )
                    instances[name] = kind(record)
                    await instances[name].start()
                times = await _alternating(hand, instances)
                sdk = await _agent_sdk(env, home)
            finally:
                hand.close()
                for instance in instances.values():
                    await instance.cleanup()
            _tell(sheet, times, sdk, _new_ones(env, home, image))


class _ByExec(DockerContainer):
    """Pipes are not to be had."""

    @property
    def _has_pipes(self) -> bool:
        return False


async def _alternating(hand: ByHand, instances: dict[str, InstanceInterface]) -> dict[str, Times]:
    """All of them in turn, a few turns each time: what the machine does meanwhile hits them alike."""
    times: dict[str, Times] = {name: ([], []) for name in ("floor", *instances)}

    def note(name: str, found: tuple[float, float]) -> None:
        for samples, value in zip(times[name], found, strict=True):
            samples.append(value)

    for _ in range(3):
        hand.turn()
        for instance in instances.values():
            await _turn(instance)
    for _ in range(TURNS // BLOCKS):
        for _ in range(BLOCKS):
            note("floor", hand.turn())
        for name, instance in instances.items():
            for _ in range(BLOCKS):
                note(name, await _turn(instance))
    return times


async def _agent_sdk(env: dict[str, str], home: Path) -> Times:
    """The Agent SDK's own client, kept open."""
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, StreamEvent

    options = ClaudeAgentOptions(
        cli_path=find_claude(), cwd=str(home), env={**env, "HOME": str(home)}, include_partial_messages=True
    )
    firsts, wholes = [], []
    async with ClaudeSDKClient(options) as client:
        for _ in range(TURNS // 2):
            began, first = time.perf_counter(), 0.0
            await client.query(PROMPT)
            async for message in client.receive_response():
                if not first and isinstance(message, StreamEvent) and "text_delta" in str(message.event):
                    first = time.perf_counter() - began
                if isinstance(message, ResultMessage):
                    break
            firsts.append(first)
            wholes.append(time.perf_counter() - began)
    return firsts[3:], wholes[3:]


def _new_ones(env: dict[str, str], home: Path, image: str) -> Times:
    """A new `docker exec claude -p` for each command, as many do it; without Docker a new process."""
    name = f"cc-bridge-bench-new-{os.getpid()}"
    words = [find_claude(), "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages", PROMPT]
    settings = {**env, "HOME": str(home)}
    if image:
        run = [
            "docker",
            "run",
            "-d",
            "--rm",
            "--name",
            name,
            "--network",
            "host",
            "--entrypoint",
            "sleep",
            image,
            "600",
        ]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
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


def _tell(sheet: Sheet, times: dict[str, Times], sdk: Times, new: Times) -> None:
    what = ("first token", "whole answer")
    named = {"a new exec, or process, per command": new, "the Agent SDK's client": sdk, **times}
    bases: list[Figure] = []
    for index, moment in enumerate(what):
        floor = sheet.add(f"{moment}: claude fed by hand (the floor)", milli(times["floor"][index]), "ms")
        bases.append(floor)
        for name, found in named.items():
            if name != "floor":
                _ = sheet.add(f"{moment}: {name}", milli(found[index]), "ms", floor, **_aim(index, name))
    pipes = "DockerContainer, over pipes" if "DockerContainer, over pipes" in times else "LocalProcess, over pipes"
    for name in dict.fromkeys((pipes, "LocalProcess, over pipes")):
        added = [value - bases[0].value for value in milli(times[name][0])]
        sheet.add(f"first token: added by {name}", added, "ms", most=1.0)
    slow = next(figure for figure in sheet.figures if figure.name.startswith("first token: a new exec"))
    quick = next(figure for figure in sheet.figures if figure.name == f"first token: {pipes}")
    sheet.add("first token: how much sooner than a new exec", slow.value / quick.value, "times", least=30)
    sheet.add("first token: the same of the floor itself", slow.value / bases[0].value, "times")


def _aim(index: int, name: str) -> dict[str, float]:
    return {"most": 1.1} if index == 0 and name.endswith("over pipes") else {}
