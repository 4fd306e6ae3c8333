"""The connections that programs of an instance make to its way out, as streams on this machine.

One connection to the agent tells which wait. Over named pipes each stream then gets a pair of its own, so that the
kernel moves its bytes and holds back who is too fast; otherwise the one connection carries all of them, with credit.
What the agent may make this process keep is bounded: 256 streams at once with 256 KiB each, and a few frames.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import anyio
from anyio.abc import ByteStream, TaskGroup
from anyio.lowlevel import checkpoint

from ..channels.base import Channel
from ..channels.named_pipe import NamedPipeChannel
from ..errors import AgentUnavailable, ChannelError
from ..logs import Log
from ..protocol.egress import (
    MOST_STREAMS,
    WINDOW,
    Arrived,
    Attached,
    Credited,
    Cut,
    EgressEvent,
    EgressLink,
    Ended,
    Opened,
    answer,
    greeting,
)
from ..protocol.link_events import AgentRefused, Violated

__all__ = ["CarriedStream", "Handle", "PipedStream", "Way", "WayOut"]

#: Seconds for the agent's hello, and for a write that it does not read.
_HELLO_LIMIT, _SEND_LIMIT = 10.0, 60.0

#: Seconds for which a stream that was ended here is read on, so that what was sent is not lost with an early close.
_LINGER = 10.0

#: Of so many frames that came together, those in so many bytes are heard before other tasks go on.
_MANY, _STEP = 64, 2048

#: Pairs of pipes that are opened at once.
_MEETINGS = 16

#: What reading and writing raise when the other end has gone.
_OVER = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

#: Serves one stream. The stream is closed when it returns: cut, unless ``send_eof`` was called before.
Handle = Callable[[ByteStream], Awaitable[None]]


class Way(Protocol):
    """What is needed of an instance's place."""

    @property
    def name(self) -> str:
        """The instance's."""

    async def way_to_look(self, greeting: bytes) -> Channel:
        """The way to an agent that runs; nothing is started for it."""

    async def pipes(self, greeting: bytes) -> NamedPipeChannel:
        """The pipes, where an agent listens at them."""


class WayOut:
    """An instance's way out, as long as one connection to its agent lasts."""

    def __init__(self, place: Way, log: Log) -> None:
        self._place = place
        self._log = log

    async def serve(self, handle: Handle, attached: Callable[[], None] | None = None) -> None:
        """Connect, and run ``handle`` in a task for each stream, 256 at once; return when the connection has ended.

        A stream is an ``anyio.abc.ByteStream`` that raises anyio's four errors. Closing one before its ``send_eof``
        cuts it: the program at the other end sees an error, and not an orderly end. A handler that fails costs its own
        stream only. Streams that are left when the connection ends are cut, their handlers cancelled.

        Args:
            attached: called when the agent has answered, before the first stream.

        Raises:
            AgentUnavailable, EngineError: the connection cannot be made, or the agent has no way out.
        """
        link = EgressLink()
        link.greet()
        channel = await self._place.way_to_look(link.data_to_send())
        async with channel:
            first = await self._welcome(link, channel)
            if attached is not None:
                attached()
            await _Service(link, channel, self._place, self._log, handle).run(first)

    async def _welcome(self, link: EgressLink, channel: Channel) -> Sequence[EgressEvent]:
        """What came with the agent's hello."""
        events: list[EgressEvent] = []
        try:
            with anyio.fail_after(_HELLO_LIMIT):
                while not events:
                    events = link.receive_data(await channel.receive())
        except TimeoutError:
            raise AgentUnavailable("the agent did not say hello in time", instance=self._place.name) from None
        except _OVER as error:
            raise AgentUnavailable("the agent went away before its hello", instance=self._place.name) from error
        match events:
            case [Attached() as hello, *others]:
                self._log.info("way_out_attached", channel=channel.kind, agent=hello.agent, port=hello.port)
                return others
            case [AgentRefused(_, reason) | Violated(reason), *_]:
                raise AgentUnavailable(f"the agent gives no way out: {reason}", instance=self._place.name)
        raise AgentUnavailable("the agent did not begin with a hello", instance=self._place.name)


