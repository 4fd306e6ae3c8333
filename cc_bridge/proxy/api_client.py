"""Connections to the Claude API, and to gateways in its place, that all instances' requests share."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

__all__ = ["ApiClient"]

#: Seconds. Between two pieces of an answer as long as Claude Code itself waits (``X-Stainless-Timeout``).
_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=20.0, sock_read=600.0)

#: Seconds for which a connection is kept for the next request.
_KEPT = 60.0

#: Headers that are sent only where the request has them.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class ApiClient:
    """Sends requests as they are; it keeps no cookies and follows no redirects. Use it as a context manager.

    The host's own ``HTTPS_PROXY`` (and its kin), ``SSL_CERT_FILE`` and ``NODE_EXTRA_CA_CERTS`` count.

    Raises:
        OSError, ValueError: one of these cannot be used.
    """

    def __init__(self) -> None:
        self._trusted = ssl.create_default_context()
        if more := os.environ.get("NODE_EXTRA_CA_CERTS"):
            self._trusted.load_verify_locations(more)
        self._proxies: dict[str, str] = getproxies()

    async def __aenter__(self) -> Self:
        # As many connections as are wanted, so that no instance waits for another's.
        connector = aiohttp.TCPConnector(ssl=self._trusted, limit=0, keepalive_timeout=_KEPT)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_LIMITS,
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; what is under way ends with an error."""
        await self._session.close()

    async def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: AsyncIterator[bytes] | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request; its answer, of which only the head was read, and perhaps before all of the body was sent.

        Close the answer, which also ends a body that goes on.

        Args:
            url: as it is to be written: nothing is quoted.
            body: read in a task of its own; an error in it ends the request with one of aiohttp's.

        Raises:
            aiohttp.ClientError, TimeoutError: nothing was answered.
        """
        try:
            address = URL(url, encoded=True)
        except ValueError as error:
            raise aiohttp.InvalidURL(url, str(error)) from None
        proxy = self._proxy_for(address)
        return await self._session.request(
            method, address.with_user(None), headers=list(headers), data=body, proxy=proxy, allow_redirects=False
        )

    def _proxy_for(self, url: URL) -> str | None:
        """None: the API is asked directly."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all", "")
        if not proxy or proxy_bypass(f"{url.host}:{url.port}", self._proxies):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"
