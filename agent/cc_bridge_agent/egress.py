"""The way out: connections of programs here to a port of the loopback, each passed on to a proxy as a stream of bytes.

Where the proxy makes a pair of pipes for a stream, :class:`Piped` moves its bytes from descriptor to descriptor; where
all goes over the proxy's one connection, :class:`Carried` puts them into frames (docs/protocol.md, "The way out").
"""

import errno
import os
import select
import socket
import struct
from typing import Any, Callable, Dict, Optional, Tuple, Union

from . import __version__, wire
from .client import Client
from .loop import Loop
from .outbox import Outbox

#: Connections at once, with those that wait for a proxy. Each has three descriptors, and 1024 is a usual limit.
_MOST = 256

#: Seconds for which a connection waits for a proxy; and until one is taken again, where there were no descriptors.
_PATIENCE, _PAUSE = 30.0, 1.0

_CHUNK = 65536

#: A connection that is closed with this is cut (RST): the program at its other end sees an error, and no orderly end.
_CUT = struct.pack("ii", 1, 0)

#: From Python 3.10 on the kernel moves the bytes, where it can.
_SPLICE: Any = getattr(os, "splice", None)


class Egress:
    """Takes connections at a port of the loopback, and has one proxy at a time.

    Args:
        port: 0: any.
        epoch: the agent's.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, loop: Loop, log: Callable[..., None], port: int, epoch: str) -> None:
        self._loop = loop
        self._log = log
        self._epoch = epoch
        self._proxy: Optional[Client] = None
        self._newest = 0  # number of a connection
        self._waiting: Dict[int, Tuple[socket.socket, Callable[[], None]]] = {}  # with what cancels its patience
        self._streams: Dict[int, Union[Carried, Piped]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(_MOST)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._listen()

    def close(self) -> None:
        """Cut all connections, and listen no longer."""
        for number in list(self._waiting):
            self._refuse(number)
        for stream in list(self._streams.values()):
            stream.cut()
        if self._proxy:
            self._proxy.close("the agent ends")
        self._loop.watch(self._socket.fileno())
        self._socket.close()

    def attach(self, client: Client, frame: wire.Frame) -> None:
        """Answer a proxy's hello: for all streams, or over pipes for one of them. The client is no longer the server's.

        Raises:
            ValueError: it is not understood.
        """
        if "stream" in frame:
            self._pipe(client, frame["stream"])
            return
        if self._proxy:
            self._proxy.close("another proxy has come")
        self._proxy = Client(self._loop, client.name, *client.hand_over(), self._line, self._gone, lambda _: None)
        hello = {"hello": wire.VERSION, "agent": __version__, "epoch": self._epoch, "session": wire.EGRESS}
        self.send(wire.encode({**hello, "port": self.port}))
        for number in self._waiting:
            self.send(wire.encode({"open": number}))
        self._log("proxy_attached", client=client.name)

    def send(self, frame: bytes) -> None:
        """Tell the proxy, where there is one."""
        if self._proxy:
            self._proxy.send(frame)

    # Connections

    def _listen(self) -> None:
        """Take connections while there is room; the others wait in the backlog."""
        room = len(self._waiting) + len(self._streams) < _MOST
        self._loop.watch(self._socket.fileno(), self._accept if room else None)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has gone meanwhile
        except OSError as error:  # no descriptors are left, and asking at once would be answered the same
            self._log("way_out_full", reason=str(error))
            self._loop.watch(self._socket.fileno())
            self._loop.call_later(_PAUSE, self._listen)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = self._newest = self._newest + 1
        self._waiting[number] = connection, self._loop.call_later(_PATIENCE, lambda: self._refuse(number))
        self.send(wire.encode({"open": number}))
        self._listen()

    def _take(self, number: int) -> Optional[socket.socket]:
        """A connection that waits, which is the caller's from now on; None: it does not wait (any more)."""
        if number not in self._waiting:
            return None
        connection, cancel = self._waiting.pop(number)
        cancel()
        return connection

    def _refuse(self, number: int) -> None:
        connection = self._take(number)
        if connection:
            _cut(connection)
            self._over(number, cut=True)

    def _over(self, number: int, cut: bool = False) -> None:
        """A connection has ended: in both directions, or it was cut."""
        self._streams.pop(number, None)
        if cut:
            self.send(wire.encode({"stream": number, "reset": True}))
        self._listen()

    def _pipe(self, client: Client, number: int) -> None:
        """The pipes over which a hello came are a stream's from its answer on."""
        connection = self._take(number) if client.name.startswith("pipes") else None
        if connection is None:
            client.refuse("gone", "no connection with this number waits for pipes")
            return
        client.send(wire.encode({"hello": wire.VERSION, "session": wire.EGRESS, "stream": number}))
        fds = client.hand_over()
        self._streams[number] = Piped(self._loop, connection, *fds, lambda: self._over(number))

    # The proxy's one connection

    def _line(self, client: Client, line: bytes) -> None:
        try:
            self._frame(wire.decode(line))
        except (KeyError, TypeError, ValueError) as error:
            self._log("protocol_error", client=client.name, reason="%.200r" % error)
            client.refuse("protocol", "a frame that cannot be understood: %.200r" % error)

    def _frame(self, frame: wire.Frame) -> None:
        if "accept" in frame:
            number = frame["accept"]
            connection = self._take(number)
            if connection:
                self._streams[number] = Carried(self._loop, connection, number, self.send, self._over)
            else:
                self.send(wire.encode({"stream": number, "reset": True}))
        elif "refuse" in frame:
            self._refuse(frame["refuse"])
        elif "stream" in frame:
            stream = self._streams.get(frame["stream"])
            if isinstance(stream, Carried):  # otherwise it has ended meanwhile
                stream.hear(frame)
        # Others are a newer proxy's.

    def _gone(self, client: Client, why: str) -> None:
        self._proxy = None
        self._log("proxy_gone", client=client.name, reason=why)
        for stream in list(self._streams.values()):
            if isinstance(stream, Carried):
                stream.cut()


