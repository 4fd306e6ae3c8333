"""The service: what a stream adds to what a reader in the same process has, and what an idle one costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from cc_bridge import ClaudeInstance
from cc_bridge.instances.registry import Registry

from .figures import Sheet
from .stage import milli

TITLE = "the service: streams of 30 tokens a second each over HTTP, and one that has nothing to do"
COUNTS = (1, 20, 200)
RATE = 30.0
SECONDS = 10.0
IDLE = 50

#: Reads so many streams, and says when each event was here.
_CLIENT = """
import json, re, selectors, socket, sys, time
port, token, count, events = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chosen, arrived, found = selectors.DefaultSelector(), {}, re.compile(rb'"text":"(\\d+:\\d+)"')
for number in range(count):
    stream = socket.create_connection(("127.0.0.1", port))
    ask = [f"GET /v1/instances/voice-{number}/events HTTP/1.1", "Host: localhost"]
    ask += [f"Authorization: Bearer {token}", "", ""]
    stream.sendall("\\r\\n".join(ask).encode())
    data = b""
    while b"retry: " not in data:
        data += stream.recv(65536)
        assert data, "refused"
    assert b" 200 " in data[:20], data
    chosen.register(stream, selectors.EVENT_READ)
print("ready", flush=True)
while len(arrived) < events:
    for key, _ in chosen.select(30):
        data = key.fileobj.recv(65536)
        now = time.monotonic()
        assert data, "a stream has ended"
        for text in found.findall(data):
            arrived[text.decode()] = now
print(json.dumps(arrived), flush=True)
"""


async def run(sheet: Sheet) -> None:
    busy, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if busy > processors / 2:
        what = f"others use the processors (load {busy:.1f} on {processors}), and the 99th percentiles are theirs"
        sheet.note(f"{what}: as root, `chrt -r 1 make bench ONLY=service` goes before them")
    for count in COUNTS:
        added, used = await _streamed(count)
        ordered = sorted(milli(added))
        sheet.add(f"{count} streams: delay added to a reader's, median", ordered[len(ordered) // 2], "ms")
        aim = {"most": 5.0} if count == max(COUNTS) else {}
        p99 = ordered[int(len(ordered) * 0.99)]
        sheet.add(f"{count} streams: delay added to a reader's, 99th percentile", p99, "ms", **aim)
        sheet.add(f"{count} streams: processor time for 1,000 events, both readings", used / len(added) * 1e6, "ms")
    await _idle(sheet)


async def _streamed(count: int) -> tuple[list[float], float]:
    """Seconds from when a reader has an event until the client of a stream has it; processor time of the service."""
    events = int(RATE * SECONDS) * count
    with tempfile.TemporaryDirectory() as home:
        argv = [sys.executable, "-m", "benchmarks.service_host", str(count), str(RATE), str(SECONDS)]
        env = {**os.environ, "CC_BRIDGE_HOME": home}
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, text=True) as host:
            try:
                assert host.stdin
                assert host.stdout
                port, token = json.loads(host.stdout.readline())
                argv = [sys.executable, "-c", _CLIENT, str(port), token, str(count), str(events)]
                with subprocess.Popen(argv, stdout=pipe, text=True) as client:
                    assert client.stdout
                    assert client.stdout.readline() == "ready\n"
                    _tell(host)
                    said: dict[str, Any] = json.loads(host.stdout.readline())
                    arrived: dict[str, float] = json.loads(client.stdout.readline())
                _tell(host)
                host.wait(30)
            finally:
                host.kill()
    return [arrived[name] - at for name, at in said["heard"].items()], said["cpu"]


def _tell(host: subprocess.Popen[str]) -> None:
    assert host.stdin
    host.stdin.write("\n")
    host.stdin.flush()


async def _idle(sheet: Sheet) -> None:
    """With a page that is open, and instances that do nothing."""
    with tempfile.TemporaryDirectory() as home:
        registry = Registry(Path(home))
        for number in range(IDLE):
            place = registry.home(f"idle-{number}")
            place.prepare()
            place.save(ClaudeInstance.of(name=f"idle-{number}", kind="local", workspace=Path(home)))
        argv = [str(Path(sys.executable).parent / "cc-bridge"), "serve", "--on", "local", "--port", "0", "--json"]
        env = {**os.environ, "CC_BRIDGE_HOME": home, "CC_BRIDGE_CONFIG": ""}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as served:
            try:
                assert served.stdout
                said = json.loads(served.stdout.readline())
                port = said["address"].rsplit(":", 1)[1].strip("/")
                token = Path(said["token_file"]).read_text().strip()
                await anyio.sleep(3)
                before = wake_ups(served.pid)
                await anyio.sleep(SECONDS)
                alone = wake_ups(served.pid) - before
                async with await anyio.connect_tcp("127.0.0.1", int(port)) as page:
                    ask = f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
                    await page.send(ask.encode())
                    await page.receive()
                    await anyio.sleep(3)
                    before = wake_ups(served.pid)
                    await anyio.sleep(SECONDS)
                    watched = wake_ups(served.pid) - before
            finally:
                served.terminate()
                served.wait(30)
    sheet.add(f"idle, {IDLE} instances: wake-ups in {SECONDS:g} s", alone, "in all", most=0)
    # A comment each 15 s, which a timer sends.
    sheet.add(f"idle, and a stream: wake-ups in {SECONDS:g} s", watched, "in all", most=2)


def wake_ups(pid: int) -> int:
    """Voluntary context switches of all threads of a process."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = status.read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
    return total
