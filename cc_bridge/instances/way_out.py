"""Asks the proxy, which holds keys, to attend to an instance. Starts it where none runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import AgentUnavailable

__all__ = ["attend", "leave", "placeholder"]


async def attend(root: Path, name: str, source: Mapping[str, Any]) -> None:
    """Have the proxy attend to an instance whose agent runs; return when it is connected to that agent.

    Raises:
        AgentUnavailable: it cannot be.
    """
    raise AgentUnavailable("this installation has no proxy", instance=name)


async def leave(root: Path, name: str) -> None:
    """Have the proxy forget an instance and its login; harmless where none runs."""


def placeholder(home: Path) -> str:
    """What stands in the key's place in an instance: random, made once, and kept in its directory."""
    path = home / "placeholder"
    with suppress(FileExistsError), open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(os.urandom(20).hex())
    return path.read_text()
