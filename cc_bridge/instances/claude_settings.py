"""A login in Claude Code's own settings, which it takes before the variables that it is started with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from ..login import PARTS

__all__ = ["check_settings", "config_directory", "without_login"]

#: Settings that name a program which gives Claude Code a login (docs.claude.com, "Claude Code settings").
_HELPERS = ("apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh")


def config_directory(env: Mapping[str, str]) -> Path:
    """Where Claude Code with these variables, which are all that it has, keeps its settings."""
    return Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME", "~")).expanduser() / ".claude")


def without_login(text: str) -> str:
    """Settings without what lets Claude Code in, or says at which address; what is no settings is none.

    Args:
        text: of a ``settings.json``.
    """
    settings, logins = _read(text)
    for name in logins:
        settings.pop(name, None)
    if isinstance(settings.get("env"), dict):
        settings["env"] = {name: value for name, value in settings["env"].items() if f"env.{name}" not in logins}
    return json.dumps(settings, indent=2)


def check_settings(config: Path, instance: str) -> None:
    """Refuse settings with a login, for an instance whose key is outside.

    Raises:
        InvalidInput: names the file and the settings.
    """
    path = config / "settings.json"
    try:
        _, logins = _read(path.read_text(errors="replace"))
    except OSError:  # there are none, or Claude Code cannot read them either
        return
    if logins:
        what = f"its key is to be outside, and {path} has {', '.join(logins)}, which Claude Code takes first"
        hint = "Take that out of it; or give the instance settings of its own: `--env CLAUDE_CONFIG_DIR=…`."
        raise InvalidInput(what, instance=instance, hint=hint)


def _read(text: str) -> tuple[dict[str, Any], list[str]]:
    """The settings, and which of them are part of a login."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = {}
    settings = found if isinstance(found, dict) else {}
    env = settings.get("env")
    logins = [name for name in _HELPERS if settings.get(name)]
    return settings, logins + [f"env.{name}" for name in (env if isinstance(env, dict) else ()) if name in PARTS]
