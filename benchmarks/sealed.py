"""A sealed container beside the same container with this machine's network: a turn, and 100 MB out and in."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cc_bridge import ClaudeInstance, DockerContainer
from cc_bridge.channels.named_pipe import prepare_directory
from cc_bridge.errors import BridgeError
from cc_bridge.instances.container_plan import ContainerPlan
from cc_bridge.instances.outside import PORT
from cc_bridge.instances.way_out import ask_proxy

from .figures import Sheet
from .first_token import in_blocks, one_turn
from .stage import default_image, milli, resident, scripted_model

TITLE = "a sealed container beside the same one with this machine's network and the key inside"

#: Tokens some milliseconds apart, as the real model has them: all at once, what follows the first would delay it.
PROMPT = "[[pace 0.01]][[say one two three]]"

#: What a sealed container's first token may take longer, in ms.
MOST = 2.0

#: Containers at once, beside the first four.
MANY = 10

#: Times that 100 MB are sent, and received, each way.
TRIES = 9

WAYS = ("pipes", "exec")

#: Takes a connection, reads a TLS greeting, and then sends or takes so many bytes, as the next byte says.
SERVER = """
import socket, sys, threading
listening = socket.create_server(("127.0.0.1", 0), backlog=16)
print(listening.getsockname()[1], flush=True)
def read(connection, count):
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data
def serve(connection):
    read(connection, int.from_bytes(read(connection, 5)[3:], "big"))
    way, count = read(connection, 1), int(read(connection, 12))
    room, piece = bytearray(1 << 16), memoryview(bytes(1 << 20))
    if way == b"d":
        while count:
            count -= connection.send(piece[:count])
    else:
        while count:
            count -= connection.recv_into(room) or sys.exit()
        connection.sendall(b"k")
    connection.close()
while True:
    connection, _ = listening.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""

#: Says MB a second, first of bytes from the server, then of bytes to it.
CLIENT = """
import socket, ssl, sys, time
port, way_out, count = map(int, sys.argv[1:])
def connect():
    connection = socket.create_connection(("127.0.0.1", way_out or port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if way_out:
        connection.sendall(b"CONNECT localhost:%d HTTP/1.1\\r\\nHost: localhost:%d\\r\\n\\r\\n" % (port, port))
        said = b""
        while not said.endswith(b"\\r\\n\\r\\n"):
            said += connection.recv(1) or sys.exit(said)
        if b" 200 " not in said.splitlines()[0]:
            sys.exit(said)
    greeting = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), greeting, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        connection.sendall(greeting.read())
    return connection
room, piece = bytearray(1 << 16), memoryview(bytes(1 << 20))
for way in (b"d", b"u"):
    connection = connect()
    began, left = time.perf_counter(), count
    connection.sendall(way + b"%12d" % count)
    if way == b"d":
        while left:
            left -= connection.recv_into(room) or sys.exit("cut")
    else:
        while left:
            left -= connection.send(piece[:left])
        assert connection.recv(1) == b"k"
    print(count / (time.perf_counter() - began) / 1e6)
"""


async def run(sheet: Sheet) -> None:
    async with default_image() as image, AsyncExitStack() as stack:
        if not image:
            sheet.note("no engine answers here: no containers")
            return
        env = stack.enter_context(scripted_model())
        port = stack.enter_context(_server())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.chmod(0o755)
        stack.callback(_end_proxy)
        hosts = (f"localhost:{port}=127.0.0.1",)

        async def start(name: str, **fields: Any) -> DockerContainer:
            workspace = scratch / name
            workspace.mkdir()
            workspace.chmod(0o777)
            name = f"bench-{os.getpid()}-{name}"
            record = ClaudeInstance.of(
                name=name, kind="docker", workspace=workspace, ephemeral=True, image=image, env=env, **fields
            )
            instance = DockerContainer(record)
            await instance.start()
            stack.push_async_callback(instance.remove)
            return instance

        pairs: dict[str, tuple[DockerContainer, DockerContainer]] = {}
        for way in WAYS:
            with _apart(scratch) if way == "exec" else nullcontext():
                pair = await start(f"{way}-host", network="host"), await start(way, sealed=True, allow_hosts=hosts)
            for instance in pair:
                if (found := (await instance.get_info())["channel"]) != way:
                    raise RuntimeError(f"{instance.name} is reached over {found}, and not over {way}")
            pairs[way] = pair
        await _first_tokens(sheet, pairs)
        _megabytes(sheet, pairs, port)
        await _many(sheet, start)


