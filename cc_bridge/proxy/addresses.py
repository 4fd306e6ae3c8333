"""Where a name leads: addresses are looked up on the host, checked, and connected to as they were checked.

So neither a name that resolves to something of the host's, nor one that resolves differently the next time, leads a
sealed instance into the host or its networks.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

import anyio
from anyio import from_thread, to_thread

from ..channels.fifo import Descriptor
from ..ip_addresses import Address, Network, is_never, is_public, plain

__all__ = ["Unreachable", "connect", "is_this_machine", "look_up", "within"]

#: Of one name. Others are not tried.
_ADDRESSES = 8

#: Seconds: for one address, and for all of a name's. Looking up has a time of its own.
_CONNECT, _CONNECT_ALL, _LOOK_UP = 5, 15, 10


class Unreachable(Exception):
    """No connection: the message says why.

    Attributes:
        forbidden: there is an address, but none that may be connected to.
    """

    def __init__(self, message: str, *, forbidden: bool = False) -> None:
        super().__init__(message)
        self.forbidden = forbidden


#: No descriptors, no memory.
_CANNOT_SAY = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def is_this_machine(address: Address) -> bool:
    """Whether it is one of this machine's own, public ones included: services listen there for neighbours only."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing; the kernel chooses the address it would send from
            return ip_address(str(probe.getsockname()[0]).partition("%")[0]) == address
    except OSError as error:  # it has no route, so no connection either; or nobody can say
        return error.errno in _CANNOT_SAY


def within(address: Address, network: Network | None) -> bool:
    """Whether a rule allows an address: in the rule's network, or where it has none, a public one of others."""
    address = plain(address)
    if is_never(address):
        return False
    return address in network if network else is_public(address) and not is_this_machine(address)


async def look_up(host: str, port: int, turns: anyio.CapacityLimiter) -> list[Address]:
    """A host's addresses, at most eight, in the order in which they should be tried.

    Args:
        turns: how many look-ups may run. A look-up that is given up keeps its turn until the resolver has answered:
            threads cannot be ended, and an instance that gives up quickly must not gather them.

    Raises:
        Unreachable: it has none, or the resolver takes longer than ten seconds.
    """
    holder, begun = object(), False

    def ask() -> list[Address]:
        nonlocal begun
        begun = True
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        finally:
            from_thread.run_sync(turns.release_on_behalf_of, holder)
        addresses = dict.fromkeys(ip_address(str(where[0]).partition("%")[0]) for *_, where in found)
        return list(addresses)[:_ADDRESSES]

    try:
        with anyio.fail_after(_LOOK_UP):
            await turns.acquire_on_behalf_of(holder)
            try:
                return await to_thread.run_sync(ask, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
            except BaseException:  # cancelled, too: a thread that was not begun gives no turn back
                if not begun:
                    turns.release_on_behalf_of(holder)
                raise
    except TimeoutError:
        raise Unreachable(f"{host} is not resolved in {_LOOK_UP} s") from None
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{host} is not resolved: {error}") from None


async def connect(
    host: str, port: int, may: Callable[[Address], bool], turns: anyio.CapacityLimiter
) -> tuple[Descriptor, Address]:
    """A connection to the first address of a host that may be used and takes it, and that address.

    Raises:
        Unreachable: there is none.
    """
    found = await look_up(host, port, turns)
    addresses = [address for address in found if may(address)]
    if not addresses:
        shown = ", ".join(map(str, found))
        raise Unreachable(f"{host} is at {shown}, which is no public address", forbidden=True)
    why = ""
    with anyio.move_on_after(_CONNECT_ALL):
        for address in addresses:
            try:
                with anyio.fail_after(_CONNECT):
                    return await _connect(address, port), address
            except TimeoutError:
                why = f"{address} does not answer"
            except OSError as error:
                why = f"{address}: {error.strerror}"
    raise Unreachable(f"{host}:{port} cannot be reached: {why or 'it does not answer'}")


async def _connect(address: Address, port: int) -> Descriptor:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    made = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        try:
            made.connect((str(address), port))
        except BlockingIOError:
            await anyio.wait_writable(made)
            if error := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error)) from None
    except BaseException:  # cancelled, too: nobody else has the socket
        made.close()
        raise
    return Descriptor(made.detach())
