"""What clients see of what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .service import Service
    from .store.commands import Command

__all__ = ["turn_view"]


def turn_view(service: Service, command: Command) -> dict[str, Any]:
    """A command, as :class:`.schemas.Turn` has it."""
    return {
        "id": command.id,
        "instance": command.instance,
        "number": command.number,
        "state": command.state,
        "position": service.inbox.position(command),
        "prompt": command.prompt,
        "created": command.created.isoformat(),
        "result": command.result,
    }
