"""The proxy's end of a connection to the agent: which connections wait there, and the streams that it carries.

Sans-I/O, as :mod:`.link`: the owner of an :class:`EgressLink` writes what :meth:`EgressLink.data_to_send` returns after
*every* call, and feeds it the bytes that arrive. The agent is not trusted: frames are validated, lines and streams are
bounded, and the first violation closes the link. The parser never raises; a violation is the last event.
"""

from __future__ import annotations

from cc_bridge_agent import wire

from ..values import Value
from .frame_fields import get_int, get_text
from .link_events import AgentRefused, Violated

__all__ = [
    "MOST_STREAMS",
    "WINDOW",
    "Arrived",
    "Attached",
    "Credited",
    "Cut",
    "EgressEvent",
    "EgressLink",
    "Ended",
    "Opened",
    "answer",
    "greeting",
]

#: Streams at once: of those that are announced and wait, and of those that are carried.
MOST_STREAMS = 256

#: Bytes of a stream that a side may send without having been given credit.
WINDOW = wire.WINDOW

#: Bytes of a frame: 64 KiB in base64, and what is around them.
_LONGEST_FRAME = 96 * 1024

#: Bytes of a stream in one frame.
_CHUNK = 65536

#: Credit is given back in pieces of at least so many bytes.
_CREDIT = WINDOW // 4

#: Of the agent's version, epoch, and refusals.
_LONGEST_TEXT = 200

#: The largest number of a stream or of bytes that is believed.
_LARGEST = 2**53


class Attached(Value):
    """The agent's hello, and the first event: it passes on what connects to this port of the loopback there."""

    agent: str
    epoch: str
    port: int


class Opened(Value):
    """A connection waits, to be taken (:meth:`EgressLink.accept`), refused, or had over pipes of its own."""

    stream: int


class Arrived(Value):
    """Bytes of a stream that is carried; :meth:`EgressLink.give_back` says that they were passed on."""

    stream: int
    data: bytes


class Ended(Value):
    """The program in the container has ended its direction of a stream; the other one goes on."""

    stream: int


class Cut(Value):
    """A stream is over, in both directions, or a connection does not wait any more."""

    stream: int


class Credited(Value):
    """More may be sent of a stream."""

    stream: int


EgressEvent = Attached | Opened | Arrived | Ended | Cut | Credited | AgentRefused | Violated


class _Carried:
    """What is known of one stream."""

    def __init__(self) -> None:
        self.may_send = WINDOW
        self.unread = 0  # bytes that have arrived, and for which no credit was given back
        self.passed_on = 0  # of these, what was passed on
        self.has_ended = False  # what the agent sends
        self.was_ended = False  # what we send


