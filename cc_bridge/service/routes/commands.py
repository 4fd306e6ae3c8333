"""Commands: stored before they are acknowledged, and answered once."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Request, Response, status

from ..guards import Commander, seen
from ..schemas import NewCommand, Turn
from ..service import Service
from ..sse import json_bytes
from ..streams import EventStream
from ..turn_streams import turn_events
from ..views import turn_view
from .common import PROBLEMS, InstanceName, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/instances/{name}", tags=["commands"], responses=PROBLEMS)

_WAIT = re.compile(r"\bwait\s*=\s*(\d{1,6})\b", re.IGNORECASE)


@router.post(
    "/commands",
    response_model=Turn,
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        200: {"model": Turn, "description": "The whole answer, in time, or its events as they come (text/event-stream)"}
    },
)
async def send_command(
    request: Request,
    service: TheService,
    who: Commander,
    name: InstanceName,
    body: NewCommand,
    prefer: Annotated[str, Header(max_length=200, description="`wait=60`: for the whole answer")] = "",
    accept: Annotated[str, Header(max_length=1000, include_in_schema=False)] = "",  # OpenAPI has no such parameter
    idempotency_key: Annotated[str, Header(max_length=200, description="The same key: the same command")] = "",
) -> Response:
    """Send a command. It waits for those before it, and is answered, whatever happens to you or to this service.

    Answered with 202 and the turn; with `Prefer: wait=SECONDS`, with the result when it comes in time; with `Accept:
    text/event-stream`, with its events. Sent again with the same `Idempotency-Key` it is the same command.
    """
    seen(service, who, name)
    admit = partial(service.meters.admit, who, now=anyio.current_time())
    command, _ = await service.inbox.accept(name, body.plain(), owner=who.id, key=idempotency_key, admit=admit)
    if "text/event-stream" in accept:
        return EventStream(turn_events(service, command, None), service.farewell(who))
    code = status.HTTP_202_ACCEPTED
    if (wait := _WAIT.search(prefer)) is not None:
        await _until_ended(service, command, float(wait[1]))
        command = await service.store.commands.get(command.id) or command
        code = status.HTTP_200_OK if command.state == "ended" else code
    headers = {"Location": f"/v1/instances/{name}/turns/{command.id}"}
    return Response(json_bytes(turn_view(service, command)), code, headers, "application/json")


async def _until_ended(service: Service, command: Any, seconds: float) -> None:
    with anyio.move_on_after(min(seconds, service.limits.longest_wait)):
        async with anyio.create_task_group() as group:

            async def until_stopping() -> None:
                await service.stopping.wait()
                group.cancel_scope.cancel()

            group.start_soon(until_stopping)
            await service.inbox.until_ended(command)
            group.cancel_scope.cancel()
