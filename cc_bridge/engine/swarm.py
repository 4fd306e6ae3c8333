"""What is asked of a manager of a swarm: its errors, and what its nodes need to pull images."""

from __future__ import annotations

from typing import Any

from ..errors import (
    ContainerNotFound,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    NameConflict,
    NotASwarm,
    SwarmConflict,
)
from .client import Engine

__all__ = ["TRIES", "asked", "registry_headers"]

#: How often a change is made again, where somebody else has changed the same thing meanwhile.
TRIES = 10

#: What a manager answers where the version is another by now, and what an engine answers that is no manager.
_OUT_OF_SEQUENCE = "out of sequence"
_NO_MANAGER = ("not a swarm manager", "is not part of a swarm")
_NO_LEADER = "does not have a leader"


async def asked(engine: Engine, function: Any, *args: Any, **options: Any) -> Any:
    """As ``Engine.call``, with Swarm's errors."""
    try:
        return await engine.call(function, *args, **options)
    except (ContainerNotFound, EngineTimeout):
        raise
    except EngineError as error:
        raise _translated(error, engine.address) from error


def _translated(error: EngineError, address: str) -> EngineError:
    if _OUT_OF_SEQUENCE in error.what:
        return SwarmConflict("somebody else has changed it at the same moment")
    if "name conflicts with" in error.what:
        return NameConflict(error.what)
    if _NO_LEADER in error.what:
        return EngineUnavailable(f"too few managers of the swarm are there: {error.what}", hint="`docker node ls`.")
    if any(words in error.what for words in _NO_MANAGER):
        return NotASwarm(f"the engine at {address} is no manager of a swarm: {error.what}")
    return error


def registry_headers(api: Any, image: str) -> dict[str, str]:
    """What nodes need to pull it, as far as this user has a login at its registry."""
    import docker.auth

    registry, _ = docker.auth.resolve_repository_name(image)
    header = docker.auth.get_config_header(api, registry)
    return {"X-Registry-Auth": header} if header else {}
