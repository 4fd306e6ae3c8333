"""``cc-bridge attach``: to the terminal in which an instance's Claude Code runs."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread

from ..errors import AgentUnavailable, EngineError, InvalidInput
from . import options as o
from .parameters import Option
from .session import run_async

if TYPE_CHECKING:
    from ..instances.contained_instance import ContainedInstance

__all__ = ["attach"]

#: Seconds for Claude Code to have ended when its pane has gone.
_END_LIMIT = 3.0


def attach(
    name: o.Name,
    read_only: Annotated[bool, Option("--read-only", "-r", help="Watch only: no key reaches it.")] = False,
) -> None:
    """Come to the pane in which an instance's Claude Code runs: watch, scroll, type. Ctrl-B D leaves it running."""
    from ..instances.contained_instance import ContainedInstance
    from ..instances.tmux_instance import TmuxInstance
    from .display import Display
    from .terminal import interact

    async def main() -> int:
        with Display() as display:
            instance = o.load(name, display)
            try:
                if not isinstance(instance, ContainedInstance | TmuxInstance) or not instance.record.in_pane:
                    raise InvalidInput(
                        "its Claude Code runs without a terminal",
                        instance=name,
                        hint="`cc-bridge chat` talks to it; `--on tmux`, or --tmux for a container, makes one.",
                    )
                if not await instance.is_running() or await instance.has_ended():
                    raise AgentUnavailable(
                        "its Claude Code does not run", instance=name, hint=f"`cc-bridge start {name}` starts it."
                    )
                asked = [word.replace("attach-session", "has-session") for word in instance.attach_argv]
                if isinstance(instance, ContainedInstance):
                    argv = _words(instance.attach_argv, read_only)
                    code = await interact(await instance.get_tools(), argv, user="", tty=True)
                    is_there = await _is_there(instance, asked)
                else:
                    argv = _from_inside(_words(instance.attach_argv, read_only), read_only)
                    code = await _run(argv)
                    is_there = (await anyio.run_process(asked, check=False)).returncode == 0
                if not is_there and await instance.has_ended(_END_LIMIT):
                    display.note(f"its Claude Code has ended; the next command starts it, or `cc-bridge start {name}`")
                    return 0
                return code
            finally:
                await instance.release()

    run_async(main, ends_at_once=True)


async def _is_there(instance: ContainedInstance, argv: list[str]) -> bool:
    """The session, after somebody has left it; no container, no session."""
    try:
        return (await instance.exec(argv)).exit_code == 0
    except EngineError:
        return False


async def _run(argv: list[str]) -> int:
    """Run tmux at this terminal; its exit code. If we are to end, it is told to, and leaves the terminal as it was."""
    with subprocess.Popen(argv) as process:  # noqa: ASYNC220  a millisecond
        try:
            return await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        finally:
            if process.poll() is None:
                process.terminate()


def _from_inside(argv: list[str], read_only: bool) -> list[str]:
    """The same command; from inside the same server: one client, another session.

    Raises:
        InvalidInput: a client that is read-only stays so in every session.
    """
    server = os.environ.pop("TMUX", "").split(",")[0]
    if server == argv[argv.index("-S") + 1]:
        if read_only:
            what = "--read-only: this terminal is in the same tmux server, and would be read-only in all its sessions"
            raise InvalidInput(what, hint="Use a terminal outside of tmux, or leave --read-only away.")
        return ["switch-client" if word == "attach-session" else word for word in argv]
    return argv


def _words(argv: list[str], read_only: bool) -> list[str]:
    """The same command, for somebody who only watches (tmux(1): ``attach-session -r``)."""
    if not read_only:
        return argv
    if argv[0] == "sh":  # a line of the shell's, which ends with the command
        return [*argv[:-1], f"{argv[-1]} -r"]
    return [*argv, "-r"]
