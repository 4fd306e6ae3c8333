"""How long things take to begin."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cc_bridge import ClaudeInstance, DockerContainer, InstanceInterface, LocalProcess, TmuxInstance
from cc_bridge.state import agent_archive

from .figures import Sheet
from .stage import PROJECT, agent, default_image, milli, scripted_model, timed

TITLE = "from nothing to the first token, and what a command costs before it does anything"
COMMANDS = 30
STARTS = 5


async def run(sheet: Sheet) -> None:
    python = sheet.add("python -c pass", milli(timed(COMMANDS, lambda: _run(sys.executable, "-c", "pass"))), "ms")
    program = str(Path(sys.executable).with_name("cc-bridge"))
    version = milli(timed(COMMANDS, lambda: _run(program, "--version")))
    sheet.add("cc-bridge --version", version, "ms", python, most=8)
    sheet.add("cc-bridge --help", milli(timed(COMMANDS, lambda: _run(program, "--help"))), "ms", python)
    with tempfile.TemporaryDirectory() as scratch:
        numbers = iter(range(1000))
        sheet.add(
            "the agent, until it listens", milli(timed(20, lambda: _agent(Path(scratch, str(next(numbers)))))), "ms"
        )
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
        home, workspace = Path(scratch, "home"), Path(scratch, "work")
        for directory in (home, workspace):
            directory.mkdir()
            directory.chmod(0o777)
        Path(scratch).chmod(0o755)
        local = {**env, "HOME": str(home)}
        sheet.add(
            "LocalProcess: start to first token", milli(await _starts(LocalProcess, workspace, "local", local)), "ms"
        )
        sheet.add(
            "TmuxInstance: start to first token", milli(await _starts(TmuxInstance, workspace, "tmux", env)), "ms"
        )
        async with default_image() as image:
            if not image:
                sheet.note("no engine answers here: no containers")
                return
            docker = milli(await _starts(DockerContainer, workspace, "docker", env, image=image, network="host"))
            warm = sheet.add("DockerContainer, image there: start to first token", docker, "ms")
            if (built := _build(Path(scratch, "context"))) is None:
                sheet.note("the image cannot be built here")
            else:
                sheet.add("DockerContainer, image to be built: the same", built * 1e3 + warm.value, "ms", warm)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _agent(directory: Path) -> None:
    with agent(directory):
        pass


async def _starts(
    kind: type[InstanceInterface], workspace: Path, name: str, env: dict[str, str], **fields: str
) -> list[float]:
    found = []
    for number in range(STARTS):
        record = ClaudeInstance.of(
            name=f"bench-{os.getpid()}-{name}-{number}",
            kind=name,
            workspace=workspace,
            env=env,
            ephemeral=True,
            **fields,
        )
        instance = kind(record)
        began = time.perf_counter()
        try:
            async for _ in instance.send_command("[[say one]]"):
                found.append(time.perf_counter() - began)
        finally:
            await instance.cleanup()
    return found


def _build(context: Path) -> float | None:
    """Seconds for the default image from its base on, with nothing cached; None: it fails."""
    context.mkdir()
    (context / "agent.pyz").write_bytes(agent_archive().read_bytes())
    name = f"cc-bridge-bench:cold-{os.getpid()}"
    argv = ["docker", "build", "-q", "--no-cache", "-t", name, "-f", str(PROJECT / "docker/Dockerfile")]
    argv += ["--build-arg", f"BASE_IMAGE={os.environ.get('CC_BRIDGE_BASE_IMAGE', 'python:3.13-slim')}"]
    argv += ["--network", os.environ.get("CC_BRIDGE_BUILD_NETWORK", "default"), str(context)]
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(argv, check=False, stdout=quiet, stderr=quiet, env=env)
    seconds = time.perf_counter() - began
    subprocess.run(["docker", "rmi", "-f", name], check=False, stdout=quiet, stderr=quiet)
    return seconds if done.returncode == 0 else None
