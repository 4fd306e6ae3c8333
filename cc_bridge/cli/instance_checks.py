"""What is wrong with one instance: its part of ``cc-bridge doctor``. Nothing is started to find it."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import BridgeError
from . import options as o
from .doctor import Check

if TYPE_CHECKING:
    from ..instances.bridged import BridgedInstance

__all__ = ["checks_of"]

#: Seconds for all that the engine and the agent are asked.
_LIMIT = 30.0

#: What it takes to make files in a directory.
_WRITE = stat.S_IWOTH | stat.S_IXOTH

#: Seconds of silence in a turn after which a person may want to look.
_QUIET = 300.0


async def checks_of(name: str) -> list[Check]:
    """What was found; where the record cannot be read, that alone.

    Raises:
        InstanceNotFound: there is none of this name.
    """
    from ..errors import InstanceNotFound
    from .display import Display

    try:
        instance = o.load(name, Display())
    except InstanceNotFound:
        raise
    except BridgeError as error:
        return [Check("record", "fail", error.what, error.hint)]
    try:
        return [check async for check in _checks(instance)]
    finally:
        with anyio.CancelScope(shield=True):
            await instance.release()


async def _checks(instance: BridgedInstance) -> AsyncIterator[Check]:
    record = instance.record
    yield Check("record", "ok", f"{record.kind}, {'ephemeral' if record.ephemeral else 'stays'}")
    if record.kind != "swarm":  # whose directories are its nodes'
        yield _mounts(instance)
        if record.workspace is not None:
            yield _workspace(instance)
    info: dict[str, Any] = {}
    with anyio.move_on_after(_LIMIT):
        try:
            info = {**await instance.get_info()}
        except BridgeError as error:
            yield Check("place", "fail", error.what, error.hint)
            return
    if not info:
        yield Check("place", "fail", f"it says nothing within {_LIMIT:g} s", "`cc-bridge doctor` checks the engine.")
        return
    yield _place(instance.name, info)
    if info["status"] == "running":
        yield _agent(instance.name, info)
        yield _activity(instance.name, info)
    yield await _program(instance)
    yield _login(instance)
    yield await _conversation(instance)


def _mounts(instance: BridgedInstance) -> Check:
    try:
        instance.record.check_mounts()
    except BridgeError as error:
        return Check("mounts", "fail", error.what, "Bring it back, or make the instance anew without it.")
    return Check("mounts", "ok", f"{len(instance.record.mounts) or 'no'} more than its own")


def _workspace(instance: BridgedInstance) -> Check:
    record = instance.record
    path = record.workspace or Path()
    try:
        found = path.stat()
    except OSError as error:
        return Check("workspace", "fail", f"{path}: {error.strerror}", "Bring it back, or make the instance anew.")
    if record.kind != "docker" or record.read_only_workspace or record.container:
        return Check("workspace", "ok", str(path))
    uid, gid = _numbers(record.user, path)
    user = record.user if uid is None else str(uid)
    may_write = None if uid is None else _may_write(found, uid, gid)
    if may_write is None:
        return Check("workspace", "note", f"{path}; whether its user ({user}) may write to it, its image decides")
    if may_write:
        return Check("workspace", "ok", f"{path}, which its user ({user}) may write to")
    advice = f"`chown -R {user} {shlex.quote(str(path))}` gives it to that user."
    return Check("workspace", "fail", f"its user ({user}) may not write to {path}", advice)


def _numbers(user: str, workspace: Path) -> tuple[int | None, int | None]:
    """The ids of a container's user and group; None: a name, or a group, that only its image knows."""
    from ..engine.container_spec import user_for

    if not user:
        return user_for(workspace)
    uid, _, gid = user.partition(":")
    return int(uid) if uid.isdecimal() else None, int(gid) if gid.isdecimal() else None


def _may_write(found: os.stat_result, uid: int, gid: int | None) -> bool | None:
    """By the directory's mode, which holds for root as well: containers have no capabilities. None: by its group."""
    owner, group, others = (found.st_mode >> bits & _WRITE == _WRITE for bits in (6, 3, 0))
    if uid == found.st_uid:
        return owner
    if gid is None and group != others:
        return None
    return group if gid == found.st_gid else others


