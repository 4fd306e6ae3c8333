"""Permission requests for webhooks: what waits, what was decided, what needs no decision any more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio

from ..fleet import Asked, Decided, Desk, DeskEvent, Missed, OpenRequest
from ..logs import Log
from .deliveries import Deliveries
from .store import StoreUnavailable

__all__ = ["tell_of_permissions"]

#: Characters of a tool's input that are told; of a longer one the request itself has the whole.
_LONGEST_INPUT = 64 * 1024

#: Seconds between tries to store what is to be told: the first and the longest.
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0

_log = Log("", "webhooks")


async def tell_of_permissions(desk: Desk, deliveries: Deliveries) -> None:
    """Queue for webhooks what happens at the desk, until it closes.

    ``permission_asked`` (``id``, ``turn``, ``tool``, ``input`` or None where it is long, ``since``),
    ``permission_decided`` (``id``, ``allowed``, ``by``, ``how``) and ``permission_moot`` (``id``). What waits when this
    begins is told again: the service before may have been killed before it did. Receivers know it by its ``id``.
    """
    watch = desk.watch()
    for request in desk.open():
        await _tell(deliveries, Asked(request))
    async for event in watch:
        if isinstance(event, Missed):
            for request in desk.open():
                await _tell(deliveries, Asked(request))
        else:
            await _tell(deliveries, event)


async def _tell(deliveries: Deliveries, event: DeskEvent) -> None:
    instance, kind, payload = _told(event)
    outgoing = deliveries.outgoing(instance, kind, payload)
    pause = _PAUSE
    while outgoing:
        try:
            await deliveries.queue(outgoing)
            return
        except StoreUnavailable as error:
            _log.warning("permission_not_queued", instance_name=instance, reason=error.what, again_in=pause)
            await anyio.sleep(pause)  # back-off: somebody has to start it
            pause = min(2 * pause, _LONGEST_PAUSE)


def _told(event: DeskEvent) -> tuple[str, str, Mapping[str, Any]]:
    if isinstance(event, Asked):
        return event.request.instance, "permission_asked", _asked(event.request)
    if isinstance(event, Decided):
        told = {"id": event.id, "allowed": event.allowed, "by": event.by, "how": event.how}
        return event.instance, "permission_decided", told
    assert not isinstance(event, Missed)
    return event.instance, "permission_moot", {"id": event.id}


def _asked(request: OpenRequest) -> dict[str, Any]:
    given = dict(request.input) if request.input is not None else None
    if given is not None and len(json.dumps(given)) > _LONGEST_INPUT:
        given = None
    return {
        "id": request.id,
        "turn": request.turn,
        "tool": request.tool_name,
        "input": given,
        "since": request.since.isoformat(),
    }
