"""What each field of a record may be."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from . import checks
from .limits import ApiLimits
from .mounts import split_mount
from .names import NAME
from .permission_rules import PermissionRules
from .protocol.command_line import ClaudeOptions

__all__ = ["CHECKS"]

_LAST_PORT = 65535
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_MOST_ALLOWED = 1000


def _name(value: object) -> str:
    if not NAME.match(text := checks.text(value)):
        raise ValueError("1 to 63 lower-case letters, digits, '_', '.', '-', beginning with a letter or digit")
    return text


def _env(value: object) -> dict[str, str]:
    env = checks.texts_by_name(value)
    for name in env:
        if not _VARIABLE.match(name):
            raise ValueError(f"{name!r} is not a name for an environment variable")
        if "\0" in env[name]:
            raise ValueError(f"the value of {name} has a NUL character")
    return env


def _path(value: object) -> Path | None:
    """Relative to where the record was made: the agent and later programs run elsewhere."""
    path = checks.path(value)
    try:
        return None if path is None else path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("there is no such user") from None
    except FileNotFoundError:
        raise ValueError("it is relative, and the current directory has been removed") from None


def _command(value: object) -> str:
    if "\0" in (text := checks.text(value)):
        raise ValueError("it has a NUL character")
    return text


def _ports(value: object) -> dict[int, int]:
    ports = checks.numbers_by_number(value)
    if not all(0 < inside <= _LAST_PORT and 0 <= outside <= _LAST_PORT for inside, outside in ports.items()):
        raise ValueError(f"a port is a number from 1 to {_LAST_PORT}")
    return ports


def _restart(value: object) -> str:
    if not re.fullmatch(r"no|always|unless-stopped|on-failure(:\d+)?", text := checks.text(value)):
        raise ValueError("one of no, on-failure[:times], always, unless-stopped")
    return text


def _mounts(value: object) -> tuple[str, ...]:
    mounts = checks.texts(value)
    for mount in mounts:
        split_mount(mount)
    return mounts


def _constraints(value: object) -> tuple[str, ...]:
    constraints = checks.texts(value)
    for constraint in constraints:
        if not re.fullmatch(r"(node|engine)\.[\w.-]+ *(==|!=) *[^=!\s]+", constraint):
            raise ValueError("each is as node.labels.NAME==VALUE, with == or !=")
    return constraints


def _allow_hosts(value: object) -> tuple[str, ...]:
    hosts = checks.texts(value)
    if len(hosts) > _MOST_ALLOWED:
        raise ValueError(f"at most {_MOST_ALLOWED} hosts")
    if hosts:
        from .allowed_hosts import GROUPS, read_rule  # few records have any

        for host in hosts:
            if host not in GROUPS:
                read_rule(host)
    return hosts


def _api_limits(value: object) -> ApiLimits:
    data = checks.fields(vars(value) if isinstance(value, ApiLimits) else value, _API_LIMITS_CHECKS)
    return ApiLimits(**data)


def _not_negative(check: checks.Check) -> checks.Check:
    def checked(value: object) -> Any:
        if (found := check(value)) < 0:
            raise ValueError("0 for no limit, or more")
        return found

    return checked


def _claude(value: object) -> ClaudeOptions:
    data = checks.fields(vars(value) if isinstance(value, ClaudeOptions) else value, _CLAUDE_CHECKS)
    return ClaudeOptions(**data)


def _rules(value: object) -> PermissionRules:
    data = checks.fields(vars(value) if isinstance(value, PermissionRules) else value, _RULES_CHECKS)
    return PermissionRules(**data)


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("seconds, 0 for never")
    return checks.number(value)


#: What a field is, and what makes it of what was given.
CHECKS: dict[str, checks.Check] = {
    **dict.fromkeys(("image", "container", "worktree", "mount_at", "network", "user", "project"), checks.text),
    **dict.fromkeys(("workspace_volume", "volume_driver", "service"), checks.text),
    **dict.fromkeys(("tmux_socket", "pane", "resume"), checks.text),
    **dict.fromkeys(("read_only_workspace", "writable", "docker_socket", "credentials", "ephemeral"), checks.flag),
    **dict.fromkeys(("tmux", "relay", "fork", "sealed"), checks.flag),
    **dict.fromkeys(("memory", "cpu_shares", "pids"), checks.whole_number),
    **dict.fromkeys(("workspace", "dockerfile", "repository", "key_file"), _path),
    "name": _name,
    "kind": checks.one_of("docker", "local", "tmux", "swarm"),
    "constraints": _constraints,
    "spread": checks.texts,
    "reserve_memory": _not_negative(checks.whole_number),
    "reserve_cpus": _not_negative(checks.number),
    "most_in_project": _not_negative(checks.whole_number),
    "volume_options": checks.texts_by_name,
    "mounts": _mounts,
    "allow_hosts": _allow_hosts,
    "key": checks.one_of("inside", "outside"),
    "key_command": _command,
    "api_limits": _api_limits,
    "env": _env,
    "cpus": checks.number,
    "ports": _ports,
    "restart": _restart,
    "labels": checks.texts_by_name,
    "claude": _claude,
    "rules": _rules,
    "sleep_after": _seconds,
    "stop_after": _seconds,
    "created": checks.time,
}

_API_LIMITS_CHECKS: dict[str, checks.Check] = {
    **dict.fromkeys(
        ("at_once", "requests_per_minute", "bytes_per_day", "tokens_per_day"), _not_negative(checks.whole_number)
    ),
    "usd_per_day": _not_negative(checks.number),
}

_RULES_CHECKS: dict[str, checks.Check] = dict.fromkeys(("allow", "ask", "deny"), checks.texts)

_CLAUDE_CHECKS: dict[str, checks.Check] = {
    **dict.fromkeys(("program", "model", "system_prompt", "append_system_prompt", "permission_mode"), checks.text),
    **dict.fromkeys(("allowed_tools", "disallowed_tools", "mcp_config", "extra"), checks.texts),
    "skip_permissions": checks.flag,
}
