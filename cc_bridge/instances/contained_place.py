"""What places in containers have in common, wherever the container is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..errors import InvalidInput
from ..protocol.command_line import ClaudeOptions, interactive_argv, pane_argv
from .container_agent import AgentInside
from .outline import container_env, path_inside, workdir
from .place import Place

__all__ = ["ContainedPlace"]


class ContainedPlace(Place):
    """A place in a container.

    Attributes:
        agent: the one in the container.
    """

    claude_hint: ClassVar[str | None] = (
        "Its image has none: `cc-bridge image template` prints Dockerfiles that install it, `--image cc-bridge` has it."
    )

    agent: AgentInside

    def inside(self, path: str) -> str | None:
        """Within the workspace and the mounts. Of a container that is not ours the paths are its own."""
        return path_inside(self.record, path)

    def claude_env(self, own: Mapping[str, str] | None = None) -> dict[str, str]:
        """The same, if it can be of use in the container."""
        return container_env(self.record, own or {}, self.home.path)

    def argv(self, options: ClaudeOptions, resume: str, fork: bool) -> list[str]:
        """The words that start it, or the pane's program, which does."""
        if not self.record.tmux:
            return super().argv(options, resume, fork)
        if self.agent.python_missing:
            raise InvalidInput(
                "a pane needs Python in the container", instance=self.name, hint="Its image has none; or leave tmux."
            )
        return pane_argv(
            ["python3", "-IS", self.agent.path],
            self.agent.pane,
            interactive_argv(options, resume=resume, fork=fork),
            name=self.name,
            relay=self.record.relay,
        )

    @property
    def cwd(self) -> str:
        """Where the workspace is mounted, else its home."""
        return workdir(self.record)