@contextmanager
def _apart(scratch: Path) -> Iterator[None]:
    """Both sides see pipes, and they are not the same, so that all goes over an attached exec."""
    elsewhere = str(scratch / "elsewhere")
    prepare_directory(elsewhere)
    spec = ContainerPlan.spec

    def moved(plan: ContainerPlan, *args: Any, **options: Any) -> Any:
        made = spec(plan, *args, **options)
        mounts = [m.replace(source=elsewhere) if m.target == "/run/cc-bridge" else m for m in made.mounts]
        return replace(made, mounts=mounts)

    with patch.object(ContainerPlan, "spec", moved):
        yield


async def _first_tokens(sheet: Sheet, pairs: dict[str, tuple[DockerContainer, DockerContainer]]) -> None:
    """Of one way after the other, in turn within it."""
    for way, (plain, sealed) in pairs.items():
        turns = {"host": partial(one_turn, plain, PROMPT), "sealed": partial(one_turn, sealed, PROMPT)}
        times, added = await in_blocks(turns, "host")
        for index, moment in enumerate(("first token", "whole answer")):
            base = sheet.add(f"{moment}, over {way}: with this machine's network", milli(times["host"][index]), "ms")
            sheet.add(f"{moment}, over {way}: sealed", milli(times["sealed"][index]), "ms", base)
        sheet.add(f"first token, over {way}: added by being sealed", milli(added["sealed"]), "ms", most=MOST)


@contextmanager
def _server() -> Iterator[int]:
    """A server for 100 MB, in a process of its own; its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _megabytes(sheet: Sheet, pairs: dict[str, tuple[DockerContainer, DockerContainer]], port: int) -> None:
    """In turn, by the same program in each container."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(TRIES):
        for way, (plain, sealed) in pairs.items():
            found.setdefault("a plain socket", []).append(_moved(plain, port, 0))
            found.setdefault(f"CONNECT, over {way}", []).append(_moved(sealed, port, PORT))
    for index, direction in enumerate(("in", "out")):
        rates = {name: [pair[index] for pair in pairs] for name, pairs in found.items()}
        base = sheet.add(f"100 MB {direction}: a plain socket", rates.pop("a plain socket"), "MB/s")
        for name, samples in rates.items():
            least = {"least": 0.5} if name.endswith("pipes") else {}
            sheet.add(f"100 MB {direction}: {name}", samples, "MB/s", base, **least)


def _moved(instance: DockerContainer, port: int, way_out: int) -> list[float]:
    words = ["docker", "exec", instance.container, "python3", "-c", CLIENT, str(port), str(way_out), str(10**8)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(line) for line in done.stdout.split()]


async def _many(sheet: Sheet, start: Callable[..., Any]) -> None:
    """What each of several costs the one proxy."""
    before = _of_proxy()
    instances = [await start(f"many-{number}", sealed=True) for number in range(MANY)]
    for instance in instances:
        ok, said = await instance.send_command_and_wait("[[say fine]]", 60)
        if not ok:
            raise RuntimeError(said)
    after = _of_proxy()
    sheet.add("the proxy: resident memory, with two instances", before[0], "MiB")
    sheet.add(f"the proxy: memory for each of {MANY} more", (after[0] - before[0]) / MANY * 1024, "KiB")
    sheet.add(f"the proxy: descriptors for each of {MANY} more", (after[1] - before[1]) / MANY, "each")


def _of_proxy() -> tuple[float, int]:
    """Its MiB and its descriptors."""
    answer = ask_proxy(_root(), {"status": True})
    if answer is None:
        raise RuntimeError("no proxy runs")
    pid = answer["status"]["pid"]
    return resident(pid), len(os.listdir(f"/proc/{pid}/fd"))


def _end_proxy() -> None:
    with suppress(BridgeError):
        ask_proxy(_root(), {"stop": True})


def _root() -> Path:
    return Path(os.environ["CC_BRIDGE_HOME"])
