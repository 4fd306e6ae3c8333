"""A real HTTP server for webhooks, which answers as it is told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc

Stream = anyio.abc.SocketStream
Answer = Callable[[Stream], Awaitable[None]]


def status(line: str, body: str = "", *headers: str) -> Answer:
    """Answers this, and goes on with the connection."""
    head = "\r\n".join([f"HTTP/1.1 {line}", f"Content-Length: {len(body)}", *headers])

    async def answer(stream: Stream) -> None:
        await stream.send(f"{head}\r\n\r\n{body}".encode())

    return answer


async def hang(stream: Stream) -> None:
    await stream.receive()  # until the other end gives up
    raise anyio.EndOfStream


async def close(stream: Stream) -> None:
    raise anyio.EndOfStream


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server which answers as it is told to, then with 200."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    come: anyio.Event = field(default_factory=anyio.Event)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=b"

    async def serve(self, stream: Stream) -> None:
        self.connections += 1
        try:
            async with stream:
                while True:
                    self.requests.append(await read_request(stream))
                    self.come.set()
                    await (self.answers.pop(0) if self.answers else status("200 OK", "ok"))(stream)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    async def until(self, number: int) -> list[Request]:
        """The requests, when there are so many."""
        with anyio.fail_after(60):
            while len(self.requests) < number:
                self.come = anyio.Event()
                await self.come.wait()
        return self.requests

    @property
    def bodies(self) -> list[str]:
        return [request.body.decode() for request in self.requests]


async def read_request(stream: Stream) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += await stream.receive()
    return Request(first.split(" ")[1], headers, body)


@asynccontextmanager
async def receiver(*answers: Answer) -> AsyncIterator[Receiver]:
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        made = Receiver(list(answers), port=listener.extra(anyio.abc.SocketAttribute.local_port))
        group.start_soon(listener.serve, made.serve)
        yield made
        group.cancel_scope.cancel()
