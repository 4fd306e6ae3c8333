"""An event loop without TLS, which nothing here uses: the Docker SDK has its own, in threads.

asyncio and anyio import ssl in any case, which is a twelfth of what comes before the first token (requirement P5).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_anyio"]


def import_anyio() -> None:
    """Import asyncio and anyio, and ssl only if something in it is used; whoever imports it later has the real one."""
    if "ssl" in sys.modules or "asyncio" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    try:
        modules["ssl"] = None  # to asyncio this is a Python without TLS
        importlib.import_module("asyncio")
        modules["ssl"] = _WhenUsed("ssl")
        importlib.import_module("anyio._backends._asyncio")
    finally:
        if modules.get("ssl") is None or isinstance(modules["ssl"], _WhenUsed):
            modules.pop("ssl", None)


class _WhenUsed(ModuleType):
    """What anyio has in the place of ssl: the type that it names in annotations, and all else of the real one."""

    class SSLContext:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("ssl") is self:
            del sys.modules["ssl"]
        return getattr(importlib.import_module("ssl"), name)
