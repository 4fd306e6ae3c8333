"""What is left in a swarm of instances that no record names any more."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import anyio

from ..bridge.connection import this_program
from ..cluster.lease import TTL, Lease, ended_under
from ..cluster.service_note import ServiceNote
from ..engine.configs import Configs
from ..engine.containers import Containers
from ..engine.labels import LABEL
from ..engine.networks import NetworkInfo, Networks
from ..engine.node_engines import NodeEngines
from ..engine.services import ServiceInfo, Services
from ..engine.volumes import Volumes
from ..errors import EngineError, InvalidInput
from ..logs import Log
from .registry import Registry
from .service_maker import remove_volumes

__all__ = ["Leftover", "leftovers_of_swarm"]

#: Seconds for the lease of one to be free: a program that was killed has it until it has run out.
_LEASE_LIMIT = TTL + 5

#: Seconds between tries to remove a network.
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)


class Leftover(NamedTuple):
    """What is left. ``remove`` raises ``BridgeError`` where it stays, as what is used by now does."""

    kind: str
    name: str
    why: str
    remove: Callable[[], Awaitable[object]]


async def leftovers_of_swarm(
    nodes: NodeEngines,
    registry: Registry,
    install: str,
    kept: Iterable[str],
    *,
    volumes: bool,
    tell: Callable[[str], None],
) -> list[Leftover]:
    """Services of this installation's, their volumes at each node, and what no service uses; in an order to remove it.

    Args:
        install: this installation's id. What has another one's is never among them.
        kept: the instances that are there.
        volumes: with these.
        tell: which node does not answer, and why.

    Raises:
        NotASwarm: the engine is no manager of one.
        EngineError: the manager cannot be asked.
    """
    kept = set(kept)
    services = Services(nodes.manager)
    all_services = await services.labelled({f"{LABEL}.type": "service"})
    orphans = [
        service
        for service in all_services
        if service.labels.get(f"{LABEL}.install") == install and _instance(service.labels) not in kept
    ]
    found = [_service(nodes, registry, install, service) for service in orphans]
    if volumes:
        found += await _volumes(nodes, registry, install, kept, tell)
    used = _configs_of(service for service in all_services if service not in orphans)
    # They are named by what is in them: whoever needs one again, of whichever installation, makes it again.
    agents = await Configs(nodes.manager).labelled({f"{LABEL}.type": "agent"})
    found += [_config(nodes, name) for name in agents if name not in used]
    gone = {service.id for service in orphans}
    has = _networks_of(service for service in await services.labelled({}) if service.id not in gone)
    networks = await Networks(nodes.manager).labelled({f"{LABEL}.type": "sealed"})
    found += [_network(nodes, network) for network in networks if not has & {network.id, network.name}]
    return found


def _config(nodes: NodeEngines, name: str) -> Leftover:
    async def remove() -> None:
        if not await Configs(nodes.manager).remove_unused(name):
            raise InvalidInput("it is used again")

    return Leftover("config", name, "no service has it", remove)


def _network(nodes: NodeEngines, network: NetworkInfo) -> Leftover:
    async def remove() -> None:
        networks, is_removed = Networks(nodes.manager), False
        for pause in _PAUSES:
            try:
                is_removed = is_removed or await networks.remove_unused(network.name)
            except EngineError as error:
                if "in use by service" in error.what:
                    raise InvalidInput("it is used again") from error
                if "in use by task" not in error.what:
                    raise
            if is_removed:
                there = await networks.find(network.name)
                if there is None or there.id != network.id:
                    return
            await anyio.sleep(
                pause
            )  # back-off: a removed service's tasks, and what a node has of it, go a little later
        if not is_removed:
            raise EngineError("tasks of a service that was removed still have it")

    return Leftover("network", network.name, "no service has it", remove)


def _service(nodes: NodeEngines, registry: Registry, install: str, service: ServiceInfo) -> Leftover:
    name, services = _instance(service.labels), Services(nodes.manager)

    async def remove() -> None:
        _check_unknown(registry, name)

        async def find() -> ServiceInfo | None:
            return await services.find(service.id)

        async def make() -> None:
            raise AssertionError("what is to be removed is not made")

        # Another machine's program may have found it by its labels, and drive it.
        note, users = ServiceNote(nodes.manager, find, make), registry.home(name).path / "lease"
        machine, log = f"{install}@{os.uname().nodename}", Log(name, "swarm")
        lease = Lease(note, log, users=users, name=name, machine=machine, host=this_program())
        async with ended_under(lease, _LEASE_LIMIT):
            _check_unknown(registry, name)
            await services.remove(service.id)
        # Swarm ends them at a time of its own, and until then their volumes are in use.
        labels = {f"{LABEL}.instance": name, "com.docker.swarm.service.name": service.name}
        for _, engine in await nodes.reachable():
            for container in await Containers(engine).labelled(labels):
                await Containers(engine).remove(container.id)

    why = "nobody will come back for it" + (f" ({service.replicas} wanted)" if service.replicas else "")
    return Leftover("service", service.name, why, remove)


async def _volumes(
    nodes: NodeEngines, registry: Registry, install: str, kept: set[str], tell: Callable[[str], None]
) -> list[Leftover]:
    labels, found = {f"{LABEL}.type": "service", f"{LABEL}.install": install}, []

    def volume(node: str, name: str, instance: str) -> Callable[[], Awaitable[object]]:
        async def remove() -> None:
            _check_unknown(registry, instance)
            if await Services(nodes.manager).labelled({**labels, f"{LABEL}.instance": instance}):
                raise InvalidInput("its service is there")
            await remove_volumes(await nodes.of(node), [name])

        return remove

    for node in await nodes.nodes.list():
        try:
            there = await Volumes(await nodes.of(node.id)).labelled(labels)
        except EngineError as error:
            tell(f"volumes at {node.hostname} stay: {error.what}")
            continue
        for item in there:
            if (instance := _instance(item.labels)) not in kept:
                remove = volume(node.id, item.name, instance)
                found.append(Leftover("volume", item.name, f"its instance has gone; at {node.hostname}", remove))
    return found


def _check_unknown(registry: Registry, name: str) -> None:
    if name in registry.names():  # it has been made again meanwhile
        raise InvalidInput("it is used again", instance=name)


def _instance(labels: Any) -> str:
    return str(labels.get(f"{LABEL}.instance", ""))


def _configs_of(services: Iterable[ServiceInfo]) -> set[str]:
    return {
        str(config.get("ConfigName"))
        for service in services
        for config in ((service.spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Configs") or ()
    }


def _networks_of(services: Iterable[ServiceInfo]) -> set[str]:
    """Their ids, or names, as it was said."""
    return {
        str(network.get("Target"))
        for service in services
        for network in (service.spec.get("TaskTemplate") or {}).get("Networks") or ()
    }
