"""``cc-bridge ps``: the instances of this machine."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BridgeError, EngineError, InvalidInput
from . import options as o
from .session import run_async

if TYPE_CHECKING:
    from ..engine.containers import ContainerSummary

__all__ = ["ps"]

_KEYS = ("name", "kind", "status", "image", "workspace", "project", "created")

Filter = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help=f"Only these; KEY: {', '.join(_KEYS)}; VALUE may have *."),
]


def ps(
    filters: Filter = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Names only.")] = False,
    as_json: o.Json = False,
) -> None:
    """List the instances, running or not."""
    from ..instances.registry import Registry
    from .display import print_json
    from .tables import print_table

    async def main() -> int:
        wanted = [_parse(item) for item in filters or ()]
        containers = await _containers()
        rows = [await _row(name, containers) for name in Registry().names()]
        found = [row for row in rows if all(fnmatch.fnmatch(str(row[key] or ""), value) for key, value in wanted)]
        if as_json:
            print_json(found)
        elif quiet:
            print("".join(f"{row['name']}\n" for row in found), end="")
        elif found:
            shown = [key for key in _KEYS if key != "project" or any(row[key] for row in found)]
            print_table([key.upper() for key in shown], [[str(row[key] or "-") for key in shown] for row in found])
        return 0

    run_async(main)


def _parse(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or key not in _KEYS:
        raise InvalidInput(f"--filter {text!r} is not KEY=VALUE", hint=f"KEY is one of {', '.join(_KEYS)}.")
    return key, value


async def _containers() -> dict[str, ContainerSummary] | None:
    """This installation's containers by name, asked for once; None: the engine does not answer."""
    from ..instances.registry import Registry
    from ..manager.manager import ContainerManager

    registry = Registry()
    if not any((registry.home(name).path / "pipes").exists() for name in registry.names()):
        return {}
    try:
        async with ContainerManager() as manager:
            return {item.name: item for item in await manager.list()}
    except (EngineError, InvalidInput):
        return None


async def _row(name: str, containers: dict[str, ContainerSummary] | None) -> dict[str, Any]:
    """What the table says about an instance; one that is broken must not hide the others."""
    from ..instances.docker_container import DockerContainer
    from .display import Display

    row: dict[str, Any] = dict.fromkeys(_KEYS)
    row["name"] = name
    try:
        instance = o.load(name, Display())
    except BridgeError as error:
        return {**row, "status": f"broken: {error.what}"}
    record = instance.record
    image = str(record.dockerfile or "") or record.image or record.container or None
    row |= {"kind": record.kind, "image": image, "workspace": str(record.workspace), "project": record.project}
    row["created"] = record.created.isoformat(timespec="seconds")
    try:
        if not isinstance(instance, DockerContainer) or record.container:
            row["status"] = (await instance.get_info())["status"]
        elif containers is None:
            row["status"] = "unknown: Docker does not answer"
        else:
            there = containers.get(instance.container)
            row["status"] = there.status if there else "absent"
            row["image"] = there.image if there else image
    except EngineError:
        row["status"] = "unknown: Docker does not answer"
    finally:
        await instance.release()
    return row
