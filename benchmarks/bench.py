"""What cc-bridge adds, as ratios measured in one run. `make bench`, or `make bench ONLY=round-trip`.

Each figure is a median, with the 10th and 90th percentile. Nothing here is asserted anywhere: machines differ.
"""

from __future__ import annotations

import json
import os
import shutil
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

from cc_bridge import ClaudeInstance, LocalProcess, TmuxInstance
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
PANE_TURNS = 10
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


async def pane() -> None:
    """How soon the end of an answer in a pane is known: by us, by polling the transcript, and by a screen at rest.

    All of the same turns, from the moment in which Claude Code runs its Stop hooks (one of the user's own notes it).
    """
    if shutil.which("tmux") is None:
        print("pane: not measured: tmux is not installed")
        return
    with tempfile.TemporaryDirectory() as scratch, ScriptedModel() as model:
        config, workspace, stops = Path(scratch, "config"), Path(scratch, "work"), Path(scratch, "stops")
        config.mkdir()
        workspace.mkdir()
        hook = {"type": "command", "command": f"date +%s.%N >>{stops}"}
        (config / "settings.json").write_text(json.dumps({"hooks": {"Stop": [{"hooks": [hook]}]}}))
        env = {**model.claude_env(), "CLAUDE_CONFIG_DIR": str(config)}
        record = ClaudeInstance.of(name="bench-pane", kind="tmux", workspace=workspace, env=env, ephemeral=True)
        ours: list[float] = []
        async with TmuxInstance(record) as instance:
            socket = instance.attach_argv[3]
            polled, rested = Witness(2.0, lambda: _size(config)), Witness(0.025, lambda: _screen(socket), rest=2.0)
            for number in range(PANE_TURNS):
                await instance.send_command_and_wait(f"[[say turn {number}]] [[delay 0.3]] [[say is over]]")
                ours.append(time.time())
                # Out of step with the pollers, and long enough for the slowest rule.
                await anyio.sleep(4.5 + 0.37 * (number % 5))
            polled.close()
            rested.close()
        moments = [float(line) for line in stops.read_text().split()]
    print(f"pane: the end of an answer is known, after Claude Code's own Stop ({len(moments)} turns)")
    known = Figure("cc-bridge", [when - stop for when, stop in zip(ours, moments, strict=True)])
    known.show()
    for name, witness in (("a transcript, polled every 2 s", polled), ("a screen at rest for 2 s", rested)):
        later = [next(when for when in witness.noticed if when > stop) - stop for stop in moments]
        Figure(name, later).show(known)


class Witness:
    """Looks at something every ``pause`` seconds, and notes when it has changed, or has been at rest since."""

    def __init__(self, pause: float, look: Callable[[], Any], rest: float = 0.0) -> None:
        self.noticed: list[float] = []
        self._pause, self._look, self._rest = pause, look, rest
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        seen, changed = self._look(), 0.0
        while not self._closing.wait(self._pause):
            now = self._look()
            if now != seen:
                seen, changed = now, time.time()
                if not self._rest:
                    self.noticed.append(changed)
            elif self._rest and changed and time.time() - changed >= self._rest:
                changed = 0.0
                self.noticed.append(time.time())

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


def _size(config: Path) -> int:
    return sum(path.stat().st_size for path in config.glob("projects/*/*.jsonl"))


def _screen(socket: str) -> str:
    argv = ["tmux", "-S", socket, "capture-pane", "-p", "-t", "bench-pane"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


PARTS = {"round-trip": round_trip, "first-token": first_token, "containers": containers, "pane": pane}


async def main() -> None:
    only = os.environ.get("ONLY", "")
    if only and only not in PARTS:
        sys.exit(f"ONLY={only}: there is {', '.join(PARTS)}")
    for name, part in PARTS.items():
        if only in ("", name):
            await part()


if __name__ == "__main__":
    anyio.run(main)
