"""Conversations: read, taken away as a file, gone on with in a copy."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Response, status

from ..attachments import Attachment
from ..forks import fork
from ..guards import Manager, Reader, check_new, seen
from ..history import Page, read_page
from ..identities import Identity
from ..instance_schemas import Fork, History
from ..schemas import Instance
from ..service import Service
from .common import PROBLEMS, InstanceName, TheService

__all__ = ["history_of", "router"]

router = APIRouter(prefix="/v1/instances/{name}", tags=["conversations"], responses=PROBLEMS)

_GZIP: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.get("/history", response_model=History)
async def show_history(
    service: TheService,
    who: Reader,
    name: InstanceName,
    before: Annotated[
        int | None, Query(ge=0, le=2**53, description="Only messages with a smaller index.", examples=[200])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="How many, at most.")] = 100,
) -> dict[str, Any]:
    """What was said, as the transcript has it: the latest part, or the one before an index. Nothing is started.

    What belongs to the turn that goes on is left out, with all that follows it; `running` names it, and its events have
    it from its beginning.
    """
    return await history_of(service, who, name, before, limit)


async def history_of(service: Service, who: Identity, name: str, before: int | None, limit: int) -> dict[str, Any]:
    """What ``GET …/history`` answers."""
    running = seen(service, who, name)["turn"]
    instance = service.fleet.open(name)
    page = Page(before, limit, frozenset([running] if running else []))
    await read_page(instance, service.fleet.registry.sessions, page)
    if not running and (running := seen(service, who, name)["turn"]):  # it has begun meanwhile
        page = Page(before, limit, frozenset([running]))
        await read_page(instance, service.fleet.registry.sessions, page)
    return {"messages": page.messages, "before": page.before, "running": running}


@router.get("/export", response_class=Response, responses={200: {"content": _GZIP, "description": "A tar.gz"}})
async def export_conversation(service: TheService, who: Reader, name: InstanceName) -> Response:
    """The whole conversation as a file, which `cc-bridge import` takes. It has all that tools have said: a secret."""
    seen(service, who, name)
    with tempfile.TemporaryDirectory(prefix="cc-bridge-") as scratch:
        path = Path(scratch, "conversation")
        await service.fleet.open(name).export_conversation(path)
        content = await anyio.to_thread.run_sync(path.open, "rb")  # it is there without its name, too
    return Attachment(content, os.fstat(content.fileno()).st_size, f"{name}.conversation.tar.gz")


@router.post("/fork", response_model=Instance, status_code=status.HTTP_201_CREATED)
async def fork_instance(
    service: TheService, who: Manager, name: InstanceName, body: Fork, response: Response
) -> dict[str, Any]:
    """A new instance like this one, which goes on in a copy of the conversation as it is now.

    Where this one's workspace was made for it, the new one has a copy of that; otherwise they share it.
    """
    check_new(who, body.name, seen(service, who, name)["project"])
    await fork(service.fleet, name, body.name)
    if body.title:
        await service.store.titles.set(body.name, body.title)
    service.board.retitle(body.name, body.title)
    response.headers["Location"] = f"/v1/instances/{body.name}"
    return service.board.shown(body.name)
