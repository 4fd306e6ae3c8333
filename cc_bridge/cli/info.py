"""``cc-bridge info``: all about one instance."""

from __future__ import annotations

from typing import Any

from . import options as o
from .session import run_async

__all__ = ["info"]


def info(name: o.Name, as_json: o.Json = False) -> None:
    """Show an instance's configuration and state. Secrets are masked."""
    from .display import Display, print_json
    from .tables import print_table

    async def main() -> int:
        instance = o.load(name, Display())
        try:
            found = {**await instance.get_info(), "running": await instance.is_running()}
        finally:
            await instance.release()
        if as_json:
            print_json(found)
        else:
            print_table(
                ["", ""], [[key, _text(value)] for key, value in found.items() if value not in (None, "", {}, [])]
            )
        return 0

    run_async(main)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}={item}" for key, item in value.items())
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
