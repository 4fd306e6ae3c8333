"""Many instances that stream to one event loop: how late events come, and what each costs."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import anyio

from cc_bridge import ClaudeInstance, DockerContainer, LocalProcess
from cc_bridge.channels.fifo import Descriptor, open_fifo
from cc_bridge.events import TextDelta
from cc_bridge.protocol.link import Link, Output

from .figures import Figure, Sheet
from .stage import default_image, milli, scripted_model

TITLE = "instances that stream at once to one event loop, at 2,000 events a second in all"
COUNTS = (1, 10, 100, 500)
RATE = 2000.0
EVENTS = 6000
CONTAINERS = (1, 4, 8)

#: Plays the agents: numbered frames with the time in them, into one FIFO after the other, at a steady pace.
_STUBS = """
import json, os, sys, time
directory, count, rate, events = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
fds = [os.open(os.path.join(directory, str(n)), os.O_WRONLY) for n in range(count)]
hello = {"hello": 1, "agent": "x", "epoch": "e", "session": "main", "journal": "j", "from": 1, "state": "running",
         "seq": 0, "open": []}
for fd in fds:
    os.write(fd, json.dumps(hello).encode() + b"\\n")
sys.stdin.readline()
begin = time.monotonic()
for number in range(events):
    wait = begin + number / rate - time.monotonic()
    if wait > 0:
        time.sleep(wait)
    seq = number // count + 1
    event = {"type": "stream_event", "event": {"type": "content_block_delta", "delta": {"type": "text_delta",
             "text": "a few words"}}, "at": time.monotonic()}
    os.write(fds[number % count], b'{"seq":%d,"out":%b}\\n' % (seq, json.dumps(event).encode()))
"""


async def run(sheet: Sheet) -> None:
    ten: Figure | None = None
    each: Figure | None = None
    for count in COUNTS:
        delays, cpu, fds = await _streamed(count)
        ordered = sorted(delays)
        sheet.add(f"{count}: delay of an event, median", statistics.median(ordered) * 1e3, "ms")
        p99 = ordered[int(len(ordered) * 0.99)] * 1e3
        aim = {"base": ten, "most": 5.0} if count == 500 and ten else {}
        figure = sheet.add(f"{count}: delay of an event, 99th percentile", p99, "ms", **aim)
        ten = figure if count == 10 else ten
        sheet.add(f"{count}: processor time of the host for 1,000 events", cpu / EVENTS * 1e6, "ms")
        sheet.add(f"{count}: descriptors of the host", fds, "each")
        if count >= 100:
            aim = {"base": each, "most": 1.2} if each else {}
            figure = sheet.add(f"{count}: memory of the host for each instance", _memory(count), "KiB", **aim)
            each = each or figure
    await _containers(sheet)


def _memory(count: int) -> float:
    """KiB of Python's for what an instance needs on the host: the object, its conversation, its link."""
    _ = LocalProcess(ClaudeInstance.of(name="first", kind="local", workspace=Path("/")))  # what is shared by all
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        records = [ClaudeInstance.of(name=f"bench-{n}", kind="local", workspace=Path("/")) for n in range(count)]
        made = [(LocalProcess(record), Link()) for record in records]
        after, _ = tracemalloc.get_traced_memory()
        return (after - before) / len(made) / 1024
    finally:
        tracemalloc.stop()


async def _streamed(count: int) -> tuple[list[float], float, float]:
    delays: list[float] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    open_before = len(os.listdir("/proc/self/fd"))
    with tempfile.TemporaryDirectory() as directory:
        ends = []
        for number in range(count):
            os.mkfifo(Path(directory, str(number)))
            ends.append(open_fifo(directory, str(number), os.O_RDONLY))
        argv = [sys.executable, "-c", _STUBS, directory, str(count), str(RATE), str(EVENTS)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as stubs:
            assert stubs.stdin
            links = [Link() for _ in ends]

            async def follow(link: Link, end: Descriptor) -> None:
                link.greet()
                link.data_to_send()
                await end.wait_readable()  # nobody writes yet, which would look like the end
                while data := await end.read():
                    now = time.monotonic()
                    for event in link.receive_data(data):
                        if isinstance(event, Output) and isinstance(event.message, dict):
                            delays.append(now - event.message["at"])

            async with anyio.create_task_group() as group:
                for link, end in zip(links, ends, strict=True):
                    group.start_soon(follow, link, end)
                await anyio.sleep(0.5)
                fds = (len(os.listdir("/proc/self/fd")) - open_before) / count
                used = time.process_time()
                stubs.stdin.write(b"go\n")
                stubs.stdin.flush()
            cpu = time.process_time() - used
        for end in ends:
            end.close()
    return delays, cpu, fds


async def _containers(sheet: Sheet) -> None:
    """Real ones, with the real Claude Code, as many as two processors and 24 GiB carry."""
    async with default_image() as image:
        if not image:
            sheet.note("no engine answers here: no real containers")
            return
        with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
            workspace = Path(scratch)
            workspace.chmod(0o777)
            made: list[DockerContainer] = []
            try:
                for count in CONTAINERS:
                    while len(made) < count:
                        name = f"bench-{os.getpid()}-{len(made)}"
                        fields = {"image": image, "network": "host", "env": env, "workspace": workspace}
                        record = ClaudeInstance.of(name=name, kind="docker", ephemeral=True, **fields)
                        made.append(DockerContainer(record))
                        await made[-1].start()
                        await made[-1].send_command_and_wait("[[say warm]]")
                    gaps: list[float] = []

                    async def stream(instance: DockerContainer, gaps: list[float] = gaps) -> None:
                        last = 0.0
                        async for event in instance.stream("[[pace 0.02]] [[repeat 100 word,]]"):
                            if isinstance(event, TextDelta):
                                now = time.monotonic()
                                if last:
                                    gaps.append(now - last)
                                last = now

                    async with anyio.create_task_group() as group:
                        for instance in made:
                            group.start_soon(stream, instance)
                    late = sorted(milli(gaps))
                    sheet.add(f"{count} real containers: between two tokens", late, "ms")
                    sheet.add(f"{count} real containers: the same, 99th percentile", late[int(len(late) * 0.99)], "ms")
            finally:
                for instance in made:
                    await instance.cleanup()
