"""What no request passes: foreign hosts, foreign origins, bodies that are too large."""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import BridgeError
from .guards import NotSignedIn, identity_of
from .problems import Problem, problem_of, stranger
from .service import Service

__all__ = ["Gate"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})

#: Where bodies are prompts, which may be large; and bytes of any other.
_PROMPTS = re.compile(r"/commands\Z|/turns/[^/]+\Z")
_SMALL = 1024 * 1024

#: Where bodies are files, with a limit of their own.
_UPLOADS = "/files/content"

#: What may be asked without showing anything.
_OPEN = frozenset({"/v1/session", "/v1/openapi.json"})

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: On every response. The page's own policy is with the page.
_ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}


class Gate:
    """Middleware, around everything.

    - ``Host`` must be a name of this service, or a page of another site could reach it by a name of its own that leads
      here (DNS rebinding).
    - ``Origin``, where a browser sends one, must be this service: no page of another site may do anything here.
    - Bodies are counted as they come, whatever their header says, and those of strangers are not read.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if problem := self._refusal(scope, headers):
            await problem.response()(scope, receive, _hardened(send))
            return
        if scope["path"].startswith("/v1/") and scope["path"] not in _OPEN and (refused := await _unknown(scope)):
            await refused(scope, receive, _hardened(send))
            return
        most = self._most(scope["path"])
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > most:
            await _too_large(most).response({"Connection": "close"})(scope, receive, _hardened(send))
            return
        await self._app(scope, _Counted(receive, most).receive, _hardened(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            what = f"this service is not called {_shown(host)}"
            return Problem(HTTPStatus.MISDIRECTED_REQUEST, "foreign-host", what, "Name it with `--host-name`.")
        origin = headers.get("origin")
        same = origin is not None and _place(origin) == host.lower()
        site = headers.get("sec-fetch-site", "same-origin")
        if (origin is not None and not same) or (scope["method"] not in _SAFE and site not in ("same-origin", "none")):
            return Problem(HTTPStatus.FORBIDDEN, "foreign-origin", "a page of another site may do nothing here")
        return None

    def _most(self, path: str) -> int:
        if path.endswith(_UPLOADS):
            return self._service.limits.upload
        most = self._service.limits.body
        return most if _PROMPTS.search(path) else min(most, _SMALL)

    def _is_ours(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdecimal() else host
        return name.lower() in _LOOPBACK or name.lower() in self._service.hosts


class _TooLargeError(HTTPException):
    """More has come than may. Of this class, or FastAPI would call it a body that cannot be read."""

    def __init__(self, most: int) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most} bytes")


class _Counted:
    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = self._left = most

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise _TooLargeError(self._most)
        return message


async def _unknown(scope: Scope) -> Response | None:
    """What somebody gets whom nobody knows; None: they are known.

    Routes ask again when the body has come, which may take as long as a client likes.
    """
    try:
        await identity_of(Request(scope))
    except NotSignedIn as error:
        return stranger(error.what)
    except BridgeError as error:
        return problem_of(error).response()
    return None


def _place(origin: str) -> str:
    """Host and port of an origin; empty: it has none that can be read."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hardened(send: Send) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            given: list[Any] = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            always = [item for item in _ALWAYS.items() if item[0] not in names]
            message = {**message, "headers": [*given, *always, (b"date", formatdate(usegmt=True).encode())]}
        await send(message)

    return hardened


def _too_large(most: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"the body has more than {most} bytes")


def _shown(text: str) -> str:
    return repr(text[:100])
