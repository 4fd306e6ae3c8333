"""An agent that keeps what it says, and connections to it that break."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import anyio

from cc_bridge.channels.base import Channel


class KeepingAgent:
    """An agent that outlives its connections, as the real one does: it numbers what it says, and keeps it.

    Claude Code, as it were, answers every message with the same pieces.

    Attributes:
        hellos: of the hosts.
        sent: the id of each input that has come, as often as it has come.
        given: the id of each that was passed on to Claude Code.
    """

    PIECES = ("one ", "two ", "three")

    def __init__(self) -> None:
        self.journal = "j"
        self.kept: list[dict[str, Any]] = []
        self.hellos: list[dict[str, Any]] = []
        self.sent: list[str] = []
        self.given: list[str] = []

    def say(self, **frame: Any) -> None:
        self.kept.append({"seq": len(self.kept) + 1, **frame})

    def out(self, **message: Any) -> None:
        self.say(out=message)

    def answer(self, line: Line, frame: dict[str, Any]) -> None:
        """What a host has said over one of the connections."""
        if "hello" in frame:
            self.hellos.append(frame)
            self._welcome(line, frame)
        elif "in" in frame:
            self.sent.append(frame["id"])
            if frame["id"] in self.given:
                line.frames.append({"took": frame["id"], "again": True})
            else:
                self.given.append(frame["id"])
                self.say(took=frame["id"])
                self._play(frame["id"])
        elif "done" in frame:
            self.say(done=frame["done"])

    def _welcome(self, line: Line, hello: dict[str, Any]) -> None:
        after, journal = hello.get("have", [len(self.kept), self.journal])
        if "turn" in hello:
            after = next(frame["seq"] for frame in self.kept if frame.get("took") == hello["turn"]) - 1
        if journal != self.journal:
            line.frames.append({"error": "gone", "message": "these frames are not kept"})
            return
        line.read = after
        open_ids = [name for name in self.given if not any(frame.get("done") == name for frame in self.kept)]
        fields = {"epoch": "e", "session": "main", "journal": journal, "from": after + 1, "seq": len(self.kept)}
        line.frames.append({"hello": 1, "agent": "0", "state": "running", "open": open_ids, **fields})

    def _play(self, turn_id: str) -> None:
        self.out(type="system", subtype="init", session_id="s", model="m")
        self.out(type="user", isReplay=True, uuid=turn_id, message={"role": "user", "content": "…"})
        block = {"type": "text", "text": ""}
        self.out(type="stream_event", event={"type": "content_block_start", "content_block": block})
        for piece in self.PIECES:
            delta = {"type": "text_delta", "text": piece}
            self.out(type="stream_event", event={"type": "content_block_delta", "delta": delta})
        text = "".join(self.PIECES)
        self.out(type="assistant", message={"model": "m", "content": [{"type": "text", "text": text}]})
        self.out(type="result", subtype="success", is_error=False, result=text, session_id="s", num_turns=1)


class Line(Channel):
    """A connection to it, which breaks after so many frames received; ``deaf``: what is sent over it is lost."""

    kind = "memory"

    def __init__(self, agent: KeepingAgent, greeting: bytes, breaks_after: int | None, deaf: bool) -> None:
        self.frames: deque[dict[str, Any]] = deque()  # unnumbered ones
        self.read = 0
        self._agent, self._left, self._deaf = agent, breaks_after, deaf
        self._come = anyio.Event()
        self._take(greeting)

    def _take(self, data: bytes) -> None:
        for line in data.splitlines():
            self._agent.answer(self, json.loads(line))

    async def send(self, data: bytes) -> None:
        if not self._deaf:
            self._take(data)
            self._come.set()

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        while self._left != 0:
            if frame := self._next():
                self._left = self._left and self._left - 1
                return json.dumps(frame).encode() + b"\n"
            if self._left is not None:
                break  # nothing more comes, and it is to break
            self._come = anyio.Event()
            await self._come.wait()
        raise anyio.EndOfStream

    def _next(self) -> dict[str, Any] | None:
        if self.frames:
            return self.frames.popleft()
        if self.read < len(self._agent.kept):
            self.read += 1
            return self._agent.kept[self.read - 1]
        return None

    async def aclose(self) -> None:
        self._left = 0
        self._come.set()
