"""Putting an instance to sleep, by an agent's own words. covers: B7"""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from cc_bridge.channels.base import Channel

pytestmark = pytest.mark.anyio

HELLO = {"hello": 1, "agent": "a", "epoch": "e", "session": "main", "journal": "j", "state": "running", "seq": 0}
HELLO |= {"from": 1, "open": [], "sleep": 600}


class Asked(Channel):
    """Answers the hello, and what is said after it."""

    kind = "pipes"

    def __init__(self, hello: dict[str, Any], *answers: dict[str, Any]) -> None:
        self.answers = [hello, *answers]
        self.said: list[dict[str, Any]] = []
        self.silent = False
        self.is_open = True

    async def send(self, data: bytes) -> None:
        self.said += [json.loads(line) for line in data.splitlines()]

    async def receive(self) -> bytes:
        if not self.answers and self.silent:
            await anyio.sleep_forever()
        if not self.answers:
            raise anyio.EndOfStream
        return json.dumps(self.answers.pop(0)).encode() + b"\n"

    async def aclose(self) -> None:
        self.is_open = False