class _Service:
    """The streams of one connection."""

    def __init__(self, link: EgressLink, channel: Channel, place: Way, log: Log, handle: Handle) -> None:
        self.link = link
        self._channel = channel
        self._place = place
        self._log = log
        self._handle = handle
        self._waiting: dict[int, None] = {}  # announced, in order, and without a handler
        self._running = 0
        self._carried: dict[int, CarriedStream] = {}
        self._meetings = anyio.CapacityLimiter(_MEETINGS)
        self._has_more = anyio.Event()
        self._has_room = anyio.Event()

    async def run(self, first: Sequence[EgressEvent]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._write, group)
            self._hear(first, group)
            with suppress(*_OVER):
                while not self.link.closed:
                    await self.until_room()  # who does not read is not read either
                    data = await self._channel.receive()
                    # A thousand small frames must not keep the other instances waiting.
                    step = _STEP if data.count(b"\n") > _MANY else len(data)
                    for start in range(0, len(data), step):
                        self._hear(self.link.receive_data(data[start : start + step]), group)
                        await checkpoint()
            group.cancel_scope.cancel()

    # What is said

    def wake(self) -> None:
        """The link has something to say."""
        self._has_more.set()

    async def until_room(self) -> None:
        """Wait until not too much is to be written."""
        while self.link.outgoing > WINDOW:
            await self._has_room.wait()

    async def _write(self, group: TaskGroup) -> None:
        try:
            while True:
                await self._has_more.wait()
                self._has_more = anyio.Event()
                data = self.link.data_to_send()
                with anyio.fail_after(_SEND_LIMIT):
                    await self._channel.send(data)
                self._has_room.set()
                self._has_room = anyio.Event()
        except (*_OVER, TimeoutError) as error:
            self._log.info("way_out_lost", reason=type(error).__name__)
            group.cancel_scope.cancel()

    # What is heard

    def _hear(self, events: Sequence[EgressEvent], group: TaskGroup) -> None:
        for event in events:
            match event:
                case Opened(number):
                    self._waiting[number] = None
                    self._begin(group)
                case Cut(number) if number in self._waiting:
                    del self._waiting[number]
                case Arrived(number) | Ended(number) | Cut(number) | Credited(number):
                    if stream := self._carried.get(number):
                        stream.hear(event)
                case AgentRefused(_, reason) | Violated(reason):
                    self._log.warning("way_out_violated", reason=reason)

    def _begin(self, group: TaskGroup) -> None:
        while self._waiting and self._running < MOST_STREAMS:
            number = next(iter(self._waiting))
            del self._waiting[number]
            self._running += 1
            group.start_soon(self._serve, number, group)

    async def _serve(self, number: int, group: TaskGroup) -> None:
        try:
            stream = await self._open(number)
            if stream is not None:
                await self._run(stream)
        finally:
            self._carried.pop(number, None)
            self._running -= 1
            self._begin(group)

    async def _open(self, number: int) -> _Stream | None:
        """The stream; None: it cannot be had (any more)."""
        if self._channel.kind != NamedPipeChannel.kind:
            if not self.link.accept(number):
                return None
            self.wake()
            self._carried[number] = CarriedStream(self, number)
            return self._carried[number]
        try:
            async with self._meetings:
                channel = await self._place.pipes(greeting(number))
                stream = await PipedStream.begin(channel, number)
            self.link.forget(number)
        except (ChannelError, OSError, *_OVER) as error:  # OSError: no descriptors are left
            self._log.info("stream_not_opened", reason=str(error))
            self.link.refuse(number)
            self.wake()
            return None
        return stream

    async def _run(self, stream: _Stream) -> None:
        try:
            await self._handle(stream)
            await stream.linger()
        except Exception as error:  # one that fails must not end the others
            if not _is_over(error):
                self._log.error("stream_failed", reason=repr(error)[:500])
        finally:
            stream.cut()


