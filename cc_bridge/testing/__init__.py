"""For tests of programs that use cc-bridge: a scripted model, fixtures, and the contracts as test suites."""

from .scripted_model import (
    Blob,
    Cut,
    Delay,
    Fail,
    Hang,
    Pace,
    Reply,
    Say,
    ScriptedModel,
    Step,
    Think,
    Tool,
    seed_claude_home,
)

__all__ = [
    "Blob",
    "Cut",
    "Delay",
    "Fail",
    "Hang",
    "Pace",
    "Reply",
    "Say",
    "ScriptedModel",
    "Step",
    "Think",
    "Tool",
    "seed_claude_home",
]
