"""``cc-bridge ps``: the instances of this machine."""

from __future__ import annotations

from typing import Any

from ..errors import BridgeError, EngineError
from . import options as o
from .session import run_async

__all__ = ["ps"]


def ps(as_json: o.Json = False) -> None:
    """List the instances, running or not."""
    from ..instances.registry import Registry
    from .display import print_json, print_table

    async def main() -> int:
        found = [await _row(name) for name in Registry().names()]
        if as_json:
            print_json(found)
        elif found:
            keys = ("name", "kind", "status", "image", "workspace", "created")
            print_table([key.upper() for key in keys], [[str(row[key] or "-") for key in keys] for row in found])
        return 0

    run_async(main)


async def _row(name: str) -> dict[str, Any]:
    """What the table says about an instance; one that is broken must not hide the others."""
    from .display import Display

    row: dict[str, Any] = dict.fromkeys(("name", "kind", "status", "image", "workspace", "created"))
    row["name"] = name
    try:
        instance = o.load(name, Display())
    except BridgeError as error:
        return {**row, "status": f"broken: {error.what}"}
    record = instance.record
    row |= {"kind": record.kind, "image": record.image or record.container or None, "workspace": str(record.workspace)}
    row["created"] = record.created.isoformat(timespec="seconds")
    try:
        row["status"] = (await instance.get_info())["status"]
    except EngineError:
        row["status"] = "unknown: Docker does not answer"
    finally:
        await instance.release()
    return row
