"""A TLS connection as a plain socket, for readers that need a descriptor: a thread copies between the two."""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
import threading
from contextlib import closing, suppress
from typing import Protocol

__all__ = ["Closable", "plain_socket"]

#: Buffer size in each direction; when it is full, the faster side waits.
_HELD = 262144

_PIECE = 65536


def plain_socket(connection: ssl.SSLSocket, owner: Closable) -> int:
    """A non-blocking descriptor for the connection, which is closed with it. Half-closes are passed on.

    One thread for both directions: an SSL connection must not be read and written concurrently.

    Args:
        owner: closed after the connection, not before.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    copier = _Copier(connection, theirs, owner)
    threading.Thread(target=copier.run, name="cc-bridge-tls", daemon=True).start()
    return ours.detach()


class Closable(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Close it."""


class _Copier:
    def __init__(self, tls: ssl.SSLSocket, plain: socket.socket, owner: Closable) -> None:
        self._tls, self._plain, self._owner = tls, plain, owner
        self._outgoing, self._incoming = bytearray(), bytearray()
        self._no_more_outgoing = self._no_more_incoming = False

    def run(self) -> None:
        with (
            closing(self._owner),
            self._tls,
            self._plain,
            suppress(OSError),
        ):  # an error ends the connection, which the other side sees
            self._tls.setblocking(False)
            self._plain.setblocking(False)
            while not (self._no_more_incoming and not self._incoming):
                if self._wait() & select.POLLHUP:
                    return  # the descriptor was closed
                self._take_outgoing()
                self._pass_outgoing()
                self._take_incoming()
                self._pass_incoming()

    def _wait(self) -> int:
        poller = select.poll()
        plain = select.POLLIN if not self._no_more_outgoing and len(self._outgoing) < _HELD else 0
        poller.register(self._plain, plain | (select.POLLOUT if self._incoming else 0))
        tls = select.POLLIN if not self._no_more_incoming and len(self._incoming) < _HELD else 0
        poller.register(self._tls, tls | (select.POLLOUT if self._outgoing else 0))
        # Bytes that OpenSSL has read ahead do not make a descriptor ready.
        ready = dict(poller.poll(0 if tls and self._tls.pending() else None))
        return ready.get(self._plain.fileno(), 0)

    def _take_outgoing(self) -> None:
        if self._no_more_outgoing or len(self._outgoing) >= _HELD:
            return
        with suppress(BlockingIOError):
            data = self._plain.recv(_PIECE)
            self._outgoing += data
            self._no_more_outgoing = not data
            if not data and not self._outgoing:
                self._end_outgoing()

    def _pass_outgoing(self) -> None:
        while self._outgoing:
            try:
                del self._outgoing[: self._tls.send(self._outgoing[:_PIECE])]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if self._no_more_outgoing and not self._outgoing:
                self._end_outgoing()

    def _end_outgoing(self) -> None:
        """Send close_notify (RFC 8446); the other direction stays open.

        ``unwrap()`` calls OpenSSL twice, and the second call reads and drops what the peer has sent meanwhile. So for
        that moment a socket that receives nothing takes the connection's place and descriptor.
        """
        number, (stand_in, written) = self._tls.fileno(), socket.socketpair()
        connection = socket.socket(fileno=os.dup(number))
        with connection, stand_in, written:
            stand_in.setblocking(False)
            os.dup2(stand_in.fileno(), number, inheritable=False)
            try:
                self._take_incoming(math.inf)  # read ahead by OpenSSL
                with suppress(ssl.SSLError):
                    self._tls.unwrap()
            finally:
                os.dup2(connection.fileno(), number, inheritable=False)
            stand_in.shutdown(socket.SHUT_WR)
            connection.setblocking(True)
            try:
                while said := written.recv(_PIECE):
                    connection.sendall(said)
            finally:
                connection.setblocking(False)  # both descriptors share this flag

    def _take_incoming(self, most: float = _HELD) -> None:
        while not self._no_more_incoming and len(self._incoming) < most:
            try:
                data = self._tls.recv(_PIECE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except ssl.SSLError:
                data = b""
            self._incoming += data
            self._no_more_incoming = not data

    def _pass_incoming(self) -> None:
        with suppress(BlockingIOError):
            while self._incoming:
                del self._incoming[: self._plain.send(self._incoming[:_PIECE])]
