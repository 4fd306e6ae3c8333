"""Instances: made, listed, started, put to sleep, stopped, removed."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response, status

from ..guards import Commander, Manager, Reader, check_new, seen
from ..problems import NotThere
from ..schemas import Instance, Instances, NewInstance, Retitled
from .common import PROBLEMS, InstanceName, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1/instances", tags=["instances"], responses=PROBLEMS)


@router.get("", response_model=Instances)
async def list_instances(service: TheService, who: Reader) -> dict[str, Any]:
    """All instances that you see, with what each does at the moment."""
    shown = [service.board.shown(name) for name in service.fleet.names() if service.board.exists(name)]
    return {"instances": [item for item in shown if who.sees(item["name"], item["project"])]}


@router.post("", response_model=Instance, status_code=status.HTTP_201_CREATED)
async def make_instance(service: TheService, who: Manager, body: NewInstance, response: Response) -> dict[str, Any]:
    """Make an instance from a template, and start it; one that was made in the same way is returned."""
    check_new(who, body.name, body.project or "")
    if body.template not in service.fleet.templates:
        raise NotThere(f"there is no template {body.template!r}", hint="GET /v1/templates lists those that there are.")
    await service.fleet.make_from(body.template, body.name, labels=body.labels or None, project=body.project)
    if body.title:
        await _retitle(service, body.name, body.title)
    response.headers["Location"] = f"/v1/instances/{body.name}"
    service.board.tell(body.name)
    return service.board.shown(body.name)


@router.get("/{name}", response_model=Instance)
async def show_instance(service: TheService, who: Reader, name: InstanceName) -> dict[str, Any]:
    """One instance."""
    return seen(service, who, name)


@router.patch("/{name}", response_model=Instance)
async def retitle_instance(service: TheService, who: Commander, name: InstanceName, body: Retitled) -> dict[str, Any]:
    """Call it something else."""
    seen(service, who, name)
    await _retitle(service, name, body.title)
    return service.board.shown(name)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_instance(
    service: TheService,
    who: Manager,
    name: InstanceName,
    conversation: Annotated[
        bool, Query(description="The conversation, too; otherwise it is kept for 30 days.")
    ] = False,
) -> None:
    """Stop it and remove all that belongs to it. What is known of its commands is forgotten."""
    seen(service, who, name)
    await service.inbox.remove(name, partial(service.fleet.remove, name, conversation=conversation))
    await service.store.titles.set(name, "")
    service.board.retitle(name, "")


@router.post("/{name}/start", status_code=status.HTTP_204_NO_CONTENT)
async def start_instance(service: TheService, who: Commander, name: InstanceName) -> None:
    """Make it run, so that the next command finds it ready. Harmless when repeated."""
    seen(service, who, name)
    await service.fleet.open(name).start()


@router.post("/{name}/wake", status_code=status.HTTP_204_NO_CONTENT)
async def wake_instance(service: TheService, who: Commander, name: InstanceName) -> None:
    """Start Claude Code ahead of a command: a person has begun to type."""
    seen(service, who, name)
    await service.fleet.open(name).wake()


@router.post("/{name}/sleep", status_code=status.HTTP_204_NO_CONTENT)
async def put_instance_to_sleep(service: TheService, who: Commander, name: InstanceName) -> None:
    """End Claude Code if it is idle; the next command resumes the conversation."""
    seen(service, who, name)
    await service.fleet.open(name).sleep()


@router.post("/{name}/stop", status_code=status.HTTP_204_NO_CONTENT)
async def stop_instance(service: TheService, who: Manager, name: InstanceName) -> None:
    """Interrupt what runs, and end the processes. The conversation is kept."""
    seen(service, who, name)
    await service.fleet.open(name).stop()


@router.post("/{name}/interrupt", status_code=status.HTTP_204_NO_CONTENT)
async def interrupt_instance(service: TheService, who: Commander, name: InstanceName) -> None:
    """End the running turn, whoever has asked, and return when it is over. Does nothing when none runs."""
    seen(service, who, name)
    await service.fleet.open(name).interrupt()


async def _retitle(service: TheService, name: str, title: str) -> None:
    await service.store.titles.set(name, title)
    service.board.retitle(name, title)
