"""Claude Code without an agent: its end is told once, whoever notices it. covers: B4"""

from __future__ import annotations

import json
import socket
import struct
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from cc_bridge.channels.direct import DirectChannel

pytestmark = pytest.mark.anyio


class OneExec:
    """An engine with one command in it, whose other end is ours."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self._fd = ours.detach()
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def attach(self, *_: Any, **__: Any) -> Any:
        self.say(2, b"cc-bridge pid 7\n")
        return SimpleNamespace(id="e", fd=self._fd, early=b"")

    async def exit_code(self, _: str) -> int:
        self.asked.set()
        await self.may_answer.wait()
        return 3

    def say(self, stream: int, data: bytes) -> None:
        self.theirs.sendall(struct.pack(">BxxxI", stream, len(data)) + data)


def line(**frame: Any) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("first", ["sender", "receiver"])
async def test_both_directions_may_notice_the_end(first: str) -> None:
    engine: Any = OneExec()
    channel = DirectChannel(engine, "c", line(hello=1, session="main"))
    await channel.send(line(start={"argv": ["claude"], "env": {}, "cwd": "/"}))
    assert b'"started":7' in await channel.receive()
    if first == "receiver":  # a sender takes unread output for a sign of life
        engine.say(2, b"oops\n")
    engine.theirs.close()
    received: list[bytes] = []

    async def receive() -> None:
        while b'"exit"' not in b"".join(received):
            received.append(await channel.receive())

    async def send() -> None:
        await channel.send(line(id="a", **{"in": {}}))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(receive if first == "receiver" else send)
            await engine.asked.wait()
            group.start_soon(send if first == "receiver" else receive)
            await anyio.wait_all_tasks_blocked()
            engine.may_answer.set()
    frames = [json.loads(item) for item in b"".join(received).splitlines()]
    assert [frame["exit"] for frame in frames if "exit" in frame] == [3]
    assert ({"seq": 2, "err": "oops"} in frames) == (first == "receiver")
    await channel.aclose()
