"""What a Claude Code and all that it has started use of the memory, measured."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from ..bridge.connection import Connection, this_program
from ..instances.bridged import BridgedInstance
from ..protocol.link import Link

if TYPE_CHECKING:
    from ..instances.contained_instance import ContainedInstance

__all__ = ["memory_of", "used_by_tree"]

#: Seconds for an agent to say its process, or for an engine to count.
_LIMIT = 5.0

#: Processes of one tree that are looked at.
_MOST_PROCESSES = 500


async def memory_of(instance: BridgedInstance) -> int | None:
    """Bytes; None: nobody can say. Nothing is started for it.

    A container is counted by its engine, all that is in it; another one by the proportional set sizes of its processes.

    Raises:
        BridgeError: it does not run, or cannot be reached.
    """
    with anyio.move_on_after(_LIMIT):
        if instance.record.is_contained:
            return (await (await cast("ContainedInstance", instance).get_tools()).usage()).memory or None
        connection = await Connection.open(
            Link(host=this_program(), looks=True), instance.connect_to_look, instance.name
        )
        await connection.aclose()
        if pid := connection.hello.pid:
            return await anyio.to_thread.run_sync(used_by_tree, pid) or None
    return None


def used_by_tree(pid: int) -> int:
    """Bytes that a process and those that it has started use, what they share with others counted in part.

    See proc(5), smaps_rollup: one line ``Pss``, in kB.
    """
    used, found, at = 0, [pid], 0
    while at < len(found) <= _MOST_PROCESSES:
        used += _proportional_set_size(found[at])
        found += _children(found[at])
        at += 1
    return used


def _proportional_set_size(pid: int) -> int:
    with suppress(OSError, ValueError):  # it has just ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError, ValueError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found