class _Stream(ByteStream):
    """What both kinds have in common."""

    _closed = False
    _has_sent_all = False

    def __init__(self) -> None:
        self._receiving = anyio.ResourceGuard("receiving from")
        self._sending = anyio.ResourceGuard("sending to")

    def cut(self) -> None:
        """Close it for good; where it has not ended in both directions, the program at the other end sees an error."""
        raise NotImplementedError

    async def _read(self, max_bytes: int) -> bytes:
        raise NotImplementedError

    async def _write(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At least one byte, at most ``max_bytes``. A cancelled call loses nothing."""
        with self._receiving:
            self._check()
            return await self._read(max_bytes)

    async def send(self, item: bytes) -> None:
        """Send all of it; wait where the program does not read. After a cancelled call the stream is to be closed."""
        with self._sending:
            self._check()
            if self._has_sent_all:
                raise anyio.ClosedResourceError
            await self._write(item)

    async def aclose(self) -> None:
        """Close it; cut it, if ``send_eof`` was not called before."""
        self._closed = True
        if not self._has_sent_all:
            self.cut()
        await checkpoint()

    async def linger(self) -> None:
        """After ``send_eof``: wait for the other end's, because what it has not read yet would be lost with a cut."""
        if self._has_sent_all:
            with anyio.move_on_after(_LINGER), suppress(*_OVER):
                while True:
                    await self._read(65536)

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError


class PipedStream(_Stream):
    """A stream over a pair of pipes.

    Nothing that came is kept here, so who moves bytes by descriptors loses none.
    """

    def __init__(self, channel: NamedPipeChannel) -> None:
        super().__init__()
        self._incoming, self._outgoing = channel.ends

    @classmethod
    async def begin(cls, channel: NamedPipeChannel, number: int) -> PipedStream:
        """Read the agent's answer, and nothing of what follows. Closes the channel where it is another one.

        Raises:
            AgentUnavailable: this connection does not wait there any more.
        """
        stream = cls(channel)
        try:
            said = await stream._incoming.read(len(answer(number)))
            if said != answer(number):
                raise AgentUnavailable(f"the connection was not passed on: {said[:80]!r}")
        except BaseException:  # cancelled, too: nobody else has the stream
            stream.cut()
            raise
        return stream

    @property
    def read_fd(self) -> int:
        """The descriptor that is read from, which does not block; -1: closed."""
        return self._incoming.fileno()

    @property
    def write_fd(self) -> int:
        """The descriptor that is written to, which does not block; -1: closed, or ended."""
        return self._outgoing.fileno()

    async def send_eof(self) -> None:
        """End our direction; it can still be received."""
        with self._sending:
            self._check()
            self._has_sent_all = True
            self._outgoing.close()

    def cut(self) -> None:
        """Close both pipes."""
        self._closed = True
        # In this order: the agent has to see, with the end of file, that nobody reads any more.
        self._incoming.close()
        self._outgoing.close()

    async def _read(self, max_bytes: int) -> bytes:
        data = await self._incoming.read(max_bytes)
        if not data:
            if self.write_fd != -1 and _has_no_reader(self.write_fd):
                raise anyio.BrokenResourceError
            raise anyio.EndOfStream
        return data

    async def _write(self, data: bytes) -> None:
        await self._outgoing.write_all(data)


class CarriedStream(_Stream):
    """A stream in frames of the one connection."""

    def __init__(self, service: _Service, number: int) -> None:
        super().__init__()
        self._service = service
        self._link = service.link
        self._number = number
        self._unread = bytearray()  # one buffer, because a million small pieces would take much more than their bytes
        self._has_ended = False
        self._is_cut = False
        self._changed = anyio.Event()

    def hear(self, event: EgressEvent) -> None:
        """Take an event of this stream."""
        match event:
            case Arrived(_, data):
                self._unread += data
            case Ended():
                self._has_ended = True
            case Cut():
                self._is_cut = True
        self._wake()

    async def send_eof(self) -> None:
        """End our direction; it can still be received."""
        with self._sending:
            self._check()
            self._has_sent_all = True
            self._link.send_end(self._number)
            self._service.wake()

    def cut(self) -> None:
        """Tell the agent, unless the stream has ended."""
        self._closed = True
        self._link.reset(self._number)
        self._service.wake()
        self._wake()

    async def _read(self, max_bytes: int) -> bytes:
        await checkpoint()
        while not self._unread:
            if self._is_cut:
                raise anyio.BrokenResourceError
            if self._has_ended:
                raise anyio.EndOfStream
            await self._changed.wait()
            if self._closed and not self._has_sent_all:
                raise anyio.ClosedResourceError
        data = bytes(memoryview(self._unread)[:max_bytes])
        del self._unread[:max_bytes]
        self._link.give_back(self._number, len(data))
        if self._link.outgoing:
            self._service.wake()
        return data

    async def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        await checkpoint()
        while rest:
            await self._service.until_room()
            self._check()
            if self._is_cut:
                raise anyio.BrokenResourceError
            changed = self._changed
            sent = self._link.send(self._number, rest)
            rest = rest[sent:]
            if sent:
                self._service.wake()
            elif rest:
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _is_over(error: Exception) -> bool:
    """The program has gone, or the stream was cut: which is a stream's end, and no handler's failure."""
    if isinstance(error, ExceptionGroup):
        return all(map(_is_over, error.exceptions))
    return isinstance(error, _OVER)


def _has_no_reader(fd: int) -> bool:
    asked = select.poll()
    asked.register(fd, 0)
    return bool(asked.poll(0))
