"""Where Claude Code is on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import ClaudeNotFound

__all__ = ["find_claude"]


def find_claude(program: str = "claude") -> str:
    """The path of Claude Code on this machine.

    ``$CC_BRIDGE_CLAUDE``, where that is set. Else looked for: the search path, the places of its installers, and the
    copy that ``pip install 'cc-bridge[claude]'`` brings.

    Raises:
        ClaudeNotFound: it is in none of these places.
    """
    import shutil

    if program != "claude":
        if found := shutil.which(program):
            return found
        raise ClaudeNotFound(f"there is no program {program!r}")
    if named := os.environ.get("CC_BRIDGE_CLAUDE"):
        if found := shutil.which(named):
            return found
        raise ClaudeNotFound(f"CC_BRIDGE_CLAUDE is {named!r}, and no program is there", hint="Correct it, or unset it.")
    candidates = [shutil.which("claude"), str(Path.home() / ".local/bin/claude")]
    candidates += [str(Path.home() / ".claude/local/claude"), _bundled()]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise ClaudeNotFound("Claude Code is not installed on this machine")


def _bundled() -> str | None:
    """The binary in the Agent SDK's wheel, found without importing the SDK."""
    for directory in sys.path:
        path = Path(directory, "claude_agent_sdk", "_bundled", "claude")
        if path.is_file():
            return str(path)
    return None
