"""Connections to the Claude API, and to gateways in its place, that all instances' requests share.

By httpcore: what httpx does around a request takes a tenth of the time that the proxy may take until a first token.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

__all__ = ["FAILURES", "ApiClient"]

#: What can go wrong with a request: httpcore's errors have no common root.
FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)

#: Seconds. Between two pieces of an answer as long as Claude Code itself waits (``X-Stainless-Timeout``).
_TIMEOUTS = {"connect": 20.0, "read": 600.0, "write": 120.0, "pool": 20.0}

#: Connections that are kept for the next request, and seconds.
_KEPT, _EXPIRY = 64, 60.0


class ApiClient:
    """Sends requests as they are; it keeps no cookies and follows no redirects. Use it as a context manager.

    The host's own ``HTTPS_PROXY`` (and its kin), ``SSL_CERT_FILE`` and ``NODE_EXTRA_CA_CERTS`` count.

    Raises:
        OSError, ValueError: one of these cannot be used.
    """

    def __init__(self) -> None:
        trusted = _trusted()
        if more := os.environ.get("NODE_EXTRA_CA_CERTS"):
            trusted.load_verify_locations(more)
        self._proxies: dict[str, str] = getproxies()
        wanted = {"", *map(self._proxies.get, ("http", "https", "all"))}
        self._pools = {proxy: _pool(proxy, trusted) for proxy in wanted if proxy is not None}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; what is under way ends with an error."""
        for pool in self._pools.values():
            await pool.aclose()

    async def send(
        self,
        method: str,
        base_url: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        content: AsyncIterator[bytes] | None = None,
    ) -> httpcore.Response:
        """Send a request; its answer, of which only the head was read. Close the answer.

        Args:
            base_url: of the API, without a slash at its end.
            target: path and query below it, as they are sent.
            headers: without ``Host``; with what says how long ``content`` is.

        Raises:
            One of FAILURES: nothing was answered.
        """
        base = _split(base_url)
        host = base.hostname or ""
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=base.scheme, host=_ascii(host), port=base.port, target=base.path + target),
            headers=[("Host", _ascii(base.netloc)), *headers],
            content=content,
            extensions={"timeout": _TIMEOUTS},
        )
        return await self._pools[self._proxy_for(base)].handle_async_request(request)

    def _proxy_for(self, url: SplitResult) -> str:
        """Empty: none."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all", "")
        return "" if not proxy or proxy_bypass(url.netloc, self._proxies) else proxy


def _trusted() -> ssl.SSLContext:
    if (file := os.environ.get("SSL_CERT_FILE")) or (directory := os.environ.get("SSL_CERT_DIR")):
        return ssl.create_default_context(cafile=file or None, capath=None if file else directory)
    return httpcore.default_ssl_context()  # certifi's, and the system's


def _pool(proxy: str, trusted: ssl.SSLContext) -> httpcore.AsyncConnectionPool:
    """As many connections as are wanted, so that no instance waits for another's."""
    return httpcore.AsyncConnectionPool(
        ssl_context=trusted,
        max_connections=None,
        max_keepalive_connections=_KEPT,
        keepalive_expiry=_EXPIRY,
        proxy=_read_proxy(proxy) if proxy else None,
    )


def _read_proxy(proxy: str) -> httpcore.Proxy:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in ("http", "https", "socks5", "socks5h") or not parts.hostname:
        raise ValueError(f"a proxy is http://, https:// or socks5:// and a host, and not {parts.scheme[:20]}://")
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    url = httpcore.URL(scheme=parts.scheme, host=_ascii(parts.hostname), port=parts.port, target="/")
    return httpcore.Proxy(url, auth=auth)


@lru_cache(64)
def _split(base_url: str) -> SplitResult:
    return urlsplit(base_url)


@lru_cache(64)
def _ascii(host: str) -> str:
    """A host, with or without its port, as it is asked for on the network."""
    return host if host.isascii() else host.encode("idna").decode("ascii")
