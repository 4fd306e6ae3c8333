"""``cc-bridge doctor``: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread

from ..errors import BridgeError, InvalidInput
from . import options as o
from .completion import complete_name
from .configuration import current_directory
from .parameters import Argument, Option
from .session import report, run_async

if TYPE_CHECKING:
    from ..instances.isolation import Outcome

__all__ = ["Check", "claude_check", "doctor", "tmux_check"]


#: Bytes that an image and a container need at least.
_LEAST_FREE = 1024**3

#: The first tmux that has all that a pane needs.
_LEAST_TMUX = (3, 2)


@dataclass(frozen=True)
class Check:
    """What was found. ``state``: ``ok``, ``note`` (works without), or ``fail``."""

    name: str
    state: str
    found: str
    advice: str = ""


def doctor(
    name: Annotated[
        str,
        Argument(
            metavar="[NAME]",
            help="An instance: what is wrong with it.",
            complete=complete_name,
        ),
    ] = "",
    isolation: Annotated[
        str,
        Option(
            "--isolation",
            metavar="NAME",
            help="Try from inside this instance's container what each of its limits should stop.",
            complete=complete_name,
        ),
    ] = "",
    swarm: Annotated[bool, Option("--swarm", help="A swarm's manager and nodes, and the way to each.")] = False,
    as_json: o.Json = False,
) -> None:
    """Check the engine, the shared kernel, Claude Code and its login; exit 1 if nothing could run, as without a login.

    One of the two kinds of instance is enough: a machine without Docker, or without a local Claude Code,
    is in order. With NAME: check one instance, and exit 1 if something is wrong with it; nothing is started.
    With --isolation: exit 1 if an attempt succeeded, or could not be made. With --swarm: exit 1 if something is wrong.
    """
    from .display import print_json
    from .tables import print_table

    if bool(name) + bool(isolation) + swarm > 1:
        sys.exit(report(InvalidInput("NAME, --isolation and --swarm: which of them?")))
    if isolation:
        run_async(lambda: _isolation(isolation, as_json))
        return

    async def main() -> int:
        if name:
            from .instance_checks import checks_of

            checks = await checks_of(name)
        elif swarm:
            from .swarm_checks import checks_of_swarm

            checks = await checks_of_swarm()
        else:
            machine = (_state, _engine, _kernel, _disk, _image, _workspace, claude_check, tmux_check, _login)
            checks = [await check() for check in machine]
        if as_json:
            print_json([asdict(check) for check in checks])
        else:
            marks = {"ok": "ok", "note": "-", "fail": "FAIL"}
            print_table(["", "CHECK", "FOUND"], [[marks[c.state], c.name, _with_advice(c)] for c in checks])
        states = {check.name: check.state for check in checks}
        if name or swarm:
            return 1 if "fail" in states.values() else 0
        runnable = "ok" in (states["docker"], states["claude"])
        return 0 if runnable and states["state directory"] == states["login"] == "ok" else 1

    run_async(main)


async def _isolation(name: str, as_json: bool) -> int:
    from ..instances.isolation import try_isolation
    from .display import Display, print_json
    from .tables import print_table

    with Display() as display:
        instance = o.load_contained(name, display)
        try:
            if not await instance.is_running():
                display.progress(f"starting {name}")
                await instance.start()
            outcomes = []
            async for outcome in try_isolation(await instance.get_tools(), instance.record):
                display.progress(f"tried to {outcome.tries}")
                outcomes.append(outcome)
        finally:
            await instance.release()
    if as_json:
        print_json([asdict(outcome) for outcome in outcomes])
    else:
        rows = [[_said(item), item.limit, item.tries] for item in outcomes]
        print_table(["", "LIMIT", "TRIED TO"], rows)
    return 0 if all(outcome.held for outcome in outcomes) else 1


def _said(outcome: Outcome) -> str:
    if not outcome.tried:
        return "UNTRIED"
    return "held" if outcome.held else "LOOSE"


def _with_advice(check: Check) -> str:
    return check.found + (f"\n→ {check.advice}" if check.advice else "")


async def _state() -> Check:
    from ..instances.registry import state_root

    root = state_root()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = os.access(root, os.W_OK)
    except OSError:
        usable = False
    if usable:
        return Check("state directory", "ok", str(root))
    return Check("state directory", "fail", f"{root} cannot be written", "Set CC_BRIDGE_HOME to a directory of yours.")


def _engine_check(name: str) -> Callable[[Callable[[object], Awaitable[Check]]], Callable[[], Awaitable[Check]]]:
    """A check that needs the engine."""

    def wrap(check: Callable[[object], Awaitable[Check]]) -> Callable[[], Awaitable[Check]]:
        async def run() -> Check:
            from ..engine.client import Engine

            engine = Engine()
            try:
                return await check(engine)
            except BridgeError as error:
                return Check(name, "note", error.what, error.hint if name == "docker" else "")
            finally:
                await engine.aclose()

        return run

    return wrap


@_engine_check("docker")
async def _engine(engine: object) -> Check:
    from ..engine.client import Engine

    assert isinstance(engine, Engine)
    version = await engine.version()
    return Check("docker", "ok", f"engine {version} at {engine.address} ({engine.source})")


@_engine_check("shared kernel")
async def _kernel(engine: object) -> Check:
    from ..engine.client import Engine

    assert isinstance(engine, Engine)
    if await engine.shares_kernel():
        return Check("shared kernel", "ok", "named pipes reach into containers")
    return Check("shared kernel", "note", "the engine runs on another kernel: docker exec is used, not named pipes")


@_engine_check("disk")
async def _disk(engine: object) -> Check:
    from ..engine.client import Engine

    assert isinstance(engine, Engine)
    root = await engine.data_root()
    if not engine.is_local or not os.path.isdir(root):
        return Check("disk", "note", f"the engine keeps its data in {root}, on its own machine")
    free = shutil.disk_usage(root).free
    if free < _LEAST_FREE:
        advice = "`docker system df` shows what takes the room; `cc-bridge prune --images --volumes` frees some."
        return Check("disk", "fail", f"{free // 1024**2} MiB free in {root}", advice)
    return Check("disk", "ok", f"{free / 1024**3:.1f} GiB free in {root}")


@_engine_check("default image")
async def _image(engine: object) -> Check:
    from ..engine.client import Engine
    from ..engine.images import Images
    from ..instances.registry import agent_archive

    assert isinstance(engine, Engine)
    images = Images(engine)
    name = images.default_name(agent_archive())
    if await images.exists(name):
        return Check("default image", "ok", name)
    return Check("default image", "note", "not built yet", "The first use builds it; `make image` does so now.")


async def _workspace() -> Check:
    """Whether a container's user may write here: the fault that is hardest to see from inside."""
    from ..engine.container_spec import user_for

    here = current_directory()
    uid, _ = user_for(here)
    found = here.stat()
    if uid == found.st_uid or found.st_mode & 0o002:
        return Check("workspace", "ok", f"a container's user ({uid}) may write to {here}")
    advice = f"`chown {uid} {shlex.quote(str(here))}` gives it to that user; or start from a directory of yours."
    return Check("workspace", "note", f"a container's user ({uid}) may not write to {here}", advice)


