"""Webhooks: for who cannot hold a stream."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from ..guards import Manager
from ..identities import Identity, MoreThanOwn
from ..problems import NotThere
from ..service import Service
from ..store import Webhook
from .common import PROBLEMS, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=PROBLEMS)

_Id = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$", examples=["3f0c7d52-6f0e-4a43-9df4-6ad57c1f6c11"])]
_Patterns = list[Annotated[str, Field(pattern=r"^[^\x00]{1,200}$")]]


class NewWebhook(BaseModel):
    """An address that is to be told of events, signed with a secret."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(pattern=r"^https?://", max_length=2000, examples=["https://bot.example/hook"])]
    instances: Annotated[
        _Patterns, Field(max_length=100, examples=[["chat-*"]], description="Patterns of names; none: all instances.")
    ] = []
    events: Annotated[
        _Patterns, Field(max_length=100, examples=[["turn_result"]], description="Patterns of types; none: all events.")
    ] = []
    secret: Annotated[
        str | None, Field(min_length=16, max_length=200, description="None: the service makes one.", examples=[None])
    ] = None


class WebhookShown(BaseModel):
    """A webhook, without its secret."""

    id: str
    url: str
    instances: list[str]
    events: list[str]
    owner: Annotated[str, Field(description="The id of the token that made it.")]
    created: datetime
    stopped: Annotated[
        str | None,
        Field(description="Why it is told nothing, and nothing is kept for it; null: it is told."),
    ]


class WebhookMade(WebhookShown):
    """A new webhook."""

    secret: Annotated[str, Field(description="What deliveries are signed with. Shown now and never again.")]


class WebhookList(BaseModel):
    """The webhooks that you could have made."""

    webhooks: list[WebhookShown]


class DeadDelivery(BaseModel):
    """What could not be delivered."""

    id: str
    number: int
    instance: str
    body: str
    created: datetime
    tries: int
    why: Annotated[str, Field(description="What went wrong the last time.")]
    dead: Annotated[datetime, Field(description="When it was given up.")]


class DeadLetters(BaseModel):
    """Some of them, the newest first."""

    deliveries: list[DeadDelivery]


@router.get("", response_model=WebhookList)
async def list_webhooks(service: TheService, who: Manager) -> dict[str, Any]:
    """All webhooks that are told of nothing that you do not see."""
    hooks = [hook for hook in service.deliveries.list() if who.covers_view(hook.instances)]
    return {"webhooks": [_shown(service, hook) for hook in hooks]}


@router.post("", response_model=WebhookMade, status_code=status.HTTP_201_CREATED)
async def make_webhook(service: TheService, who: Manager, body: NewWebhook, response: Response) -> dict[str, Any]:
    """Tell an address of events from now on: signed, in order by instance, again and again until it answers with 2xx.

    It is told as long as the token that makes it is one.

    Each delivery has `X-CC-Bridge-Delivery` (the same at each try), `X-CC-Bridge-Timestamp` and `X-CC-Bridge-Signature`
    (`v1=` and HMAC-SHA256 of `TIMESTAMP.BODY` in hexadecimal digits).
    """
    who.need("read")  # what is told has answers in it
    if not who.covers_view(tuple(body.instances)):
        raise MoreThanOwn
    secret = body.secret or secrets.token_urlsafe(32)
    made = await service.deliveries.add(body.url, secret, body.instances, body.events, who.id)
    response.headers["Location"] = f"/v1/webhooks/{made.id}"
    response.headers["Cache-Control"] = "no-store"
    return {**_shown(service, made), "secret": secret}


@router.delete("/{webhook}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_webhook(service: TheService, who: Manager, webhook: _Id) -> None:
    """Tell it no more, also of what waits for it."""
    _find(service, who, webhook)
    await service.deliveries.remove(webhook)


@router.get("/{webhook}/dead", response_model=DeadLetters)
async def list_dead_letters(
    service: TheService,
    who: Manager,
    webhook: _Id,
    before: Annotated[int | None, Query(ge=0, description="Only those with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """What could not be delivered for a day, and was given up."""
    who.need("read")
    _find(service, who, webhook)
    found = await service.store.webhooks.dead(webhook, before, limit)
    return {"deliveries": [delivery.as_dict() for delivery in found]}


@router.post("/{webhook}/dead/{delivery}", status_code=status.HTTP_202_ACCEPTED)
async def revive_dead_letter(service: TheService, who: Manager, webhook: _Id, delivery: _Id) -> None:
    """Try to deliver one of them again, before what waits for its instance now."""
    _find(service, who, webhook)
    if not await service.store.webhooks.revive(webhook, delivery):
        raise NotThere("no such dead letter")
    service.deliveries.wake()


def _find(service: Service, who: Identity, webhook: str) -> Webhook:
    for hook in service.deliveries.list():
        if hook.id == webhook and who.covers_view(hook.instances):
            return hook
    raise NotThere("no such webhook")


def _shown(service: Service, hook: Webhook) -> dict[str, Any]:
    shown = {name: value for name, value in hook.as_dict().items() if name != "secret"}
    lists = {"instances": list(hook.instances), "events": list(hook.events)}
    return {**shown, **lists, "stopped": service.deliveries.stopped(hook) or None}
