"""``cc-bridge exec`` and ``shell``: a command in an instance's container."""

from __future__ import annotations

from typing import Annotated

from . import options as o
from .parameters import Argument, Option
from .session import run_async

__all__ = ["exec_", "shell"]

User = Annotated[str, Option("--user", "-u", metavar="USER", help="As this user; by default the container's.")]


def exec_(
    name: o.Name,
    command: Annotated[list[str], Argument(metavar="COMMAND…", help="The command and its arguments.")],
    interactive: Annotated[bool, Option("--interactive", "-i", help="Give it this stdin.")] = False,
    tty: Annotated[bool, Option("--tty", "-t", help="Give it this terminal.")] = False,
    user: User = "",
) -> None:
    """Run a command in an instance's container; its exit code is the command's.

    Output goes through as it comes, stdout and stderr apart; on a terminal, control characters only with --tty.
    """
    words = command[1:] if command[0] == "--" else command
    _run(name, words, user, interactive=interactive, tty=tty)


def shell(name: o.Name, user: User = "") -> None:
    """Open a shell in an instance's container: bash where it has one."""
    _run(name, [], user, interactive=True, tty=True)


def _run(name: str, command: list[str], user: str, *, interactive: bool, tty: bool) -> None:
    from ..engine.execs import Exit
    from .display import Display
    from .harmless import HarmlessOutput
    from .terminal import interact

    async def main() -> int:
        with Display() as display:
            instance = o.load_contained(name, display)
            try:
                tools = await instance.get_tools()
                if interactive or tty:
                    return await interact(tools, command, user=user, tty=tty)
                code, output = 1, HarmlessOutput()
                async for item in tools.exec_streaming(command, user=user):
                    if isinstance(item, Exit):
                        code = item.exit_code
                    else:
                        output.write(item.stream, item.data)
                return code
            finally:
                await instance.release()

    run_async(main, ends_at_once=interactive or tty)
