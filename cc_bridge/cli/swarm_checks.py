"""``cc-bridge doctor --swarm``: a swarm's manager and nodes, and the way to each."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING

import anyio

from ..errors import BridgeError, ImageNotFound, NotASwarm
from .doctor import Check

if TYPE_CHECKING:
    from ..engine.client import Engine
    from ..engine.node_engines import NodeEngines
    from ..engine.nodes import NodeInfo

__all__ = ["check_of_node", "checks_of_swarm"]

#: Nodes that are asked at once.
_AT_ONCE = 16

#: Bytes that a config may have, by Swarm's own limit.
_LARGEST_CONFIG = 500 * 1024

#: Seconds for the engine of a node that is not ready.
_SOON = 5.0

_NO_MANAGER = "`docker swarm init` makes it one; or name a manager by DOCKER_HOST, or by a Docker context."

#: A node that registers just when it is given up can stay down although its session lives (moby/swarmkit#2488).
_UNHEARD = "If the node reaches a manager's port 2377, restart its engine: Swarm has lost it as it began anew."

_ANOTHERS = "Correct what says where it is: the node's label, the context that is called as it, or the rule."


async def checks_of_swarm() -> list[Check]:
    """The manager, what every node gets, and each node."""
    from ..engine.client import Engine
    from ..engine.images import Images
    from ..engine.node_engines import NodeEngines
    from ..instances.registry import agent_archive

    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(aclosing(Engine()))
        engines = await stack.enter_async_context(aclosing(NodeEngines(engine)))
        try:
            own, nodes, version = await engines.nodes.own_id(), await engines.nodes.list(), await engine.version()
        except BridgeError as error:
            return [Check("manager", "fail", error.what, _NO_MANAGER if isinstance(error, NotASwarm) else error.hint)]
        agent = agent_archive()
        image = Images(engine).default_name(agent)
        checks = [
            _manager(nodes, f"engine {version} at {engine.address} ({engine.source})"),
            _agent(agent.stat().st_size),
        ]
        found: dict[str, Check] = {}
        at_once = anyio.CapacityLimiter(_AT_ONCE)

        async def ask(node: NodeInfo) -> None:
            async with at_once:
                found[node.id] = await _node(engines, node, is_own=node.id == own, image=image)

        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(ask, node)
    return [*checks, *(found[node.id] for node in nodes)]


def _manager(nodes: list[NodeInfo], at: str) -> Check:
    managers = [node for node in nodes if node.role == "manager"]
    found = f"{at}; nodes: {len(nodes)}, of which managers: {len(managers)}"
    if len(nodes) > 1 and len(managers) < 3:
        advice = (
            "With three managers one may die. With fewer nothing is placed until it is back: `docker node promote`."
        )
        return Check("manager", "note", found, advice)
    return Check("manager", "ok", found)


def _agent(size: int) -> Check:
    found = f"{size // 1024} KiB, of {_LARGEST_CONFIG // 1024} that a config may have"
    if size > _LARGEST_CONFIG:
        return Check("agent", "fail", found, "Install the release of cc-bridge again.")
    return Check("agent", "ok", found)


async def _node(engines: NodeEngines, node: NodeInfo, *, is_own: bool, image: str) -> Check:
    if not node.is_ready:
        return check_of_node(node, trouble=f"it is {node.state}", answers=await _answers(engines, node))
    try:
        engine = await engines.of(node.id)
        client = await engine.client()
        about = await engine.call(client.info, repeat=True)
        there = str((about.get("Swarm") or {}).get("NodeID", ""))
        began = anyio.current_time()
        await engine.call(client.ping, repeat=True)
        took = anyio.current_time() - began
        way = "the manager's own" if is_own else f"at {engine.address} by {engine.source}"
        version = str(about.get("ServerVersion", ""))
        if there != node.id:
            return check_of_node(node, trouble=f"the one {way} is another node's", advice=_ANOTHERS)
        return check_of_node(
            node, way=f"engine {version}, {way}, in {took * 1000:.0f} ms", has_image=await _has(engine, image)
        )
    except BridgeError as error:
        return check_of_node(node, trouble=error.what, advice=error.hint)


async def _answers(engines: NodeEngines, node: NodeInfo) -> bool:
    """The engine of a node that is not ready is there all the same."""
    with anyio.move_on_after(_SOON):
        try:
            await (await engines.whatever_of(node)).client()  # which has to be the node's
            return True
        except BridgeError:
            return False
    return False


async def _has(engine: Engine, image: str) -> bool:
    client = await engine.client()
    try:
        await engine.call(client.api.inspect_image, image, repeat=True)
    except ImageNotFound:
        return False
    return True


def check_of_node(
    node: NodeInfo,
    *,
    way: str = "",
    has_image: bool = False,
    trouble: str = "",
    advice: str = "",
    answers: bool = False,
) -> Check:
    """What is said of a node.

    Args:
        way: how its engine was reached; empty: it was not.
        has_image: the default image is there.
        trouble: why not. advice: what its error says to do.
        answers: its engine does, although the managers do not have the node.
    """
    name = f"node {node.hostname}"
    if not node.is_ready and answers:
        return Check(name, "fail", f"{trouble} for the managers, but its engine answers", _UNHEARD)
    if not node.is_ready:
        gone = f"Start it, or `docker node rm --force {node.id}` if it does not come back."
        return Check(name, "fail", trouble, gone)
    if not way:
        return Check(name, "fail", f"ready, but its engine is not reached: {trouble}", advice)
    if node.availability != "active":
        resume = f"`cc-bridge node activate {node.hostname}` has it take instances again."
        return Check(name, "note", f"{node.availability}; {way}", resume)
    if not has_image:
        load = "`docker save` and `docker load` bring it there; or use an image of a registry, which nodes pull."
        return Check(name, "note", f"{way}; without the default image", load)
    return Check(name, "ok", f"{way}; has the default image")
