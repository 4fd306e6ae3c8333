"""Lines from Claude Code's stdout to decoded events on the host, as fast as they come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import Link, Output
from cc_bridge_agent import wire

from .figures import Sheet
from .stage import agent, connect

TITLE = "lines of a stream from the child's stdout to decoded events on the host"
SIZES = {"250 B": (250, 120_000), "4 kB": (4096, 15_000), "1 MB": (1_000_000, 64)}
REPEATS = 5

#: The limit: the same bytes through the same hops (child, relaying process, FIFO), and nothing looked at.
_COPY = """
import os, subprocess, sys
child = subprocess.Popen(["cat", sys.argv[1]], stdout=subprocess.PIPE, bufsize=0)
out = os.open(sys.argv[2], os.O_WRONLY)
while data := os.read(child.stdout.fileno(), 65536):
    view = memoryview(data)
    while view:
        view = view[os.write(out, view):]
"""


def line_of(size: int) -> bytes:
    """A piece of an answer as Claude Code writes it, padded to so many bytes."""
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}
    message = {"type": "stream_event", "event": event, "session_id": "0" * 36, "parent_tool_use_id": None}
    event["delta"]["text"] = "word " * max(1, (size - len(json.dumps(message, separators=(",", ":")))) // 5)
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, (size, count) in SIZES.items():
            line = line_of(size)
            file = Path(scratch, "lines")
            file.write_bytes(line * count)
            amount = len(line) * count / 1e6
            raw = [amount / _copied(file, Path(scratch)) for _ in range(REPEATS)]
            base = sheet.add(f"{name}: raw copy through the same hops", raw, "MB/s")
            parsed = [count / _parsed(line, count) for _ in range(REPEATS)]
            loads = sheet.add(f"{name}: json.loads alone", parsed, "lines/s")
            decoded = [count / _decoded(line, count) for _ in range(REPEATS)]
            sheet.add(f"{name}: decoded by the link", decoded, "lines/s", loads, least=0.6 if size == 250 else None)
            seconds = [await streamed(file, count, Path(scratch, f"agent-{size}-{n}")) for n in range(REPEATS)]
            aim = 0.5 if size == 4096 else None
            sheet.add(f"{name}: through agent and pipes", [amount / s for s in seconds], "MB/s", base, least=aim)
            sheet.add(f"{name}: the same, as events", [count / s for s in seconds], "events/s", loads)
            understood = [count / _understood(line, count) for _ in range(REPEATS)]
            sheet.add(f"{name}: link and conversation", understood, "events/s", loads)


def _copied(file: Path, scratch: Path) -> float:
    path = scratch / "copy"
    os.mkfifo(path)
    try:
        with subprocess.Popen([sys.executable, "-c", _COPY, str(file), str(path)]):
            fd = os.open(path, os.O_RDONLY)
            os.read(fd, 1)  # until it runs
            began = time.perf_counter()
            while os.read(fd, 65536):
                pass
            found = time.perf_counter() - began
            os.close(fd)
    finally:
        path.unlink()
    return found


def _parsed(line: bytes, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        json.loads(line)
    return time.perf_counter() - began


def _chunks(line: bytes, count: int) -> list[bytes]:
    frames = b"".join(wire.encode_output(number, line[:-1]) for number in range(1, count + 1))
    return [frames[start : start + 65536] for start in range(0, len(frames), 65536)]


def _greeted() -> Link:
    link = Link()
    link.greet()
    hello = {"hello": 1, "agent": "x", "epoch": "e", "session": "main", "journal": "j", "from": 1}
    link.receive_data(wire.encode({**hello, "state": "running", "seq": 0, "open": []}))
    return link


def _decoded(line: bytes, count: int) -> float:
    link, chunks = _greeted(), _chunks(line, count)
    began = time.perf_counter()
    for chunk in chunks:
        link.receive_data(chunk)
    return time.perf_counter() - began


def _understood(line: bytes, count: int) -> float:
    """As a turn's text, with its events taken."""
    link, chunks, conversation = _greeted(), _chunks(line, count), Conversation()
    turn = "00000000-0000-4000-8000-000000000000"
    conversation.process_ready((), 0.0)
    conversation.submit(turn, "x", 0.0)
    conversation.commands()
    conversation.took(turn, 0.0)
    conversation.receive_message({"type": "system", "subtype": "init", "user_message_uuids": [turn]}, 0.0)
    began = time.perf_counter()
    for chunk in chunks:
        for event in link.receive_data(chunk):
            assert isinstance(event, Output)
            conversation.receive_message(event.message, 0.0)
        conversation.take_events(turn)
    return time.perf_counter() - began


async def streamed(file: Path, count: int, directory: Path, python: tuple[str, ...] = ()) -> float:
    """Seconds for the lines of a file, once they come, through an agent that is started so."""
    with agent(directory, python=python):
        link, channel = await connect(directory)
        async with channel:
            link.start_claude(["cat", str(file)], {}, "/")
            await channel.send(link.data_to_send())
            got, began = 0, 0.0
            while got < count:
                events = link.receive_data(await channel.receive())
                began = began or time.perf_counter()
                got += sum(isinstance(event, Output) for event in events)
            return time.perf_counter() - began
