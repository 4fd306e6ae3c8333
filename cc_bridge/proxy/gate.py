"""What a container's connection meets first: HTTP, requests to the API and tunnels, and what is noted of them."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from anyio.abc import ByteStream

from .api import ApiRequest, Cut
from .api_client import ApiClient
from .api_rules import check_request, is_greeting
from .http_server import HttpServer, HungUp, Patience
from .meters import Meters
from .request_head import Head
from .terms import Entry, Guest, Refused

__all__ = ["OpenTunnel", "Tunnel", "serve_connection"]

_AUTHORITY = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")

#: Characters of what a container says, as it is noted.
_LONGEST_NOTE = 300

#: Seconds for which an answer is held back that refuses, where many were refused before it.
_HELD_BACK = 1.0


class Tunnel(Protocol):
    """A connection to a server. ``sent`` and ``received``: bytes, as the instance sees them."""

    sent: int
    received: int

    async def run(self, stream: ByteStream, early: bytes, passed: Callable[[int], None]) -> None:
        """Pass bytes both ways; ``early`` were read already, ``passed`` is called with their number, and may refuse."""

    async def aclose(self) -> None:
        """Close the connection to the server."""


OpenTunnel = Callable[[str, int, Guest], Awaitable[Tunnel]]


async def serve_connection(
    stream: ByteStream,
    guest: Guest,
    meters: Meters,
    client: ApiClient,
    *,
    open_tunnel: OpenTunnel | None = None,
    patience: Patience | None = None,
) -> None:
    """Serve one connection of an instance to its end, and close it. What comes from it is hostile.

    Each request that ended or was refused is given to ``guest.note``. A cancelled one cuts its connection.

    Args:
        meters: the instance's; all its connections share them.
        client: shared by all instances.
        open_tunnel: connects to a server that the instance may reach, or raises Refused; None: there are no tunnels.
        patience: how long the container may take for what.
    """
    gate = _Gate(stream, guest, meters, client, open_tunnel, patience or Patience())
    try:
        while await gate.serve_one():
            pass
    finally:
        await gate.http.close(cut=gate.cut)


class _Gate:
    """One connection. ``cut``: it is closed as it is, because an answer is unfinished, or it was a tunnel."""

    def __init__(
        self,
        stream: ByteStream,
        guest: Guest,
        meters: Meters,
        client: ApiClient,
        open_tunnel: OpenTunnel | None,
        patience: Patience,
    ) -> None:
        self._stream = stream
        self._open_tunnel = open_tunnel
        self.http = HttpServer(stream, patience)
        self.cut = True
        self._guest = guest
        self._meters = meters
        self._client = client
        self._entry = Entry(guest.name, "", "")
        self._began = 0.0

    async def serve_one(self) -> bool:
        """One request. Returns whether another may follow."""
        self.cut, self._began = True, anyio.current_time()
        self._entry = Entry(self._guest.name, "", "")
        head, goes_on = None, False
        try:
            head = await self.http.next_head()
            if head:
                self._began = anyio.current_time()
                self._entry = _entry_of(head, self._guest.name)
                await self._serve(head)
                self._note("")
                if head.method == "CONNECT":
                    return False
                goes_on = await self.http.may_go_on()
        except Refused as refused:
            goes_on = await self._refuse(refused, head)
        except (Cut, HungUp) as ended:
            if head:
                self._note(str(ended))
            return False
        except Exception as error:  # nobody has foreseen it: it is noted, and goes on to the proxy's own log
            if head:
                self._note(f"the proxy failed at it ({type(error).__name__}); its log says more")
            raise
        self.cut = False
        return goes_on

    async def _serve(self, head: Head) -> None:
        if head.method == "CONNECT":
            await self._serve_tunnel(head)
            return
        self.http.expect_body(head)
        check_request(head, self._guest.placeholder)
        if is_greeting(head):
            self.http.begin_answer(200, [("content-length", "0")])
            await self.http.end_answer()
            return
        self._meters.begin(time.time())
        request = ApiRequest(self.http, head, self._guest, self._meters, self._client)
        try:
            await request.run()
        finally:
            usage = request.usage()
            self._meters.end(time.time(), usage, request.asked)
            self._entry = self._entry.replace(
                host=request.host or self._entry.host,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                usd=usage.usd,
            )

    async def _serve_tunnel(self, head: Head) -> None:
        authority = _AUTHORITY.fullmatch(head.target)
        if not authority or int(authority[2]) > 65535 or head.has_body:
            raise Refused(400, "invalid_request_error", "a tunnel is asked for by CONNECT name:port, without a body")
        if not self._guest.sealed or self._open_tunnel is None:
            raise Refused(403, "permission_error", "tunnels are for sealed instances, and this is none")
        self._meters.check_day(time.time())
        tunnel = await self._open_tunnel(authority[1].strip("[]"), int(authority[2]), self._guest)
        try:
            await self.http.accept_tunnel()
            await tunnel.run(self._stream, self.http.take_over(), self._passed)
        except Refused as refused:
            # The tunnel stands: an answer by HTTP would be taken for the server's.
            raise Cut(refused.message) from None
        finally:
            self.http.received, self.http.sent = tunnel.sent, tunnel.received
            with anyio.move_on_after(5, shield=True):
                await tunnel.aclose()

    def _passed(self, size: int) -> None:
        now = time.time()
        if not self._meters.add_bytes(now, size):
            self._meters.check_day(now)

    async def _refuse(self, refused: Refused, head: Head | None) -> bool:
        self.http.status = refused.status
        self._meters.refuse(time.time())
        self._note(refused.message)
        if self._meters.is_flooded(time.time()):
            await anyio.sleep(_HELD_BACK)  # back-off: for who asks again and again, so that others have their turn
        try:
            return await self.http.refuse(refused, head)
        except HungUp:
            return False

    def _note(self, refused: str) -> None:
        self._guest.note(
            self._entry.replace(
                status=self.http.status,
                sent=self.http.received,
                received=self.http.sent,
                seconds=anyio.current_time() - self._began,
                refused=refused,
            )
        )


def _entry_of(head: Head, name: str) -> Entry:
    """What was asked for, by the container's own words."""
    if head.method == "CONNECT":
        return Entry(name, "CONNECT", head.target[:_LONGEST_NOTE])
    path = head.target.partition("?")[0]
    return Entry(name, head.method[:20], head.get("host")[:_LONGEST_NOTE], path[:_LONGEST_NOTE])
