"""Turns: found again, changed, taken back, interrupted, heard."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response, status

from ...errors import TurnNotFound
from ...fleet import FeedPosition
from ..guards import Commander, Reader, seen
from ..schemas import NewCommand, Turn, Turns
from ..service import Service
from ..store.commands import Command
from ..streams import EventStream
from ..turn_streams import turn_events
from ..views import turn_view
from .common import PROBLEMS, InstanceName, TheService, TurnId

__all__ = ["router"]

router = APIRouter(prefix="/v1/instances/{name}/turns", tags=["turns"], responses=PROBLEMS)


@router.get("", response_model=Turns)
async def list_turns(
    service: TheService,
    who: Reader,
    name: InstanceName,
    before: Annotated[int | None, Query(ge=0, description="Only those with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """The latest commands that were sent through this service, oldest first."""
    seen(service, who, name)
    found = await service.store.commands.of(name, before, limit)
    return {"turns": [turn_view(service, command) for command in found]}


@router.get("/{turn}", response_model=Turn)
async def show_turn(service: TheService, who: Reader, name: InstanceName, turn: TurnId) -> dict[str, Any]:
    """One command, with its result once it has ended."""
    seen(service, who, name)
    return turn_view(service, await _find(service, name, turn))


@router.put("/{turn}", response_model=Turn)
async def change_turn(
    service: TheService, who: Commander, name: InstanceName, turn: TurnId, body: NewCommand
) -> dict[str, Any]:
    """Another prompt for a command that still waits (`stored`)."""
    seen(service, who, name)
    await _find(service, name, turn)
    return turn_view(service, await service.inbox.change(turn, body.plain()))


@router.delete("/{turn}", status_code=status.HTTP_204_NO_CONTENT)
async def end_turn(service: TheService, who: Commander, name: InstanceName, turn: TurnId) -> None:
    """Take a command back that waits, or interrupt its turn. Nothing, where it has ended."""
    seen(service, who, name)
    command = await _find(service, name, turn)
    if await service.inbox.withdraw(turn) or service.inbox.position(command) is None:
        return
    found = await service.fleet.open(name).turn(turn)
    async with found:
        await found.interrupt()


@router.get("/{turn}/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
async def turn_stream(
    service: TheService,
    who: Reader,
    name: InstanceName,
    turn: TurnId,
    last_event_id: Annotated[str, Header(max_length=200)] = "",
    after: Annotated[str, Query(max_length=200, description="As Last-Event-ID, for the first request.")] = "",
) -> Response:
    """What is said in the turn, from its first event or after the one you have, up to its result.

    204 where you have all of it: an `EventSource` then stops.
    """
    seen(service, who, name)
    command = await _find(service, name, turn)
    if position := last_event_id or after:
        FeedPosition.parse(position)
    if position and command.result is not None and command.result.get("at") == position:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return EventStream(turn_events(service, command, position), service.farewell(who))


async def _find(service: Service, name: str, turn: str) -> Command:
    command = await service.store.commands.get(turn)
    if command is None or command.instance != name:
        raise TurnNotFound(f"no command {turn} was sent through this service", instance=name)
    return command
