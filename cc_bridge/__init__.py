"""Drive Claude Code where it runs: in a container over named pipes, or in a process of this machine.

::

    record = ClaudeInstance.of(name="demo", kind="local", workspace=".")
    async with LocalProcess(record) as instance:
        async for piece in instance.send_command("What is in this directory?"):
            print(piece, end="")

The names below are the public ones: whatever they take, return or raise is among them. They are loaded when first
used: importing ``cc_bridge`` imports neither docker nor structlog, which cost some 90 ms each.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cc_bridge_agent import __version__

if TYPE_CHECKING:
    from . import blocking
    from .dockerfiles import OnDockerfile
    from .engine.client import Engine
    from .engine.container_tools import ContainerTools
    from .engine.containers import ContainerInfo, ContainerSummary
    from .engine.events import ContainerEvent
    from .engine.execs import Attached, ExecResult, Exit
    from .engine.networks import NetworkSpec
    from .engine.progress import Progress, Step
    from .engine.streams import Chunk
    from .engine.usage import Usage
    from .errors import (
        AgentUnavailable,
        AlreadyDecided,
        ApiError,
        BridgeError,
        BudgetExceeded,
        ChannelError,
        ClaudeError,
        ClaudeNotFound,
        ClaudeStartError,
        ConnectionLost,
        ContainerNotFound,
        ContainerNotRunning,
        ContainerStartError,
        DockerfileNotApproved,
        EngineError,
        EnginePermissionDenied,
        EngineTimeout,
        EngineUnavailable,
        ImageBuildError,
        ImageNotFound,
        InstanceBusy,
        InstanceDiffers,
        InstanceNotFound,
        InvalidInput,
        LeaseLost,
        LimitReached,
        NameConflict,
        NetworkConflict,
        NoSpaceLeft,
        NotASwarm,
        NotLoggedIn,
        PlacementFailed,
        PositionGone,
        ProtocolError,
        RequestRefused,
        SwarmConflict,
        TurnError,
        TurnFailed,
        TurnInterrupted,
        TurnNotFound,
    )
    from .events import (
        ActiveGoal,
        ApiRetry,
        AuthStatus,
        BackgroundTask,
        BackgroundTasks,
        CommandsChanged,
        CompactBoundary,
        ContextCategory,
        ContextUsage,
        ControlRequestProgress,
        ConversationReset,
        ElicitationComplete,
        Event,
        FileFailure,
        FilesPersisted,
        HookProgress,
        HookResponse,
        HookStarted,
        Informational,
        LocalCommandOutput,
        Memory,
        MemoryRecall,
        MirrorError,
        ModelRefusal,
        Notification,
        PermissionDenied,
        PermissionRequest,
        PersistedFile,
        PersonTurn,
        PluginInstall,
        PromptSuggestion,
        RateLimit,
        Report,
        SessionState,
        SessionWritesLost,
        Silence,
        SlashCommand,
        StatusChanged,
        SubagentText,
        TaskNotification,
        TaskProgress,
        TaskStarted,
        TaskUpdated,
        TaskUsage,
        TextDelta,
        ThinkingDelta,
        ThinkingTokens,
        TodoItem,
        TodoList,
        ToolProgress,
        ToolResult,
        ToolUse,
        ToolUseSummary,
        TurnResult,
        TurnStarted,
        UnknownMessage,
        Verdict,
        Waiting,
        WorkerShuttingDown,
    )
    from .instance import Allow, Decision, Deny, InstanceInterface, OnPermission
    from .instances.bridged import BridgedInstance, CommonOptions, InstanceOptions
    from .instances.contained_instance import ContainedInstance
    from .instances.docker_container import DockerContainer
    from .instances.factory import instance_of, instances, open  # noqa: A004  as tarfile and gzip have it
    from .instances.local_process import LocalProcess
    from .instances.registry import Home, Registry
    from .instances.sessions import SavedConversation, Sessions
    from .instances.swarm_service import SwarmService
    from .instances.tmux_instance import TmuxInstance
    from .instances.worktrees import Worktree
    from .limits import ApiLimits, Limits
    from .manager.manager import ContainerManager
    from .manager.options import ContainerOptions
    from .names import name_for
    from .permission_rules import PermissionRules
    from .protocol.blocks import (
        Block,
        Document,
        Image,
        Prompt,
        Text,
        attachment,
    )
    from .protocol.command_line import ClaudeOptions
    from .record import ClaudeInstance
    from .runner import (
        ContainerRunner,
        Execution,
        Message,
        OneShotClaude,
        Run,
        Runtime,
        run_command,
        run_command_streaming,
    )
    from .shapes import InstanceActivity, InstanceFields, InstanceInfo, Kind
    from .turn import Turn, TurnInfo
    from .values import Value

_PLACES = {
    "dockerfiles": "OnDockerfile",
    "engine.client": "Engine",
    "engine.container_tools": "ContainerTools",
    "engine.containers": "ContainerInfo ContainerSummary",
    "engine.events": "ContainerEvent",
    "engine.execs": "Attached ExecResult Exit",
    "engine.networks": "NetworkSpec",
    "engine.progress": "Progress Step",
    "engine.streams": "Chunk",
    "engine.usage": "Usage",
    "errors": (
        "AgentUnavailable AlreadyDecided ApiError BridgeError BudgetExceeded ChannelError "
        "ClaudeError ClaudeNotFound ClaudeStartError "
        "ConnectionLost ContainerNotFound ContainerNotRunning ContainerStartError DockerfileNotApproved "
        "EngineError EnginePermissionDenied EngineTimeout EngineUnavailable ImageBuildError ImageNotFound "
        "InstanceBusy InstanceDiffers InstanceNotFound InvalidInput LeaseLost LimitReached NameConflict "
        "NetworkConflict NoSpaceLeft NotASwarm NotLoggedIn PlacementFailed PositionGone ProtocolError "
        "RequestRefused SwarmConflict TurnError TurnFailed TurnInterrupted TurnNotFound"
    ),
    "events": (
        "ActiveGoal ApiRetry AuthStatus BackgroundTask BackgroundTasks CommandsChanged CompactBoundary "
        "ContextCategory ContextUsage ControlRequestProgress ConversationReset ElicitationComplete Event "
        "FileFailure FilesPersisted HookProgress HookResponse HookStarted Informational "
        "LocalCommandOutput Memory MemoryRecall MirrorError ModelRefusal Notification PermissionDenied "
        "PermissionRequest PersistedFile PersonTurn PluginInstall PromptSuggestion RateLimit Report "
        "SessionState SessionWritesLost Silence SlashCommand StatusChanged SubagentText TaskNotification "
        "TaskProgress TaskStarted TaskUpdated TaskUsage TextDelta ThinkingDelta ThinkingTokens TodoItem "
        "TodoList ToolProgress ToolResult ToolUse ToolUseSummary TurnResult TurnStarted UnknownMessage "
        "Verdict Waiting WorkerShuttingDown"
    ),
    "instance": "Allow Decision Deny InstanceInterface OnPermission",
    "instances.bridged": "BridgedInstance CommonOptions InstanceOptions",
    "instances.contained_instance": "ContainedInstance",
    "instances.docker_container": "DockerContainer",
    "instances.factory": "instance_of instances open",
    "instances.local_process": "LocalProcess",
    "instances.registry": "Home Registry",
    "instances.sessions": "SavedConversation Sessions",
    "instances.swarm_service": "SwarmService",
    "instances.tmux_instance": "TmuxInstance",
    "instances.worktrees": "Worktree",
    "limits": "ApiLimits Limits",
    "manager.manager": "ContainerManager",
    "manager.options": "ContainerOptions",
    "names": "name_for",
    "permission_rules": "PermissionRules",
    "protocol.blocks": "Block Document Image Prompt Text attachment",
    "protocol.command_line": "ClaudeOptions",
    "record": "ClaudeInstance",
    "runner": "ContainerRunner Execution Message OneShotClaude Run Runtime run_command run_command_streaming",
    "shapes": "InstanceActivity InstanceFields InstanceInfo Kind",
    "turn": "Turn TurnInfo",
    "values": "Value",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

#: Modules and packages that are loaded when first used, too; ``instances`` is both a package and a function.
_MODULES = {"blocking", *(place.partition(".")[0] for place in _PLACES)}

__all__ = [
    "ActiveGoal",
    "AgentUnavailable",
    "Allow",
    "AlreadyDecided",
    "ApiError",
    "ApiLimits",
    "ApiRetry",
    "Attached",
    "AuthStatus",
    "BackgroundTask",
    "BackgroundTasks",
    "Block",
    "BridgeError",
    "BridgedInstance",
    "BudgetExceeded",
    "ChannelError",
    "Chunk",
    "ClaudeError",
    "ClaudeInstance",
    "ClaudeNotFound",
    "ClaudeOptions",
    "ClaudeStartError",
    "CommandsChanged",
    "CommonOptions",
    "CompactBoundary",
    "ConnectionLost",
    "ContainedInstance",
    "ContainerEvent",
    "ContainerInfo",
    "ContainerManager",
    "ContainerNotFound",
    "ContainerNotRunning",
    "ContainerOptions",
    "ContainerRunner",
    "ContainerStartError",
    "ContainerSummary",
    "ContainerTools",
    "ContextCategory",
    "ContextUsage",
    "ControlRequestProgress",
    "ConversationReset",
    "Decision",
    "Deny",
    "DockerContainer",
    "DockerfileNotApproved",
    "Document",
    "ElicitationComplete",
    "Engine",
    "EngineError",
    "EnginePermissionDenied",
    "EngineTimeout",
    "EngineUnavailable",
    "Event",
    "ExecResult",
    "Execution",
    "Exit",
    "FileFailure",
    "FilesPersisted",
    "Home",
    "HookProgress",
    "HookResponse",
    "HookStarted",
    "Image",
    "ImageBuildError",
    "ImageNotFound",
    "Informational",
    "InstanceActivity",
    "InstanceBusy",
    "InstanceDiffers",
    "InstanceFields",
    "InstanceInfo",
    "InstanceInterface",
    "InstanceNotFound",
    "InstanceOptions",
    "InvalidInput",
    "Kind",
    "LeaseLost",
    "LimitReached",
    "Limits",
    "LocalCommandOutput",
    "LocalProcess",
    "Memory",
    "MemoryRecall",
    "Message",
    "MirrorError",
    "ModelRefusal",
    "NameConflict",
    "NetworkConflict",
    "NetworkSpec",
    "NoSpaceLeft",
    "NotASwarm",
    "NotLoggedIn",
    "Notification",
    "OnDockerfile",
    "OnPermission",
    "OneShotClaude",
    "PermissionDenied",
    "PermissionRequest",
    "PermissionRules",
    "PersistedFile",
    "PersonTurn",
    "PlacementFailed",
    "PluginInstall",
    "PositionGone",
    "Progress",
    "Prompt",
    "PromptSuggestion",
    "ProtocolError",
    "RateLimit",
    "Registry",
    "Report",
    "RequestRefused",
    "Run",
    "Runtime",
    "SavedConversation",
    "SessionState",
    "SessionWritesLost",
    "Sessions",
    "Silence",
    "SlashCommand",
    "StatusChanged",
    "Step",
    "SubagentText",
    "SwarmConflict",
    "SwarmService",
    "TaskNotification",
    "TaskProgress",
    "TaskStarted",
    "TaskUpdated",
    "TaskUsage",
    "Text",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingTokens",
    "TmuxInstance",
    "TodoItem",
    "TodoList",
    "ToolProgress",
    "ToolResult",
    "ToolUse",
    "ToolUseSummary",
    "Turn",
    "TurnError",
    "TurnFailed",
    "TurnInfo",
    "TurnInterrupted",
    "TurnNotFound",
    "TurnResult",
    "TurnStarted",
    "UnknownMessage",
    "Usage",
    "Value",
    "Verdict",
    "Waiting",
    "WorkerShuttingDown",
    "Worktree",
    "__version__",
    "attachment",
    "blocking",
    "instance_of",
    "instances",
    "name_for",
    "open",
    "run_command",
    "run_command_streaming",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
