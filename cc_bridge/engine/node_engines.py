"""The engines of a swarm's nodes: where each is reached, and one connection for all who need it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
from anyio.abc import AsyncResource

from ..errors import ContainerNotFound, EngineError, EngineUnavailable, InvalidInput
from .address import Address, address_of, context_address
from .client import Engine
from .labels import LABEL
from .nodes import NodeInfo, Nodes

if TYPE_CHECKING:
    import docker

__all__ = ["ENGINE_LABEL", "NodeEngines", "address_of_node", "engine_at"]

#: The label of a node that says where its engine is reached.
ENGINE_LABEL = f"io.{LABEL}.engine"

#: A rule for all nodes that have no such label: a URL with ``{hostname}`` or ``{address}`` in it.
_RULE = "CC_BRIDGE_NODE_ENGINE"

_HINT = (
    f"Say so by a label of the node (`docker node update --label-add {ENGINE_LABEL}=ssh://user@host NODE`), a Docker "
    f"context that is called as the node, or a rule ({_RULE}='ssh://user@{{hostname}}')."
)


class NodeEngines(AsyncResource):
    """The engines of the nodes, by node: made when they are first asked for, and closed with the manager's.

    Safe to share between tasks, and shared by all who use the same engine of the manager: see :meth:`by`.

    Args:
        manager: a manager's engine.
    """

    def __init__(self, manager: Engine) -> None:
        self.manager = manager
        self.nodes = Nodes(manager)
        self._own = ""
        self._engines: dict[str, tuple[Address, Engine]] = {}
        self._making = anyio.Lock()

    @classmethod
    def by(cls, manager: Engine) -> NodeEngines:
        """Those that are reached by way of this engine: one object, however often it is asked for."""
        if not isinstance(manager.companion, cls):
            manager.companion = cls(manager)
        return manager.companion

    async def of(self, node_id: str) -> Engine:
        """The engine of a node.

        Raises:
            EngineUnavailable: nobody says where it is reached, the node is down, or it is not there any more.
            EngineError: the manager cannot be asked.
        """
        self._own = self._own or await self.nodes.own_id()
        if node_id == self._own:
            return self.manager
        try:
            node = await self.nodes.inspect(node_id)
        except ContainerNotFound:
            raise EngineUnavailable(f"the swarm has no node {node_id} any more", hint="") from None
        if node.is_gone:
            raise EngineUnavailable(f"the node {node.hostname} is {node.state}", hint="`docker node ls` shows it.")
        return await self.whatever_of(node)

    async def whatever_of(self, node: NodeInfo) -> Engine:
        """The same of another node than the manager's own, also where the managers say that it is down."""
        address = address_of_node(node)
        async with self._making:
            before = self._engines.get(node.id)
            if before is not None and before[0].url == address.url:
                return before[1]
            engine = _NodeEngine(address, node)
            self._engines[node.id] = (address, engine)
        if before is not None:  # its label was changed
            await before[1].aclose()
        return engine

    async def reachable(self) -> list[tuple[NodeInfo, Engine]]:
        """The nodes that are ready and whose engines answer, with these."""
        found = []
        for node in await self.nodes.list():
            try:
                engine = await self.of(node.id)
                await engine.client()
            except EngineError:
                continue
            found.append((node, engine))
        return found

    async def aclose(self) -> None:
        """Close the connections to all nodes but the manager; they are made again when they are asked for."""
        engines, self._engines = self._engines, {}
        for _, engine in engines.values():
            await engine.aclose()


class _EngineAt(Engine):
    """The engine at an address that is known."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    async def _find(self) -> Address:
        return self._address


class _NodeEngine(_EngineAt):
    """The same; it has to be the node's, whatever a label or a hostname says."""

    def __init__(self, address: Address, node: NodeInfo) -> None:
        super().__init__(address)
        self._node = node
        self._checked: object = None

    async def client(self) -> docker.DockerClient:
        """See ``Engine``.

        Raises:
            EngineUnavailable: also where another engine answers there.
        """
        client = await super().client()
        if client is not self._checked:
            swarm = (await self.call(client.info, repeat=True)).get("Swarm") or {}
            if swarm.get("NodeID") != self._node.id:
                what = f"the engine at {self._address.url} is not that of the node {self._node.hostname}"
                raise EngineUnavailable(what, hint=_HINT)
            self._checked = client
        return client


def engine_at(url: str, source: str) -> Engine:
    """The engine at a URL.

    Args:
        source: where the URL came from, for messages.

    Raises:
        InvalidInput: it has an unknown scheme.
    """
    return _EngineAt(address_of(url, source))


def address_of_node(node: NodeInfo, environ: Mapping[str, str] = os.environ) -> Address:
    """Where the engine of a node is reached: by its label, a context of its hostname, or the rule.

    Raises:
        EngineUnavailable: nobody says where, or what is said is no address.
    """
    rule = environ.get(_RULE, "")
    try:
        if url := node.labels.get(ENGINE_LABEL, ""):
            return address_of(url, f"the label {ENGINE_LABEL} of the node {node.hostname}", environ)
        if (found := context_address(node.hostname)) is not None:
            return found
        if rule:
            url = rule.replace("{hostname}", node.hostname).replace("{address}", node.address)
            return address_of(url, f"{_RULE} for the node {node.hostname}", environ)
    except InvalidInput as error:
        raise EngineUnavailable(error.what, hint=error.hint) from error
    raise EngineUnavailable(f"nobody says where the engine of the node {node.hostname} is reached", hint=_HINT)
