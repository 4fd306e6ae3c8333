"""``cc-bridge serve`` as a process of its own, and who calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import httpx

from cc_bridge import LocalProcess
from cc_bridge.instances.registry import Registry
from tests import forked

#: Seconds for a service to begin, and to end.
LIMIT = 30.0


class Served:
    """A service on a state directory of its own, which may be killed and started again.

    Args:
        env: of the service, and so of its Claude Codes.
        database: its address; by default a file of its own.
    """

    def __init__(self, root: Path, env: Mapping[str, str], database: str = "") -> None:
        self.root = root
        self.address = ""
        self.token = ""
        self._database = database
        self._env = {**os.environ, **env, "CC_BRIDGE_HOME": str(root)}
        self._process: forked.Process | None = None

    def start(self, *options: str) -> Self:
        """Start it, and return when it takes commands."""
        words = ["serve", "--on", "local", "--json", *options]
        words += ["--port", self.address.rsplit(":", 1)[-1].strip("/") if self.address else "0"]
        if self._database:
            words += ["--database", self._database]
        read, write = os.pipe()
        with open(read) as said_by_it:
            self._process = forked.Process(words, env=self._env, cwd=os.getcwd(), out=write, err=2, imported="service")
            os.close(write)
            line = said_by_it.readline()
        assert line, f"it has ended: {self._process.wait(LIMIT)}"
        said = json.loads(line)
        self.address = said["address"]
        self.token = Path(said["token_file"]).read_text().strip()
        return self

    def kill(self) -> None:
        """End it at once; nothing of it says goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an administrator does; its exit code."""
        return self._end(signal.SIGTERM)

    def terminate(self) -> None:
        """The same, without waiting."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT)
            raise

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """Who calls it, with its first token unless there is another; empty: with none."""
        secret = self.token if token is None else token
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=self.address, headers=headers, timeout=60)

    async def clean(self) -> None:
        """End what it has left, which goes on when it ends."""
        self.kill()
        registry = Registry(self.root)
        for name in registry.names():
            await LocalProcess(registry.load(name), registry=registry).remove(conversation=True)


async def events(response: httpx.Response) -> AsyncGenerator[tuple[str, str, dict[str, Any]], None]:
    """The id, the kind and the data of each event of a stream, until it ends."""
    at = kind = data = ""
    lines = response.aiter_lines()
    async with aclosing(lines) as reading:  # type: ignore[type-var]
        async for line in reading:
            name, _, value = line.partition(": ")
            if not line and data:
                yield at, kind, json.loads(data)
                kind = data = ""
            elif name == "id":
                at = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = value


async def made(client: httpx.AsyncClient, *names: str) -> None:
    """These instances are there."""
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(_make, client, name)


async def _make(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/v1/instances", json={"name": name, "template": "default"})
    assert response.status_code == 201, response.text


@contextmanager
def lost_connections() -> Iterator[None]:
    """What happens to a client whose service is killed."""
    try:
        yield
    except httpx.TransportError:
        pass
