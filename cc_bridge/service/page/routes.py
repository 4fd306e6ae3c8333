"""The page's addresses: the page itself, its files, and what it reads: a history and one stream.

All that the page *does*, it does with the service's HTTP interface like everybody else. These two routes are what is
special about a page: they bring texts as HTML, and one connection brings everything, because a browser has six.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from .live import past_turns
from .streaming import PageStream

__all__ = ["HEADERS", "PageSource", "page_router"]

_STATIC = Path(__file__).parent / "static"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

#: Nothing but the page's own files runs, paints or is asked, and no script can make HTML but by the page's one function.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types cc-bridge",
    ]
)

#: Of all that the page's routes send.
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class PageSource(Protocol):
    """Where the page's two routes get what they show. Each method checks who asks, and raises what the service shows."""

    async def check(self, request: Request, name: str | None) -> None:
        """Whether this request may read this conversation, or anything at all."""

    async def history(self, request: Request, name: str, before: str | None, limit: int) -> Mapping[str, Any]:
        """Like ``GET /v1/instances/{name}/history``: ``messages``, and ``running``, a turn's id or None.

        ``before``, where there is more: what to ask for next.
        """

    def events(self, request: Request, name: str, after: str | None) -> AsyncGenerator[Mapping[str, Any], None]:
        """Events as in ``GET /v1/instances/{name}/events``, each with its position (``at``) and ``turn``.

        From now on, if a turn runs from its first; or after a position.
        """

    def changes(self, request: Request) -> AsyncGenerator[Mapping[str, Any], None]:
        """What ``GET /v1/events`` says, from now on."""


def page_router(source: PageSource) -> APIRouter:
    """All routes of the page, for an application to include."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/c/{name}")
    async def page(name: str = "") -> Response:
        return Response(_page(), media_type="text/html; charset=utf-8", headers={**HEADERS, "Cache-Control": "no-cache"})

    @router.get("/static/{version}/{file}")
    async def static(version: str, file: str) -> Response:
        found = _files().get(file)
        if found is None:
            return Response(status_code=404, headers=HEADERS)
        content, media_type = found
        kept = "public, max-age=31536000, immutable" if version == _version() else "no-store"
        return Response(content, media_type=media_type, headers={**HEADERS, "Cache-Control": kept})

    @router.get("/page/instances/{name}/history")
    async def history(request: Request, name: str, before: str | None = None, limit: int = 60) -> Response:
        await source.check(request, name)
        found = await source.history(request, name, before, max(1, min(limit, 500)))
        turns = await anyio.to_thread.run_sync(partial(past_turns, found.get("messages") or []))
        shown = {"turns": turns, "running": found.get("running"), "before": found.get("before")}
        return JSONResponse(shown, headers={**HEADERS, "Cache-Control": "no-store"})

    @router.get("/page/events")
    async def events(request: Request, c: str = "", after: str = "") -> Response:
        await source.check(request, c or None)
        return PageStream(
            changes=source.changes(request), events=source.events(request, c, after or None) if c else None
        )

    return router


@cache
def _files() -> Mapping[str, tuple[bytes, str]]:
    """By name: what it has, and its media type. They are few and small, and no path is ever made of an address."""
    return {
        path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in sorted(_STATIC.iterdir()) if path.suffix in _TYPES
    }


@cache
def _version() -> str:
    """Stands in the addresses of the files, so that a browser keeps them for ever and never has an old one."""
    digest = hashlib.sha256()
    for name, (content, _) in sorted(_files().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


@cache
def _page() -> str:
    return (_STATIC / "index.html").read_text(encoding="utf-8").replace("/static/VERSION/", f"/static/{_version()}/")
