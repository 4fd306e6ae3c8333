"""What cc-bridge adds, as ratios measured in one run. `make bench`, or `make bench ONLY=round-trip`.

Each figure is a median, with the 10th and 90th percentile. Nothing here is asserted anywhere: machines differ.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from cc_bridge import ClaudeInstance, LocalProcess
from cc_bridge.channels.base import Channel
from cc_bridge.channels.named_pipe import NamedPipeChannel, prepare_directory
from cc_bridge.instances.local_process import find_claude
from cc_bridge.instances.registry import agent_archive
from cc_bridge.protocol.command_line import ClaudeOptions, claude_argv
from cc_bridge.protocol.link import Hello, Link, Output, Started
from cc_bridge.testing import ScriptedModel

ROUNDS = 3000
TURNS = 20
MANY = 50
PAD = "x" * 150


class Figure:
    """A median with its spread, and the one that it is compared with."""

    def __init__(self, name: str, seconds: list[float]) -> None:
        self.name = name
        self.median = statistics.median(seconds)
        self.low, *_, self.high = statistics.quantiles(seconds, n=10)

    def show(self, base: Figure | None = None) -> None:
        ratio = f"{self.median / base.median:6.2f} × {base.name}" if base else ""
        spread = f"({self.low * 1e6:.0f} to {self.high * 1e6:.0f})"
        print(f"  {self.name:<42} {self.median * 1e6:9.0f} µs {spread:<18} {ratio}")


def timed(rounds: int, act: Callable[[], None]) -> list[float]:
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return found[rounds // 10 :]


def raw_fifo(directory: Path) -> Figure:
    """The limit: a line through the same hops, as bare reads and writes of two threads and `cat`."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin
    assert child.stdout
    for name in ("there", "back"):
        os.mkfifo(directory / name)
    ends = [os.open(directory / name, os.O_RDWR) for name in ("there", "back")]
    to_child, from_child = child.stdin.fileno(), child.stdout.fileno()

    def relay() -> None:
        while (data := os.read(ends[0], 65536)) != b"end\n":
            os.write(to_child, data)
            os.write(ends[1], os.read(from_child, 65536))

    thread = threading.Thread(target=relay)
    thread.start()
    line = json.dumps({"pad": PAD}).encode() + b"\n"

    def once() -> None:
        os.write(ends[0], line)
        os.read(ends[1], 65536)

    found = timed(ROUNDS, once)
    os.write(ends[0], b"end\n")
    thread.join()
    child.stdin.close()
    child.wait()
    for end in ends:
        os.close(end)
    return Figure("raw FIFOs, threads and cat", found)


async def through(channel: Channel, link: Link, name: str) -> Figure:
    async def until(kind: type[Any]) -> None:
        while not any(isinstance(event, kind) for event in link.receive_data(await channel.receive())):
            pass

    async with channel:
        await until(Hello)
        link.start_claude(["cat"], {}, "/")
        await channel.send(link.data_to_send())
        await until(Started)
        found = []
        for number in range(ROUNDS):
            began = time.perf_counter()
            link.send_input(f"c-{number}", {"pad": PAD})
            await channel.send(link.data_to_send())
            await until(Output)
            found.append(time.perf_counter() - began)
    return Figure(name, found[ROUNDS // 10 :])


async def round_trip() -> None:
    """A line of 200 bytes: host, agent, child, and back."""
    print("round trip of a 200-byte line: host → agent → child → agent → host")
    with tempfile.TemporaryDirectory() as scratch:
        base = raw_fifo(Path(scratch))
        base.show()
        pipes = str(Path(scratch, "pipes"))
        prepare_directory(pipes)
        ready, write = os.pipe()
        argv = [sys.executable, "-IS", str(agent_archive()), "serve", "--pipes", pipes, "--ready-fd", str(write)]
        argv += ["--socket", str(Path(scratch, "agent.sock"))]
        with subprocess.Popen(argv, pass_fds=[write], stderr=subprocess.DEVNULL) as agent:
            os.close(write)
            os.read(ready, 10)
            link = Link()
            link.greet()
            channel = await NamedPipeChannel.connect(pipes, link.data_to_send())
            (await through(channel, link, "NamedPipeChannel")).show(base)
            agent.terminate()


def by_hand(model: ScriptedModel, home: Path) -> list[float]:
    """The floor: a warm claude, fed on stdin, its stdout searched for the first delta."""
    argv = [find_claude(), *claude_argv(ClaudeOptions())[1:]]
    env = {**os.environ, **model.claude_env(home)}
    found = []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=home) as claude:
        assert claude.stdin
        assert claude.stdout
        for _ in range(TURNS + 2):
            message = {"type": "user", "message": {"role": "user", "content": "[[say one]]"}}
            began = time.perf_counter()
            claude.stdin.write(json.dumps(message).encode() + b"\n")
            claude.stdin.flush()
            first = 0.0
            for line in claude.stdout:
                if not first and b'"text_delta"' in line:
                    first = time.perf_counter() - began
                if b'"type":"result"' in line:
                    break
            found.append(first)
        claude.stdin.close()
    return found[2:]


async def first_token() -> None:
    """A warm turn of one token by the scripted model, against claude fed by hand."""
    print("first token of a warm turn (scripted model, one token)")
    with tempfile.TemporaryDirectory() as scratch, ScriptedModel() as model:
        home = Path(scratch)
        base = Figure("claude fed by hand (the floor)", by_hand(model, home))
        base.show()
        record = ClaudeInstance.of(
            name=f"bench-{os.getpid()}", kind="local", workspace=home, env=model.claude_env(home), ephemeral=True
        )
        async with LocalProcess(record) as instance:
            found = []
            for _ in range(TURNS + 2):
                began = time.perf_counter()
                async for _piece in instance.send_command("[[say one]]"):
                    found.append(time.perf_counter() - began)
        Figure("LocalProcess, over named pipes", found[2:]).show(base)


async def reported_exit(manager: Any, name: str) -> None:
    """Kill a container's main process, and wait until the manager tells of it."""
    told = anyio.Event()

    async def on_exit(event: Any) -> None:
        told.set()

    pid = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.Pid}}", name], capture_output=True, text=True, check=True
    ).stdout
    async with anyio.create_task_group() as group:
        group.start_soon(manager.report_exits, on_exit)
        await manager.list()  # by then it watches
        os.kill(int(pid), 9)
        await told.wait()
        group.cancel_scope.cancel()