class EgressLink:
    """One connection's protocol, from the hello to the end.

    Attributes:
        closed: after a refusal of the hello, or a violation. Close the connection.
        outgoing: bytes that wait to be taken by :meth:`data_to_send`.
    """

    def __init__(self) -> None:
        self.closed = False
        self.outgoing = 0
        self._attached = False
        self._waiting: set[int] = set()
        self._carried: dict[int, _Carried] = {}
        self._splitter = wire.LineSplitter(_LONGEST_FRAME)
        self._queued: list[bytes] = []

    # Sending: each method queues a frame; call data_to_send() next. A stream that is over is no error: the agent may
    # have ended it meanwhile.

    def greet(self) -> None:
        """Queue the hello. The agent must answer with its own, or a refusal."""
        self._queue(greeting())

    def accept(self, stream: int) -> bool:
        """Have a connection that waits carried by this one; False: it does not wait any more."""
        if not self.forget(stream):
            return False
        self._carried[stream] = _Carried()
        self._queue(wire.encode({"accept": stream}))
        return True

    def refuse(self, stream: int) -> None:
        """Have a connection that waits closed."""
        if self.forget(stream):
            self._queue(wire.encode({"refuse": stream}))

    def forget(self, stream: int) -> bool:
        """A connection does not wait any more, because it has pipes of its own; False: it did not wait."""
        known = stream in self._waiting
        self._waiting.discard(stream)
        return known

    def room(self, stream: int) -> int:
        """How many bytes may be sent of a stream now; 0 also where it is over."""
        carried = self._carried.get(stream)
        return 0 if carried is None or carried.was_ended else carried.may_send

    def send(self, stream: int, data: bytes | memoryview) -> int:
        """Queue as many of these bytes as may be sent now; how many."""
        count = min(len(data), self.room(stream))
        for start in range(0, count, _CHUNK):
            self._queue(wire.encode_stream(stream, bytes(data[start : min(start + _CHUNK, count)])))
        if count:
            self._carried[stream].may_send -= count
        return count

    def send_end(self, stream: int) -> None:
        """No more is sent of a stream; it can still be received."""
        carried = self._carried.get(stream)
        if carried is not None and not carried.was_ended:
            carried.was_ended = True
            self._queue(wire.encode({"stream": stream, "end": True}))
            self._drop_if_over(stream)

    def reset(self, stream: int) -> None:
        """End a stream in both directions."""
        if self._carried.pop(stream, None) is not None:
            self._queue(wire.encode({"stream": stream, "reset": True}))

    def give_back(self, stream: int, count: int) -> None:
        """So many bytes that have arrived were passed on, and the agent may send as many again."""
        carried = self._carried.get(stream)
        if carried is None or carried.has_ended:
            return
        carried.passed_on += count
        if carried.passed_on >= _CREDIT:
            carried.unread -= carried.passed_on
            self._queue(wire.encode({"stream": stream, "credit": carried.passed_on}))
            carried.passed_on = 0

    def data_to_send(self) -> bytes:
        """The bytes to be written to the channel; each is returned once."""
        data = b"".join(self._queued)
        self._queued.clear()
        self.outgoing = 0
        return data

    # Receiving

    def receive_data(self, data: bytes) -> list[EgressEvent]:
        """The events in bytes that came from the channel. Nothing comes after a violation."""
        events: list[EgressEvent] = []
        if self.closed:
            return events
        try:
            for line in self._splitter.feed(data):
                event = self._interpret(wire.decode(line))
                if event is not None:
                    events.append(event)
                if self.closed:
                    break
        except (KeyError, TypeError, ValueError) as error:  # a FrameError is a ValueError
            self.closed = True
            events.append(Violated(f"{error!r:.{_LONGEST_TEXT}}"))
        return events

    def _interpret(self, frame: wire.Frame) -> EgressEvent | None:
        if "error" in frame:
            self.closed = True
            return AgentRefused(get_text(frame, "error")[:_LONGEST_TEXT], get_text(frame, "message")[:_LONGEST_TEXT])
        if not self._attached:
            attached = _attached(frame)
            self._attached = True
            return attached
        if "open" in frame:
            return self._open(_number(frame, "open"))
        if "stream" in frame:
            return self._of_stream(_number(frame, "stream"), frame)
        return None  # from a newer agent

    def _open(self, stream: int) -> Opened:
        if stream in self._waiting or stream in self._carried:
            raise ValueError(f"stream {stream} was announced before")
        if len(self._waiting) >= 2 * MOST_STREAMS:  # some may have pipes already, and we are about to learn it
            raise ValueError(f"more than {2 * MOST_STREAMS} connections wait")
        self._waiting.add(stream)
        return Opened(stream)

    def _of_stream(self, stream: int, frame: wire.Frame) -> EgressEvent | None:
        carried = self._carried.get(stream)
        if carried is None:
            return Cut(stream) if "reset" in frame and self.forget(stream) else None  # it was cut here meanwhile
        if "data" in frame:
            data = wire.decode_bytes(frame["data"])
            carried.unread += len(data)
            if carried.has_ended or carried.unread > WINDOW:
                raise ValueError(f"bytes of stream {stream} after its end, or beyond the credit")
            return Arrived(stream, data) if data else None
        if "credit" in frame:
            may_send = carried.may_send + _number(frame, "credit")
            if may_send > WINDOW:
                raise ValueError(f"more credit for stream {stream} than was used")
            carried.may_send = may_send
            return Credited(stream)
        if frame.get("end") is True and not carried.has_ended:
            carried.has_ended = True
            self._drop_if_over(stream)
            return Ended(stream)
        if frame.get("reset") is True:
            del self._carried[stream]
            return Cut(stream)
        return None

    def _drop_if_over(self, stream: int) -> None:
        carried = self._carried[stream]
        if carried.has_ended and carried.was_ended:
            del self._carried[stream]

    def _queue(self, data: bytes) -> None:
        self._queued.append(data)
        self.outgoing += len(data)


def greeting(stream: int | None = None) -> bytes:
    """A proxy's hello: for all streams, or over pipes that are to be this one's."""
    hello: wire.Frame = {"hello": wire.VERSION, "session": wire.EGRESS}
    return wire.encode(hello if stream is None else {**hello, "stream": stream})


def answer(stream: int) -> bytes:
    """What the agent answers over such pipes, byte for byte; what follows is the stream's."""
    return greeting(stream)


def _attached(frame: wire.Frame) -> Attached:
    if get_int(frame, "hello") != wire.VERSION:
        raise ValueError(f"version {frame['hello']}, not {wire.VERSION}")
    if "port" not in frame:
        raise ValueError("the agent is of a release that has no way out")
    agent, epoch = (get_text(frame, key)[:_LONGEST_TEXT] for key in ("agent", "epoch"))
    return Attached(agent, epoch, _number(frame, "port"))


def _number(frame: wire.Frame, key: str) -> int:
    number = get_int(frame, key)
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"{key!r} is not a number that an agent gives")
    return number
