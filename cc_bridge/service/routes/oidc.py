"""Where people sign in by an identity provider: off to it, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from ...errors import BridgeError
from ...logs import Log
from ..guards import digest_of
from ..openid import OpenId, SignInFailed, begun_in, kept_with
from ..page.routes import sentence_page
from ..service import Service
from ..sign_in_rules import Person, rule_for
from ..store.tokens import Token, checked_token
from .sessions import address_of, keep_session

__all__ = ["sign_in_router"]

#: Seconds for a person to sign in at the provider.
_PATIENCE = 900

_log = Log("", "sign-in")


def sign_in_router(service: Service, openid: OpenId) -> APIRouter:
    """The two addresses, for an application to include."""
    router = APIRouter(prefix="/oidc", include_in_schema=False)
    settings = openid.settings
    # With this prefix a browser takes it from this host alone, and not from a neighbour in the same domain.
    cookie = "__Host-cc_bridge_sign_in" if settings.is_secure else "cc_bridge_sign_in"

    def keep(response: Response, kept: str) -> None:
        response.set_cookie(  # lax, because the provider's site sends the browser back
            cookie,
            kept,
            max_age=_PATIENCE if kept else 0,
            path="/",
            httponly=True,
            samesite="lax",
            secure=settings.is_secure,
        )

    @router.get("/sign-in")
    async def begin(request: Request) -> Response:
        try:
            address, secret = await openid.begin()
        except SignInFailed as error:
            return _failed(error)
        response = _to(address)
        keep(response, kept_with(request.cookies.get(cookie, ""), secret))
        return response

    @router.get("/callback")
    async def come_back(request: Request) -> Response:
        secret, others = begun_in(request.cookies.get(cookie, ""), request.query_params)
        try:
            person = await openid.finish(secret, request.query_params)
            token = await _let_in(service, openid, person, address_of(request))
            secret = await service.store.sessions.make(token.id, life=settings.session)
            service.strikes.right(digest_of(secret))  # wrong tokens of others from this address do not keep them out
        except SignInFailed as error:
            response = _failed(error)
        except BridgeError as error:
            _log.error("not_signed_in", reason=error.what)
            response = sentence_page(
                "The service cannot sign anybody in at the moment. Try again later.", HTTPStatus.SERVICE_UNAVAILABLE
            )
        else:
            response = _to("/")
            keep_session(response, secret, settings.session, is_secure=settings.is_secure)
        keep(response, others)
        return response

    return router


async def _let_in(service: Service, openid: OpenId, person: Person, address: str) -> Token:
    """The person's token, with the rights that they have now.

    Raises:
        SignInFailed: they have none. What was open for them ends.
        BridgeError: the database is away, or a rule is none that a token can have.
    """
    told = {"address": address, "name": person.name, "subject": person.subject}
    rule = rule_for(person, openid.settings.people)
    if rule is None:
        if (ended := await service.store.people.gone(person.subject)) is not None:
            service.revoked(ended)
        await service.store.audit.note(ended or "", "session.refused", "", told)
        what = (
            f"You are signed in as {person.name}, and nobody has allowed you anything here. Ask who runs this service."
        )
        raise SignInFailed(what, f"no rule is for {person.subject}")
    expires = datetime.now(UTC) + openid.settings.session
    rights = (rule.scopes, rule.instances, rule.projects)
    token, other = await service.store.people.come(
        checked_token(person.name, *rights, expires, rule.limits, person.subject)
    )
    if other == token.id:
        service.end_streams(token.id)
    elif other is not None:
        service.revoked(other)
    service.deliveries.owner_changed(token.id, expires=token.expires)
    await service.store.audit.note(token.id, "session.begun", "", told)
    return token


def _to(address: str) -> Response:
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})


def _failed(error: SignInFailed) -> Response:
    _log.warning("not_signed_in", reason=error.reason)
    return sentence_page(error.what, error.status)
