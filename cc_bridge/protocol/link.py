"""The host's end of a connection to the agent: bytes in, events out, and commands in, bytes out.

Sans-I/O. The owner of a :class:`Link` writes what :meth:`Link.data_to_send` returns after *every* call, and feeds it
the bytes that arrive. All state transitions are in one table, ``TRANSITIONS``.

The agent is not trusted: frames are validated, lines are bounded, and the first violation closes the link. The parser
never raises; a violation is the last event.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cc_bridge_agent import wire

from ..values import Value
from .frame_fields import (
    get_id,
    get_ids,
    get_int,
    get_list,
    get_newest_ids,
    get_now,
    get_optional_int,
    get_seconds,
    get_text,
)
from .link_events import (
    AgentRefused,
    Asleep,
    Done,
    ErrorOutput,
    Exited,
    Hello,
    LinkEvent,
    Now,
    Output,
    Queued,
    Started,
    Status,
    StreamBytes,
    Took,
    Violated,
    Withdrawn,
)

__all__ = [
    "AgentRefused",
    "Asleep",
    "Done",
    "ErrorOutput",
    "Exited",
    "Hello",
    "Link",
    "LinkEvent",
    "LinkState",
    "Now",
    "Output",
    "Position",
    "Queued",
    "Started",
    "Status",
    "StreamBytes",
    "Took",
    "Violated",
    "Withdrawn",
]


class Position(Value):
    """How far a host has read: a frame number in a journal."""

    seq: int
    journal: str


class LinkState(enum.Enum):
    """The state of a link."""

    NEW = "new"
    GREETED = "greeted"
    OPEN = "open"
    CLOSED = "closed"


#: A frame with Claude Code's output has a number and the line.
_OUTPUT_FIELDS = 2

#: Bytes received between two acknowledgements.
_ACKNOWLEDGE = 1024 * 1024

#: Characters of the agent's version, and of a state's name.
_LONGEST_VERSION, _LONGEST_STATE = 100, 20


class _Step(enum.Enum):
    GREET = "say hello"
    WELCOME = "receive a hello"
    SEND = "send a frame"
    RECEIVE = "receive a frame"
    REFUSED = "be refused"
    END = "end"


#: All transitions of a link. Any other step is an error, which names state and step.
TRANSITIONS: dict[LinkState, dict[_Step, LinkState]] = {
    LinkState.NEW: {_Step.GREET: LinkState.GREETED, _Step.END: LinkState.CLOSED},
    LinkState.GREETED: {
        _Step.WELCOME: LinkState.OPEN,
        _Step.REFUSED: LinkState.CLOSED,
        _Step.END: LinkState.CLOSED,
    },
    LinkState.OPEN: {
        _Step.SEND: LinkState.OPEN,
        _Step.RECEIVE: LinkState.OPEN,
        _Step.REFUSED: LinkState.OPEN,
        _Step.END: LinkState.CLOSED,
    },
    LinkState.CLOSED: {_Step.END: LinkState.CLOSED},
}


class Link:
    """One connection's protocol, from the hello to the end.

    Args:
        session: the agent's session to talk to.
        after: resume after this position of an earlier link.
        whole: with ``after``: start at the first frame of the turn that this position is in, or before.
        turn: start at the first frame of this input's turn.
        host: what this program calls itself, for those who look at who is connected.
        looks: it only looks, which keeps no agent alive and is not logged. Older agents take it for any other.
        fence: of this program's lease; connections with lower ones end by it. None: the instance has no leases.
        limit: most bytes of a frame.

    Raises, from every method that sends:
        RuntimeError: a caller's error, such as sending before the hello has arrived.
    """

    def __init__(
        self,
        session: str = "main",
        *,
        after: Position | None = None,
        whole: bool = False,
        turn: str | None = None,
        host: str = "",
        looks: bool = False,
        fence: int | None = None,
        limit: int = wire.MAX_FRAME,
    ) -> None:
        self._host, self._looks, self.fence = host, looks, fence
        self.state = LinkState.NEW
        self.session = session
        self.last_seq = 0
        self._after, self._whole = after, whole
        self._turn = turn
        self._journal = ""
        self._splitter = wire.LineSplitter(limit)
        self._outgoing: list[bytes] = []
        self._unacknowledged = 0  # bytes

    # Sending: each method queues a frame; call data_to_send() next.

    def greet(self) -> None:
        """Queue the hello. The agent must answer with its own hello or a refusal."""
        self._step(_Step.GREET)
        hello: wire.Frame = {"hello": wire.VERSION, "session": self.session}
        if self._after is not None:
            hello["have"] = [self._after.seq, self._after.journal]
        if self._whole:
            hello["whole"] = True
        if self._turn is not None:
            hello["turn"] = self._turn
        if self._host:
            hello["host"] = self._host
        if self._looks:
            hello["look"] = True
        if self.fence is not None:
            hello["fence"] = self.fence
        self._outgoing.append(wire.encode(hello))

    def start_claude(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None,
        *,
        again: Sequence[str] = (),
        sleep: float = 0,
        stop: float = 0,
    ) -> None:
        """Start Claude Code; ``Started`` or ``AgentRefused`` follows. Does nothing if it is running.

        Args:
            again: the words with which the agent starts it by itself for what has come while it fell asleep, where no
                host is connected any more; ``{session_id}`` in them is the conversation that it had.
            sleep: seconds of idleness after which it goes to sleep; 0: never.
            stop: seconds asleep, with no host connected, after which the agent ends; 0: never.
        """
        more: dict[str, Any] = {"sleep": sleep, "stop": stop} if sleep or stop else {}
        if again:
            more["again"] = list(again)
        self._send({"start": {"argv": list(argv), "env": dict(env), "cwd": cwd, **more}})

    def start_process(
        self,
        argv: Sequence[str],
        env: Mapping[str, str | None],
        cwd: str | None,
        *,
        linger: float,
        tty: tuple[int, int] | None = None,
    ) -> None:
        """Start a raw session's process, once; ``Started`` or ``AgentRefused`` follows.

        Args:
            env: added to the agent's own; None: taken away.
            linger: seconds without a host after which the agent ends it.
            tty: on a terminal of so many columns and rows, whose output is all ``stdout``; None: with three pipes.
        """
        more: dict[str, Any] = {} if tty is None else {"tty": list(tty)}
        self._send({"start": {"argv": list(argv), "env": dict(env), "cwd": cwd, "linger": linger, **more}})

    def resize(self, columns: int, rows: int) -> None:
        """Tell a raw session's process that its terminal has another size, or that it is to draw it anew."""
        self._send({"resize": [columns, rows]})

    def send_bytes(self, input_id: str, data: bytes | None) -> None:
        """Pass bytes on to a raw session's stdin, once; ``Took`` follows as soon as they are passed on.

        Args:
            data: None: the end of its input.
        """
        self._step(_Step.SEND)
        self._outgoing.append(wire.encode_stdin(input_id, data))

    def forget_session(self) -> None:
        """A raw session has ended, and nothing of it will be asked for; the agent closes the connection."""
        self._send({"forget": True})

    def put_to_sleep(self) -> None:
        """End Claude Code if it is idle; ``Exited`` or ``Asleep`` follows, or ``AgentRefused`` (``busy``)."""
        self._send({"sleep": True})

    def send_input(self, input_id: str, message: Mapping[str, Any], turn: str = "") -> None:
        """Pass a message to Claude Code; ``Took`` or ``Queued`` follows.

        Args:
            turn: pass it on only while Claude Code runs this turn.
        """
        self._step(_Step.SEND)
        self._outgoing.append(wire.encode_input(input_id, json.dumps(message).encode("ascii"), turn))

    def withdraw_input(self, input_id: str) -> None:
        """Withdraw an input that waits in the agent; ``Withdrawn`` follows."""
        self._send({"withdraw": input_id})

    def signal_claude(self, name: str, turn: str = "") -> None:
        """Send ``INT``, ``TERM`` or ``KILL`` to Claude Code. ``turn``: only while it runs this turn."""
        self._send({"signal": name, **({"for": turn} if turn else {})})

    def shut_down(self) -> None:
        """Shut down the agent and Claude Code; the connection ends afterwards."""
        self._send({"shutdown": True})

    def ask_status(self) -> None:
        """Ask which turns the agent keeps; :class:`Status` follows."""
        self._send({"status": True})

    def acknowledge(self) -> None:
        """Acknowledge all received frames: the agent need not keep them for a later connection."""
        self._send({"ack": self.last_seq})

    def acknowledge_at_times(self) -> None:
        """The same where much has come since the last time; to be called before new bytes are received."""
        if self._unacknowledged > _ACKNOWLEDGE and not self.closed:
            self._unacknowledged = 0
            self.acknowledge()

    def declare_done(self, input_id: str) -> None:
        """Declare that this input's turn has been read to its end."""
        self._send({"done": input_id})

    def data_to_send(self) -> bytes:
        """Take the bytes to write now; empty if there are none."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    @property
    def position(self) -> Position | None:
        """Where a later link can resume; None: it cannot, because the agent keeps nothing."""
        return Position(self.last_seq, self._journal) if self._journal else None

    @property
    def closed(self) -> bool:
        """Whether the link is closed: no more events."""
        return self.state is LinkState.CLOSED

    # Receiving

    def receive_data(self, data: bytes) -> list[LinkEvent]:
        """Parse new bytes into events; after :class:`Violated`, close the connection."""
        events: list[LinkEvent] = []
        if self.closed:
            return events
        self._unacknowledged += len(data)
        try:
            for line in self._splitter.feed(data):
                event = self._receive(line)
                if event is not None:
                    events.append(event)
                if self.closed:
                    break
        except wire.FrameError as error:
            self._step(_Step.END)
            events.append(Violated(str(error)))
        return events

    # Private

    def _send(self, frame: wire.Frame) -> None:
        self._step(_Step.SEND)
        self._outgoing.append(wire.encode(frame))

    def _step(self, step: _Step) -> None:
        try:
            self.state = TRANSITIONS[self.state][step]
        except KeyError:
            raise RuntimeError(f"a {self.state.value} link cannot {step.value}") from None

    def _receive(self, line: bytes) -> LinkEvent | None:
        frame = wire.decode(line)
        if self.state is LinkState.OPEN and len(frame) == _OUTPUT_FIELDS and "out" in frame and "seq" in frame:
            # A fast path for nearly all frames; an invalid one takes the slow path to its error.
            seq, message = frame["seq"], frame["out"]
            if type(seq) is int and seq == self.last_seq + 1 and type(message) in (dict, str):
                self.last_seq = seq
                return Output(message, len(line), seq)
        step = _Step.WELCOME if "hello" in frame else _Step.REFUSED if "error" in frame else _Step.RECEIVE
        if step not in TRANSITIONS[self.state]:
            raise wire.FrameError(f"a {self.state.value} link cannot {step.value}: {line[:80]!r}")
        try:
            event = self._interpret(frame)
        except (KeyError, TypeError, ValueError) as error:
            raise wire.FrameError(f"{error} in {line[:80]!r}") from None
        self._step(step)
        return event

    def _interpret(self, frame: wire.Frame) -> LinkEvent | None:
        if "hello" in frame:
            return self._hello(frame)
        if "error" in frame:
            input_id = get_id(frame, "id") if "id" in frame else ""
            return AgentRefused(
                get_text(frame, "error"), get_text(frame, "message"), get_optional_int(frame, "errno"), input_id
            )
        if "seq" in frame:
            self._count(get_int(frame, "seq"))
            return _numbered(frame, self.last_seq)
        if "took" in frame:
            return Took(get_id(frame, "took"), again=bool(frame.get("again")))
        if "withdrawn" in frame:
            return Withdrawn(get_id(frame, "withdrawn"), late=True)
        if "done" in frame:
            return Done(get_id(frame, "done"))
        if "asleep" in frame:
            return Asleep()
        if "status" in frame:
            turns = tuple((get_id(turn, "id"), bool(turn["read"])) for turn in get_list(frame, "turns"))
            about = frame["status"]
            queue = get_ids(about, "queue") if isinstance(about, dict) and "queue" in about else None
            now = get_now(frame["now"]) if isinstance(frame.get("now"), dict) else None
            state = about.get("state") if isinstance(about, dict) else None
            return Status(turns, queue, now, state[:_LONGEST_STATE] if isinstance(state, str) else "")
        return None  # from a newer agent: what a host must understand would change the version

    def _hello(self, frame: wire.Frame) -> Hello:
        if get_int(frame, "hello") != wire.VERSION:
            raise ValueError(f"version {frame['hello']}, not {wire.VERSION}")
        start = Position(get_int(frame, "from") - 1, get_text(frame, "journal"))
        if self._after is not None and start != self._after and not self._is_earlier(start):
            raise ValueError("the frames that follow are not those that were asked for")
        hello = Hello(
            get_text(frame, "agent")[:_LONGEST_VERSION],
            get_text(frame, "epoch"),
            get_text(frame, "state"),
            get_int(frame, "seq"),
            get_newest_ids(frame, "open"),  # nobody may have declared older ones done
            resumed=self._after is not None or self._turn is not None,
            queue=get_ids(frame, "queue") if "queue" in frame else None,
            sleep_after=get_seconds(frame, "sleep"),
            start=start.seq,
            pid=get_optional_int(frame, "pid"),
            raw=frame.get("raw") is True,
            tty=frame.get("tty") is True,
            journal=start.journal,
        )
        if not 0 <= start.seq <= hello.seq:
            raise ValueError(f"frames from {frame['from']} on, and the newest is {frame['seq']}")
        self.last_seq, self._journal = start.seq, start.journal
        return hello

    def _is_earlier(self, start: Position) -> bool:
        """The frames begin before those that were asked for, as they may: with their turn."""
        after = self._after
        return self._whole and after is not None and start.journal == after.journal and start.seq < after.seq

    def _count(self, seq: int) -> None:
        """Frame numbers must be consecutive: nothing lost, nothing repeated."""
        if seq != self.last_seq + 1:
            raise ValueError(f"number {seq} after {self.last_seq}")
        self.last_seq = seq


def _numbered(frame: wire.Frame, seq: int) -> LinkEvent | None:
    return _said(frame, seq) or _happened(frame, seq)


def _said(frame: wire.Frame, seq: int) -> LinkEvent | None:
    if "out" in frame:
        message = frame["out"]
        if not isinstance(message, dict | str):
            raise ValueError("'out' is neither object nor text")
        return Output(message, seq=seq)
    for stream in ("stdout", "stderr"):
        if stream in frame:
            return StreamBytes(stream, wire.decode_bytes(frame[stream]), seq)
    return ErrorOutput(get_text(frame, "err"), seq) if "err" in frame else None


def _happened(frame: wire.Frame, seq: int) -> LinkEvent | None:
    if "queued" in frame:
        return Queued(get_id(frame, "queued"), seq)
    if "withdrawn" in frame:
        return Withdrawn(get_id(frame, "withdrawn"), late=False, seq=seq)
    if "took" in frame:
        return Took(get_id(frame, "took"), again=False, seq=seq)
    if "done" in frame:
        return Done(get_id(frame, "done"), seq)
    if "exit" in frame:
        told = {name: frame.get(name) is True for name in ("asleep", "stopped")}
        return Exited(get_optional_int(frame, "exit"), frame.get("oom") is True, seq=seq, **told)
    if "started" in frame:
        return Started(get_int(frame, "started"), seq)
    return None
