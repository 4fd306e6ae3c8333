"""Connections to an engine over the network, which notice that the other end has gone without a word.

A machine that loses its power ends no connection, and a stream of an engine's may be silent for days. ssh looks after
its own.
"""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["DEAD_AFTER", "look_after"]

#: Seconds after which a silent connection fails whose other end does not answer.
DEAD_AFTER = 30

_WANTED = {
    "TCP_KEEPIDLE": DEAD_AFTER // 2,
    "TCP_KEEPINTVL": DEAD_AFTER // 6,
    "TCP_KEEPCNT": 3,
    # No TCP_USER_TIMEOUT: it would also end a connection whose other end lives and does not read for a while.
}


def look_after(api: Any, kept: int) -> None:
    """Have the kernel ask for signs of life, on all connections that a client of the SDK makes from now on.

    Args:
        kept: how many are kept for the next call. With TLS the SDK keeps ten, and warns of each beyond.
    """
    from urllib3.connection import HTTPConnection

    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in _WANTED.items():
        if hasattr(socket, name):  # macOS lacks some
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    pools = api.get_adapter(api.base_url + "/").poolmanager
    pools.connection_pool_kw.update(socket_options=options, maxsize=kept)
    pools.clear()  # of before, as of the SDK's first request
