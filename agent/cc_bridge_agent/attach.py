"""``attach``: copy between this process's stdin/stdout and the agent, for ``docker exec -i``. ``health``: ask it."""

import os
import select
import socket
import sys

from . import wire

#: Exit codes, which a host tells apart.
NO_AGENT = 3
UNHEALTHY = 1


def connect(path: str, timeout: float) -> socket.socket:
    """A connection to the agent that serves at ``path``.

    Raises:
        OSError: nobody serves there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def attach(path: str) -> int:
    """Copy both ways until either side ends."""
    try:
        connection = connect(path, timeout=5)
    except OSError as error:
        sys.stderr.write("cc-bridge: no agent serves at %s: %s\n" % (path, error))
        return NO_AGENT
    connection.setblocking(True)
    fd = connection.fileno()
    routes = {0: fd, fd: 1}  # blocking writes are the back-pressure: each side waits for the other
    while True:
        ready, _, _ = select.select(list(routes), [], [])
        for source in ready:
            data = os.read(source, 65536)
            if not data:
                return 0
            view = memoryview(data)
            while view:
                view = view[os.write(routes[source], view) :]


def health(path: str, timeout: float) -> int:
    """0 when the agent answers in time, 1 when not; says which on stdout, for ``docker inspect``."""
    try:
        with connect(path, timeout) as connection:
            connection.sendall(wire.encode({"hello": wire.VERSION, "session": "health"}))
            frame = wire.decode(connection.makefile("rb").readline().rstrip(b"\n"))
    except (OSError, wire.FrameError) as error:
        print("the agent does not answer: %s" % error)
        return UNHEALTHY
    print("the agent answers, version %s" % frame.get("agent"))
    return 0
