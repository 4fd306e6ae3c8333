"""``cc-bridge attach``: to the terminal in which an instance's Claude Code runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ..errors import AgentUnavailable, InvalidInput
from . import options as o
from .session import run_async

__all__ = ["attach"]


def attach(
    name: o.Name,
    read_only: Annotated[bool, typer.Option("--read-only", "-r", help="Watch only: no key reaches it.")] = False,
) -> None:
    """Come to the pane in which an instance's Claude Code runs: watch, scroll, type. Ctrl-B D leaves it running."""
    from ..instances.docker_container import DockerContainer
    from ..instances.tmux_instance import TmuxInstance
    from .display import Display
    from .terminal import interact

    pane: list[str] = []

    async def main() -> int:
        with Display() as display:
            instance = o.load(name, display)
            try:
                if not instance.record.in_pane:
                    raise InvalidInput(
                        "its Claude Code runs without a terminal",
                        instance=name,
                        hint="`cc-bridge chat` talks to it; `--on tmux`, or --tmux for a container, makes one.",
                    )
                if not await instance.is_running():
                    raise AgentUnavailable(
                        "it does not run", instance=name, hint=f"`cc-bridge start {name}` starts it."
                    )
                if isinstance(instance, DockerContainer):
                    return await interact(instance.tools, _words(instance.attach_argv, read_only), user="", tty=True)
                assert isinstance(instance, TmuxInstance)
                pane.extend(_words(instance.attach_argv, read_only))
                return 0
            finally:
                await instance.release()

    def become_tmux(argv: list[str]) -> None:
        server = os.environ.pop("TMUX", "").split(",")[0]
        if server == argv[argv.index("-S") + 1]:  # from inside the same server: one client, another session
            argv = ["switch-client" if word == "attach-session" else word for word in argv]
        os.execvp(argv[0], argv)  # noqa: S606  that is the point

    run_async(main, ends_at_once=True, then=lambda: become_tmux(pane) if pane else None)


def _words(argv: list[str], read_only: bool) -> list[str]:
    """The same command, for somebody who only watches (tmux(1): ``attach-session -r``)."""
    if not read_only:
        return argv
    if argv[0] == "sh":  # a line of the shell's, which ends with the command
        return [*argv[:-1], f"{argv[-1]} -r"]
    return [*argv, "-r"]