class Carried:
    """A stream in frames of the proxy's connection. What waits in memory is bounded by the credit of each direction."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        number: int,
        send: Callable[[bytes], None],
        on_end: Callable[[int, bool], None],
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._number = number
        self._send = send
        self._on_end = on_end
        self._credit = wire.WINDOW  # bytes that the proxy takes
        self._given_back = 0  # bytes that were passed on, and that the proxy does not know of
        self._out = Outbox()  # towards the connection
        self._read_all = self._heard_all = False  # of the connection, and of the proxy
        self._watch()

    def hear(self, frame: wire.Frame) -> None:
        """A frame of the proxy's for this stream.

        Raises:
            ValueError: it is not understood, or is more than was to be sent.
        """
        if "data" in frame:
            data = wire.decode_bytes(frame["data"])
            if self._heard_all or self._out.size + len(data) > wire.WINDOW:
                raise ValueError("bytes after the end, or beyond the credit")
            self._out.add(data)
        elif "credit" in frame:
            self._credit += int(frame["credit"])
        elif "reset" in frame:
            self.cut()
            return
        elif "end" in frame:
            self._heard_all = True
        self._write()

    def cut(self) -> None:
        """End both directions at once."""
        self._loop.watch(self._socket.fileno())
        _cut(self._socket)
        self._on_end(self._number, True)

    def _read(self) -> None:
        try:
            data = self._socket.recv(min(_CHUNK, self._credit))
        except BlockingIOError:
            return
        except OSError:
            self.cut()
            return
        self._credit -= len(data)
        self._read_all = not data
        end = wire.encode({"stream": self._number, "end": True})
        self._send(wire.encode_stream(self._number, data) if data else end)
        self._watch()

    def _write(self) -> None:
        before = self._out.size
        try:
            self._out.write(self._socket.fileno())
            if self._heard_all and not self._out.size:
                self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()
            return
        self._given_back += before - self._out.size
        if self._given_back >= wire.WINDOW // 4:
            self._send(wire.encode({"stream": self._number, "credit": self._given_back}))
            self._given_back = 0
        self._watch()

    def _watch(self) -> None:
        if self._read_all and self._heard_all and not self._out.size:
            self._loop.watch(self._socket.fileno())
            self._socket.close()
            self._on_end(self._number, False)
            return
        readable = self._read if self._credit and not self._read_all else None
        self._loop.watch(self._socket.fileno(), readable, self._write if self._out.size else None)


class Piped:
    """A stream over a pair of pipes of its own. When both have ended at once it was cut, and so is the connection."""

    def __init__(
        self, loop: Loop, connection: socket.socket, read_fd: int, write_fd: int, on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._on_end = on_end
        self._up: Optional[_Direction] = _Direction(connection.fileno(), write_fd)
        self._down: Optional[_Direction] = _Direction(read_fd, connection.fileno())
        self._watch()

    def cut(self) -> None:
        """End both directions at once."""
        self._loop.watch(self._socket.fileno())
        _cut(self._socket)
        # First the end that is read: the proxy has to see, with the end of file, that nobody reads any more.
        if self._down:
            self._close(self._down.source)
        if self._up:
            self._close(self._up.sink)
        self._up = self._down = None
        self._on_end()

    def _close(self, fd: int) -> None:
        self._loop.watch(fd)
        os.close(fd)

    def _watch(self) -> None:
        up, down = self._up, self._down
        if up:  # where a pipe is written it is never readable, but without a reader the kernel reports an error there
            self._loop.watch(up.sink, self.cut, self._move_up if up.is_clogged else None)
        if down:
            self._loop.watch(down.source, None if down.is_clogged else self._move_down)
        readable = self._move_up if up and not up.is_clogged else None
        self._loop.watch(self._socket.fileno(), readable, self._move_down if down and down.is_clogged else None)

    def _move_up(self) -> None:
        if self._up and self._is_moved(self._up):
            self._close(self._up.sink)
            self._up = None
            self._end_or_watch()

    def _move_down(self) -> None:
        if self._down and self._is_moved(self._down):
            try:
                if self._up and _has_no_reader(self._up.sink):
                    raise BrokenPipeError
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.cut()
                return
            self._close(self._down.source)
            self._down = None
            self._end_or_watch()

    def _is_moved(self, direction: "_Direction") -> bool:
        """Move what can be moved now; whether that was all."""
        was_clogged = direction.is_clogged
        try:
            at_end = direction.move()
        except OSError:
            self.cut()
            return False
        if direction.is_clogged != was_clogged:
            self._watch()
        return at_end

    def _end_or_watch(self) -> None:
        if self._up or self._down:
            self._watch()
        else:
            self._loop.watch(self._socket.fileno())
            self._socket.close()
            self._on_end()


class _Direction:
    """From one descriptor to another, neither of which blocks; ``is_clogged``: the other one is waited for."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self.is_clogged = False
        self._rest = memoryview(b"")  # read, and not written
        self._splices = bool(_SPLICE)

    def move(self) -> bool:
        """Move what can be moved now; whether the source has ended.

        Raises:
            OSError: one of the two has gone.
        """
        try:
            moved = self._splice() if self._splices else self._copy()
        except BlockingIOError:
            # The kernel does not say whether there is nothing to take or no room for it: the other one is waited for.
            self.is_clogged = not self.is_clogged
            return False
        self.is_clogged = bool(self._rest)
        return not moved

    def _splice(self) -> int:
        try:
            return int(_SPLICE(self.source, self.sink, _CHUNK, flags=os.SPLICE_F_NONBLOCK))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._splices = False  # not every kernel has it for these two
            return self._copy()

    def _copy(self) -> int:
        self._rest = self._rest or memoryview(os.read(self.source, _CHUNK))
        written = os.write(self.sink, self._rest) if self._rest else 0
        self._rest = self._rest[written:]
        return written


def _cut(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
    connection.close()


def _has_no_reader(fd: int) -> bool:
    asked = select.poll()
    asked.register(fd, 0)
    return bool(asked.poll(0))
