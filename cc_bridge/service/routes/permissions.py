"""Permission requests: listed, shown whole, and decided by whoever is first."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from ...decisions import Allow, Decision, Deny
from ...errors import AlreadyDecided, BridgeError, InvalidInput
from ...fleet import AllowAlways, AllowForSession, OpenRequest
from ..guards import Decider, Reader
from ..identities import Identity
from ..instance_schemas import AllowLonger, AllowOnce, Answer, Answered, Permission, Permissions, Refuse
from ..problems import NotThere
from ..service import Service
from .audit import describe
from .common import PROBLEMS, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/permissions", tags=["permissions"], responses=PROBLEMS)

RequestId = Annotated[str, Path(pattern=r"^[a-z2-7]{1,64}$", examples=["k2vq6y5cmd3hzrq7zyzm3v4w5e"])]


@router.get("", response_model=Permissions)
async def list_permissions(service: TheService, who: Reader) -> dict[str, Any]:
    """All requests that wait for somebody, of the instances that you see."""
    return {"permissions": [_shown(item) for item in service.fleet.desk.open() if _sees(service, who, item.instance)]}


@router.get("/{id}", response_model=Permission)
async def show_permission(service: TheService, who: Reader, id: RequestId) -> dict[str, Any]:  # noqa: A002
    """One request that waits."""
    found = _find(service, id)
    if found is None or not _sees(service, who, found.instance):
        raise _not_there(id)
    return _shown(found)


@router.post("/{id}", response_model=Answered)
async def answer_permission(
    request: Request,
    service: TheService,
    who: Decider,
    id: RequestId,  # noqa: A002
    body: Answer,
) -> dict[str, Any]:
    """Decide. The first answer wins; a later one gets 409, with `by` and `how` of the first.

    `always` also answers the instance's other requests that the new rule covers.
    """
    found = _find(service, id)
    if found is None:
        raise _why_not(service, who, id)
    if not _sees(service, who, found.instance):
        raise _not_there(id)
    rule = {"rule": body.rule} if isinstance(body, AllowLonger) and body.rule else {}
    describe(request, found.instance, answer=body.answer, tool=found.tool_name, **rule)
    service.fleet.desk.answer(id, _decision(body), by=who.name)
    return {"id": id, "instance": found.instance, "answer": body.answer, "by": who.name}


def _find(service: Service, id: str) -> OpenRequest | None:  # noqa: A002
    return next((request for request in service.fleet.desk.open() if request.id == id), None)


def _sees(service: Service, who: Identity, instance: str) -> bool:
    try:
        return who.sees(instance, service.board.project(instance))
    except BridgeError:  # it is being removed
        return who.sees_all


def _why_not(service: Service, who: Identity, id: str) -> BridgeError:  # noqa: A002
    """Why a request does not wait: the desk says by whom it was decided, to those who see the instance."""
    try:
        service.fleet.desk.answer(id, Deny())  # nothing waits under this id, and so this decides nothing
    except AlreadyDecided as error:
        return error if _sees(service, who, error.instance) else _not_there(id)
    except InvalidInput:
        pass
    return _not_there(id)


def _not_there(id: str) -> NotThere:  # noqa: A002
    return NotThere(f"no permission request {id} waits", hint="GET /v1/permissions lists those that do.")


def _decision(body: Answer) -> Decision | AllowForSession | AllowAlways:
    match body:
        case AllowOnce():
            return Allow(input=_checked(body.input))
        case AllowLonger(answer="session"):
            return AllowForSession(body.rule)
        case AllowLonger():
            return AllowAlways(body.rule)
        case Refuse():
            return Deny(body.reason) if body.reason else Deny()


def _checked(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """A changed input, which has to reach Claude Code as JSON: NaN and Infinity would not."""
    try:
        json.dumps(given, allow_nan=False)
    except ValueError:
        raise InvalidInput("the changed input has a number that is none") from None
    return given


def _shown(request: OpenRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "instance": request.instance,
        "turn": request.turn,
        "tool": request.tool_name,
        "input": dict(request.input) if request.input is not None else None,
        "suggested_rules": request.suggested_rules,
        "since": request.since.isoformat(),
        "undecided": request.undecided,
        "attended": request.attended,
    }
