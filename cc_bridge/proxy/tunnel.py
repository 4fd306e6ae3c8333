"""Tunnels out of sealed instances: to allowed hosts, at checked addresses, for TLS to that host only."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from weakref import WeakKeyDictionary

import anyio
import anyio.abc

from ..allowed_hosts import GROUPS, Rule, matching, read_host, read_port, read_rule
from ..channels.fifo import CHUNK, Descriptor
from ..ip_addresses import Address
from . import groups
from .addresses import Unreachable, connect, within
from .pump import Pump
from .terms import Guest, Refused
from .tls_greeting import Greeting, NoGreeting

__all__ = ["Tunnel", "open_tunnel"]

#: Seconds until the greeting must be complete.
_GREETING = 30

#: Look-ups of one instance at a time, so that it cannot use up what others need.
_LOOK_UPS = 4

#: A TLS alert, fatal, unrecognized_name (RFC 8446, 6): the program inside says so instead of "connection reset".
_ALERT = b"\x15\x03\x03\x00\x02\x02\x70"

#: SO_LINGER that makes close() a reset: the server must not take what was cut off for complete.
_RESET = struct.pack("ii", 1, 0)


class _Exits:
    """What one instance may reach: its rules, with groups filled in at the first tunnel."""

    def __init__(self, allow_hosts: tuple[str, ...]) -> None:
        self.look_ups = anyio.CapacityLimiter(_LOOK_UPS)
        self.allow_hosts = allow_hosts
        self._rules: list[Rule] | None = None
        self._reading = anyio.Lock()
        self._empty: list[str] = []  # groups that this machine has no hosts for

    async def towards(self, host: str, port: int) -> list[Rule]:
        """Rules that allow it: one at least.

        Raises:
            Refused: there is none.
        """
        async with self._reading:
            if self._rules is None:
                self._rules = await self._read()
        if found := matching(self._rules, host, port):
            return found
        why = f"{host}:{port} is not allowed: cc-bridge ... --allow-host {host}:{port}"
        if self._empty:
            why += f" (no hosts are known here for: {', '.join(self._empty)})"
        raise Refused(403, "permission_error", why)

    async def _read(self) -> list[Rule]:
        rules: list[Rule] = []
        for item in self.allow_hosts:
            if item in GROUPS:
                of_group = await groups.rules_of(item)
                rules += of_group
                if not of_group:
                    self._empty.append(item)
            else:
                rules.append(read_rule(item))  # the record was made with it
        return rules


_exits: WeakKeyDictionary[Guest, _Exits] = WeakKeyDictionary()


async def open_tunnel(host: str, port: int | str, guest: Guest) -> Tunnel:
    """Connect to a host for an instance, if it may go there. Takes at most 25 s (the first with a group: a minute).

    Args:
        host: as the instance names it.

    Raises:
        Refused: 400: no name of a host; 403: not allowed, or at an address that is not; 502: no connection. Messages
            are printable ASCII.
    """
    if not guest.sealed:
        raise Refused(403, "permission_error", f"{guest.name} is not sealed: it has a network of its own")
    try:
        host, port = read_host(host), read_port(str(port))
    except ValueError as error:
        raise Refused(400, "invalid_request_error", str(error).encode("ascii", "replace").decode()) from None
    exits = _exits.get(guest)
    if exits is None or exits.allow_hosts != guest.allow_hosts:
        exits = _exits[guest] = _Exits(guest.allow_hosts)
    rules = await exits.towards(host, port)

    def may(address: Address) -> bool:
        return any(within(address, rule.network) for rule in rules)

    try:
        server, address = await connect(host, port, may, exits.look_ups)
    except Unreachable as error:
        why = str(error)
        if error.forbidden:
            why += f": cc-bridge ... --allow-host {host}:{port}=ADDRESS"
            raise Refused(403, "permission_error", why) from None
        raise Refused(502, "api_error", why) from None
    return Tunnel(host, port, address, server)


class Tunnel:
    """A connection to a server that waits for what the instance says. Run it once, or close it.

    Attributes:
        host, port: as they were allowed.
        address: of the server.
        sent, received: bytes that went to the server and came from it so far.
    """

    def __init__(self, host: str, port: int, address: Address, server: Descriptor) -> None:
        self.host = host
        self.port = port
        self.address = address
        self.sent = 0
        self.received = 0
        self._server = server

    async def run(
        self,
        stream: anyio.abc.ByteStream,
        early: bytes = b"",
        passed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Pass bytes until both ends have ended, one has broken, or neither has said anything for an hour.

        Nothing goes out before a whole TLS greeting names this host. The stream is not closed: where it has not ended
        properly, that is for its owner to do, and resets it.

        Args:
            early: what came behind the request for the tunnel.
            passed: called after each chunk with its bytes. When it raises Refused, the tunnel ends.

        Raises:
            Refused: 403: the connection begins with something else than TLS to this host (the instance was told, by an
                alert of TLS); or as ``passed`` has raised it.
        """
        whole = False
        try:
            if greeting := await self._greeting(stream, early):
                await self._server.write_all(greeting)
                self._count(len(greeting), 0, passed)
                whole = await Pump(stream, self._server, lambda out, back: self._count(out, back, passed)).run()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the server has gone meanwhile, which the stream's reset tells
        finally:
            if not whole:
                self._make_close_a_reset()
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection to the server. Idempotent."""
        self._server.close()

    def _count(self, out: int, back: int, passed: Callable[[int], None]) -> None:
        self.sent += out
        self.received += back
        passed(out + back)

    async def _greeting(self, stream: anyio.abc.ByteStream, early: bytes) -> bytes:
        """All bytes so far once they name the host; nothing where the stream ends before."""
        greeting = Greeting()
        try:
            with anyio.fail_after(_GREETING):
                name = greeting.receive(early)
                while name is None:
                    name = greeting.receive(await stream.receive(CHUNK))
        except anyio.EndOfStream:
            return b""
        except TimeoutError:
            raise Refused(408, "timeout_error", f"no TLS greeting in {_GREETING} s") from None
        except NoGreeting as wrong:
            await self._tell(stream)
            raise Refused(403, "permission_error", f"tunnels are for TLS with the host's name: {wrong}") from None
        if name != self.host:
            await self._tell(stream)
            shown = name[:253].encode("unicode_escape").decode()
            message = f"{self.host}:{self.port} was asked for, and {shown} greeted"
            raise Refused(403, "permission_error", message)
        return bytes(greeting.raw)

    async def _tell(self, stream: anyio.abc.ByteStream) -> None:
        with anyio.move_on_after(_GREETING):
            try:
                await stream.send(_ALERT)
                await stream.send_eof()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # nobody reads it

    def _make_close_a_reset(self) -> None:
        fd = self._server.fileno()
        if fd != -1:
            with socket.socket(fileno=fd) as borrowed:
                borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                borrowed.detach()
