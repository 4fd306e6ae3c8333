"""Which fields of a record mean something for which kinds of instances: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ONLY_FOR", "kinds_of", "means_something", "without_meaningless"]

_DOCKER = ("docker",)
_TMUX = ("tmux",)

#: Fields that mean something for these kinds only; what is not here does for all. A test compares it with what
#: :class:`~cc_bridge.ClaudeInstance` says of its fields.
ONLY_FOR: Mapping[str, tuple[str, ...]] = {
    "image": _DOCKER,
    "dockerfile": _DOCKER,
    "container": _DOCKER,
    "mount_at": _DOCKER,
    "read_only_workspace": _DOCKER,
    "mounts": _DOCKER,
    "network": _DOCKER,
    "memory": _DOCKER,
    "cpus": _DOCKER,
    "cpu_shares": _DOCKER,
    "pids": _DOCKER,
    "ports": _DOCKER,
    "restart": _DOCKER,
    "writable": _DOCKER,
    "docker_socket": _DOCKER,
    "credentials": _DOCKER,
    "user": _DOCKER,
    "sealed": _DOCKER,
    "allow_hosts": _DOCKER,
    "tmux": _DOCKER,
    "tmux_socket": _TMUX,
    "pane": _TMUX,
    "relay": (*_DOCKER, *_TMUX),  # of a container with a pane
}


def means_something(field: str, kind: object) -> bool:
    """Whether a record of this kind can have the field at anything but its default."""
    return field not in ONLY_FOR or kind in ONLY_FOR[field]


def kinds_of(field: str) -> str:
    """The kinds that a field of :data:`ONLY_FOR` is for, in words."""
    return " or ".join(map(repr, ONLY_FOR[field]))


def without_meaningless(fields: Mapping[str, Any], kind: object) -> dict[str, Any]:
    """Those of the fields that mean something for the kind: of defaults for all kinds, or of what is kept."""
    return {name: value for name, value in fields.items() if means_something(name, kind)}
