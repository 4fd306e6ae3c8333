"""Which way to the agent to try next. A pure function of what is known.

::

    pipes ──nobody listens──► attach by exec ──no agent there──► start the agent, once ──► from the top
      │                             │                            │
      └─cannot be used──────────────┤                            │
                                    └─no Python there────────────┴──► claude by exec, directly
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Facts", "Rung", "next_rung"]


class Rung(enum.Enum):
    """What to try next."""

    PIPES = "pipes"
    ATTACH = "attach"
    START_AGENT = "start the agent"
    DIRECT = "direct"
    GIVE_UP = "give up"


@dataclass(slots=True)
class Facts:
    """What is known about a running container.

    Attributes:
        shares_kernel: host and container share a kernel, so that FIFOs work.
        pipes_failed, attach_failed: tried without success since the agent last started.
        agent_started: by us, in this attempt, or it was already serving.
        python_missing: the agent cannot run there.
    """

    shares_kernel: bool = True
    pipes_failed: bool = False
    attach_failed: bool = False
    agent_started: bool = False
    python_missing: bool = False


def next_rung(facts: Facts) -> Rung:
    """The best way that has not failed yet."""
    if facts.python_missing:
        return Rung.DIRECT
    if facts.shares_kernel and not facts.pipes_failed:
        return Rung.PIPES
    if not facts.attach_failed:
        return Rung.ATTACH
    return Rung.GIVE_UP if facts.agent_started else Rung.START_AGENT
