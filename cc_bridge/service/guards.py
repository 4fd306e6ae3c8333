"""Who asks, and whether they may: a bearer token, or the session of a browser that has shown one."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, TypeVar, cast

import anyio
from fastapi import Depends, Request

from ..errors import InstanceNotFound
from .identities import Identity, NotAllowed, Scope
from .service import Service

__all__ = [
    "COOKIE",
    "SECURE_COOKIE",
    "Anybody",
    "Commander",
    "Decider",
    "Manager",
    "NotSignedIn",
    "Reader",
    "check_new",
    "digest_of",
    "needs",
    "seen",
    "session_in",
    "token_in",
]

#: The page's; its value is no token, and nothing but this service takes it. Over TLS a browser takes it from this host
#: alone, and not from a neighbour in the same domain, who could sign somebody in as himself.
COOKIE, SECURE_COOKIE = "cc_bridge", "__Host-cc_bridge"

#: What a page of another site cannot send without being asked first whether it may; and it is told no.
_OUR_PAGE = "x-cc-bridge"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


_Found = TypeVar("_Found")


class NotSignedIn(Exception):
    """Nobody is known who may ask this.

    Attributes:
        what: what lacks.
    """

    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


async def identity_of(request: Request) -> Identity:
    """Who asks, at this moment.

    Raises:
        NotSignedIn: nobody who is known.
        TooMany: too many wrong tokens came from there.
        StoreUnavailable: the database is away.
    """
    service = cast(Service, request.app.state.service)
    header = request.headers.get("authorization", "")
    if header:
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer":
            raise NotSignedIn("the authorization is no bearer token")
        return Identity.of(await token_in(request, secret.strip(), service.store.tokens.find))
    cookie = session_in(request)
    if not cookie:
        raise NotSignedIn("a token is needed: `Authorization: Bearer …`")
    if request.method not in _SAFE and _OUR_PAGE not in request.headers:
        raise NotSignedIn("with a cookie, a request that changes something needs the header X-CC-Bridge")
    session = await token_in(request, cookie, service.store.sessions.find)
    return Identity.of(session.token, session.expires, digest_of(cookie))


def session_in(request: Request) -> str:
    """The secret of the browser's session; empty: it has none. Over TLS, one that others can set is none."""
    secure = request.cookies.get(SECURE_COOKIE, "")
    return secure if secure or request.url.scheme == "https" else request.cookies.get(COOKIE, "")


def digest_of(secret: str) -> str:
    """What of a secret is remembered by who counts wrong ones."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


async def token_in(request: Request, secret: str, find: Callable[[str], Awaitable[_Found | None]]) -> _Found:
    """The token or the session of this secret; wrong ones are counted by the address that they come from.

    Raises: as :func:`identity_of`.
    """
    service = cast(Service, request.app.state.service)
    address = request.client.host if request.client else ""
    digest, now = digest_of(secret), anyio.current_time()
    service.strikes.check(address, digest, now)
    found = await find(secret)
    if found is None:
        service.strikes.wrong(address, digest, now)
        raise NotSignedIn("this token is not known here, or not any more")
    service.strikes.right(digest)
    return found


def needs(scope: Scope) -> Any:
    """A dependency: whoever asks, if they have this scope."""

    async def check(who: Anybody) -> Identity:
        who.need(scope)
        return who

    return Depends(check)


Anybody = Annotated[Identity, Depends(identity_of)]
Reader = Annotated[Identity, needs("read")]
Commander = Annotated[Identity, needs("command")]
Decider = Annotated[Identity, needs("permissions")]
Manager = Annotated[Identity, needs("manage")]


def seen(service: Service, who: Identity, name: str) -> dict[str, Any]:
    """An instance as it is shown to them. One that they may not see is not there.

    Raises:
        InstanceNotFound: there is none, for them.
    """
    shown = service.board.shown(name)
    if not who.sees(name, shown["project"]):
        raise InstanceNotFound(f"no instance {name!r}", instance=name)
    return shown


def check_new(who: Identity, name: str, project: str) -> None:
    """They may make an instance of this name, because they would see it.

    Raises:
        NotAllowed: they would not.
    """
    if not who.sees(name, project):
        raise NotAllowed("manage")
