"""For tests of programs that use cc-bridge: a scripted model, fixtures, and the contracts as test suites."""

from .script import Blob, Cut, Delay, Fail, Hang, Pace, Reply, Say, Step, Think, Tool
from .scripted_model import ScriptedModel, seed_claude_home

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
