"""Who did what: written down by itself, and read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from ...logs import Log
from ..guards import Anybody, Manager
from ..store import StoreUnavailable
from .common import PROBLEMS, TheService

__all__ = ["AUDITED", "describe", "router"]

router = APIRouter(prefix="/v1/audit", tags=["audit"], responses=PROBLEMS)

#: What is done by the functions of routes, as the log calls it. A command is kept with its turn, and is not here.
_WORDS = {
    "answer_permission": "permission.answered",
    "change_turn": "turn.changed",
    "choose_mode": "permission_mode.chosen",
    "choose_model": "model.chosen",
    "end_turn": "turn.ended",
    "fork_instance": "conversation.forked",
    "interrupt_instance": "instance.interrupted",
    "make_instance": "instance.made",
    "make_token": "token.made",
    "make_webhook": "webhook.made",
    "put_file": "file.written",
    "put_instance_to_sleep": "instance.put_to_sleep",
    "remove_instance": "instance.removed",
    "remove_webhook": "webhook.removed",
    "retitle_instance": "instance.retitled",
    "revive_dead_letter": "delivery.revived",
    "revoke_token": "token.revoked",
    "start_instance": "instance.started",
    "stop_instance": "instance.stopped",
    "wake_instance": "instance.woken",
}
_LEFT_OUT = frozenset({"send_command"})

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_log = Log("", "service")


class AuditEntry(BaseModel):
    """One thing that somebody did."""

    number: int
    at: datetime
    who: Annotated[str, Field(description="The id of the token.")]
    name: Annotated[str, Field(description="What the token is called now; of a person, who they are.")]
    what: Annotated[str, Field(examples=["instance.removed"])]
    instance: Annotated[str, Field(description="Its name; empty: it was done to none.")]
    details: dict[str, Any]


class AuditLog(BaseModel):
    """Some entries, the newest first."""

    entries: list[AuditEntry]


@router.get("", response_model=AuditLog)
async def read_audit_log(
    service: TheService,
    who: Manager,
    before: Annotated[int | None, Query(ge=0, description="Only those with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Who did what, the newest first. A token that does not see all instances reads what it did itself.

    Commands are not here: each turn says who gave it, and is kept.
    """
    entries = await service.store.audit.list(before, limit, None if who.sees_all else who.id)
    return {"entries": [entry.as_dict() for entry in entries]}


def describe(request: Request, instance: str, **details: Any) -> None:
    """Have more written down of what a request does than its address says.

    Args:
        details: JSON types; no secrets and no prompts.
    """
    request.state.done = instance, details


async def _audited(request: Request, response: Response, service: TheService, who: Anybody) -> AsyncIterator[None]:
    yield  # what fails has done nothing, and comes out here
    route = str(getattr(request.scope.get("route"), "name", ""))
    if request.method in _SAFE or route in _LEFT_OUT:
        return
    what = _WORDS.get(route, route)
    done = {name: value for name, value in request.path_params.items() if name != "name"}
    instance, details = getattr(request.state, "done", (request.path_params.get("name", ""), {}))
    done.update(details)
    if location := response.headers.get("location"):
        done["made"] = location
    try:
        await service.store.audit.note(who.id, what, instance, done)
    except StoreUnavailable as error:  # it was done: the client must not be told otherwise
        _log.error("not_audited", who=who.id, what=what, reason=error.what)


#: For a router: whatever is done there, but for commands, is written down with who did it, before it is answered.
AUDITED = Depends(_audited, scope="function")
