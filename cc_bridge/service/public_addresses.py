"""Where webhooks may go: names are resolved once, and what was checked is what is connected to."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import anyio
import httpcore

from ..errors import InvalidInput

__all__ = ["CheckedNetwork", "checked_url", "is_public"]

_LONGEST = 2000

#: IPv6 addresses that stand for IPv4 ones, behind a translator: NAT64 (RFC 6052, 8215), 6to4 (RFC 3056).
_TRANSLATED = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96")))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and of no machine or network of ours."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return is_public(str(parsed.ipv4_mapped))
        if parsed.is_site_local or any(parsed in network for network in _TRANSLATED):
            return False
    return parsed.is_global and not parsed.is_multicast


def checked_url(url: str, *, allow_private: bool) -> str:
    """The address, if something can be sent there.

    Raises:
        InvalidInput: it is no HTTP address, names a user, or is a private one and may not be. Names are resolved when
            something is sent, not now.
    """
    if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"an address has at most {_LONGEST} characters, and only those that addresses have")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput("the address cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidInput("the address must begin with https://HOST or http://HOST")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("the address has a user name in it", hint="Check the signature of what arrives instead.")
    if not allow_private and _is_private_literal(host):
        raise InvalidInput(f"{host} is a private address", hint=_HINT)
    return url


_HINT = "The service must be told to send webhooks to private addresses."


def _is_private_literal(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a name
        return False


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, whatever a name resolves to at that moment.

    Args:
        allow_private: to any address.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the host's addresses that takes it.

        Raises:
            httpcore.ConnectError, httpcore.ConnectTimeout: none does, or may.
        """
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._addresses(host, port):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException) as refused:
                error = refused
        raise error

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: nobody names one.

        Raises:
            httpcore.ConnectError: always.
        """
        raise httpcore.ConnectError("webhooks go over the network")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._network.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        addresses = [str(sockaddr[0]) for *_, sockaddr in found]
        if self._allow_private:
            return addresses
        if public := [address for address in addresses if is_public(address)]:
            return public
        raise httpcore.ConnectError(f"{host} is a private address. {_HINT}")
