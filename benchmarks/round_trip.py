"""A line of 200 bytes to a child process in a container and back, through every way that one might take."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cc_bridge.channels.base import Channel
from cc_bridge.channels.docker_exec import DockerExecChannel
from cc_bridge.channels.named_pipe import NamedPipeChannel, prepare_directory
from cc_bridge.channels.unix_socket import UnixSocketChannel
from cc_bridge.engine.client import Engine
from cc_bridge.engine.execs import Execs
from cc_bridge.instances.registry import agent_archive
from cc_bridge.protocol.link import Hello, Link, Output

from .figures import Sheet
from .stage import default_image, micro, start_child, timed, until

TITLE = "a 200-byte line: host → relaying process → child (cat) → relaying process → host"
ROUNDS = 3000
PAD = "x" * 150

#: The limit: the same hops, and in each nothing but a read and a write that block.
_RAW = """
import os, subprocess, sys
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
there, back = (os.open(path, os.O_RDWR) for path in sys.argv[1:])
os.write(back, b"ready\\n")
while True:
    os.write(child.stdin.fileno(), os.read(there, 65536))
    os.write(back, os.read(child.stdout.fileno(), 65536))
"""

#: What many write first: a small HTTP server in the container.
_HTTP = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    def log_message(self, *args): pass
    def do_POST(self):
        child.stdin.write(self.rfile.read(int(self.headers["Content-Length"])))
        data = child.stdout.readline()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
server = HTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[1], "w").write(str(server.server_port) + "\\n")
server.serve_forever()
"""


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        directory.chmod(0o777)
        async with default_image() as image:
            if not image:
                sheet.note("no engine answers here: processes of this machine take the container's place")
            with _place(image, directory) as start:
                line = json.dumps({"pad": PAD}).encode() + b"\n"
                raw = sheet.add("raw FIFOs, blocking reads and writes", micro(_raw(start, directory, line)), "µs")
                prepare_directory(str(directory / "pipes"))
                agent = "/agent.pyz" if image else str(agent_archive())
                words = ["python3", "-IS", agent, "serve", "--pipes", str(directory / "pipes")]
                start([*words, "--socket", str(directory / "run/agent.sock"), "--state", str(directory / "run/state")])
                socket = str(directory / "run/agent.sock")
                _wait_for(lambda: os.path.exists(socket))
                link = Link("socket")
                link.greet()
                unix = await UnixSocketChannel.connect(socket, link.data_to_send())
                by_socket = await _through(unix, link)
                link = Link("pipes")
                link.greet()
                pipes = await NamedPipeChannel.connect(str(directory / "pipes"), link.data_to_send())
                found = await _through(pipes, link)
                attached = (
                    sheet.add("attached docker exec", micro(await _exec(directory)), "µs", raw) if image else None
                )
                sheet.add("NamedPipeChannel, through the agent", micro(found), "µs", raw, most=3, below=attached)
                sheet.add("the agent's unix socket in a bind mount", micro(by_socket), "µs", raw)
                sheet.add("HTTP on loopback", micro(_http(start, directory, line)), "µs", raw)


Start = Callable[[list[str]], None]


@contextmanager
def _place(image: str, directory: Path) -> Iterator[Start]:
    """Starts programs: in a container that has the directory at the same path, or on this machine."""
    started: list[subprocess.Popen[bytes]] = []
    name = f"cc-bridge-bench-{os.getpid()}"
    prefix: list[str] = []
    if image:
        mounts = ["-v", f"{directory}:{directory}", "-v", f"{agent_archive()}:/agent.pyz:ro"]
        user = f"{os.getuid()}:{os.getgid()}"  # whose socket the host may use
        run = ["docker", "run", "-d", "--rm", "--name", name, "--user", user, "--network", "host", *mounts]
        subprocess.run([*run, "--entrypoint", "sleep", image, "600"], check=True, stdout=subprocess.DEVNULL)
        prefix = ["docker", "exec", name]

    def start(argv: list[str]) -> None:
        null = subprocess.DEVNULL
        started.append(subprocess.Popen([*prefix, *argv], stdin=null, stdout=null, stderr=null))

    try:
        yield start
    finally:
        if image:
            subprocess.run(["docker", "rm", "-f", name], check=False, stdout=subprocess.DEVNULL)
        for process in started:
            process.terminate()
            process.wait()


def _wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        if time.monotonic() > end:
            raise TimeoutError("it does not come up")
        time.sleep(0.02)


def _raw(start: Start, directory: Path, line: bytes) -> list[float]:
    paths = [directory / "there", directory / "back"]
    for path in paths:
        os.mkfifo(path)
        path.chmod(0o666)
    there, back = (os.open(path, os.O_RDWR) for path in paths)
    start(["python3", "-c", _RAW, *map(str, paths)])
    os.read(back, 10)

    def once() -> None:
        os.write(there, line)
        os.read(back, 65536)

    found = timed(ROUNDS, once)
    os.close(there)
    os.close(back)
    return found


async def _through(channel: Channel, link: Link) -> list[float]:
    async with channel:
        await until(link, channel, Hello)
        await start_child(link, channel, ["cat"])
        found = []
        for number in range(ROUNDS):
            began = time.perf_counter()
            link.send_input(f"c-{number}", {"pad": PAD})
            await channel.send(link.data_to_send())
            await until(link, channel, Output)
            found.append(time.perf_counter() - began)
    return found[ROUNDS // 10 :]


async def _exec(directory: Path) -> list[float]:
    engine = Engine()
    try:
        link = Link("exec")
        link.greet()
        argv = ["python3", "-IS", "/agent.pyz", "attach", "--socket", str(directory / "run/agent.sock")]
        channel = await DockerExecChannel.open(Execs(engine), f"cc-bridge-bench-{os.getpid()}", argv)
        await channel.send(link.data_to_send())
        return await _through(channel, link)
    finally:
        await engine.aclose()


def _http(start: Start, directory: Path, line: bytes) -> list[float]:
    told = directory / "port"
    start(["python3", "-c", _HTTP, str(told)])
    _wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
    connection = http.client.HTTPConnection("127.0.0.1", int(told.read_text()))

    def once() -> None:
        connection.request("POST", "/", line)
        connection.getresponse().read()

    found = timed(ROUNDS, once)
    connection.close()
    return found
