"""Nodes of a swarm, and what a manager tells of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing
from typing import Any

import anyio

from ..errors import NotASwarm, SwarmConflict
from ..values import Value
from .client import OPERATION_LIMIT, Engine
from .swarm import TRIES, asked

__all__ = ["NodeInfo", "Nodes", "watch_swarm"]

#: Seconds before a manager's events are asked for again, where it has ended them.
_PAUSE = 0.5


class NodeInfo(Value):
    """A node.

    Attributes:
        address: as the manager sees it.
        state: ``ready``, ``down``, ``unknown`` or ``disconnected``.
        availability: ``active``, ``pause`` or ``drain``.
        role: ``manager`` or ``worker``.
        version: its version index.
        memory: bytes. cpus: processors.
        engine: its engine's version.
        spec: as the engine has it.
    """

    id: str
    hostname: str
    address: str
    state: str
    availability: str
    role: str
    version: int
    labels: Mapping[str, str]
    memory: int
    cpus: float
    engine: str
    spec: Mapping[str, Any]

    @property
    def is_ready(self) -> bool:
        """It runs, as far as the managers hear from it."""
        return self.state == "ready"

    @property
    def is_gone(self) -> bool:
        """It does not run, as far as the managers know; of none do they know while they have just been started."""
        return self.state in ("down", "disconnected")


class Nodes:
    """The nodes of a swarm. Arguments and errors as of :class:`Services`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self) -> list[NodeInfo]:
        """All of them, by hostname."""
        client = await self._engine.client()
        found = await asked(self._engine, client.api.nodes, repeat=True, shown=["node", "ls"])
        return sorted(map(_node, found), key=lambda node: (node.hostname, node.id))

    async def inspect(self, name: str) -> NodeInfo:
        """A node, by its id or hostname.

        Raises:
            ContainerNotFound: there is none.
        """
        client = await self._engine.client()
        return _node(await asked(self._engine, client.api.inspect_node, name, repeat=True))

    async def own_id(self) -> str:
        """The id of the engine's own node."""
        client = await self._engine.client()
        swarm = (await asked(self._engine, client.info, repeat=True)).get("Swarm") or {}
        if not swarm.get("ControlAvailable"):
            raise NotASwarm(f"the engine at {self._engine.address} is no manager of a swarm")
        return str(swarm["NodeID"])

    async def update(
        self, name: str, *, availability: str = "", labels: Mapping[str, str | None] | None = None
    ) -> NodeInfo:
        """Change a node; again where somebody else changes it at the same time.

        Args:
            availability: ``active``, ``pause`` or ``drain``; empty: as it is.
            labels: more labels; None takes one away.

        Raises:
            SwarmConflict: somebody does so again and again.
            ContainerNotFound: there is none.
        """
        client = await self._engine.client()
        for last in [False] * (TRIES - 1) + [True]:
            node = await self.inspect(name)
            merged = {**node.labels, **(labels or {})}
            spec = {
                **node.spec,
                "Availability": availability or node.availability,
                "Labels": {key: value for key, value in merged.items() if value is not None},
            }
            try:
                await asked(self._engine, client.api.update_node, node.id, node.version, spec)
                return await self.inspect(node.id)
            except SwarmConflict:
                if last:
                    raise
        raise AssertionError("every way out of the loop is above")

    async def until_down(self, name: str) -> NodeInfo:
        """Wait until a node has gone, by the manager's events; for ever where it stays.

        Raises:
            ContainerNotFound: there is no such node.
        """
        while True:
            async with aclosing(watch_swarm(self._engine, "node")) as changes:
                async for _ in changes:
                    node = await self.inspect(name)
                    if node.is_gone:
                        return node
            await anyio.sleep(_PAUSE)  # back-off: the engine has ended the stream


async def watch_swarm(engine: Engine, *types: str) -> AsyncGenerator[Mapping[str, Any], None]:
    """A manager's events in the engine's words, from now on, until the connection ends.

    The first is empty, and says that from then on nothing is missed.

    Args:
        types: ``node``, ``service``.
    """
    client = await engine.client()

    def read() -> Generator[dict[str, Any]]:
        import docker.utils

        # Not the SDK's method, which has a read timeout: a quiet swarm is not an error.
        params = {"filters": docker.utils.convert_filters({"type": list(types)})}
        url, limits = client.api._url("/events"), (OPERATION_LIMIT, None)
        answer = client.api.get(url, params=params, stream=True, timeout=limits)
        with answer:
            client.api._raise_for_status(answer)
            yield {}
            yield from client.api._stream_helper(answer, decode=True)

    async with aclosing(engine.stream(read)) as received:
        async for event in received:
            yield event


def _node(raw: Mapping[str, Any]) -> NodeInfo:
    spec, about, status = raw.get("Spec") or {}, raw.get("Description") or {}, raw.get("Status") or {}
    resources = about.get("Resources") or {}
    return NodeInfo(
        id=str(raw["ID"]),
        hostname=str(about.get("Hostname", "")),
        address=str(status.get("Addr", "")),
        state=str(status.get("State", "unknown")),
        availability=str(spec.get("Availability", "")),
        role=str(spec.get("Role", "")),
        version=int(raw["Version"]["Index"]),
        labels=dict(spec.get("Labels") or {}),
        memory=int(resources.get("MemoryBytes") or 0),
        cpus=int(resources.get("NanoCPUs") or 0) / 1e9,
        engine=str((about.get("Engine") or {}).get("EngineVersion", "")),
        spec=spec,
    )
