"""Claude Code in a Docker container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Unpack

from ..engine.client import Engine
from ..engine.progress import Progress
from ..record import ClaudeInstance
from ..shapes import Kind
from .bridged import InstanceOptions
from .contained_instance import ContainedInstance
from .container_place import ContainerPlace
from .registry import Registry

if TYPE_CHECKING:
    import docker

    from ..dockerfiles import OnDockerfile
    from ..engine.container_tools import ContainerTools

__all__ = ["DockerContainer"]


class DockerContainer(ContainedInstance):
    """A container of its own, made on first use and hardened; or an existing one (``record.container``).

    Args:
        instance: the record.
        client: a Docker client to use, which stays the caller's to close, or an ``Engine`` that several share; without
            one, the engine that ``DOCKER_HOST`` names or the local one.
        on_progress: called, from a worker thread, with each step of an image's pull or build.
        on_dockerfile: asked whether to build a Dockerfile that a container may have written; without it, that is an
            error.
        options: see :class:`~cc_bridge.InstanceOptions`.
    """

    kind: ClassVar[Kind] = "docker"

    def __init__(
        self,
        instance: ClaudeInstance,
        client: docker.DockerClient | Engine | None = None,
        *,
        on_progress: Progress | None = None,
        on_dockerfile: OnDockerfile | None = None,
        **options: Unpack[InstanceOptions],
    ) -> None:
        self._container = ContainerPlace(
            instance,
            options.get("registry") or Registry(),
            client,
            on_progress=on_progress,
            on_dockerfile=on_dockerfile,
        )
        super().__init__(self._container, **options)

    @property
    def container(self) -> str:
        """The container's name."""
        return self._container.container

    @property
    def tools(self) -> ContainerTools:
        """What a person does to the container by hand: commands with a terminal, logs, files, what it uses."""
        from ..engine.container_tools import ContainerTools

        return ContainerTools(self._container.engine, self.container, self._container.plan.owner)

    async def get_tools(self) -> ContainerTools:
        """The same, if the container is this installation's.

        Raises:
            ContainerNotFound, ContainerNotRunning, EngineError: as they say.
        """
        await self._container.own()
        return self.tools

    @property
    def owner(self) -> tuple[int, int]:
        """Numbers of the container's user and group."""
        return self._container.plan.owner

    async def workspace_here(self) -> Path | None:
        """The workspace, where it is a directory of this machine; None: it is elsewhere, or in the container only.

        Raises:
            EngineError: the engine cannot be reached, and so nobody can say.
        """
        if self.record.workspace is None or self.record.container:
            return None
        await self._container.engine.client()
        return self.record.workspace if self._container.engine.is_local else None

    @property
    def attach_argv(self) -> list[str]:
        """The command, in the container, by which a person comes to its pane; Ctrl-B D leaves it."""
        return self._container.agent.attach_argv
