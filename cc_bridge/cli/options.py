"""Parameters that many verbs share, and the instance of a name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio.to_thread

from ..errors import InvalidInput
from .completion import complete_name
from .parameters import Argument, Option

if TYPE_CHECKING:
    from ..dockerfiles import OnDockerfile
    from ..instance import OnPermission
    from ..instances.bridged import BridgedInstance
    from ..instances.contained_instance import ContainedInstance
    from ..record import ClaudeInstance
    from .display import Display

__all__ = ["Json", "Name", "Names", "Timeout", "asks_about_dockerfiles", "instance_of", "load", "load_contained"]

Name = Annotated[str, Argument(metavar="NAME", help="The instance.", complete=complete_name)]
Names = Annotated[list[str], Argument(metavar="NAME…", help="Instances.", complete=complete_name)]
Json = Annotated[bool, Option("--json", help="JSON on stdout, for programs.")]
Timeout = Annotated[
    float | None,
    Option("--timeout", metavar="S", min=0.001, help="Interrupt the turn after S seconds; exit 124."),
]


def instance_of(
    record: ClaudeInstance, display: Display, on_permission: OnPermission | None = None, permission_limit: float = 300.0
) -> BridgedInstance:
    """The instance for a record, which shows its progress and asks about Dockerfiles."""
    from ..instances import factory

    return factory.instance_of(
        record,
        on_progress=display.progress,
        on_dockerfile=asks_about_dockerfiles(display),
        on_permission=on_permission,
        permission_limit=permission_limit,
    )


def asks_about_dockerfiles(display: Display) -> OnDockerfile | None:
    """Shows a Dockerfile that Claude Code may have written, and asks whether to build it; None: nobody is there."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    async def ask(path: Path, text: str) -> bool:
        display.note(f"{path} has appeared or changed since Claude Code could write there. It says:")
        display.note("")
        for line in text.split("\n"):  # as a builder does: any other character is shown
            display.note(f"    {line}")
        display.note("")
        print("Build it, as root and with network? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        return answer.strip().lower() in ("y", "yes")

    return ask


def load_contained(name: str, display: Display) -> ContainedInstance:
    """The same, for verbs that need a container.

    Raises:
        InvalidInput: it has none.
    """
    from ..instances.contained_instance import ContainedInstance

    instance = load(name, display)
    if not isinstance(instance, ContainedInstance):
        raise InvalidInput(f"it is a {instance.record.kind} instance, and has no container", instance=name)
    return instance


def load(
    name: str, display: Display, on_permission: OnPermission | None = None, permission_limit: float = 300.0
) -> BridgedInstance:
    """The instance that is kept under this name.

    Raises:
        InstanceNotFound: there is none.
    """
    from ..instances.registry import Registry

    return instance_of(Registry().load(name), display, on_permission, permission_limit)
