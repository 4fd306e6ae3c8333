"""``cc-bridge stats``: what containers of instances use."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import anyio

from ..errors import BridgeError, ContainerNotFound, ContainerNotRunning, InvalidInput
from . import options as o
from .completion import complete_name
from .parameters import Argument, Option
from .session import run_async

if TYPE_CHECKING:
    from ..instances.contained_instance import ContainedInstance

__all__ = ["human", "stats"]


def stats(
    names: Annotated[
        list[str] | None,
        Argument(metavar="[NAME…]", help="Instances; none: all.", complete=complete_name),
    ] = None,
    once: Annotated[bool, Option("--no-stream", help="Measure once.")] = False,
    as_json: o.Json = False,
) -> None:
    """Show processors, memory, processes and network in use: live on a terminal, once elsewhere. Ctrl-C ends it."""
    from .display import Display, print_json
    from .tables import live_table, print_table

    async def main() -> int:
        with Display() as display:
            instances = _instances(names or [], display)
            try:
                if once or as_json or not display.is_terminal:
                    rows = await _measure(instances)
                    if as_json:
                        print_json(rows)
                    else:
                        print_table(*_table(rows))
                    return 0
                with live_table() as show:
                    while True:  # the engine takes a second or two for each round
                        show(*_table(await _measure(instances)))
            finally:
                for instance in instances:
                    await instance.release()
        return 0

    run_async(main)


def _instances(names: list[str], display: Any) -> list[ContainedInstance]:
    from ..instances.contained_instance import ContainedInstance
    from ..instances.registry import Registry

    if names:
        return [o.load_contained(name, display) for name in names]
    found = []
    for name in Registry().names():
        try:
            instance = o.load(name, display)
        except InvalidInput:
            continue  # `ps` shows what is broken
        if isinstance(instance, ContainedInstance):
            found.append(instance)
    return found


async def _measure(instances: list[ContainedInstance]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    problems: list[BridgeError] = []

    async def measure(instance: ContainedInstance) -> None:
        try:
            usage = asdict(await (await instance.get_tools()).usage())
        except (ContainerNotFound, ContainerNotRunning):
            usage = {}
        except BridgeError as error:  # somebody else's container, a node that does not answer: the others are shown
            problems.append(error)
            usage = {"problem": error.what}
        # The engine answers for a container that does not run, with nothing.
        known = usage if usage.get("memory_limit") or "problem" in usage else {}
        rows[instance.name] = {"name": instance.name, **known}

    async with anyio.create_task_group() as group:
        for instance in instances:
            group.start_soon(measure, instance)
    if problems and len(problems) == len(instances):
        raise problems[0]
    return [rows[name] for name in sorted(rows)]


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for row in rows:
        if "memory" not in row:
            lines.append([row["name"], *(["-"] * 4), row.get("problem", "-")])
            continue
        share = row["memory"] / row["memory_limit"] * 100
        lines.append(
            [
                row["name"],
                f"{row['cpu_percent']:.1f}%",
                f"{human(row['memory'])} / {human(row['memory_limit'])}",
                f"{share:.1f}%",
                str(row["pids"]),
                f"{human(row['received'])} / {human(row['sent'])}",
            ]
        )
    return ["NAME", "CPU", "MEMORY / LIMIT", "MEM", "PIDS", "NET IN / OUT"], lines


def human(size: float) -> str:
    """Bytes for people."""
    power = min(int(math.log(size, 1024)), 4) if size >= 1 else 0
    return f"{size:.0f} B" if not power else f"{size / 1024**power:.1f} {'KMGT'[power - 1]}iB"
