"""The page's sessions: a browser shows a token once, and has a cookie from then on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from ..guards import COOKIE, SECURE_COOKIE, Anybody, digest_of, session_in, token_in
from ..identities import Identity, Scope
from ..store import SESSION_LIFE
from .common import PROBLEMS, TheService

__all__ = ["address_of", "keep_session", "router"]

router = APIRouter(prefix="/v1/session", tags=["session"], responses=PROBLEMS)


class SignIn(BaseModel):
    """A token's secret, for the page."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=200, examples=["ccb_…"])]


class WhoAmI(BaseModel):
    """Whose token it is, and what it may do."""

    id: str
    name: str
    scopes: list[Scope]
    instances: list[str]
    projects: list[str]


@router.post("", response_model=WhoAmI)
async def sign_in(request: Request, service: TheService, body: SignIn, response: Response) -> dict[str, Any]:
    """Begin a session of this token: the answer sets a cookie that scripts cannot read and other sites do not send."""
    token = await token_in(request, body.token, service.store.tokens.find)
    secret = await service.store.sessions.make(token.id)
    service.strikes.right(digest_of(secret))  # wrong tokens of others from this address must not keep them out
    await service.store.audit.note(token.id, "session.begun", "", {"address": address_of(request)})
    keep_session(response, secret, SESSION_LIFE, is_secure=_is_secure(request))
    response.headers["Cache-Control"] = "no-store"
    return _shown(Identity.of(token))


@router.get("", response_model=WhoAmI)
async def who_am_i(who: Anybody, response: Response) -> dict[str, Any]:
    """Whose token or session this is."""
    response.headers["Cache-Control"] = "no-store"
    return _shown(who)


@router.delete("", status_code=status.HTTP_204_NO_CONTENT)
async def sign_out(request: Request, service: TheService, who: Anybody, response: Response) -> None:
    """End the browser's session, and what is open in it. With a bearer token there is none, and nothing is done."""
    if who.session:
        await service.store.sessions.end(session_in(request))
        service.signed_out(who)
        await service.store.audit.note(who.id, "session.ended")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    response.delete_cookie(SECURE_COOKIE, path="/", httponly=True, samesite="strict", secure=True)


def _is_secure(request: Request) -> bool:
    """The browser speaks TLS, be it with a proxy before us: then it says so of the page that asks."""
    return "https" in (request.url.scheme, request.headers.get("origin", "").partition(":")[0])


def keep_session(response: Response, secret: str, life: timedelta, *, is_secure: bool) -> None:
    """Have the browser keep a session's secret, instead of any other that it has.

    Args:
        is_secure: it is sent over https only.
    """
    seconds = int(life.total_seconds())
    name = SECURE_COOKIE if is_secure else COOKIE
    response.set_cookie(name, secret, max_age=seconds, path="/", httponly=True, samesite="strict", secure=is_secure)


def address_of(request: Request) -> str:
    """Where a request comes from, for the audit log."""
    return request.client.host if request.client else ""


def _shown(who: Identity) -> dict[str, Any]:
    return {
        "id": who.id,
        "name": who.name,
        "scopes": sorted(who.scopes),
        "instances": list(who.instances),
        "projects": list(who.projects),
    }
