"""``cc-bridge run``: one command, one answer, nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..engine.images import DEFAULT_IMAGE
from . import options as o
from .session import run_async
from .turn import read_prompt, show_turn

__all__ = ["run"]


def run(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The command; '-' reads it from stdin.")],
    on: o.OnOption = o.On.docker,
    image: o.Image = DEFAULT_IMAGE,
    workspace: o.Workspace = Path(),
    network: o.Network = "bridge",
    env: o.Env = [],
    mount: o.Mount = [],
    model: o.Model = "",
    system_prompt: o.SystemPrompt = "",
    allowed_tools: o.AllowedTools = "",
    permission_mode: o.PermissionMode = "",
    skip_permissions: o.SkipPermissions = False,
    resume: o.Resume = "",
    timeout: o.Timeout = None,
    as_json: o.Json = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the instance; its name is printed on stderr.")] = False,
) -> None:
    """Send one command to a new instance, stream the answer, and leave nothing behind.

    Only the answer goes to stdout; progress and notices go to stderr.
    """
    from .display import Display

    chosen = o.Options(
        on, image, workspace, network, env, mount, model, system_prompt, allowed_tools, permission_mode,
        skip_permissions, resume,
    )  # fmt: skip

    async def main() -> int:
        text = await read_prompt(prompt)
        with Display(as_json) as display:
            instance = o.instance_of(chosen.record(o.new_name(), ephemeral=not keep), display)
            display.progress("starting Claude Code")
            async with instance:
                code = await show_turn(instance, text, display, timeout)
            if keep:
                display.note(f"kept as {instance.name}: `cc-bridge send {instance.name} …` goes on")
            return code

    run_async(main)
