"""The faults: each strikes once in a round, at a random moment."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from cc_bridge.errors import InstanceBusy
from tests.conftest import lacking

from .rig import Trial, cut_connections

HOST = Path(__file__).with_name("host.py")
ENGINE = Path(__file__).parents[2] / "scripts" / "engine"


async def run(*argv: str) -> str:
    """A command of the operating system's, which must succeed."""
    done = await anyio.run_process(argv, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout.decode()}"
    return done.stdout.decode()


async def process_of(trial: Trial, what: str) -> int | None:
    """The number of the agent's process, or of Claude Code's; None: it does not run just now."""
    if trial.instance.record.kind == "local":
        agent = trial.instance._place._process.pid if trial.instance._place._process else None
    else:
        said = await run("docker", "inspect", "-f", "{{.State.Pid}}", trial.instance.container)
        agent = int(said) or None
    if agent is None or what == "agent":
        return agent
    try:
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None


async def kill(trial: Trial, what: str) -> None:
    await anyio.sleep(trial.moment)
    pid = await process_of(trial, what)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


async def kill_agent(trial: Trial) -> None:
    await kill(trial, "agent")


async def kill_claude(trial: Trial) -> None:
    await kill(trial, "claude")


async def kill_host(trial: Trial) -> None:
    """A host program of its own is killed; the one that reads begins when it has ended, with the same id."""
    argv = [sys.executable, str(HOST), trial.instance.record.name, trial.turn_id, trial.prompt]
    process = await anyio.open_process(argv, stdout=subprocess.PIPE, stderr=None)
    async with process:
        assert process.stdout
        said = await process.stdout.receive()  # it has begun
        await anyio.sleep(trial.moment)
        with suppress(ProcessLookupError):  # it was quicker
            process.kill()
        try:
            while True:
                said += await process.stdout.receive()
        except anyio.EndOfStream:
            pass
    whole = "".join(f"w{number} " for number in range(trial.pieces))
    assert whole.startswith(said.decode().removeprefix("begun\n")), "the host that was killed got something else"


async def lose_connection(trial: Trial) -> None:
    for _ in range(trial.rng.randint(1, 3)):
        await anyio.sleep(trial.moment / 2)
        channel = trial.instance._bridge._driver.uplink.connection
        if channel is not None:
            await channel.aclose()


async def cut_frames(trial: Trial) -> None:
    cuts = [(trial.rng.randint(1, 6000), trial.rng.randint(1, 3000)) for _ in range(trial.rng.randint(1, 10))]
    cut_connections(trial.instance, lambda: cuts.pop() if cuts else None)
    await trial.instance._bridge.aclose("for a connection that will be cut")


async def put_to_sleep(trial: Trial) -> None:
    """Somebody wants it to sleep at moments that could not be worse."""
    somebody = type(trial.instance)(trial.instance.record)
    try:
        for _ in range(trial.rng.randint(2, 8)):
            await anyio.sleep(trial.moment / 4)
            with suppress(InstanceBusy):
                await somebody.sleep()
    finally:
        await somebody.release()


async def stall_reader(trial: Trial) -> None:
    async def pause() -> None:
        if trial.rng.random() < 0.1:
            await anyio.sleep(trial.rng.uniform(0, 0.3))

    trial.pause = pause


async def pause_container(trial: Trial) -> None:
    await anyio.sleep(trial.moment)
    with suppress(AssertionError):
        await run("docker", "pause", trial.instance.container)  # the engine gives up where processes begin just now
    await anyio.sleep(trial.rng.uniform(0, 1))
    await anyio.run_process(("docker", "unpause", trial.instance.container), check=False)


async def stop_container(trial: Trial) -> None:
    await anyio.sleep(trial.moment)
    await run("docker", "stop", trial.instance.container)


async def kill_container(trial: Trial) -> None:
    await anyio.sleep(trial.moment)
    await run("docker", "kill", trial.instance.container)


async def restart_container(trial: Trial) -> None:
    await anyio.sleep(trial.moment)
    await run("docker", "restart", trial.instance.container)


async def remove_container(trial: Trial) -> None:
    await anyio.sleep(trial.moment)
    await run("docker", "rm", "-f", trial.instance.container)


async def restart_engine(trial: Trial) -> None:
    """Only one that scripts/engine has started: what runs in any other is none of our business."""
    await anyio.sleep(trial.moment)
    if "none of ours runs" in await run(str(ENGINE), "stop"):
        lacking("engine-restart", "the engine is not one that scripts/engine has started")
    await run(str(ENGINE), "start")


async def delete_pipes(trial: Trial) -> None:
    """And lose the connection, so that they are missed."""
    await anyio.sleep(trial.moment)
    await anyio.to_thread.run_sync(shutil.rmtree, trial.instance._home.pipes)
    if trial.instance._bridge._driver.uplink.connection is not None:
        await trial.instance._bridge._driver.uplink.connection.aclose()


