"""All that is known of an instance, in JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ..bridge.bridge import Bridge
from ..record import ClaudeInstance
from .activity import Sight, nothing

if TYPE_CHECKING:
    from ..shapes import InstanceInfo

__all__ = ["describe"]


def describe(record: ClaudeInstance, sight: Sight | None, bridge: Bridge, of_place: Mapping[str, Any]) -> InstanceInfo:
    """What ``get_info`` says; secrets are masked.

    Args:
        sight: what was seen of its agent; None: nobody answers.
        of_place: what only this kind knows.
    """
    doing = sight.describe(in_pane=record.in_pane) if sight else nothing()
    doing["channel"] = bridge.channel_kind or doing["channel"]
    info = {
        "name": record.name,
        "kind": record.kind,
        "workspace": str(record.workspace) if record.workspace else None,
        "created": record.created.isoformat(),
        "project": record.project,
        "labels": dict(record.labels),
        "env": dict.fromkeys(record.env, "***"),
        **doing,
        "agent": bridge.agent_version or (sight.agent if sight else None),
        "claude": bridge.claude_version,
        "session_id": bridge.session_id or None,
        "unknown_messages": dict(bridge.unknown_messages),
        **of_place,
    }
    return cast("InstanceInfo", info)  # that all kinds say just this, the contract suite checks
