"""``cc-bridge update``: other options for an instance that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BridgeError, InvalidInput
from . import options as o
from . import record_options as r
from .completion import complete_name
from .parameters import Argument, Option
from .parameters import given as given_in
from .sealed_options import AllowHost, ApiLimit, KeyCommand, KeyFile, parse_api_limits
from .session import run_async
from .time_options import SleepAfter, StopAfter
from .words import parse_env, parse_times, parse_tools, read_mcp_config

if TYPE_CHECKING:
    from ..record import ClaudeInstance

__all__ = ["update"]

#: Seconds that a busy instance is waited for.
_LIMIT = 600.0

_Names = Annotated[list[str] | None, Argument(metavar="NAME…", help="Instances.", complete=complete_name)]
_Image = Annotated[
    str, Option("--image", metavar="NAME", help="Swarm: another image, one instance after the other, each when idle.")
]
_All = Annotated[bool, Option("--all", help="With --image: all instances of a swarm.")]
_Limit = Annotated[
    float,
    Option("--limit", metavar="S", min=0, help="With --image: wait S seconds while one is busy; 600 unless said."),
]


def update(
    context: typer.Context,
    names: _Names = None,
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
    image: _Image = "",
    everything: _All = False,
    limit: _Limit = _LIMIT,
) -> None:
    """Change instances' options; Claude Code has them when it is started the next time. Prints their names.

    What is given replaces what was there; variables and limits on the API are added to those that it has. Hosts,
    these limits and where the key is hold from the next command on; `--allow-host ''` allows none. Everything else,
    such as memory, mounts and the image, is its container's: `cc-bridge rm` makes room for a new one.

    But a swarm's instances can have another --image: each gets it when it is idle, is seen to answer, and goes on with
    its conversation, and then the next one does. The first that fails has its image of before, and is the last.
    """
    from ..instances.registry import Registry
    from .display import Display

    async def main() -> int:
        given = set(given_in(context))
        if not given:
            raise InvalidInput("nothing to change is given", hint="`cc-bridge update --help` says what.")
        if _is_of_image(given, names or []):
            return await _renew(names or [], image, everything=everything, limit=limit)
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

        def changed(record: ClaudeInstance) -> dict[str, Any]:
            return {
                "claude": replace(record.claude, **changes),
                "env": {**record.env, **more},
                "api_limits": parse_api_limits(api_limit or (), record.api_limits),
                **others,
            }

        with Display() as display:
            for name in names or ():
                Registry().change(name, changed)
                if not given <= {"allow_host", "api_limit", "key_command", "key_file"}:
                    display.note(f"`cc-bridge restart {name}` starts it with that, if it runs")
                print(name)
        return 0

    run_async(main)


def _is_of_image(given: set[str], names: list[str]) -> bool:
    """Whether another image is wanted, which is done in another way.

    Raises:
        InvalidInput: what was given does not go together.
    """
    if "image" not in given:
        if "everything" in given or "limit" in given:
            raise InvalidInput("--all and --limit go with --image")
        if not names:
            raise InvalidInput("which instance? No name is given")
        return False
    if given - {"image", "everything", "limit"}:
        raise InvalidInput("--image goes without options of Claude Code's; give these before or afterwards")
    if ("everything" in given) == bool(names):
        raise InvalidInput("--image: names, or --all?")
    return True


async def _renew(names: list[str], image: str, *, everything: bool, limit: float) -> int:
    """Another image for instances of a swarm, one after the other; those that are done are printed as they are."""
    from ..bridge.permissions import leave_to_others
    from ..instances.registry import Registry
    from ..instances.rolling import renew_image
    from ..instances.swarm_service import SwarmService
    from .display import Display

    registry = Registry()
    records = [registry.load(name) for name in names or registry.names()]
    if everything:
        records = [record for record in records if record.kind == "swarm"]
    if wrong := [record.name for record in records if record.kind != "swarm"]:
        hint = f"`cc-bridge rm {wrong[0]}` makes room for a new one, which goes on with the conversation."
        raise InvalidInput("only a swarm's instances can have another image", instance=wrong[0], hint=hint)
    with Display() as display:
        for number, record in enumerate(records):
            instance = o.load(record.name, display, leave_to_others)
            assert isinstance(instance, SwarmService)
            try:
                display.progress(f"{record.name}: waits until it is idle")
                await renew_image(instance, image, limit)
            except BridgeError:
                done, left = records[:number], records[number + 1 :]
                display.note(f"{len(done)} done, {record.name} has failed, {len(left)} not begun")
                raise
            finally:
                await instance.release()
            print(record.name, flush=True)
    return 0
