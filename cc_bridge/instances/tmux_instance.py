"""The interactive Claude Code in a tmux pane of this machine, which a program and a person share."""

from __future__ import annotations

from typing import ClassVar, Unpack

from ..record import ClaudeInstance
from ..shapes import Kind
from .bridged import BridgedInstance, InstanceOptions
from .pane_place import PanePlace
from .registry import Registry

__all__ = ["TmuxInstance"]


class TmuxInstance(BridgedInstance):
    """The sibling of the embedded kind: the agent runs the pane's program where it would run ``claude -p``.

    The tmux server is the instance's own and ends with it, unless the record names the user's (``tmux_socket``), where
    it opens a session of the instance's name; with ``pane`` it takes over a Claude Code that a person has started
    there, which is started anew and goes on with its conversation.

    Args:
        instance: the record.
        options: see :class:`~cc_bridge.InstanceOptions`.
    """

    kind: ClassVar[Kind] = "tmux"

    def __init__(self, instance: ClaudeInstance, **options: Unpack[InstanceOptions]) -> None:
        self._pane = PanePlace(instance, options.get("registry") or Registry())
        super().__init__(self._pane, **options)

    @property
    def attach_argv(self) -> list[str]:
        """The command by which a person comes to the pane; Ctrl-B D leaves it."""
        return self._pane.attach_argv