async def fill_disk(trial: Trial) -> None:
    """The journal's disk has no room left; and the connection is lost at some moment or other."""
    (Path(trial.instance._home.journal) / "ballast").write_bytes(b"\0" * 4096 * trial.rng.randint(0, 4))
    try:
        (Path(trial.instance._home.journal) / "more").write_bytes(b"\0" * 2**22)
    except OSError:
        pass  # as it should be
    if trial.rng.random() < 0.5:
        await lose_connection(trial)


#: Another user of the machine, who tries every way in for as long as the round takes, and says which led somewhere.
NEIGHBOUR = """
import os, socket, sys
state, pipes, agent, squatted = sys.argv[1:]
os.setgid(1234), os.setuid(1234)
found = set()
def attempt(what, act):
    try:
        act()
        found.add(what)
    except OSError:
        pass
def connect():
    with socket.socket(socket.AF_UNIX) as tried:
        tried.connect(agent)
        tried.sendall(b'{"hello":1,"session":"main"}\\n')
print("trying", flush=True)
attempt("squat", lambda: os.mkdir(squatted, 0o777))
found.discard("squat")  # anybody may; it must not matter
while not sys.stdin.closed and not os.get_blocking(0):
    attempt("list", lambda: os.listdir(state))
    attempt("pipe", lambda: os.open(pipes + "/listen", os.O_WRONLY | os.O_NONBLOCK))
    attempt("replace", lambda: os.unlink(pipes + "/listen"))
    attempt("socket", connect)
    try:
        if not os.read(0, 1):
            break
    except BlockingIOError:
        os.sched_yield()
print(*sorted(found), flush=True)
"""


async def let_a_neighbour_try(trial: Trial) -> None:
    """He is first to make the directory in which 0.1.0 had its sockets, and knocks while the answer comes."""
    home = trial.instance._home
    squatted = f"/tmp/cc-bridge-{os.geteuid()}"
    argv = [sys.executable, "-c", NEIGHBOUR, str(home.path), str(home.pipes), home.socket, squatted]
    read, write = os.pipe()
    os.set_blocking(read, False)
    process = await anyio.open_process(argv, stdin=read, stdout=subprocess.PIPE, stderr=None)
    os.close(read)
    async with process:
        assert process.stdout
        assert (await process.stdout.receive()).startswith(b"trying")
        await lose_connection(trial)
        os.close(write)
        said = b""
        with suppress(anyio.EndOfStream):
            while True:
                said += await process.stdout.receive()
    with suppress(OSError):
        os.rmdir(squatted)
    trial.broken.append(lambda: f"a neighbour got in by: {said.decode()}" if said.strip() else "")


async def plant_links(trial: Trial) -> None:
    """Where the container can write: in the place of a login, of a session and of what the agent keeps."""
    home, secret = trial.instance._home, Path(tempfile.mkdtemp(prefix="cc-bridge-secret-"))  # 0700
    (secret / "id").write_text("the host's secret")
    await anyio.sleep(trial.moment)
    decoys = home.claude_home / ".claude" / "projects" / "-a-decoy"
    decoys.parent.mkdir(parents=True, exist_ok=True)
    decoys.symlink_to(secret)
    for place in (home.claude_home / ".claude" / ".credentials.json", home.claude_home / "out", home.journal / "x"):
        with suppress(FileExistsError):
            place.symlink_to(secret)
    await lose_connection(trial)

    def look() -> str:
        mode, names = secret.stat().st_mode & 0o777, os.listdir(secret)
        shutil.rmtree(secret)
        return "" if (mode, names) == (0o700, ["id"]) else f"a link was followed: mode {mode:o}, {names}"

    trial.broken.append(look)


@dataclass(frozen=True)
class Fault:
    """A fault and where it can strike.

    Attributes:
        survivable: the turn must be completed all the same.
        read_after: who reads begins when it has struck.
        small_disk: the journal lies on a file system of its own, of 1 MB.
        alone: what nobody else may use meanwhile.
    """

    name: str
    strike: Callable[[Trial], Awaitable[None]]
    kinds: tuple[str, ...]
    survivable: bool = False
    read_after: bool = False
    small_disk: bool = False
    alone: str = ""


BOTH = ("local", "docker")

FAULTS = (
    Fault("host killed", kill_host, BOTH, survivable=True, read_after=True),
    Fault("connection lost", lose_connection, BOTH, survivable=True),
    Fault("frames cut", cut_frames, BOTH, survivable=True),
    Fault("put to sleep", put_to_sleep, BOTH, survivable=True),
    Fault("reader stalled", stall_reader, BOTH, survivable=True),
    Fault("container paused", pause_container, ("docker",), survivable=True),
    Fault("pipes deleted", delete_pipes, BOTH, survivable=True),
    Fault("a neighbour tries", let_a_neighbour_try, BOTH, survivable=True),
    Fault("links planted", plant_links, ("docker",), survivable=True),
    Fault("agent killed", kill_agent, BOTH),
    Fault("claude killed", kill_claude, BOTH),
    Fault("container stopped", stop_container, ("docker",)),
    Fault("container killed", kill_container, ("docker",)),
    Fault("container restarted", restart_container, ("docker",)),
    Fault("container removed", remove_container, ("docker",)),
    Fault("engine restarted", restart_engine, ("docker",), alone="engine"),
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
