"""The way out: connections of programs here to a port of the loopback, each passed on to a proxy as a stream of bytes.

Where the proxy makes a pair of pipes for a stream, :class:`Piped` moves its bytes from descriptor to descriptor; where
all goes over the proxy's one connection, :class:`Carried` puts them into frames (docs/protocol.md, "The way out").
"""

import os
import select
import socket
import struct
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


class Piped:
    """A stream over a pair of pipes of its own. Read and written here; splice(2) is quicker in one direction only."""

    def __init__(self, egress: Egress, connection: socket.socket, number: int, fds: Tuple[int, int]) -> None:
        self._egress = egress
        self._socket = connection
        self._number = number
        self._read_fd, self._write_fd = fds  # -1: this direction has ended
        self._up = self._down = memoryview(b"")  # read, and not written: towards the proxy, and from it
        self._watch()

    def cut(self) -> None:
        """End both directions at once."""
        # First the end that is read: the proxy has to see, with the end of file, that nobody reads any more.
        self._read_fd, self._write_fd = self._close(self._read_fd), self._close(self._write_fd)
        self._egress.over(self._number, self._socket, cut=True)

    def _move_up(self) -> None:
        was_clogged = bool(self._up)
        try:
            self._up = self._up or memoryview(self._socket.recv(_CHUNK))
            if self._up:
                self._up = self._up[os.write(self._write_fd, self._up) :]
            else:
                self._write_fd = self._close(self._write_fd)
        except BlockingIOError:
            pass
        except OSError:
            self.cut()
            return
        if self._write_fd == -1 or bool(self._up) != was_clogged:
            self._watch()

    def _move_down(self) -> None:
        was_clogged = bool(self._down)
        try:
            self._down = self._down or memoryview(os.read(self._read_fd, _CHUNK))
            if self._down:
                self._down = self._down[self._socket.send(self._down) :]
            elif self._write_fd != -1 and self._has_no_reader():
                raise BrokenPipeError  # both pipes have ended at once: it was cut
            else:
                self._socket.shutdown(socket.SHUT_WR)
                self._read_fd = self._close(self._read_fd)
        except BlockingIOError:
            pass
        except OSError:
            self.cut()
            return
        if self._read_fd == -1 or bool(self._down) != was_clogged:
            self._watch()

    def _watch(self) -> None:
        watch, up, down = self._egress.loop.watch, self._write_fd != -1, self._read_fd != -1
        if not up and not down:
            self._egress.over(self._number, self._socket)
            return
        if up:  # where a pipe is written it is never readable, but without a reader the kernel reports an error there
            watch(self._write_fd, self.cut, self._move_up if self._up else None)
        if down:
            watch(self._read_fd, None if self._down else self._move_down)
        readable = self._move_up if up and not self._up else None
        watch(self._socket.fileno(), readable, self._move_down if down and self._down else None)

    def _has_no_reader(self) -> bool:
        asked = select.poll()
        asked.register(self._write_fd, 0)
        return bool(asked.poll(0))

    def _close(self, fd: int) -> int:
        if fd != -1:
            self._egress.loop.watch(fd)
            os.close(fd)
        return -1
