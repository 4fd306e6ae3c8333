"""Streams: all that an instance says, and what all instances do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from ...errors import BridgeError
from ...fleet import FeedPosition
from ..guards import Reader, seen
from ..identities import Identity
from ..service import Service
from ..sse import sse
from ..streams import EventStream
from ..turn_streams import instance_events
from .common import PROBLEMS, InstanceName, TheService

__all__ = ["router", "states_of"]

router = APIRouter(prefix="/v1", tags=["events"], responses=PROBLEMS)

_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@router.get("/instances/{name}/events", response_class=Response, responses=_STREAM)
async def instance_stream(
    service: TheService,
    who: Reader,
    name: InstanceName,
    last_event_id: Annotated[str, Header(max_length=200)] = "",
    after: Annotated[str, Query(max_length=200, description="As Last-Event-ID, for the first request.")] = "",
) -> Response:
    """All that the instance says from now on, or after the event that you have, whoever has asked it."""
    seen(service, who, name)
    position = last_event_id or after
    if position:
        FeedPosition.parse(position)
    return EventStream(instance_events(service, name, position), service.farewell(who))


@router.get("/events", response_class=Response, responses=_STREAM)
async def state_stream(service: TheService, who: Reader) -> Response:
    """What your instances do: first all of them, then each whenever something of it changes.

    `instance` has what `GET /v1/instances/{name}` has; `removed` a name only. States that were over before you have
    read them are left out.
    """
    return EventStream(_written(states_of(service, who)), service.farewell(who))


async def _written(states: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(states):
        async for state in states:
            yield sse(state["type"], state)


async def states_of(service: Service, who: Identity) -> AsyncGenerator[dict[str, Any], None]:
    """What ``GET /v1/events`` sends."""
    changes, shown = service.board.watch(), set[str]()
    for name in service.fleet.names():
        changes.tell(name)
    async for name in changes:
        try:
            found = service.board.shown(name)
        except BridgeError:
            if name in shown:
                shown.discard(name)
                yield {"type": "removed", "name": name}
            continue
        if who.sees(name, found["project"]):
            shown.add(name)
            yield {"type": "instance", **found}
