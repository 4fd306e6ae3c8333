"""The way out: connections of programs here to a port of the loopback, each passed on to a proxy as a stream of bytes.

Where the proxy makes a pair of pipes for a stream, :class:`Piped` moves its bytes from descriptor to descriptor; where
all goes over the proxy's one connection, :class:`Carried` puts them into frames (docs/protocol.md, "The way out").
"""

import os
import select
import socket
import struct
from functools import partial
from typing import Callable, Dict, Optional, Tuple, Union

from . import __version__, wire
from .client import Client
from .loop import Loop
from .outbox import Outbox

#: Connections at once, with those that wait for a proxy. Each has three descriptors, and 1024 is a usual limit.
_MOST = 256

#: Seconds for which a connection waits for a proxy; and until one is taken again, where there were no descriptors.
_PATIENCE, _PAUSE = 30.0, 1.0

_CHUNK = 65536

#: Bytes that splice(2) moves at most, and tries in vain until a stream's bytes are read and written instead.
_MOVE, _STALLS = 2**20, 8


class Egress:
    """Takes connections at a port of the loopback, and has one proxy at a time.

    Args:
        port: 0: any.
        epoch: the agent's.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, loop: Loop, log: Callable[..., None], port: int, epoch: str) -> None:
        self.loop = loop
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
        self.loop.watch(self._socket.fileno())
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
        self._proxy = Client(self.loop, client.name, *client.hand_over(), self._line, self._gone, lambda _: None)
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
        self.loop.watch(self._socket.fileno(), self._accept if room else None)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has gone meanwhile
        except OSError as error:  # no descriptors are left, and asking at once would be answered the same
            self._log("way_out_full", reason=str(error))
            self.loop.watch(self._socket.fileno())
            self.loop.call_later(_PAUSE, self._listen)
            return
        if _user_of(connection) not in (os.getuid(), 0, None):
            connection.close()  # another user of this machine, who would take places from Claude Code
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = self._newest = self._newest + 1
        self._waiting[number] = connection, self.loop.call_later(_PATIENCE, lambda: self._refuse(number))
        self.send(wire.encode({"open": number}))
        self._listen()

    def _take(self, number: int) -> Optional[socket.socket]:
        """A connection that waits, which is the caller's from now on; None: it does not wait (any more)."""
        connection, cancel = self._waiting.pop(number, (None, lambda: None))
        cancel()
        return connection

    def _refuse(self, number: int) -> None:
        connection = self._take(number)
        if connection:
            self.over(number, connection, cut=True)

    def over(self, number: int, connection: socket.socket, *, cut: bool = False) -> None:
        """A connection has ended in both directions, or is to be cut."""
        self._streams.pop(number, None)
        self.loop.watch(connection.fileno())
        if cut:  # so that the program at its other end sees an error (RST), and no orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.send(wire.encode({"stream": number, "reset": True}))
        connection.close()
        self._listen()

    def _pipe(self, client: Client, number: int) -> None:
        """The pipes over which a hello came are a stream's from its answer on."""
        connection = self._take(number) if client.name.startswith("pipes") else None
        if connection is None:
            client.refuse("gone", "no connection with this number waits for pipes")
            return
        client.send(wire.encode({"hello": wire.VERSION, "session": wire.EGRESS, "stream": number}))
        self._streams[number] = Piped(self, connection, number, client.hand_over())

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
            if connection:  # otherwise it has been cut, and the proxy was told
                self._streams[number] = Carried(self, connection, number)
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


def _user_of(connection: socket.socket) -> Optional[int]:
    """Whose the other end is, of a connection over this loopback (proc(5), tcp); None: nobody can say."""
    try:
        ends = (connection.getpeername(), connection.getsockname())
        names = ["%08X:%04X" % (struct.unpack("=I", socket.inet_aton(host))[0], port) for host, port in ends]
        ours = " ".join(names)
        with open("/proc/net/tcp") as table:
            return next((int(line.split()[7]) for line in table if ours in line), None)
    except (OSError, ValueError):
        return None


