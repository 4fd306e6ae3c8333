"""What the shell may complete, from what is on this machine."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "complete_conversation",
    "complete_mode",
    "complete_name",
    "complete_pane",
    "complete_path",
    "complete_request",
]

#: As Claude Code 2.1.329 has them.
_MODES = ("acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan")


def complete_name(incomplete: str) -> list[str]:
    """Instances whose names begin so, for shell completion."""
    from ..instances.registry import Registry

    return [name for name in Registry().names() if name.startswith(incomplete)]


def complete_conversation(incomplete: str) -> list[str]:
    """The same, and sessions that are kept."""
    from ..instances.registry import Registry

    known = [*Registry().names(), *sorted(Registry().sessions.kept())]
    return [item for item in known if item.startswith(incomplete)]


def complete_path(incomplete: str) -> list[str]:
    """Files here, and instances as ``NAME:``."""
    found = [f"{name}:" for name in complete_name(incomplete)] if "/" not in incomplete else []
    if ":" in incomplete:
        return found
    typed = Path(incomplete)
    directory, beginning = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name if incomplete else "")
    prefix = incomplete[: len(incomplete) - len(beginning)]
    try:
        here = sorted(path for path in directory.iterdir() if path.name.startswith(beginning))
    except OSError:
        return found
    hidden = beginning.startswith(".")
    return found + [
        f"{prefix}{path.name}{'/' if path.is_dir() else ''}" for path in here if hidden or path.name[0] != "."
    ]


def complete_request(incomplete: str) -> list[str]:
    """Permission requests that are open, of all instances that answer."""
    import anyio

    from ..errors import BridgeError
    from .permissions import beginnings

    try:
        return anyio.run(beginnings, incomplete)
    except (BridgeError, OSError):
        return []


def complete_pane(incomplete: str) -> list[str]:
    """The panes of the user's tmux server."""
    import subprocess

    from ..instances.pane_place import default_tmux_socket

    argv = ["tmux", "-S", default_tmux_socket(), "list-panes", "-a", "-F", "#{pane_id}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [pane for pane in done.stdout.split() if pane.startswith(incomplete)]


def complete_mode(incomplete: str) -> list[str]:
    """Claude Code's permission modes."""
    return [mode for mode in _MODES if mode.startswith(incomplete)]


def complete_template(incomplete: str) -> list[str]:
    """The templates of the configuration file, where it can be used."""
    from ..errors import BridgeError
    from .configuration import load_config

    try:
        return [name for name in sorted(load_config().templates) if name.startswith(incomplete)]
    except BridgeError:
        return []