def _place(name: str, info: dict[str, Any]) -> Check:
    status = info["status"]
    title = "container" if info["kind"] in ("docker", "swarm") else "process"
    if status == "running":
        return Check(title, "ok", "running")
    if info.get("oom_killed"):
        advice = "A new instance with more `--memory` may do; the next command starts this one again."
        return Check(title, "fail", f"{status}: it ran out of memory", advice)
    advice = f"The next command starts it, and so does `cc-bridge start {name}`."
    code = info.get("exit_code")
    return Check(title, "note", status + (f", exit code {code}" if code else ""), advice)


def _agent(name: str, info: dict[str, Any]) -> Check:
    from cc_bridge_agent import __version__

    if info["channel"] is None:
        advice = f"`cc-bridge logs {name}` may say why; `cc-bridge restart {name}` starts it anew."
        return Check("agent", "fail", "it runs, and its agent does not answer", advice)
    if info["channel"] == "direct":
        advice = "An image with Python 3.9 or later has one: turns outlive the program that began them."
        return Check("agent", "note", "none: there is no Python for it, and Claude Code is run directly", advice)
    found = f"{info['agent']}, by {info['channel']}"
    if info["agent"] not in (__version__, "none"):
        return Check("agent", "note", f"{found}; this is {__version__}", f"`cc-bridge restart {name}` starts the new.")
    return Check("agent", "ok", found)


def _activity(name: str, info: dict[str, Any]) -> Check:
    from .ages import ago
    from .ps import doing

    if info["activity"] is None:
        why = "a person may have a turn in its pane" if info.get("pane") else "its agent does not say"
        return Check("activity", "note", "there is no agent to say it" if info["channel"] == "direct" else why)
    found = doing(info)
    there = ", ".join(info["connected"]) or "nobody"
    found += f"; connected: {there}"
    end = f"`cc-bridge interrupt {name}` ends the turn"
    if info["activity"] == "permission" and not info["connected"]:
        advice = f"`cc-bridge follow --ask {name}` asks you for it; {end}."
        return Check("activity", "fail", f"{found}: so nobody decides", advice)
    if info["activity"] == "busy" and _age(info["last_activity"]) > _QUIET:
        advice = f"`cc-bridge follow {name}` shows the turn; {end}."
        return Check("activity", "note", f"{found}; silent since {ago(info['last_activity'])}", advice)
    return Check("activity", "ok", found)


def _age(when: str | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds() if when else 0.0


async def _program(instance: BridgedInstance) -> Check:
    from .doctor import claude_check, tmux_check

    if instance.record.is_contained:
        return Check("claude", "ok", "its image's own")
    check = await claude_check(instance.record.claude.program)
    if check.state == "ok" and instance.record.kind == "tmux":
        check = await tmux_check()
    return check if check.state == "ok" else Check(check.name, "fail", check.found, check.advice)


def _login(instance: BridgedInstance) -> Check:
    from ..login import KEYS, decides, with_login

    record = instance.record
    env = with_login(record.env)
    names = [name for name in KEYS if env.get(name)]
    if names or decides(env):
        whose = "its own" if decides(record.env) else "this machine's"
        return Check("login", "ok", f"{whose}: {', '.join(names) or 'another provider or address'}")
    config = Path(env.get("CLAUDE_CONFIG_DIR") or os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    if (not record.is_contained or record.credentials) and (config / ".credentials.json").exists():
        return Check("login", "ok", f"the login of {config}")
    if record.container or (record.kind == "tmux" and not record.ephemeral):
        return Check("login", "note", "none is given to it; there may be one inside")
    advice = "Set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN (`claude setup-token` makes one), and restart it."
    return Check("login", "fail", "no key and no login is given to it", advice)


async def _conversation(instance: BridgedInstance) -> Check:
    try:
        session, content = await instance.open_conversation()
    except BridgeError as error:
        return Check("conversation", "note", error.what)
    content.close()
    return Check("conversation", "ok", session)
