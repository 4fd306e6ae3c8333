"""What can be set and asked of Claude Code: model, permission mode, slash commands, context."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request

from ...instances.chosen import BYPASS, Chosen
from ...protocol.command_line import ClaudeOptions
from ..guards import Commander, Decider, Reader, seen
from ..instance_schemas import CommandList, Context, Mode, Model, NewMode, NewModel
from ..service import Service
from .audit import describe
from .common import PROBLEMS, InstanceName, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/instances/{name}", tags=["settings"], responses=PROBLEMS)


@router.get("/commands-list", response_model=CommandList)
async def list_commands(service: TheService, who: Commander, name: InstanceName) -> dict[str, Any]:
    """The slash commands that a prompt may begin with. Claude Code is started for it."""
    seen(service, who, name)
    found = await service.fleet.open(name).commands()
    return {"commands": [{**command.as_dict(), "aliases": list(command.aliases)} for command in found]}


@router.get("/model", response_model=Model)
async def show_model(service: TheService, who: Reader, name: InstanceName) -> dict[str, Any]:
    """The model that was chosen."""
    seen(service, who, name)
    return {"model": (await _chosen(service, name)).model or None}


@router.put("/model", response_model=Model)
async def choose_model(
    request: Request, service: TheService, who: Commander, name: InstanceName, body: NewModel
) -> dict[str, Any]:
    """Let another model answer from the next request on, also in the middle of a turn, and after a restart."""
    seen(service, who, name)
    describe(request, name, model=body.model)
    return {"model": await service.fleet.open(name).set_model(body.model) or None}


@router.get("/permission-mode", response_model=Mode)
async def show_mode(service: TheService, who: Reader, name: InstanceName) -> dict[str, Any]:
    """The permission mode that was chosen."""
    seen(service, who, name)
    options = await _chosen(service, name)
    return {"mode": options.permission_mode or (BYPASS if options.skip_permissions else "default")}


@router.put("/permission-mode", response_model=Mode)
async def choose_mode(
    request: Request, service: TheService, who: Decider, name: InstanceName, body: NewMode
) -> dict[str, Any]:
    """Ask for permissions in another way from now on, and after a restart. It allows things, so it takes that scope."""
    seen(service, who, name)
    describe(request, name, mode=body.mode)
    return {"mode": await service.fleet.open(name).set_permission_mode(body.mode)}


@router.get("/context", response_model=Context)
async def show_context(
    service: TheService,
    who: Commander,
    name: InstanceName,
    exact: Annotated[bool, Query(description="Have the API count, instead of an estimate.")] = False,
) -> dict[str, Any]:
    """What the model's context is full of. Claude Code is started for it."""
    seen(service, who, name)
    usage = await service.fleet.open(name).context_usage(exact=exact)
    parts = [category.as_dict() for category in usage.categories]
    return {**{key: value for key, value in usage.as_dict().items() if key != "details"}, "categories": parts}


async def _chosen(service: Service, name: str) -> ClaudeOptions:
    record = service.fleet.open(name).record
    chosen = Chosen(service.fleet.registry.home(record.name).path)
    return await anyio.to_thread.run_sync(chosen.applied, record.claude)
