"""`cc-bridge send` to a warm instance: from the shell to the first token, and what that adds to the turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cc_bridge import ClaudeInstance, DockerContainer, InstanceInterface, LocalProcess
from cc_bridge.events import TextDelta

from .figures import Sheet
from .stage import default_image, milli, scripted_model

TITLE = "a command from the shell to a warm instance: until the first token, over the turn itself"
ROUNDS = 30
PROMPT = "[[say one]]"

#: What it may cost over the turn itself (P5).
MOST = 4


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
        home, workspace = Path(scratch, "home"), Path(scratch, "work")
        for directory in (home, workspace):
            directory.mkdir()
            directory.chmod(0o777)
        Path(scratch).chmod(0o755)

        def record(kind: Any, **fields: Any) -> ClaudeInstance:
            return ClaudeInstance.of(name=f"bench-{os.getpid()}-{kind}", kind=kind, workspace=workspace, **fields)

        async with default_image() as image, AsyncExitStack() as stack:
            local = LocalProcess(record("local", ephemeral=True, env={**env, "HOME": str(home)}))
            instances: list[InstanceInterface] = [await stack.enter_async_context(local)]
            if image:
                there = record("docker", ephemeral=True, image=image, network="host", env=env)
                instances.append(await stack.enter_async_context(DockerContainer(there)))
            else:
                sheet.note("no engine answers here: no containers")
            # Compiled, as an installed program is, also where this shell keeps Python from writing it down.
            compiled = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(scratch, "compiled"))}
            compiled.pop("PYTHONDONTWRITEBYTECODE", None)
            for instance in instances:
                await _measure(sheet, instance, compiled)


async def _measure(sheet: Sheet, instance: InstanceInterface, env: dict[str, str]) -> None:
    """In turn, so that what else the machine does hits all three alike."""
    program, name = str(Path(sys.executable).with_name("cc-bridge")), instance.record.name
    passes, turns, sends, added = [], [], [], []
    for _ in range(ROUNDS + 2):
        passes.append(_pass(env))
        turns.append(await _first_token(instance))
        sends.append(_send(program, name, env))
        added.append(sends[-1] - turns[-1])
    kind = type(instance).__name__
    floor = sheet.add(f"python -c pass, beside {kind}", milli(passes[2:]), "ms")
    sheet.add(f"{kind}: first token of a turn", milli(turns[2:]), "ms")
    sheet.add(f"{kind}: first token of `cc-bridge send`", milli(sends[2:]), "ms")
    sheet.add(f"{kind}: added by `cc-bridge send`", milli(added[2:]), "ms", floor, most=MOST)
    best = min(sends[2:]) - statistics.median(turns[2:])
    sheet.note(f"{kind}: the quickest send adds {best * 1e3:.0f} ms, {best / min(passes):.2g} × the quickest pass")


def _pass(env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, env=env)
    return time.perf_counter() - began


async def _first_token(instance: InstanceInterface) -> float:
    began, first = time.perf_counter(), 0.0
    async for event in instance.stream(PROMPT):
        if isinstance(event, TextDelta) and not first:
            first = time.perf_counter() - began
    return first


def _send(program: str, name: str, env: dict[str, str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen([program, "send", name, PROMPT], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout
        process.stdout.read(1)
        first = time.perf_counter() - began
        process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"send ended with {process.returncode}")
    return first
