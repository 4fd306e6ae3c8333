"""An agent for where none can run: speaks the agent's frames over a bare ``claude`` process.

Sans-I/O. The host's frames go in at :meth:`StandIn.receive_frames`, Claude Code's bytes at
:meth:`StandIn.receive_output`; frames for the host come out of :meth:`StandIn.frames_to_host`, and what
to do with the process out of :meth:`StandIn.actions`. There is no replay and no second client.
"""

from __future__ import annotations

import uuid
from typing import Any

from cc_bridge_agent import wire

from ..errors import ProtocolError
from ..values import Value

__all__ = ["Action", "Signal", "StandIn", "StartProcess", "Write"]


class StartProcess(Value):
    """Start Claude Code, then call :meth:`StandIn.launched` or :meth:`StandIn.not_launched`."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None


class Write(Value):
    """Write this to its stdin."""

    data: bytes


class Signal(Value):
    """Send it INT, TERM or KILL."""

    name: str


Action = StartProcess | Write | Signal

#: Every turn begins with such a line.
_INIT = b'"subtype":"init"'


class StandIn:
    """The agent's side of one connection."""

    def __init__(self) -> None:
        self._from_host = wire.LineSplitter()
        self._output = wire.LineSplitter()
        self._frames: list[bytes] = []
        self._actions: list[Action] = []
        self._running = False
        self._written: list[str] = []  # inputs of which it is not known yet whether Claude Code will read them
        self._seq = 0

    def receive_frames(self, data: bytes) -> None:
        """Bytes from the host. Call :meth:`actions` and :meth:`frames_to_host` next.

        Raises:
            ProtocolError: the host's own mistake.
        """
        try:
            for line in self._from_host.feed(data):
                carried = wire.split_input(line)
                if carried:
                    input_id, _, message = carried  # one turn at a time, and one host: an interrupt is for it
                    self._input(input_id, message)
                else:
                    self._frame(wire.decode(line))
        except wire.FrameError as error:
            raise ProtocolError(str(error)) from error

    def receive_output(self, data: bytes) -> None:
        """Bytes of Claude Code's stdout. Call :meth:`frames_to_host` next.

        Raises:
            ProtocolError: a line longer than the limit.
        """
        try:
            for line in self._output.feed(data):
                if self._written and (_INIT in line or any(name.encode() in line for name in self._written)):
                    self._take_written()
                self._seq += 1
                self._frames.append(wire.encode_output(self._seq, line))
        except wire.FrameError as error:
            raise ProtocolError(str(error)) from error

    def receive_stderr(self, text: str) -> None:
        """What Claude Code has written to stderr."""
        for line in text.splitlines():
            self._number({"err": line})

    def launched(self, pid: int) -> None:
        """The process runs."""
        self._running = True
        self._number({"started": pid})

    def not_launched(self, message: str, errno: int | None) -> None:
        """The process could not be started."""
        self._frames.append(wire.encode({"error": "start", "message": message, "errno": errno}))

    def exited(self, code: int) -> None:
        """The process has ended, after all its output."""
        if self._running:
            self._running = False
            killed = code < 0 or code > 128
            refused, self._written = (self._written, []) if killed else ([], self._written)
            self._take_written()
            self._number({"exit": code})
            for _ in refused:
                self._refuse()

    def frames_to_host(self) -> bytes:
        """Frames that wait for the host."""
        frames, self._frames = b"".join(self._frames), []
        return frames

    def actions(self) -> list[Action]:
        """What to do with the process, in order."""
        actions, self._actions = self._actions, []
        return actions

    def _frame(self, frame: dict[str, Any]) -> None:
        if "hello" in frame:
            hello = {"hello": wire.VERSION, "agent": "none", "epoch": uuid.uuid4().hex, "session": "main"}
            self._frames.append(
                wire.encode(
                    {**hello, "state": "new", "seq": self._seq, "from": self._seq + 1, "journal": "", "open": []}
                )
            )
        elif "start" in frame and not self._running:
            start = frame["start"]
            self._actions.append(StartProcess(tuple(start["argv"]), dict(start["env"]), start["cwd"]))
        elif "done" in frame:
            self._number({"done": frame["done"]})
        elif "signal" in frame:
            self._actions.append(Signal(frame["signal"]))

    def _input(self, input_id: str, line: bytes) -> None:
        if self._running:
            self._written.append(input_id)
            if input_id.startswith(wire.CONTROL):
                self._take_written()
            self._actions.append(Write(line + b"\n"))
        else:
            self._refuse()

    def _take_written(self) -> None:
        for input_id in self._written:
            self._number({"took": input_id})
        self._written.clear()

    def _refuse(self) -> None:
        self._frames.append(wire.encode({"error": "not_running", "message": "Claude Code is not running"}))

    def _number(self, frame: dict[str, Any]) -> None:
        self._seq += 1
        self._frames.append(wire.encode({"seq": self._seq, **frame}))
