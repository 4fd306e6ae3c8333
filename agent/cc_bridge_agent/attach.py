"""``attach``: copy between this process's stdin/stdout and the agent, for ``docker exec -i``. ``health``: ask it."""

import errno
import os
import socket
import struct
import sys
import threading

from . import wire

#: Exit codes, which a host tells apart.
NO_AGENT = 3
UNHEALTHY = 1


def connect(path: str, timeout: float) -> socket.socket:
    """A connection to the agent that serves at ``path``.

    Raises:
        OSError: nobody serves there, or another user does: what is sent may have secrets.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
        user = peer(connection)
        if user != os.getuid():
            raise PermissionError(errno.EPERM, "user %d serves there" % user, path)
    except OSError:
        connection.close()
        raise
    return connection


def peer(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


def attach(path: str) -> int:
    """Copy both ways until either side ends.

    A thread for each way: were one to wait for the other, a long input and a long output at once would
    stop each other for ever.
    """
    try:
        connection = connect(path, timeout=5)
    except OSError as error:
        sys.stderr.write("cc-bridge: no agent serves at %s: %s\n" % (path, error))
        return NO_AGENT
    connection.settimeout(None)

    def send() -> None:
        _copy(0, connection.fileno())
        connection.shutdown(socket.SHUT_WR)  # the agent ends the connection, and with it the other way

    threading.Thread(target=send, daemon=True).start()
    _copy(connection.fileno(), 1)
    return 0


def _copy(source: int, target: int) -> None:
    try:
        while data := os.read(source, 65536):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    except OSError:
        pass  # one end has gone, which is how every attachment ends


def health(path: str, timeout: float) -> int:
    """0 when the agent answers in time, 1 when not; says which on stdout, for ``docker inspect``."""
    try:
        with connect(path, timeout) as connection:
            connection.sendall(wire.encode({"hello": wire.VERSION, "session": "health", "look": True}))
            frame = wire.decode(connection.makefile("rb").readline().rstrip(b"\n"))
    except (OSError, wire.FrameError) as error:
        print("the agent does not answer: %s" % error)
        return UNHEALTHY
    print("the agent answers, version %s" % frame.get("agent"))
    return 0
