"""Makes the service of a record, and takes it away with all that it has left at nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio

from ..engine.client import Engine
from ..engine.configs import Configs
from ..engine.containers import Containers
from ..engine.image_names import AUTO_IMAGE, DEFAULT_IMAGE
from ..engine.images import Images
from ..engine.labels import LABEL
from ..engine.node_engines import NodeEngines
from ..engine.progress import Progress
from ..engine.services import ServiceInfo, Services
from ..engine.swarm import TRIES
from ..engine.volumes import Volumes
from ..errors import ContainerNotFound, EngineError, ImageNotFound, InvalidInput, NameConflict, SwarmConflict
from ..logs import Log
from .registry import Registry, agent_archive
from .service_plan import RECORD, SEALED_NETWORK, ServicePlan, record_in

__all__ = ["ServiceMaker", "remove_volumes"]

#: Seconds between tries to remove volumes.
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)

#: Seconds after which the service of an ephemeral instance that nobody knows is an orphan.
_STALE = 120.0

#: Since this version of its API an engine can be asked that a service's programs gain no privileges.
_NO_NEW_PRIVILEGES = (1, 44)


class ServiceMaker:
    """See the module.

    Args:
        nodes: the swarm's.
        on_progress: called, from a worker thread, with each step of an image's build.
    """

    def __init__(self, nodes: NodeEngines, registry: Registry, log: Log, *, on_progress: Progress | None) -> None:
        self._nodes = nodes
        self._manager = nodes.manager
        self._registry = registry
        self._log = log
        self._on_progress = on_progress

    @cached_property
    def agent(self) -> Path:
        """Its archive, on this machine."""
        return agent_archive(self._registry.root)

    async def make(self, plan: ServicePlan) -> ServiceInfo:
        """Make the service, without a task. Another program may have made it meanwhile: then it is that one's.

        Raises:
            EngineError: says what cannot be had.
        """
        services, client = Services(self._manager), await self._manager.client()
        image = await self._image(plan.record.image)
        version = tuple(int(part) for part in client.api._version.split("."))
        for last in (False, True):
            if not plan.has_network:
                await self._ensure_sealed_network()
            config = await self._config()
            spec = plan.spec(image, config, no_new_privileges=version >= _NO_NEW_PRIVILEGES)
            try:
                made = await services.create(spec)
            except NameConflict:
                return await services.inspect(plan.service)
            except ContainerNotFound:  # another program has just removed what its last service had used
                if last:
                    raise
            else:
                self._log.info("service_created", service=plan.service, image=image)
                await self._sweep(plan)
                return made
        raise AssertionError("every way out of the loop is above")

    async def change_image(self, find: Callable[[], Awaitable[ServiceInfo | None]], plan: ServicePlan) -> None:
        """Have the image of a plan in a service that runs nothing; nothing to do where there is none.

        Args:
            find: the service.

        Raises:
            EngineError: says what cannot be had.
        """
        image, services = await self._image(plan.record.image), Services(self._manager)
        for last in [False] * (TRIES - 1) + [True]:
            if (service := await find()) is None:
                return
            try:
                await services.update(service, image=image, labels={**service.labels, RECORD: plan.told})
            except SwarmConflict:  # who renews the lease writes a label
                if last:
                    raise
            else:
                return

    async def _sweep(self, plan: ServicePlan) -> None:
        """Remove services of ephemeral instances whose programs were killed; their agents have ended by themselves."""
        labels = {f"{LABEL}.install": plan.labels[f"{LABEL}.install"], f"{LABEL}.type": "service"}
        known = self._registry.names()
        for service in await Services(self._manager).labelled(labels):
            if service.labels.get(f"{LABEL}.instance") in known:
                continue
            with suppress(InvalidInput, ValueError):
                record = record_in(service.labels, service.name, {})
                age = datetime.now(UTC) - datetime.fromisoformat(service.created)
                if record.ephemeral and age.total_seconds() > _STALE:
                    self._log.warning("orphan_removed", service=service.name)
                    await self.take_away(plan.of(record))

    async def _config(self) -> tuple[str, str]:
        """Id and name of the config that has the agent."""
        archive = self.agent.read_bytes()
        name = f"{LABEL}-agent-{hashlib.sha256(archive).hexdigest()[:16]}"
        return await Configs(self._manager).ensure(name, archive, {f"{LABEL}.type": "agent"}), name

    async def _image(self, name: str) -> str:
        """What nodes know it by: its id where it is in no registry, so that none is asked in vain."""
        if name in (AUTO_IMAGE, DEFAULT_IMAGE):
            name = await Images(self._manager).ensure(name, self.agent, self._on_progress)
        client = await self._manager.client()
        try:
            found = await self._manager.call(client.api.inspect_image, name, repeat=True)
        except ImageNotFound:
            return name
        digests = [str(digest) for digest in found.get("RepoDigests") or ()]
        repository = name.rpartition("@")[0] or (name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name)
        pinned = [digest for digest in digests if digest.partition("@")[0] == repository]
        return pinned[0] if pinned else name if digests else str(found["Id"])

    async def _clear(self, engine: Engine, labels: Mapping[str, str], names: Sequence[str]) -> None:
        """Remove containers and volumes at one node. Swarm removes the same containers, at a time of its own.

        Raises:
            EngineError: a volume is in use all the same, or it cannot be asked.
        """
        containers = Containers(engine)
        for container in await containers.labelled(labels):
            await containers.remove(container.id)
        await remove_volumes(engine, names)

    async def _ensure_sealed_network(self) -> None:
        client = await self._manager.client()
        if await self._manager.call(client.api.networks, names=[SEALED_NETWORK], repeat=True):
            return
        labels: dict[str, Any] = {f"{LABEL}.type": "sealed"}
        shown = ("network", "create", "--driver", "overlay", "--internal", SEALED_NETWORK)
        try:
            await self._manager.call(
                client.api.create_network, SEALED_NETWORK, driver="overlay", internal=True, labels=labels, shown=shown
            )
        except EngineError as error:
            if "already exists" not in error.what:
                raise

    async def take_away(self, plan: ServicePlan) -> None:
        """Remove the service, its containers and volumes at each node, and what no other service uses."""
        services, client = Services(self._manager), await self._manager.client()
        await services.remove(plan.service)
        labels = {f"{LABEL}.instance": plan.record.name, "com.docker.swarm.service.name": plan.service}
        for node in await self._nodes.nodes.list():
            try:
                await self._clear(await self._nodes.of(node.id), labels, plan.volumes)
            except EngineError as error:
                self._log.warning("volumes_not_removed", node=node.hostname, reason=error.what, volumes=plan.volumes)
        configs = Configs(self._manager)
        for name in await configs.labelled({f"{LABEL}.type": "agent"}):
            await configs.remove_unused(name)
        if not plan.has_network and await self._manager.call(client.api.networks, names=[SEALED_NETWORK], repeat=True):
            try:
                await self._manager.call(client.api.remove_network, SEALED_NETWORK)
            except EngineError as error:
                self._log.debug("network_in_use", reason=error.what)  # by another one


async def remove_volumes(engine: Engine, names: Sequence[str]) -> None:
    """Remove volumes whose containers are being removed.

    Raises:
        EngineError: one is in use all the same, or it cannot be asked.
    """
    for pause in _PAUSES:
        names = [name for name in names if not await Volumes(engine).remove_unused(name)]
        if not names:
            return
        await anyio.sleep(pause)  # back-off: a container that is being removed is not shown any more
    raise EngineError(f"these volumes are in use: {', '.join(names)}")
