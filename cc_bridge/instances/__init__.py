"""Where Claude Code runs: each kind joins a way to reach the agent with the same conversation."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types


class _Instances(types.ModuleType):
    """``cc_bridge.instances()`` is a function, and this package has that name, too."""

    def __call__(self) -> list[str]:
        """See :func:`cc_bridge.instances.factory.instances`."""
        from .factory import instances

        return instances()

    def __getattr__(self, name: str) -> types.ModuleType:
        """A module of this package, loaded when first used."""
        if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}") is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(f"{__name__}.{name}")


# Importing any module of this package puts the package in the function's place: so it can be called as well.
sys.modules[__name__].__class__ = _Instances
