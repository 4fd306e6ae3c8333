"""Connections to the Claude API, and to gateways in its place, that all instances' requests share."""

from __future__ import annotations

import os
from typing import Self
from urllib.request import getproxies, proxy_bypass

import httpx

__all__ = ["ApiClient"]

#: As many connections as are wanted, so that no instance waits for another's.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=60.0)


class ApiClient:
    """Sends requests as they are; it keeps no cookies and follows no redirects. Use it as a context manager.

    The host's own ``HTTPS_PROXY`` (and its kin), ``SSL_CERT_FILE`` and ``NODE_EXTRA_CA_CERTS`` count.

    Raises:
        OSError, ValueError: one of these cannot be used.
    """

    def __init__(self) -> None:
        trusted = httpx.create_ssl_context()
        trusted.load_default_certs()
        if more := os.environ.get("NODE_EXTRA_CA_CERTS"):
            trusted.load_verify_locations(more)
        self._proxies: dict[str, str] = getproxies()
        # Not httpx.AsyncClient: what that does around a request takes 0.7 ms of each answer's first token.
        self._transports = {
            proxy: httpx.AsyncHTTPTransport(verify=trusted, limits=_LIMITS, proxy=_url(proxy) if proxy else None)
            for proxy in {"", *map(self._proxies.get, ("http", "https", "all"))}
            if proxy is not None
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; what is under way ends with an error."""
        for transport in self._transports.values():
            await transport.aclose()

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer, of which only the head was read. Close the answer.

        Args:
            request: its limits of time are in its extension ``timeout``.

        Raises:
            httpx.HTTPError: nothing was answered.
        """
        return await self._transports[self._proxy_for(request.url)].handle_async_request(request)

    def _proxy_for(self, url: httpx.URL) -> str:
        """Empty: none."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all", "")
        return "" if not proxy or proxy_bypass(url.netloc.decode("ascii"), self._proxies) else proxy


def _url(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
