"""``cc-bridge node``: the machines of a swarm, as instances have to do with them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .parameters import Argument, Option
from .session import run_async

if TYPE_CHECKING:
    from ..engine.nodes import NodeInfo
    from ..engine.services import ServiceInfo
    from ..instances.drain import Moved

__all__ = ["app"]

#: Seconds that busy instances are waited for.
_LIMIT = 600.0

_Node = Annotated[str, Argument(metavar="NODE", help="Its hostname or id.")]

app = typer.Typer(
    help="Look at the nodes of a swarm, take one out of service, and have it back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_(as_json: o.Json = False) -> None:
    """List the nodes, and the instances at each."""
    from ..engine.client import Engine
    from ..engine.nodes import Nodes
    from ..instances.drain import services_by_node
    from .display import print_json
    from .tables import print_table

    async def main() -> int:
        async with aclosing(Engine()) as engine:
            nodes, services = await Nodes(engine).list(), await services_by_node(engine)
        facts = [_facts(node, services.get(node.id, [])) for node in nodes]
        if as_json:
            print_json(facts)
        else:
            headings = ["NODE", "STATE", "AVAILABILITY", "ROLE", "CPUS", "MEMORY", "INSTANCES"]
            print_table(headings, [_row(node) for node in facts])
        return 0

    run_async(main)


@app.command()
def drain(
    node: _Node,
    limit: Annotated[
        float, Option("--limit", metavar="S", min=0, help="Wait S seconds for busy instances; 600 unless said.")
    ] = _LIMIT,
) -> None:
    """Move all instances away from a node, each when it is idle: no turn is lost.

    Nothing new is placed there from the beginning. Exit 1: some stay, and why is said: still busy, so say it again
    later; in a pane or without Python, where a person has to stop them; or another installation's, whose copies of
    conversations are not seen here. What is in a node's own volumes, such as the workspace, stays at the node.
    """
    from ..engine.client import Engine
    from ..engine.nodes import Nodes
    from ..instances.drain import drain as drain_node
    from .display import Display

    async def main() -> int:
        with Display() as display:

            def tell(moved: Moved) -> None:
                if moved.why:
                    display.note(f"{moved.name}: {moved.why}")
                else:
                    print(moved.name, flush=True)

            async with aclosing(Engine()) as engine:
                found = await Nodes(engine).inspect(node)
                return 0 if await drain_node(engine, found, limit, tell) else 1

    run_async(main)


@app.command()
def activate(node: _Node) -> None:
    """Have a node take instances again."""
    from ..engine.client import Engine
    from ..engine.nodes import Nodes

    async def main() -> int:
        async with aclosing(Engine()) as engine:
            await Nodes(engine).update(node, availability="active")
        print(node)
        return 0

    run_async(main)


def _facts(node: NodeInfo, services: list[ServiceInfo]) -> dict[str, Any]:
    from ..engine.labels import LABEL

    return {
        "id": node.id,
        "hostname": node.hostname,
        "state": node.state,
        "availability": node.availability,
        "role": node.role,
        "cpus": node.cpus,
        "memory": node.memory,
        "instances": sorted(service.labels.get(f"{LABEL}.instance", service.name) for service in services),
    }


def _row(facts: dict[str, Any]) -> list[str]:
    from .stats import human

    words = [facts[name] for name in ("hostname", "state", "availability", "role")]
    return [*words, f"{facts['cpus']:g}", human(facts["memory"]), " ".join(facts["instances"])]
