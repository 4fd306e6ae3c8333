"""Claude Code in a process of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from ..record import ClaudeInstance
from .bridged import BridgedInstance, InstanceOptions
from .process_place import ProcessPlace
from .registry import Registry

if TYPE_CHECKING:
    from ..shapes import Kind

__all__ = ["LocalProcess"]


class LocalProcess(BridgedInstance):
    """The embedded kind: no container, no engine. Claude Code runs as this user, with this user's files.

    Args:
        instance: the record.
        options: see :class:`~cc_bridge.InstanceOptions`.
    """

    kind: ClassVar[Kind] = "local"

    def __init__(self, instance: ClaudeInstance, **options: Unpack[InstanceOptions]) -> None:
        super().__init__(ProcessPlace(instance, options.get("registry") or Registry()), **options)
