"""The page's addresses: the page itself, its files, and what it reads: a history and one stream.

All that the page *does*, it does with the service's HTTP interface like everybody else. These two routes are what is
special about a page: they bring texts as HTML, and one connection brings everything, because a browser has six.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from ..sse import json_bytes
from ..streams import Farewell
from .live import past_turns
from .streaming import PageStream

__all__ = ["HEADERS", "PageSource", "SignIn", "page_router", "sentence_page"]

_STATIC = Path(__file__).parent / "static"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

#: How often a history that begins in the middle of a turn is asked for more.
_MORE = 3

#: Nothing but the page's own files runs, paints or is asked, and only one function of its can make HTML.
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


@dataclass(frozen=True)
class SignIn:
    """How people sign in without a token.

    Attributes:
        name: with what.
        address: where.
    """

    name: str
    address: str


class PageSource(Protocol):
    """Where the page's two routes get what they show. What is refused is raised, as in the service's other routes."""

    def farewell(self, who: Any) -> Farewell:
        """When their streams are to end: the service does, and pages come back, or their token ends."""

    async def check(self, request: Request, name: str | None) -> Any:
        """Who asks, if they may read this conversation; None: anything at all. The others take what this returns."""

    async def history(self, who: Any, name: str, before: int | None, limit: int) -> Mapping[str, Any]:
        """As ``GET /v1/instances/{name}/history``: ``messages``, ``before``, and ``running``, a turn's id or None."""

    def events(self, name: str, after: str | None) -> AsyncGenerator[Mapping[str, Any], None]:
        """Events as in ``GET /v1/instances/{name}/events``, each with its position (``at``) and ``turn``.

        After a position; or from now on, and if a turn runs, from its first.
        """

    def changes(self, who: Any) -> AsyncGenerator[Mapping[str, Any], None]:
        """What ``GET /v1/events`` says, from now on."""


def page_router(source: PageSource, sign_in: SignIn | None = None) -> APIRouter:
    """All routes of the page, for an application to include."""
    router = APIRouter(include_in_schema=False)
    shown = _page(sign_in)

    @router.get("/")
    @router.get("/c/{name}")
    async def page(name: str = "") -> Response:
        return Response(shown, media_type="text/html; charset=utf-8", headers={**HEADERS, "Cache-Control": "no-cache"})

    @router.get("/static/{version}/{file}")
    async def static(version: str, file: str) -> Response:
        found = _files().get(file)
        if found is None:
            return Response(status_code=404, headers=HEADERS)
        content, media_type = found
        kept = "public, max-age=31536000, immutable" if version == _version() else "no-store"
        return Response(content, media_type=media_type, headers={**HEADERS, "Cache-Control": kept})

    @router.get("/page/instances/{name}/history")
    async def history(request: Request, name: str, before: int | None = None, limit: int = 60) -> Response:
        who = await source.check(request, name)
        found = await _whole_turns(source, who, name, before, max(1, min(limit, 500)))
        turns = await anyio.to_thread.run_sync(past_turns, found["messages"])
        shown = {"turns": turns, "running": found["running"], "before": found["before"]}
        headers = {**HEADERS, "Cache-Control": "no-store"}
        return Response(json_bytes(shown), media_type="application/json", headers=headers)

    @router.get("/page/events")
    async def events(request: Request, c: str = "", after: str = "") -> Response:
        who = await source.check(request, c or None)
        said = source.events(c, after or None) if c else None
        return PageStream(changes=source.changes(who), events=said, stopping=source.farewell(who))

    return router


async def _whole_turns(source: PageSource, who: Any, name: str, before: int | None, limit: int) -> dict[str, Any]:
    """A part of the history that begins with a prompt, unless that is too far away."""
    found = dict(await source.history(who, name, before, limit))
    for _ in range(_MORE):
        messages = found["messages"]
        if found["before"] is None or not messages or messages[0]["kind"] == "prompt":
            break
        earlier = await source.history(who, name, found["before"], 500)
        begin = next(
            (n for n in reversed(range(len(earlier["messages"]))) if earlier["messages"][n]["kind"] == "prompt"), 0
        )
        found["messages"] = [*earlier["messages"][begin:], *messages]
        found["before"] = (found["before"] - len(earlier["messages"]) + begin) or None
    return found


@cache
def _files() -> Mapping[str, tuple[bytes, str]]:
    """By name: what it has, and its media type. They are few and small, and no path is ever made of an address."""
    return {
        path.name: (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(_STATIC.iterdir())
        if path.suffix in _TYPES
    }


@cache
def _version() -> str:
    """Stands in the addresses of the files, so that a browser keeps them for ever and never has an old one."""
    digest = hashlib.sha256()
    for name, (content, _) in sorted(_files().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def sentence_page(sentence: str, status: int) -> Response:
    """A page that says one thing, and leads to the page itself."""
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>cc-bridge</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="/static/{_version()}/icon.svg" type="image/svg+xml">'
        f'<link rel="stylesheet" href="/static/{_version()}/page.css">'
        f'<main class="sign-in"><div><h1>cc-bridge</h1><p role="alert">{escape(sentence)}</p>'
        '<p><a class="button" href="/">Back</a></p></div></main></html>'
    )
    headers = {**HEADERS, "Cache-Control": "no-store"}
    return Response(body, status, headers, "text/html; charset=utf-8")


def _page(sign_in: SignIn | None) -> str:
    text = (_STATIC / "index.html").read_text(encoding="utf-8").replace("/static/VERSION/", f"/static/{_version()}/")
    if sign_in is None:
        return text
    address, name = escape(sign_in.address), escape(sign_in.name)
    link = f'<a id="sign-in-with" class="button primary" href="{address}">Sign in with {name}</a>'
    return text.replace("<!-- sign in without a token -->", link).replace("Sign in with a token.", "Or with a token.")
