"""One process beside the main Claude Code, as its host sees it: what is to be said to it, and what it has said.

Sans-I/O, over as many connections as it takes. What is written is cut into inputs, each with an id; one that was not
answered is said again over the next connection, and the agent passes each on once. What is received has neither gaps
nor repeats, because each connection goes on where the last one ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from ..values import Value
from .link import AgentRefused, Exited, Hello, Link, LinkEvent, Started, StreamBytes, Took

__all__ = ["RawStreams", "Start"]

#: Bytes of one input, and of what may be unanswered: what the agent holds for a process that does not read.
_LARGEST_INPUT = 256 * 1024
_WINDOW = 1024 * 1024

#: Bytes that are counted for an input beside its own, so that the number of inputs is bounded, too.
_OVERHEAD = 1024


class Start(Value):
    """What to start. ``env`` may have secrets.

    Attributes:
        env: added to what is there; None: taken away from it.
        linger: seconds without a host after which the agent ends the process.
        tty: columns and rows of its terminal; None: it has none, and three pipes.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str | None]
    cwd: str
    linger: float
    tty: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str | None],
        cwd: str,
        linger: float = 30.0,
        tty: tuple[int, int] | None = None,
    ) -> Start:
        """The same, from a list; a Claude Code that this program runs in is none of its business."""
        return cls(tuple(argv), {**env, "CLAUDECODE": None}, cwd, linger, tty)


class _Input(Value):
    id: str
    data: bytes | None

    @property
    def size(self) -> int:
        return len(self.data or b"") + _OVERHEAD


class RawStreams:
    """The streams of one process, from its start to its end.

    Attributes:
        started: the agent has started it.
        exited: how it ended, as the agent says; None: it runs, as far as is known.
        refused: the agent could not start it.
        input_ended: :meth:`end_input` was called.
        buffered: bytes of its output that nobody has taken.
        connected_once: :meth:`connected` was called, so that it may have been started.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self.started = False
        self.exited: Exited | None = None
        self.refused: AgentRefused | None = None
        self.input_ended = False
        self.buffered = 0
        self.connected_once = False
        self._inputs: deque[_Input] = deque()  # that were not answered, oldest first
        self._said = 0  # how many of them were said over this connection, and their bytes
        self._said_bytes = 0
        self._asked = False  # to start it, over this connection
        self._next_id = 0
        self._output: deque[StreamBytes] = deque()
        self._signals: list[str] = []
        self._size: tuple[int, int] | None = None  # of the terminal, that is to be told

    @property
    def on_terminal(self) -> bool:
        """It is started on a terminal."""
        return self._start.tty is not None

    @property
    def over(self) -> bool:
        """It has ended, or was never started; nothing more can be said to it."""
        return self.exited is not None or self.refused is not None

    @property
    def backlog(self) -> bool:
        """There is more to be said than the agent takes now."""
        return not self.over and self._said < len(self._inputs)

    # What its owner wants

    def write(self, data: bytes) -> None:
        """Bytes for its stdin, as a whole behind what was written before; nothing after the end of its input."""
        if self.input_ended or self.over:
            return
        for at in range(0, len(data), _LARGEST_INPUT):
            self._add(data[at : at + _LARGEST_INPUT])

    def end_input(self) -> None:
        """The end of its stdin, behind what was written; harmless when repeated."""
        if not self.input_ended and not self.over:
            self._add(None)
            self.input_ended = True

    def signal(self, name: str) -> None:
        """``INT``, ``TERM`` or ``KILL``, as soon as somebody is connected who can pass it on."""
        if not self.over:
            self._signals.append(name)

    def resize(self, columns: int, rows: int) -> None:
        """Its terminal has this size now, or is to be drawn anew."""
        self._size = columns, rows

    def take(self) -> StreamBytes | None:
        """The next bytes of its output; None: there are none now."""
        if not self._output:
            return None
        taken = self._output.popleft()
        self.buffered -= len(taken.data)
        return taken

    # Over a connection

    def connected(self, hello: Hello) -> None:
        """There is a new connection: what was not answered over the last one is to be said again."""
        self.connected_once = True
        self._asked = hello.state != "new"
        self._said = self._said_bytes = 0

    def say(self, link: Link) -> None:
        """Say what is to be said, as far as the agent takes it now."""
        if self.over:
            return
        if not self._asked:
            start = self._start
            link.start_process(start.argv, start.env, start.cwd, linger=start.linger, tty=start.tty)
            self._asked = True
        if not self.started:
            return
        signals, self._signals = self._signals, []
        for name in signals:
            link.signal_claude(name)
        if self._size is not None:
            link.resize(*self._size)
            self._size = None
        while self._said < len(self._inputs):
            following = self._inputs[self._said]
            if self._said and self._said_bytes + following.size > _WINDOW:
                break
            link.send_bytes(following.id, following.data)
            self._said += 1
            self._said_bytes += following.size

    def receive(self, events: Iterable[LinkEvent]) -> None:
        """What the agent says."""
        for event in events:
            match event:
                case StreamBytes():
                    self._output.append(event)
                    self.buffered += len(event.data)
                case Took(input_id):
                    self._answered(input_id)
                case Started():
                    self.started = True
                case Exited():
                    self.exited = event
                case AgentRefused(code) if code in ("start", "stopping") and not self.started:
                    self.refused = event
                case _:
                    pass  # an input that came when it had ended: its exit says more

    def _add(self, data: bytes | None) -> None:
        self._next_id += 1
        self._inputs.append(_Input(f"c-{self._next_id}", data))

    def _answered(self, input_id: str) -> None:
        """The agent has answered in order; what another connection's answer was for is not there any more."""
        for position, known in enumerate(self._inputs):
            if known.id == input_id:
                for _ in range(position + 1):
                    answered = self._inputs.popleft()
                    if self._said:
                        self._said -= 1
                        self._said_bytes -= answered.size
                return