async def containers() -> None:
    """Fifty containers made, listed, measured and removed; and what one costs while there are many."""
    import requests

    from cc_bridge.errors import EngineError
    from cc_bridge.manager.manager import ContainerManager
    from cc_bridge.manager.options import ContainerOptions

    calls = 0
    send = requests.Session.send

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return send(self, *args, **options)

    requests.Session.send = counting  # type: ignore[method-assign]
    project = f"bench-{os.getpid()}"
    options = ContainerOptions(project=project)

    async def measure(what: str, act: Any, count: int = 1) -> None:
        nonlocal calls
        calls, began = 0, time.perf_counter()
        await act()
        passed = time.perf_counter() - began
        each = f"{passed / count * 1e3:8.1f} ms each" if count > 1 else f"{passed * 1e3:8.1f} ms     "
        print(f"  {what:<42} {each}  {calls / count:6.1f} engine calls{' each' if count > 1 else ''}")

    async with ContainerManager() as manager:
        try:
            await manager.ensure_image(options.image)
        except EngineError as error:
            print(f"containers: not measured: {error.what}")
            return
        print(f"containers ({MANY} of them)")

        async def each(act: Any) -> None:
            limiter = anyio.CapacityLimiter(4)

            async def one(number: int) -> None:
                async with limiter:
                    await act(f"kind-{number}")

            async with anyio.create_task_group() as group:
                for number in range(MANY):
                    group.start_soon(one, number)

        try:
            await measure("the first: create and start", lambda: manager.get_or_create(options, kind="first"))
            (first,) = await manager.list(project)
            await measure("the first: find again", lambda: manager.get_or_create(options, kind="first"))
            await measure("the first: measure", lambda: manager.stats(first.name))
            await measure("the first: exec", lambda: manager.exec(first.name, ["true"]))
            await measure(
                "create and start", lambda: each(lambda kind: manager.get_or_create(options, kind=kind)), MANY
            )
            await measure(f"one among {MANY}: find again", lambda: manager.get_or_create(options, kind="first"))
            await measure(f"one among {MANY}: measure", lambda: manager.stats(first.name))
            await measure(f"one among {MANY}: exec", lambda: manager.exec(first.name, ["true"]))
            await measure("list", lambda: manager.list(project))
            await measure("kill -9 of one: until it is reported", lambda: reported_exit(manager, first.name))
            names = {item.labels["cc-bridge.type"]: item.name for item in await manager.list(project)}
            await measure("measure", lambda: each(lambda kind: manager.stats(names[kind])), MANY)
            await measure("remove", lambda: each(lambda kind: manager.remove(names[kind])), MANY)
        finally:
            for item in await manager.list(project):
                await manager.remove(item.id)
            requests.Session.send = send  # type: ignore[method-assign]


PARTS = {"round-trip": round_trip, "first-token": first_token, "containers": containers}


async def main() -> None:
    only = os.environ.get("ONLY", "")
    if only and only not in PARTS:
        sys.exit(f"ONLY={only}: there is {', '.join(PARTS)}")
    for name, part in PARTS.items():
        if only in ("", name):
            await part()


if __name__ == "__main__":
    anyio.run(main)
