"""Moves the instances of a swarm away from a node, none of them in a turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import anyio

from ..bridge.permissions import leave_to_others
from ..engine.client import Engine
from ..engine.labels import LABEL
from ..engine.nodes import NodeInfo, Nodes
from ..engine.services import ServiceInfo, Services
from ..errors import BridgeError, InstanceBusy
from .registry import Registry
from .service_plan import record_in
from .swarm_service import SwarmService

__all__ = ["Moved", "drain", "instance_of", "services_by_node", "when_idle"]

#: Seconds between two looks at one that is busy without a turn: nothing says when it has ended.
_PAUSE = 1.0


class Moved(NamedTuple):
    """What became of an instance. ``why`` it is still there; empty: it has left the node."""

    name: str
    why: str


async def services_by_node(engine: Engine) -> dict[str, list[ServiceInfo]]:
    """The services of instances that run, by their nodes' ids.

    Raises:
        NotASwarm, EngineError: as they say.
    """
    services, found = Services(engine), dict[str, list[ServiceInfo]]()
    for service in await services.labelled({f"{LABEL}.type": "service"}):
        if service.replicas:
            for task in await services.tasks(service.id):
                if task.is_wanted and task.node:
                    found.setdefault(task.node, []).append(service)
    return found


async def drain(engine: Engine, node: NodeInfo, limit: float, tell: Callable[[Moved], None]) -> bool:
    """Have a node with no instance; False: some have stayed, and nothing new comes to the node.

    An idle instance is scaled to 0, and the next command to it has it placed at another node. One that nobody can ask
    whether it is idle, because it is in a pane or its image has no Python, stays, and so does another installation's
    whose copy of the conversation is not seen here.

    Args:
        limit: seconds for those that are busy.
        tell: what became of each, as it is known.

    Raises:
        EngineError: the swarm cannot be asked.
    """
    nodes = Nodes(engine)
    await nodes.update(node.id, availability="pause")
    stayed: list[Moved] = []
    deadline = anyio.current_time() + limit

    async def move(service: ServiceInfo, elsewhere: Registry) -> None:
        moved = await _move(engine, service, elsewhere, deadline)
        tell(moved)
        if moved.why:
            stayed.append(moved)

    with TemporaryDirectory() as directory:
        elsewhere = Registry(Path(directory))
        async with anyio.create_task_group() as group:
            for service in (await services_by_node(engine)).get(node.id, ()):
                group.start_soon(move, service, elsewhere)
    if not stayed:
        await nodes.update(node.id, availability="drain")
    return not stayed


async def _move(engine: Engine, service: ServiceInfo, elsewhere: Registry, deadline: float) -> Moved:
    name = service.labels.get(f"{LABEL}.instance", service.name)
    try:
        instance = instance_of(service, engine, elsewhere)
    except BridgeError as error:
        return Moved(name, error.what)
    try:
        await when_idle(instance, instance.stop_if_idle, deadline)
    except BridgeError as error:
        # The command in a hint is for an instance of ours: another one's may have the same name.
        hint = "" if instance.record.service else error.hint
        return Moved(name, f"{error.what}. {hint}" if hint else error.what)
    finally:
        await instance.release()
    return Moved(name, "")


def instance_of(service: ServiceInfo, engine: Engine, elsewhere: Registry) -> SwarmService:
    """The instance of this very service: another installation may have one of the same name.

    Args:
        elsewhere: for one that this installation does not know, so that it has nothing of ours of the same name.

    Raises:
        InvalidInput: its record cannot be read.
    """
    name, registry = service.labels.get(f"{LABEL}.instance", service.name), Registry()
    if name in registry.names() and (record := registry.load(name)).kind == SwarmService.kind:
        known = SwarmService(record, engine, on_permission=leave_to_others)
        if known.service == service.name:
            return known
    record = record_in(service.labels, service.name, {})
    return SwarmService(record, engine, registry=elsewhere, on_permission=leave_to_others)


async def when_idle(instance: SwarmService, act: Callable[[], Awaitable[None]], deadline: float) -> None:
    """Do something to an instance that does not do it to a busy one, again and again until it is idle.

    Args:
        deadline: in anyio's time.

    Raises:
        InstanceBusy: it still is then. Others: as ``act`` does.
    """
    while True:
        try:
            return await act()
        except InstanceBusy:
            if anyio.current_time() >= deadline:
                raise
        with anyio.CancelScope(deadline=deadline):
            await _until_turn_ends(instance)


async def _until_turn_ends(instance: SwarmService) -> None:
    """Wait for the turn that it has; where it is busy with something else, for a while."""
    turn_id = (await instance.get_activity())["turn"]
    if turn_id is None:
        await anyio.sleep(_PAUSE)  # back-off: see above
        return
    try:
        async with await instance.turn(turn_id) as turn:
            await turn.result()
    except BridgeError:
        await anyio.sleep(_PAUSE)  # back-off: it has ended and is not kept, or its node has gone
