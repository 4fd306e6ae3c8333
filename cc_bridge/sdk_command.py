"""What the Agent SDK's own transport would run, and what becomes of it at an instance.

The words are the SDK's: its builder is asked for them, with options whose paths are the instance's. It is not public,
so that a release without it is refused in a sentence. The variables are written down here, because the SDK makes them
within its start of a process; a test compares both with what a program gets that the installed SDK starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions

from .errors import InvalidInput
from .values import Value

__all__ = ["Command", "command_of"]

#: A path of this machine as it is named at the instance; None: it is not there.
Inside = Callable[[str], str | None]

#: Words of Claude Code's whose values are paths, as `extra_args` may have them.
_PATH_FLAGS = {"add-dir", "append-system-prompt-file", "mcp-config", "plugin-dir", "settings", "system-prompt-file"}

_STATE = "CLAUDE_CODE_SDK_READS_SESSION_STATE"


class Command(Value):
    """What is to run at an instance.

    Attributes:
        args: the words behind the program's name.
        env: added to the instance's variables.
        cwd: as it is named there; empty: the instance's.
    """

    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str


def command_of(options: ClaudeAgentOptions, inside: Inside, instance: str) -> Command:
    """What the SDK would run with these options.

    Raises:
        InvalidInput: an option cannot be had, by name.
        ValueError: the SDK refuses them.
    """
    _refuse(options, instance)
    there = _Paths(inside, instance)
    cwd = there.path("cwd", os.path.abspath(options.cwd)) if options.cwd else ""
    asked = _with_stdio(there.options(options))
    return Command(tuple(_words(asked, options, instance)), _variables(options, cwd), cwd)


def _refuse(options: ClaudeAgentOptions, instance: str) -> None:
    for name, why in (
        ("cli_path", "Claude Code is the instance's; its record names the program"),
        ("user", "Claude Code runs as the instance's user; its record names it"),
    ):
        if getattr(options, name, None) is not None:
            raise InvalidInput(f"ClaudeAgentOptions.{name} cannot be had over an instance: {why}", instance=instance)


def _with_stdio(options: ClaudeAgentOptions) -> ClaudeAgentOptions:
    """As the SDK does for a transport of its own: permission requests come as messages."""
    if options.can_use_tool is None:
        return options
    if options.permission_prompt_tool_name:
        raise ValueError("can_use_tool callback cannot be used with permission_prompt_tool_name.")
    return replace(options, permission_prompt_tool_name="stdio")


def _words(asked: ClaudeAgentOptions, options: ClaudeAgentOptions, instance: str) -> list[str]:
    """The words that the SDK's transport would start Claude Code with."""
    try:
        from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

        transport: Any = SubprocessCLITransport(prompt="", options=replace(asked, cli_path="claude"))
        # A settings file that sandbox settings are put into is read here, and relative to the directory here.
        transport._cwd = str(options.cwd) if options.cwd else None
        build = transport._build_command
    except (ImportError, AttributeError) as error:
        release = claude_agent_sdk.__version__
        what = f"the Agent SDK {release} does not say what it would start ({error})"
        raise InvalidInput(what, instance=instance, hint="cc-bridge is older than it: update cc-bridge.") from error
    words: list[str] = build()
    return words[1:]


def _variables(options: ClaudeAgentOptions, cwd: str) -> dict[str, str]:
    """What the SDK's transport would add to the environment; this program's own does not enter."""
    env = {"CLAUDE_CODE_ENTRYPOINT": "sdk-py", **options.env}
    env["CLAUDE_AGENT_SDK_VERSION"] = claude_agent_sdk.__version__
    if (app := getattr(options, "client_app", None)) is not None:
        env["CLAUDE_AGENT_SDK_CLIENT_APP"] = app
    env |= {name: value for name, value in _trace().items() if name not in options.env}
    if not any(name.upper() == _STATE for name in env):
        env[_STATE] = "1"
    if options.enable_file_checkpointing:
        env["CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING"] = "true"
    if cwd:
        env["PWD"] = cwd
    return env


def _trace() -> dict[str, str]:
    """The trace that this program is in, where it uses OpenTelemetry."""
    try:
        from opentelemetry import propagate
    except ImportError:
        return {}
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {name.upper(): value for name, value in carrier.items()}


class _Paths:
    """Names the options' paths as the instance has them."""

    def __init__(self, inside: Inside, instance: str) -> None:
        self._inside = inside
        self._instance = instance

    def path(self, option: str, value: str | Path) -> str:
        """One path.

        Raises:
            InvalidInput: it is not there.
        """
        path = str(value)
        if not os.path.isabs(path):
            return path  # of the directory in which Claude Code starts
        found = self._inside(path)
        if found is None:
            what = f"ClaudeAgentOptions.{option}: {path} is neither in the instance's workspace nor in its mounts"
            raise InvalidInput(what, instance=self._instance, hint="Mount it (`mounts=`), or name one that is.")
        return found

    def options(self, options: ClaudeAgentOptions) -> ClaudeAgentOptions:
        """The same with all paths as they are there; a settings file that the SDK reads itself is read here."""
        changed: dict[str, Any] = {"add_dirs": [self.path("add_dirs", path) for path in options.add_dirs]}
        if options.settings and options.sandbox is None:
            changed["settings"] = self._json_or_path("settings", options.settings)
        if isinstance(options.mcp_servers, str | Path):
            changed["mcp_servers"] = self._json_or_path("mcp_servers", options.mcp_servers)
        prompt: Any = options.system_prompt
        if isinstance(prompt, dict) and prompt.get("type") == "file":
            changed["system_prompt"] = {**prompt, "path": self.path("system_prompt", prompt["path"])}
        changed["plugins"] = [
            {**plugin, "path": self.path("plugins", plugin["path"])} if plugin["type"] == "local" else plugin
            for plugin in options.plugins
        ]
        changed["extra_args"] = {
            flag: self._json_or_path(f"extra_args[{flag!r}]", value) if value and flag in _PATH_FLAGS else value
            for flag, value in options.extra_args.items()
        }
        return replace(options, **changed)

    def _json_or_path(self, option: str, value: str | Path) -> str:
        return str(value) if str(value).strip().startswith("{") else self.path(option, value)
