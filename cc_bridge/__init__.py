"""Drive Claude Code where it runs: in a container over named pipes, or in a process of this machine.

::

    record = ClaudeInstance.of(name="demo", kind="local", workspace=".")
    async with LocalProcess(record) as instance:
        async for piece in instance.send_command("What is in this directory?"):
            print(piece, end="")

The names below are the public ones. They are loaded when first used: importing ``cc_bridge`` imports
neither docker nor structlog, which cost some 90 ms each.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cc_bridge_agent import __version__

if TYPE_CHECKING:
    from . import blocking
    from .errors import (
        AgentUnavailable,
        ApiError,
        BridgeError,
        ChannelError,
        ClaudeError,
        ConnectionLost,
        EngineError,
        InvalidInput,
        NotLoggedIn,
        ProtocolError,
        TurnError,
        TurnInterrupted,
    )
    from .events import (
        ApiRetry,
        Event,
        PermissionRequest,
        PersonTurn,
        TextDelta,
        ThinkingDelta,
        ToolResult,
        ToolUse,
        TurnResult,
        TurnStarted,
        Verdict,
    )
    from .instance import Allow, ClaudeInstance, Deny, InstanceInterface
    from .instances.docker_container import DockerContainer
    from .instances.local_process import LocalProcess
    from .instances.tmux_instance import TmuxInstance
    from .manager.manager import ContainerManager
    from .manager.options import ContainerOptions
    from .protocol.command_line import ClaudeOptions
    from .runner import ContainerRunner, run_command, run_command_streaming

_PLACES = {
    "errors": (
        "AgentUnavailable ApiError BridgeError ChannelError ClaudeError ConnectionLost DockerfileNotApproved "
        "EngineError InvalidInput NotLoggedIn ProtocolError TurnError TurnInterrupted"
    ),
    "events": (
        "ApiRetry Event PermissionRequest PersonTurn TextDelta ThinkingDelta ToolResult ToolUse TurnResult TurnStarted "
        "Verdict"
    ),
    "instance": "Allow ClaudeInstance Deny InstanceInterface",
    "instances.docker_container": "DockerContainer",
    "instances.local_process": "LocalProcess",
    "instances.tmux_instance": "TmuxInstance",
    "manager.manager": "ContainerManager",
    "manager.options": "ContainerOptions",
    "protocol.command_line": "ClaudeOptions",
    "runner": "ContainerRunner run_command run_command_streaming",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

__all__ = [
    "AgentUnavailable",
    "Allow",
    "ApiError",
    "ApiRetry",
    "BridgeError",
    "ChannelError",
    "ClaudeError",
    "ClaudeInstance",
    "ClaudeOptions",
    "ConnectionLost",
    "ContainerManager",
    "ContainerOptions",
    "ContainerRunner",
    "Deny",
    "DockerContainer",
    "DockerfileNotApproved",
    "EngineError",
    "Event",
    "InstanceInterface",
    "InvalidInput",
    "LocalProcess",
    "NotLoggedIn",
    "PermissionRequest",
    "PersonTurn",
    "ProtocolError",
    "TextDelta",
    "ThinkingDelta",
    "TmuxInstance",
    "ToolResult",
    "ToolUse",
    "TurnError",
    "TurnInterrupted",
    "TurnResult",
    "TurnStarted",
    "Verdict",
    "__version__",
    "blocking",
    "run_command",
    "run_command_streaming",
]


def __getattr__(name: str) -> Any:
    if name == "blocking":
        return importlib.import_module(".blocking", __name__)
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