async def claude_check(program: str = "claude") -> Check:
    """Claude Code on this machine."""
    from ..instances.process_place import find_claude

    try:
        path = find_claude(program)
        output = await anyio.to_thread.run_sync(_version_of, path)
    except BridgeError as error:
        return Check("claude", "note", f"{error.what}: needed for `--on local` only", error.hint)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("claude", "fail", f"it cannot be run: {error}", "Install it again.")
    return Check("claude", "ok", f"{output} at {path}")


async def tmux_check() -> Check:
    """What a pane needs."""
    found = shutil.which("tmux")
    if found is None:
        return Check("tmux", "note", "not installed: needed for `--on tmux` only", "Install tmux 3.2 or newer.")
    version = await anyio.to_thread.run_sync(_version_of, found, "-V")
    number = re.search(r"(\d+)\.(\d+)", version)
    if number and (int(number[1]), int(number[2])) < _LEAST_TMUX:
        return Check("tmux", "note", f"{version} at {found}: too old for `--on tmux`", "Install tmux 3.2 or newer.")
    return Check("tmux", "ok", f"{version} at {found}")


def _version_of(path: str, option: str = "--version") -> str:
    done = subprocess.run([path, option], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


async def _login() -> Check:
    from ..login import host_login

    if login := host_login():
        return Check("login", "ok", f"{', '.join(login)}: set, and given to instances together")
    config = Path(os.environ.get("CLAUDE_CONFIG_DIR", Path.home() / ".claude"))
    if (config / ".credentials.json").exists():
        return _kept_login(config)
    advice = "Set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN (`claude setup-token` makes one)."
    return Check("login", "fail", "no key and no login found", advice)


def _kept_login(config: Path) -> Check:
    """Claude Code's own login: one that has expired is renewed by Claude Code only, where it can be."""
    from ..proxy.keys import ClaudeLogin, Unusable
    from .ages import ago

    found = f"the login of {config}, for `--on local` and `--key outside`"
    try:
        login = ClaudeLogin.read(config / ".credentials.json")
    except Unusable:  # a later Claude Code may keep it otherwise
        return Check("login", "ok", f"the login of {config}, for `--on local`")
    if not login.has_expired(time.time()):
        return Check("login", "ok", found)
    expired = f"the login of {config} has expired {ago(datetime.fromtimestamp(login.expires or 0, UTC))}"
    if login.can_renew:
        return Check("login", "ok", expired, "`claude` renews it when it runs; where the key is outside, nothing does.")
    return Check("login", "fail", expired, "Start `claude`, and /login makes a new one.")
