"""Tokens: made, shown once, listed, revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Response, status
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from ..guards import Manager
from ..identities import Identity, Limits, MoreThanOwn, Scope
from ..problems import NotThere
from ..service import Service
from ..store import Token
from .common import PROBLEMS, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], responses=PROBLEMS)

Patterns = Annotated[
    list[Annotated[str, Field(pattern=r"^[^\x00]{1,200}$")]], Field(max_length=100, examples=[["chat-*"]])
]
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$", examples=["3f0c7d52-6f0e-4a43-9df4-6ad57c1f6c11"])]


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    return value


_Limit = Annotated[int | None, Field(ge=1, le=1_000_000), BeforeValidator(_no_flag)]  # true would be 1


class TokenLimits(BaseModel):
    """How much it may ask for; null: no limit."""

    model_config = ConfigDict(extra="forbid")

    commands_per_minute: _Limit = None
    at_once: Annotated[_Limit, Field(description="Commands that have not ended.")] = None


class NewToken(BaseModel):
    """A token to be made. Without instances and projects it sees all; with them, what matches one of them."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[^\x00]{1,200}$", examples=["telegram bot"])]
    scopes: Annotated[set[Scope], Field(min_length=1, examples=[["read", "command"]])]
    instances: Patterns = []
    projects: Patterns = []
    expires: Annotated[AwareDatetime | None, Field(examples=["2030-01-01T00:00:00Z"])] = None
    limits: TokenLimits = TokenLimits()


class TokenShown(BaseModel):
    """A token, without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    instances: list[str]
    projects: list[str]
    limits: TokenLimits
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    subject: Annotated[
        str | None,
        Field(description="The person who has signed in at an identity provider, whose token nobody has in hand."),
    ]


class TokenMade(TokenShown):
    """A new token."""

    secret: Annotated[str, Field(description="Shown now and never again.")]


class TokenList(BaseModel):
    """The tokens that you could have made."""

    tokens: list[TokenShown]


@router.get("", response_model=TokenList)
async def list_tokens(service: TheService, who: Manager) -> dict[str, Any]:
    """All tokens that have nothing which yours has not, also those that have expired or were revoked."""
    return {"tokens": [_shown(token) for token in await service.store.tokens.list() if who.covers(token)]}


@router.post("", response_model=TokenMade, status_code=status.HTTP_201_CREATED)
async def make_token(service: TheService, who: Manager, body: NewToken, response: Response) -> dict[str, Any]:
    """Make a token. It can have nothing that yours has not."""
    limits = Limits(body.limits.commands_per_minute, body.limits.at_once)
    asked = Identity("", body.name, frozenset(body.scopes), tuple(body.instances), tuple(body.projects), limits)
    asked = asked.replace(expires=body.expires)
    if not who.covers(asked):
        raise MoreThanOwn
    made, secret = await service.store.tokens.make(
        body.name, body.scopes, body.instances, body.projects, body.expires, limits
    )
    response.headers["Location"] = f"/v1/tokens/{made.id}"
    response.headers["Cache-Control"] = "no-store"
    return {**_shown(made), "secret": secret}


@router.delete("/{token}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_token(service: TheService, who: Manager, token: TokenId) -> None:
    """End a token, and the page's sessions that were begun with it. Harmless when repeated."""
    found = await service.store.tokens.get(token)
    if found is None or not who.covers(found):
        raise NotThere("no such token")
    if await _is_the_last(service, found):
        raise HTTPException(HTTPStatus.CONFLICT, "it is the last token that can make others: make another one first")
    await service.store.tokens.revoke(token)
    service.revoked(token)


async def _is_the_last(service: Service, token: Token) -> bool:
    """Without it nobody could manage everything any more; people can as long as their provider lets them in."""
    masters = {other.id for other in await service.store.tokens.list() if _is_master(other)}
    return masters == {token.id}


def _is_master(token: Token) -> bool:
    is_usable = token.revoked is None and (token.expires is None or token.expires > datetime.now(UTC))
    return is_usable and token.subject is None and "manage" in token.scopes and Identity.of(token).sees_all


def _shown(token: Token) -> dict[str, Any]:
    lists = {
        "scopes": sorted(token.scopes),
        "instances": list(token.instances),
        "projects": list(token.projects),
        "limits": token.limits.as_dict(),
    }
    return {**token.as_dict(), **lists}
