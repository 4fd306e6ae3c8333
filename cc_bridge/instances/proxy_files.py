"""What the proxy keeps of instances: where it is, and that it goes with them."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ..names import NAME

__all__ = ["before", "forget", "forgotten", "network_file", "usage_file"]


def network_file(root: Path, name: str) -> Path:
    """The requests of one instance: a file each, so that a noisy one does not push out what others have asked.

    Raises:
        ValueError: this is no name of an instance.
    """
    return _of_instance(root, "network", name)


def usage_file(root: Path, name: str) -> Path:
    """What an instance has used on the day. Raises as :func:`network_file`."""
    return _of_instance(root, "usage", name)


def _of_instance(root: Path, what: str, name: str) -> Path:
    if not NAME.match(name):
        raise ValueError(f"{name!r} is no name of an instance")
    return root / "proxy" / what / name


def before(path: Path) -> Path:
    """The file before this one, of a log that begins a new one; no instance can be called so."""
    return path.with_name(path.name + "~")


def forget(root: Path, name: str) -> None:
    """Delete what the proxy has kept of an instance; harmless where there is nothing."""
    if not NAME.match(name):
        return
    log = network_file(root, name)
    for path in (log, before(log), usage_file(root, name)):
        with suppress(OSError):  # it is none that can be deleted: prune shows it
            path.unlink()


def forgotten(root: Path, living: Collection[str]) -> list[str]:
    """Instances of which the proxy has kept something, and which are not among those."""
    found = set[str]()
    for what in ("network", "usage"):
        with suppress(FileNotFoundError):
            found |= {name.rstrip("~") for name in os.listdir(root / "proxy" / what)}
    return sorted(name for name in found - set(living) if NAME.match(name))
