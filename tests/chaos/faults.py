"""The faults: each strikes once in a round, at a random moment."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from .rig import Round, cut_connections

HOST = Path(__file__).with_name("host.py")
ENGINE = Path(__file__).parents[2] / "scripts" / "engine"


async def run(*argv: str) -> str:
    """A command of the operating system's, which must succeed."""
    done = await anyio.run_process(argv, stderr=subprocess.STDOUT)
    return done.stdout.decode()


async def process_of(round: Round, what: str) -> int | None:
    """The number of the agent's process, or of Claude Code's; None: it does not run just now."""
    if round.instance.record.kind == "local":
        agent = round.instance._process.pid if round.instance._process else None
    else:
        said = await run("docker", "inspect", "-f", "{{.State.Pid}}", round.instance.container)
        agent = int(said) or None
    if agent is None or what == "agent":
        return agent
    try:
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None


async def kill(round: Round, what: str) -> None:
    await anyio.sleep(round.moment)
    pid = await process_of(round, what)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


async def kill_agent(round: Round) -> None:
    await kill(round, "agent")


async def kill_claude(round: Round) -> None:
    await kill(round, "claude")


async def kill_host(round: Round) -> None:
    """A host program of its own is killed; the one that reads begins after its end, with the same id."""
    argv = [sys.executable, str(HOST), round.instance.record.name, round.turn_id, round.prompt]
    process = await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=None)
    async with process:
        assert process.stdout
        said = await process.stdout.receive()  # it has begun
        await anyio.sleep(round.moment)
        process.kill()
        try:
            while True:
                said += await process.stdout.receive()
        except anyio.EndOfStream:
            pass
    whole = "".join(f"w{number} " for number in range(round.pieces))
    assert whole.startswith(said.decode().removeprefix("begun\n")), "the host that was killed got something else"


async def lose_connection(round: Round) -> None:
    for _ in range(round.rng.randint(1, 3)):
        await anyio.sleep(round.moment / 2)
        channel = round.instance._bridge._channel
        if channel is not None:
            await channel.aclose()


async def cut_frames(round: Round) -> None:
    cuts = [(round.rng.randint(1, 6000), round.rng.randint(1, 3000)) for _ in range(round.rng.randint(1, 10))]
    cut_connections(round.instance, lambda: cuts.pop() if cuts else None)
    await round.instance._bridge.aclose("for a connection that will be cut")


async def stall_reader(round: Round) -> None:
    async def pause() -> None:
        if round.rng.random() < 0.1:
            await anyio.sleep(round.rng.uniform(0, 0.3))

    round.pause = pause


async def pause_container(round: Round) -> None:
    await anyio.sleep(round.moment)
    await run("docker", "pause", round.instance.container)
    await anyio.sleep(round.rng.uniform(0, 1))
    await run("docker", "unpause", round.instance.container)


async def stop_container(round: Round) -> None:
    await anyio.sleep(round.moment)
    await run("docker", "stop", round.instance.container)


async def kill_container(round: Round) -> None:
    await anyio.sleep(round.moment)
    await run("docker", "kill", round.instance.container)


async def restart_container(round: Round) -> None:
    await anyio.sleep(round.moment)
    await run("docker", "restart", round.instance.container)


async def remove_container(round: Round) -> None:
    await anyio.sleep(round.moment)
    await run("docker", "rm", "-f", round.instance.container)


async def restart_engine(round: Round) -> None:
    """Only one that scripts/engine has started: what runs in any other is none of our business."""
    await anyio.sleep(round.moment)
    await run(str(ENGINE), "stop")
    await run(str(ENGINE), "start")


async def delete_pipes(round: Round) -> None:
    """And lose the connection, so that they are missed."""
    await anyio.sleep(round.moment)
    await anyio.to_thread.run_sync(shutil.rmtree, round.instance._home.pipes)
    if round.instance._bridge._channel is not None:
        await round.instance._bridge._channel.aclose()


async def fill_disk(round: Round) -> None:
    """The journal's disk has no room left; and the connection is lost at some moment or other."""
    (Path(round.instance._home.journal) / "ballast").write_bytes(b"\0" * 4096 * round.rng.randint(0, 4))
    try:
        (Path(round.instance._home.journal) / "more").write_bytes(b"\0" * 2**22)
    except OSError:
        pass  # as it should be
    if round.rng.random() < 0.5:
        await lose_connection(round)


@dataclass(frozen=True)
class Fault:
    """A fault and where it can strike.

    Attributes:
        survivable: the turn must be completed all the same.
        small_disk: the journal lies on a file system of its own, of 1 MB.
    """

    name: str
    strike: Callable[[Round], Awaitable[None]]
    kinds: tuple[str, ...]
    survivable: bool = False
    small_disk: bool = False


BOTH = ("local", "docker")

FAULTS = (
    Fault("host killed", kill_host, BOTH, survivable=True),
    Fault("connection lost", lose_connection, BOTH, survivable=True),
    Fault("frames cut", cut_frames, BOTH, survivable=True),
    Fault("reader stalled", stall_reader, BOTH, survivable=True),
    Fault("container paused", pause_container, ("docker",), survivable=True),
    Fault("pipes deleted", delete_pipes, ("docker",), survivable=True),
    Fault("agent killed", kill_agent, BOTH),
    Fault("claude killed", kill_claude, BOTH),
    Fault("container stopped", stop_container, ("docker",)),
    Fault("container killed", kill_container, ("docker",)),
    Fault("container restarted", restart_container, ("docker",)),
    Fault("container removed", remove_container, ("docker",)),
    Fault("engine restarted", restart_engine, ("docker",)),
    Fault("disk full", fill_disk, ("local",), small_disk=True),
)


def left_behind(record: Any, root: Path) -> list[str]:
    """What is still there of an instance that was removed."""
    left = [str(path) for path in (root / "instances").glob(record.name)]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if re.search(rf"/{record.name}\b", line):
            left.append(line)
    if record.kind == "docker":
        argv = ["docker", "ps", "-aq", "--filter", f"label=cc-bridge.instance={record.name}"]
        left += subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    return left
