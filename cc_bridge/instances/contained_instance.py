"""What instances in containers have in common, wherever the container is."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.execs import ExecResult
from .bridged import BridgedInstance

if TYPE_CHECKING:
    from ..engine.container_tools import ContainerTools

__all__ = ["ContainedInstance"]


class ContainedInstance(BridgedInstance):
    """An instance in a container."""

    @abc.abstractmethod
    async def get_tools(self) -> ContainerTools:
        """What a person does to the container that it has now, by hand.

        Raises:
            ContainerNotFound, ContainerNotRunning, EngineError: as they say.
        """

    @property
    @abc.abstractmethod
    def owner(self) -> tuple[int, int]:
        """Numbers of the container's user and group."""

    @property
    @abc.abstractmethod
    def attach_argv(self) -> list[str]:
        """The command, in the container, by which a person comes to its pane; Ctrl-B D leaves it."""

    async def workspace_here(self) -> Path | None:
        """The workspace, where it is a directory of this machine; None: it is elsewhere, or in the container only."""
        return None

    async def exec(self, argv: list[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command in the container, for debugging; its output is buffered.

        Raises:
            ContainerNotFound, ContainerNotRunning, EngineError: as they say.
        """
        return await (await self.get_tools()).exec(argv, user=user, limit=limit)
