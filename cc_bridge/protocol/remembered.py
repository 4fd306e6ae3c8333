"""Ids that are remembered in the order in which they came, as many as the agent remembers."""

from __future__ import annotations

from typing import Any

from cc_bridge_agent import wire

__all__ = ["MOST_IDS", "drop_oldest", "remember"]

#: What Claude Code or the agent may name without end, and is remembered: ids (as many as the agent remembers,
#: ``ledger.py``).
MOST_IDS = 4096


def remember(ids: dict[str, None], new: str) -> None:
    """Add an id at the end, unless it is there, or is none; the oldest one goes where there are too many."""
    if new not in ids and wire.ID.match(new):
        ids[new] = None
        drop_oldest(ids)


def drop_oldest(ids: dict[str, Any]) -> None:
    """Forget what came first, where there are too many."""
    while len(ids) > MOST_IDS:
        del ids[next(iter(ids))]
