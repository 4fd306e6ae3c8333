"""Where webhooks may go: names are resolved once, and what was checked is what is connected to."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

import anyio
import httpcore

from ..errors import InvalidInput
from ..ip_addresses import is_public

__all__ = ["CheckedNetwork", "checked_url"]

_LONGEST = 2000


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
        return not _is_public(host)
    except ValueError:  # a name
        return False


def _is_public(address: str) -> bool:
    return is_public(ip_address(address.partition("%")[0]))


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
        if public := [address for address in addresses if _is_public(address)]:
            return public
        raise httpcore.ConnectError(f"{host} is a private address. {_HINT}")
