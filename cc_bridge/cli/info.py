"""``cc-bridge info``: all about one instance."""

from __future__ import annotations

from typing import Any

from . import options as o
from .session import run_async

__all__ = ["info"]

#: What is told to a person as an age.
_TIMES = ("created", "container_created", "turn_since", "last_activity")


def info(name: o.Name, as_json: o.Json = False) -> None:
    """Show an instance's configuration and state, and what it does. Nothing is started; secrets are masked."""
    from .ages import ago
    from .display import Display, print_json
    from .tables import print_table

    async def main() -> int:
        instance = o.load(name, Display())
        try:
            found: dict[str, Any] = {**await instance.get_info(), "running": await instance.is_running()}
        finally:
            await instance.release()
        if as_json:
            print_json(found)
        else:
            shown = {**found, **{key: ago(found.get(key)) for key in _TIMES if found.get(key)}}
            print_table(
                ["", ""], [[key, _text(value)] for key, value in shown.items() if value not in (None, "", {}, [])]
            )
        return 0

    run_async(main)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}={item}" for key, item in value.items())
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
