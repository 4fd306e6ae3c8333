"""The service on a socket: uvicorn, and how it begins and ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import InvalidInput
from .app import make_app
from .service import Service

__all__ = ["is_loopback", "listen", "serve"]

#: Seconds for streams to end and requests to be answered, once the service is told to stop.
_FAREWELL = 10

_BACKLOG = 2048

#: Bytes of a request's head, and seconds for the first one of a connection.
_HEAD, _HEAD_LIMIT = 64 * 1024, 30.0


def is_loopback(host: str) -> bool:
    """Only programs of this machine reach this address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        port: 0 for any that is free.

    Raises:
        InvalidInput: it cannot be had; says why.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(f"{host} is no address of this machine: {error.strerror}") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        hint = "Is another service running there? `--port 0` takes any that is free."
        raise InvalidInput(f"{host} port {port} cannot be had: {error.strerror}", hint=hint) from None
    return made


class _Bounded(HttpToolsProtocol):
    """Closes a connection whose request has a head that is too long, or that takes too long to come."""

    _seen = 0  # bytes of the head that comes
    _awaited: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._awaited = self.loop.call_later(_HEAD_LIMIT, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head; the parser keeps it until it is whole."""
        self._seen += len(data)
        super().data_received(data)
        if self._seen > _HEAD and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is whole; a body is counted elsewhere."""
        self._is_here()
        self._seen = -(2**62)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        self._seen = 0
        super().on_message_complete()

    def _is_here(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None


class _Server(uvicorn.Server):
    """Tells the service first, when it is to stop: its streams would go on for ever.

    Nor does it look ten times a second whether it is to stop: it is told, and sleeps until then.
    """

    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def main_loop(self) -> None:
        """Until a signal."""
        if not self.should_exit:
            await self._told.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not the inherited one, which sends the signal again when all is over: a stop as asked for is no failure."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self._loop is not None:  # which sleeps, and a signal's handler alone does not wake it
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._service.stop()
        self._told.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, streams first."""
        self._service.stop()
        await super().shutdown(sockets)


async def serve(service: Service, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; the second one does not wait for requests.

    Args:
        ready: called when requests are answered.

    Raises: as the service's beginning.
    """
    config = uvicorn.Config(
        make_app(service),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,  # uvicorn's needs a clock that ticks; see gate.py
        loop="none",
        timeout_graceful_shutdown=_FAREWELL,
        http=_Bounded,
        proxy_headers=False,  # who is asked for by whom, a proxy says only where it was named
    )
    async with service:
        await _Server(config, service, ready).serve([listening])
