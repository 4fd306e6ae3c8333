"""``cc-bridge logs``: what the agent of an instance has logged."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidInput
from . import options as o
from .harmless import shown_on
from .session import run_async

if TYPE_CHECKING:
    from ..instances.bridged import BridgedInstance

__all__ = ["logs"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def logs(
    name: o.Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends, or Ctrl-C.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="The last N lines.")] = None,
    since: Annotated[str, typer.Option("--since", metavar="AGE", help="Not older than this: 90s, 10m, 2h, 1d.")] = "",
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Begin each line with its time.")] = False,
) -> None:
    """Show what an instance's agent has logged: starts, ends and faults, never what was said.

    The conversation is Claude Code's own record; `cc-bridge export` has it.
    """
    from ..instances.docker_container import DockerContainer
    from .display import Display
    from .harmless import HarmlessOutput

    async def main() -> int:
        begin = time.time() - parse_age(since) if since else 0.0
        with Display() as display:
            instance = o.load(name, display)
            try:
                if not isinstance(instance, DockerContainer):
                    return _show_file(instance, follow or bool(since) or timestamps, tail)
                output = HarmlessOutput()
                stream = instance.tools.logs(follow=follow, tail=tail, since=begin, timestamps=timestamps)
                try:
                    async for chunk in stream:
                        output.write(chunk.stream, chunk.data)
                finally:
                    await stream.aclose()
            finally:
                await instance.release()
        return 0

    run_async(main)


def parse_age(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``2h``, ``1d``.

    Raises:
        InvalidInput: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise InvalidInput(f"{text!r} is no length of time", hint="Write 90s, 10m, 2h or 1d.")
    return float(found[1]) * _UNITS[found[2]]


def _show_file(instance: BridgedInstance, more: bool, tail: int | None) -> int:
    if more:
        raise InvalidInput("a local agent's log is a file, without --follow and times", instance=instance.name)
    path = instance.agent_log
    lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
    shown = lines if tail is None else lines[max(0, len(lines) - tail) :]
    sys.stdout.write(shown_on(sys.stdout, "".join(shown)))
    return 0
