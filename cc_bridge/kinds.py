"""Which fields of a record mean something for which kinds of instances: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ONLY_FOR", "kinds_of", "means_something", "without_meaningless"]

_DOCKER = ("docker",)
_TMUX = ("tmux",)
_SWARM = ("swarm",)
_CONTAINERS = (*_DOCKER, *_SWARM)

#: Fields that mean something for these kinds only; what is not here does for all. A test compares it with what
#: :class:`~cc_bridge.ClaudeInstance` says of its fields.
ONLY_FOR: Mapping[str, tuple[str, ...]] = {
    "image": _CONTAINERS,
    "dockerfile": _DOCKER,
    "container": _DOCKER,
    "mount_at": _CONTAINERS,
    "read_only_workspace": _CONTAINERS,
    "mounts": _CONTAINERS,
    "network": _CONTAINERS,
    "memory": _CONTAINERS,
    "cpus": _CONTAINERS,
    "cpu_shares": _DOCKER,
    "pids": _CONTAINERS,
    "ports": _DOCKER,
    "restart": _DOCKER,
    "writable": _CONTAINERS,
    "docker_socket": _DOCKER,
    "credentials": _DOCKER,
    "user": _CONTAINERS,
    "sealed": _CONTAINERS,
    "allow_hosts": _CONTAINERS,
    "tmux": _CONTAINERS,
    "tmux_socket": _TMUX,
    "pane": _TMUX,
    "relay": (*_DOCKER, *_SWARM, *_TMUX),  # of a container with a pane
    **dict.fromkeys(("constraints", "spread", "reserve_memory", "reserve_cpus", "most_in_project"), _SWARM),
    **dict.fromkeys(("workspace_volume", "volume_driver", "volume_options", "service"), _SWARM),
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
