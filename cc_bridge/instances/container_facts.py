"""What the engine knows of an instance's container, in the words of those who ask."""

from __future__ import annotations

from typing import Any

from ..bridge.surroundings import Ending
from ..engine.containers import ContainerInfo
from ..engine.labels import NONCE

__all__ = ["ending_of", "facts_of"]

#: An exit code above this is 128 + the number of a signal.
_KILLED = 128


def facts_of(info: ContainerInfo) -> dict[str, Any]:
    """What a person may want to know of a container, in JSON types."""
    return {
        "id": info.id,
        "image": info.image,
        "container_created": info.created,
        "health": info.health or None,
        "ports": dict(info.ports),
        "networks": dict(info.networks),
        "volumes": list(info.volumes),
        "labels": {name: value for name, value in info.labels.items() if value and name != NONCE},
        "limits": dict(info.limits),
        "exit_code": None if info.running else info.exit_code,
        "oom_killed": info.oom_killed,
    }


def ending_of(info: ContainerInfo) -> Ending:
    """What is known of a container that does not run."""
    code = info.exit_code
    if info.oom_killed:
        what = "the container ran out of memory"
    elif code is not None and code > _KILLED:
        what = f"the container was ended by signal {code - _KILLED}"
    else:
        what = "the container was stopped" if code == 0 else f"the container ended with exit code {code}"
    return Ending(what, code, info.oom_killed)
