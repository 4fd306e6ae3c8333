"""What stands behind an option, made into what a record has."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidInput

__all__ = ["check_claude_args", "parse_env", "parse_ports", "parse_size", "parse_tools", "read_mcp_config"]

#: Docker refuses less.
_LEAST_MEMORY = 6 * 1024**2

#: Words of Claude Code's that are cc-bridge's to say, and the option for each; nothing: there is none.
_OURS = {
    "-p": "",
    "--print": "",
    "--input-format": "",
    "--output-format": "",
    "--permission-prompt-tool": "",
    "--replay-user-messages": "",
    "--session-id": "",
    "-c": "--resume",
    "--continue": "--resume",
    "-r": "--resume",
    "--resume": "--resume",
    "--fork-session": "--fork",
    "--dangerously-skip-permissions": "--skip-permissions",
    "--allow-dangerously-skip-permissions": "--skip-permissions",
    "-w": "--worktree",
    "--worktree": "--worktree",
    "--tmux": "--tmux",
}


def parse_tools(text: str) -> tuple[str, ...]:
    """The tools of a comma-separated list."""
    return tuple(text.split(",")) if text else ()


def parse_ports(texts: Sequence[str]) -> dict[int, int]:
    """Port in the container to port here, of ``8080:80`` or ``80`` (any port here) each.

    Raises:
        InvalidInput: one is neither, or a port in the container is published twice.
    """
    ports = {}
    for text in texts:
        found = re.fullmatch(r"(?:127\.0\.0\.1:)?(?:(\d{1,5})?:)?(\d{1,5})", text)
        if not found:
            hint = "Write 8080:80, or 80 for any port here; it is reached from this machine only."
            raise InvalidInput(f"--publish {text!r} is no [PORT:]PORT", hint=hint)
        if int(found[2]) in ports:
            raise InvalidInput(f"--publish: port {int(found[2])} is published twice", hint="One port here is enough.")
        ports[int(found[2])] = int(found[1] or 0)
    return ports


def read_mcp_config(text: str) -> str:
    """JSON as it is; of a file of this machine, what it says, because Claude Code may run where it is not.

    Raises:
        InvalidInput: it is no JSON object, or the file cannot be read.
    """
    import json

    try:
        config = text if text.lstrip().startswith("{") else Path(text).read_text()
        if isinstance(json.loads(config), dict):
            return config
    except OSError as error:
        raise InvalidInput(f"--mcp-config {text}: {error.strerror}") from None
    except (ValueError, RecursionError):
        pass
    raise InvalidInput(f"--mcp-config {text}: it is no JSON object", hint='Such as {"mcpServers": {…}}.')


def check_claude_args(words: Sequence[str]) -> tuple[str, ...]:
    """What stood after ``--``.

    Raises:
        InvalidInput: one is cc-bridge's to say.
    """
    for word in words:
        # A short one may have its value, or another one, right behind it.
        option = word.partition("=")[0] if word.startswith("--") else word[:2]
        if option in _OURS:
            hint = f"Use {_OURS[option]} before the --." if _OURS[option] else "cc-bridge says that itself."
            raise InvalidInput(f"{option} cannot be given to Claude Code after --", hint=hint)
    return tuple(words)


def parse_env(assignments: Sequence[str]) -> dict[str, str]:
    """``K=V`` each, or ``K`` for this process's own value.

    Raises:
        InvalidInput: ``K`` alone and not set here.
    """
    env = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            if name not in os.environ:
                raise InvalidInput(f"--env {name}: it is not set here", hint="Set it, or write --env NAME=VALUE.")
            value = os.environ[name]
        env[name] = value
    return env


def parse_times(**texts: str) -> dict[str, float]:
    """Seconds of ``90``, ``90s``, ``10m``, ``2h`` or ``1d`` each, by the option's name; without those not given.

    Raises:
        InvalidInput: one is none of these.
    """
    seconds = {}
    for name, text in texts.items():
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", text)
        if found:
            seconds[name] = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
        elif text:
            option = name.replace("_", "-")
            raise InvalidInput(f"--{option} {text!r} is no time", hint="Such as 90s, 10m, 2h or 1d; 0: never.")
    return seconds


def parse_size(text: str) -> int:
    """Bytes of ``512m``, ``2g``, ``64k`` or a plain number.

    Raises:
        InvalidInput: it is none of these, or less than Claude Code can start in.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)b?", text.strip().lower())
    if not found:
        raise InvalidInput(f"{text!r} is no amount of memory", hint="Write 512m or 2g.")
    size = int(float(found[1]) * {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}[found[2]])
    if size < _LEAST_MEMORY:
        raise InvalidInput(f"{text!r} is too little memory", hint="Docker's least is 6m; Claude Code wants some 512m.")
    return size
