"""Options for instances of a Docker Swarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from ..errors import InvalidInput
from .parameters import Option

__all__ = [
    "Constraint",
    "ReserveCpus",
    "ReserveMemory",
    "Spread",
    "Swarm",
    "VolumeDriver",
    "VolumeOption",
    "WorkspaceVolume",
    "parse_volume_options",
]

Swarm = Annotated[bool, Option("--swarm", help="In a service of a Docker Swarm: the same as --on swarm.")]
Constraint = Annotated[
    list[str] | None,
    Option("--constraint", metavar="WHAT==VALUE", help="Swarm: only at nodes that are so. Repeatable."),
]
Spread = Annotated[
    list[str] | None,
    Option("--spread", metavar="WHAT", help="Swarm: spread over this first, such as node.labels.rack. Repeatable."),
]
ReserveMemory = Annotated[
    str, Option("--reserve-memory", metavar="SIZE", help="Swarm: memory that its node must have free for it.")
]
ReserveCpus = Annotated[
    float, Option("--reserve-cpus", metavar="N", min=0, help="Swarm: processors that its node must have free for it.")
]
WorkspaceVolume = Annotated[
    str, Option("--workspace-volume", metavar="NAME", help="Swarm: it works in this volume, which stays.")
]
VolumeDriver = Annotated[
    str, Option("--volume-driver", metavar="NAME", help="Swarm: what makes its volumes, at whichever node.")
]
VolumeOption = Annotated[
    list[str] | None,
    Option("--volume-option", metavar="K=V", help="Swarm: for that driver; {volume} is its name. Repeatable."),
]


def parse_volume_options(assignments: Sequence[str]) -> dict[str, str]:
    """``K=V`` each.

    Raises:
        InvalidInput: one is not.
    """
    for assignment in assignments:
        if not assignment.partition("=")[1]:
            raise InvalidInput(f"--volume-option {assignment}: it is to be NAME=VALUE")
    return {name: value for name, _, value in (assignment.partition("=") for assignment in assignments)}