class Carried:
    """A stream in frames of the proxy's connection. What waits in memory is bounded by the credit of each direction."""

    def __init__(self, egress: Egress, connection: socket.socket, number: int) -> None:
        self._egress = egress
        self._socket = connection
        self._number = number
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
        if "reset" in frame:
            self.cut()
            return
        if "data" in frame:
            data = wire.decode_bytes(frame["data"])
            if self._heard_all or self._out.size + len(data) > wire.WINDOW:
                raise ValueError("bytes after the end, or beyond the credit")
            self._out.add(data)
        self._credit += int(frame.get("credit", 0))
        self._heard_all = self._heard_all or "end" in frame
        self._write()

    def cut(self) -> None:
        """End both directions at once."""
        self._egress.over(self._number, self._socket, cut=True)

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
        self._egress.send(wire.encode_stream(self._number, data) if data else end)
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
            self._egress.send(wire.encode({"stream": self._number, "credit": self._given_back}))
            self._given_back = 0
        self._watch()

    def _watch(self) -> None:
        if self._read_all and self._heard_all and not self._out.size:
            self._egress.over(self._number, self._socket)
            return
        readable = self._read if self._credit and not self._read_all else None
        self._egress.loop.watch(self._socket.fileno(), readable, self._write if self._out.size else None)


class _Direction:
    """Bytes from a descriptor to another, of which one is ``pipe`` (-1: ended). ``clogged``: no more is taken now."""

    def __init__(self, source: int, target: int, pipe: int) -> None:
        self._source, self._target, self.pipe = source, target, pipe
        self._rest = memoryview(b"")  # read, and not written
        self._stalls = 0 if hasattr(os, "splice") else _STALLS
        self.clogged = False

    def move(self) -> bool:
        """Move what there is; True: that was all for good. Raises OSError where either is broken."""
        try:
            if self._stalls < _STALLS:
                # Before an urgent byte of TCP's nothing is spliced, which may pass for the end. Reading shows it.
                moved = os.splice(self._source, self._target, _MOVE, flags=os.SPLICE_F_NONBLOCK)
                self._stalls, self.clogged = 0 if moved else _STALLS, False
                return False
            self._rest = self._rest or memoryview(os.read(self._source, _CHUNK))
            ended = not self._rest
            self._rest = self._rest[os.write(self._target, self._rest) :]
            self.clogged = bool(self._rest)
            return ended
        except BlockingIOError:
            self.clogged = bool(self._rest) or not _ready(self._target, select.POLLOUT)
            self._stalls += not self.clogged and _ready(self._source, select.POLLIN)
            return False


class Piped:
    """A stream over a pair of pipes of its own: from Python 3.10 on the kernel moves its bytes."""

    def __init__(self, egress: Egress, connection: socket.socket, number: int, fds: Tuple[int, int]) -> None:
        self._egress, self._socket, self._number = egress, connection, number
        self._up = _Direction(connection.fileno(), fds[1], fds[1])
        self._down = _Direction(fds[0], connection.fileno(), fds[0])
        self._move_up, self._move_down = partial(self._move, self._up), partial(self._move, self._down)
        self._watch()

    def cut(self) -> None:
        """End both directions at once."""
        # First the end that is read: the proxy has to see, with the end of file, that nobody reads any more.
        self._end(self._down)
        self._end(self._up)
        self._egress.over(self._number, self._socket, cut=True)

    def _move(self, way: _Direction) -> None:
        was_clogged = way.clogged
        try:
            if way.move():
                if way is self._down and self._up.pipe != -1 and _ready(self._up.pipe, 0):
                    raise BrokenPipeError  # both pipes have ended at once: it was cut
                if way is self._down:
                    self._socket.shutdown(socket.SHUT_WR)
                self._end(way)
        except OSError:
            self.cut()
            return
        if way.pipe == -1 or way.clogged != was_clogged:
            self._watch()

    def _watch(self) -> None:
        watch, up, down = self._egress.loop.watch, self._up, self._down
        if up.pipe == down.pipe == -1:
            self._egress.over(self._number, self._socket)
            return
        if up.pipe != -1:  # it is never readable, but without a reader the kernel reports an error there
            watch(up.pipe, self.cut, self._move_up if up.clogged else None)
        if down.pipe != -1:
            watch(down.pipe, None if down.clogged else self._move_down)
        readable = self._move_up if up.pipe != -1 and not up.clogged else None
        watch(self._socket.fileno(), readable, self._move_down if down.pipe != -1 and down.clogged else None)

    def _end(self, way: _Direction) -> None:
        if way.pipe != -1:
            self._egress.loop.watch(way.pipe)
            os.close(way.pipe)
            way.pipe = -1


def _ready(fd: int, mask: int) -> bool:
    """Whether one of these events is there, or the other end has gone."""
    asked = select.poll()
    asked.register(fd, mask)
    return bool(asked.poll(0))
