"""What the parts share: a scripted model in a process of its own, agents, a container, and samples of time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio

from cc_bridge.channels.base import Channel
from cc_bridge.channels.named_pipe import NamedPipeChannel, prepare_directory
from cc_bridge.engine.client import Engine
from cc_bridge.engine.image_names import DEFAULT_IMAGE
from cc_bridge.engine.images import Images
from cc_bridge.errors import EngineError
from cc_bridge.instances.registry import agent_archive
from cc_bridge.protocol.link import Hello, Link, LinkEvent, Started
from cc_bridge.testing.scripted_model import FAKE_KEY

PROJECT = Path(__file__).parent.parent

_MODEL = """
import sys
from cc_bridge.testing import ScriptedModel
with ScriptedModel() as model:
    print(model.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def scripted_model(program: str | None = None) -> Iterator[dict[str, str]]:
    """The model, apart from what is measured; the environment with which Claude Code talks to it.

    Args:
        program: another one, which says its URL and ends with its stdin.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program or _MODEL], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        url = process.stdout.readline().strip()
        yield {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": FAKE_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        process.stdin.close()


def timed(rounds: int, act: Callable[[], Any]) -> list[float]:
    """Seconds of each round, without the first tenth."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return found[rounds // 10 :]


def micro(seconds: list[float]) -> list[float]:
    return [value * 1e6 for value in seconds]


def milli(seconds: list[float]) -> list[float]:
    return [value * 1e3 for value in seconds]


@contextmanager
def agent(directory: Path, *, python: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that listens in this directory. ``python``: other words to start it with."""
    pipes = str(directory / "pipes")
    directory.mkdir(exist_ok=True)
    prepare_directory(pipes)
    ready, write = os.pipe()
    argv = [*(python or (sys.executable, "-IS", str(agent_archive()))), "serve", "--pipes", pipes]
    argv += ["--socket", str(directory / "agent.sock"), "--state", str(directory / "state"), "--ready-fd", str(write)]
    with subprocess.Popen(argv, pass_fds=[write], stderr=subprocess.DEVNULL) as process:
        os.close(write)
        os.read(ready, 10)
        os.close(ready)
        try:
            yield process
        finally:
            process.terminate()


async def connect(directory: Path, link: Link | None = None) -> tuple[Link, Channel]:
    """A link over pipes to an agent, its greetings exchanged."""
    link = link or Link()
    link.greet()
    channel = await NamedPipeChannel.connect(str(directory / "pipes"), link.data_to_send())
    await until(link, channel, Hello)
    return link, channel


async def until(link: Link, channel: Channel, kind: type[Any]) -> list[LinkEvent]:
    """Receive up to an event of this kind; what came with it."""
    while True:
        events = link.receive_data(await channel.receive())
        if any(isinstance(event, kind) for event in events):
            return events


async def start_child(link: Link, channel: Channel, argv: list[str]) -> None:
    link.start_claude(argv, {}, "/")
    await channel.send(link.data_to_send())
    await until(link, channel, Started)


@asynccontextmanager
async def default_image() -> AsyncIterator[str]:
    """The default image, made if need be; empty: no engine answers here."""
    engine = Engine()
    try:
        images = Images(engine)
        _choose_base()
        yield await images.ensure(DEFAULT_IMAGE, agent_archive())
    except EngineError:
        yield ""
    finally:
        await engine.aclose()


def _choose_base() -> None:
    """As `make demo` does it: where nothing can be pulled, a Debian of this machine's making."""
    if shutil.which("docker") is None or "CC_BRIDGE_BASE_IMAGE" in os.environ:
        return
    done = subprocess.run([str(PROJECT / "scripts/base-image")], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0 and done.stdout.strip():
        os.environ["CC_BRIDGE_BASE_IMAGE"] = done.stdout.strip()
        os.environ.setdefault("CC_BRIDGE_BUILD_NETWORK", "host")


async def has_engine() -> bool:
    engine = Engine()
    try:
        await engine.client()
    except EngineError:
        return False
    finally:
        await engine.aclose()
    return True


async def every(seconds: float, count: int, act: Callable[[], Any]) -> None:
    """Call so many times, at this pace."""
    for _ in range(count):
        act()
        await anyio.sleep(seconds)


def resident(pid: int) -> float:
    """MiB of memory of a process that are its own."""
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith("VmRSS:"):
            return int(text.split()[1]) / 1024
    return 0.0


def switches(pid: int) -> int:
    """How often a process has been put to sleep and woken, by itself or by the scheduler."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(text.split()[1]) for text in lines if "ctxt_switches" in text)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
