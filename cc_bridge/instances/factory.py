"""The instance for a record, or for the name of one that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from ..errors import InvalidInput
from ..record import ClaudeInstance
from .bridged import InstanceOptions
from .registry import Registry

if TYPE_CHECKING:
    import docker

    from ..dockerfiles import OnDockerfile
    from ..engine.client import Engine
    from ..engine.progress import Progress
    from .docker_container import DockerContainer
    from .local_process import LocalProcess
    from .swarm_service import SwarmService
    from .tmux_instance import TmuxInstance

__all__ = ["instance_of", "instances", "open"]


def instance_of(
    record: ClaudeInstance,
    *,
    client: docker.DockerClient | Engine | None = None,
    on_progress: Progress | None = None,
    on_dockerfile: OnDockerfile | None = None,
    **options: Unpack[InstanceOptions],
) -> DockerContainer | LocalProcess | SwarmService | TmuxInstance:
    """The instance for a record, of the class for its kind.

    Args:
        client, on_progress, on_dockerfile: see :class:`~cc_bridge.DockerContainer`; of no use to other kinds.
        options: see :class:`~cc_bridge.InstanceOptions`.
    """
    # Imported here: a local process needs no Docker SDK, and only a pane needs libtmux.
    if record.kind == "docker":
        from .docker_container import DockerContainer

        return DockerContainer(record, client, on_progress=on_progress, on_dockerfile=on_dockerfile, **options)
    if record.kind == "local":
        from .local_process import LocalProcess

        return LocalProcess(record, **options)
    if record.kind == "tmux":
        from .tmux_instance import TmuxInstance

        return TmuxInstance(record, **options)
    if record.kind == "swarm":
        from .swarm_service import SwarmService

        return SwarmService(record, client, on_progress=on_progress, **options)
    raise InvalidInput(f"this version has no instances of kind {record.kind!r}", instance=record.name)


def open(  # noqa: A001  cc_bridge.open: the word that fits
    name: str,
    *,
    client: docker.DockerClient | Engine | None = None,
    on_progress: Progress | None = None,
    on_dockerfile: OnDockerfile | None = None,
    **options: Unpack[InstanceOptions],
) -> DockerContainer | LocalProcess | SwarmService | TmuxInstance:
    """The instance that exists under this name, with the record that it was made with; it is not started.

    Args:
        client, on_progress, on_dockerfile: see :class:`~cc_bridge.DockerContainer`; of no use to other kinds.
        options: see :class:`~cc_bridge.InstanceOptions`.

    Raises:
        InstanceNotFound: there is none.
        InvalidInput: its record cannot be read.
    """
    record = (options.get("registry") or Registry()).load(name)
    return instance_of(record, client=client, on_progress=on_progress, on_dockerfile=on_dockerfile, **options)


def instances() -> list[str]:
    """The names of this user's instances on this machine, sorted, running or not. :func:`open` takes them."""
    return Registry().names()
