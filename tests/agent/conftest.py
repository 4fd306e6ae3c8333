"""The agent's own suite, once for each Python that it supports and this machine has."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipapp
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cc_bridge.channels.named_pipe import prepare_directory
from cc_bridge.instances.registry import agent_archive
from tests.conftest import lacking

#: The oldest and the newest; what lies between runs the agent in every other suite.
VERSIONS = ("3.9", "3.13")

#: For what shows whether the newest can do all that the agent needs: the rest of it runs there with THOROUGH=1.
both = pytest.mark.parametrize("interpreter", VERSIONS, indirect=True)


@functools.cache
def find_python(version: str) -> str | None:
    """An interpreter of this version: ours, on the search path, or pyenv's."""
    roots = [Path(root) for root in (os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv") if root]
    candidates = [sys.executable, shutil.which(f"python{version}")]
    candidates += [str(path) for root in roots for path in sorted(root.glob(f"versions/{version}.*/bin/python3"))]
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):  # what is on the path may be pyenv's shim, and not work
        done = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture(params=[VERSIONS[0], pytest.param(VERSIONS[1], marks=pytest.mark.thorough)])
def interpreter(request: pytest.FixtureRequest) -> str:
    found = find_python(request.param)
    if found is None:
        lacking("python", f"this machine has no Python {request.param} for the agent's suite")
    assert found
    return found


@functools.cache
def archive_for(interpreter: str) -> str:
    """The agent, compiled by this Python, because so many are started."""
    made = agent_archive()
    target = made.with_name(f"agent-{interpreter.replace('/', '-')}.pyz")
    with tempfile.TemporaryDirectory() as tree:
        shutil.unpack_archive(made, tree, "zip")
        compile_all = ["-m", "compileall", "-q", "-f", "-b", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([interpreter, *compile_all, f"{tree}/cc_bridge_agent"], check=True)
        zipapp.create_archive(tree, target)
    return str(target)


@dataclass
class Agent:
    """An agent that serves, and how to reach it."""

    process: subprocess.Popen[bytes]
    directory: Path
    interpreter: str
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def socket_path(self) -> str:
        return str(self.directory / "agent.sock")

    def connect(self, session: str = "main", hello: bool = True, **asked: Any) -> Connection:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(self.socket_path)
        self.connections.append(connection)
        made = Connection(connection)
        if hello:
            made.send({"hello": 1, "session": session, **asked})
            made.hello = made.read()
        return made

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        argv = [self.interpreter, "-IS", archive_for(self.interpreter), *words, "--socket", self.socket_path]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, **options)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "log").read_text().splitlines()]


class Connection:
    """Frames to and from the agent."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")
        self.hello: dict[str, Any] = {}

    def send(self, *frames: dict[str, Any]) -> None:
        for frame in frames:
            self._socket.sendall(json.dumps(frame, separators=(",", ":")).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> dict[str, Any]:
        """The next frame; empty at the end of the connection, which may come within a frame."""
        line = self._file.readline()
        return json.loads(line) if line.endswith(b"\n") else {}

    def until(self, key: str) -> dict[str, Any]:
        while key not in (frame := self.read()):
            assert frame, f"the connection ended before {key!r}"
        return frame

    def start(self, *argv: str, env: dict[str, str] | None = None, cwd: str = "/") -> dict[str, Any]:
        self.send({"start": {"argv": list(argv), "env": env or {}, "cwd": cwd}})
        frame = self.read()
        assert "started" in frame, frame
        return frame

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def make_agent(interpreter: str, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts agents; ends them with the test."""
    made: list[Agent] = []

    def make(*options: str, pipes: bool = True, place: Path | None = None) -> Agent:
        directory = place or tmp_path / f"agent{len(made)}"
        directory.mkdir(mode=0o700, exist_ok=True)
        if pipes:
            prepare_directory(str(directory / "pipes"))
            options = ("--pipes", str(directory / "pipes"), *options)
        ready, write = os.pipe()
        argv = [interpreter, "-IS", archive_for(interpreter), "serve", "--socket", str(directory / "agent.sock")]
        with open(directory / "log", "wb") as log:
            process = subprocess.Popen([*argv, "--ready-fd", str(write), *options], pass_fds=[write], stderr=log)
        os.close(write)
        assert os.read(ready, 100) == b"ready\n", (directory / "log").read_text()
        os.close(ready)
        made.append(Agent(process, directory, interpreter))
        return made[-1]

    yield make
    for agent in made:
        for connection in agent.connections:
            connection.close()
        if agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait(10)


@pytest.fixture
def agent(make_agent: Callable[..., Agent]) -> Agent:
    return make_agent()
