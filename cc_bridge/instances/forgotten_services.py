"""Services of a swarm that this installation has made, and whose instances it does not know any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial

from ..engine.client import Engine
from ..engine.labels import LABEL
from ..engine.node_engines import NodeEngines
from ..engine.services import Services
from ..errors import InvalidInput
from ..logs import Log
from ..state import Installation
from .container_plan import ContainerPlan
from .registry import Registry
from .service_maker import ServiceMaker
from .service_plan import ServicePlan, record_in

__all__ = ["forgotten_services"]


async def forgotten_services(
    manager: Engine, registry: Registry, known: Collection[str]
) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    """Their names, and what removes each with its containers and volumes.

    Args:
        known: names of instances.

    Raises:
        NotASwarm: the engine is no manager.
        EngineError: of the kind that fits.
    """
    install = Installation.at(registry.root).id
    found: list[tuple[str, Callable[[], Awaitable[None]]]] = []
    for service in await Services(manager).labelled({f"{LABEL}.install": install, f"{LABEL}.type": "service"}):
        if service.labels.get(f"{LABEL}.instance") in known:
            continue
        with suppress(InvalidInput):  # nobody knows what belongs to it
            record = record_in(service.labels, service.name, {})
            log = Log(record.name, record.kind)
            like = ContainerPlan(record, service.name, registry.home(record.name), install, None, log)
            maker = ServiceMaker(NodeEngines.by(manager), registry, log, on_progress=None)
            remove = partial(maker.take_away, ServicePlan(record, service.name, like))
            found.append((service.name, remove))
    return found
