"""``cc-bridge update``: other options for an instance that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import typer

from ..errors import InvalidInput
from . import options as o
from . import record_options as r
from .parameters import given as given_in
from .sealed_options import AllowHost, ApiLimit, KeyCommand, KeyFile, parse_api_limits
from .session import run_async
from .time_options import SleepAfter, StopAfter
from .words import parse_env, parse_times, parse_tools, read_mcp_config

__all__ = ["update"]


def update(
    context: typer.Context,
    name: o.Name,
    model: r.Model = "",
    system_prompt: r.SystemPrompt = "",
    append_system_prompt: r.AppendSystemPrompt = "",
    allowed_tools: r.AllowedTools = "",
    disallowed_tools: r.DisallowedTools = "",
    mcp_config: r.McpConfig = None,
    permission_mode: r.PermissionMode = "",
    skip_permissions: r.SkipPermissions = False,
    env: r.Env = None,
    relay: r.Relay = True,
    allow_host: AllowHost = None,
    api_limit: ApiLimit = None,
    key_command: KeyCommand = "",
    key_file: KeyFile = None,
    sleep_after: SleepAfter = "",
    stop_after: StopAfter = "",
) -> None:
    """Change an instance's options; Claude Code has them when it is started the next time. Prints its name.

    What is given replaces what was there; variables and limits on the API are added to those that it has. Hosts,
    these limits and where the key is hold from the next command on; `--allow-host ''` allows none. Everything else,
    such as memory, mounts and the image, is its container's: `cc-bridge rm` makes room for a new one.
    """
    from ..instances.registry import Registry
    from .display import Display

    async def main() -> int:
        given = set(given_in(context))
        if not given:
            raise InvalidInput("nothing to change is given", instance=name, hint="`cc-bridge update --help` says what.")
        words: dict[str, Any] = {
            "model": model,
            "system_prompt": system_prompt,
            "append_system_prompt": append_system_prompt,
            "allowed_tools": parse_tools(allowed_tools),
            "disallowed_tools": parse_tools(disallowed_tools),
            "mcp_config": tuple(map(read_mcp_config, mcp_config or ())),
            "permission_mode": permission_mode,
            "skip_permissions": skip_permissions,
        }
        changes = {word: value for word, value in words.items() if word in given}
        more = parse_env(env or ())
        others: dict[str, Any] = parse_times(sleep_after=sleep_after, stop_after=stop_after)
        if "relay" in given:
            others["relay"] = relay
        if "allow_host" in given:
            others["allow_hosts"] = tuple(filter(None, allow_host or ()))
        if given & {"key_command", "key_file"}:  # one takes the place of the other
            others |= {"key_command": key_command, "key_file": key_file}
        Registry().change(
            name,
            lambda record: {
                "claude": replace(record.claude, **changes),
                "env": {**record.env, **more},
                "api_limits": parse_api_limits(api_limit or (), record.api_limits),
                **others,
            },
        )
        with Display() as display:
            if not given <= {"allow_host", "api_limit", "key_command", "key_file"}:
                display.note(f"`cc-bridge restart {name}` starts it with that, if it runs")
        print(name)
        return 0

    run_async(main)
