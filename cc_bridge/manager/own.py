"""This installation's containers, which are known by their labels. No others are touched."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..engine.containers import ContainerInfo, Containers, ContainerSummary
from ..engine.labels import LABEL
from ..errors import ContainerNotFound, EngineError
from ..state import Installation

__all__ = ["OwnContainers", "this_process"]


class OwnContainers:
    """The containers of one installation on one engine."""

    def __init__(self, containers: Containers, installation: Installation) -> None:
        self._containers = containers
        self._installation = installation

    @property
    def install(self) -> str:
        """The installation's id."""
        return self._installation.id

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything that this installation creates."""
        return {f"{LABEL}.install": self.install}

    async def inspect(self, name: str) -> ContainerInfo:
        """Inspect one of this installation's containers.

        Raises:
            ContainerNotFound: there is none of this name.
            EngineError: it belongs to another installation or program.
        """
        info = await self._containers.inspect(name)
        if not self.owns(info.labels):
            hint = "Only what cc-bridge has made here is touched; for other containers use Docker's own command."
            raise EngineError(f"the container {name} is not of this installation", hint=hint)
        return info

    async def find(self, name: str) -> ContainerInfo | None:
        """As :meth:`inspect`; None: there is none of this name."""
        try:
            return await self.inspect(name)
        except ContainerNotFound:
            return None

    def owns(self, labels: Mapping[str, str]) -> bool:
        """Whether something with these labels belongs to this installation."""
        install, instance, project = (labels.get(f"{LABEL}.{key}", "") for key in ("install", "instance", "project"))
        return self._installation.owns(install, instance=instance, project=project)

    async def labelled(self, labels: Mapping[str, str]) -> Sequence[ContainerSummary]:
        """This installation's containers with these labels, newest first."""
        found: list[ContainerSummary] = []
        for install in filter(None, (self.install, self._installation.earlier)):
            found += await self._containers.labelled({f"{LABEL}.install": install, **labels})
        return [item for item in found if self.owns(item.labels)]

    async def of_project(self, project: str = "") -> Sequence[ContainerSummary]:
        """This installation's containers, or those of one of its projects."""
        return await self.labelled({f"{LABEL}.project": project} if project else {})

    async def oldest(self, project: str, kind: str) -> ContainerInfo | None:
        """The oldest usable container for this purpose, which all programs use."""
        found = []
        for item in await self.labelled({f"{LABEL}.project": project, f"{LABEL}.type": kind}):
            with suppress(ContainerNotFound):
                found.append(await self._containers.inspect(item.id))
        usable = [info for info in found if info.status not in ("removing", "dead")]
        return min(usable, key=lambda info: (info.created, info.id), default=None)

    async def orphans(self, instances: Collection[str]) -> Sequence[ContainerSummary]:
        """Containers of instances that are not in ``instances``, and of commands whose program is gone.

        Commands' containers that are to be kept are not among them.
        """
        found = []
        for item in await self._containers.labelled(self.labels):  # without 0.1.0's, which may be another machine's
            kind, instance = item.labels.get(f"{LABEL}.type", ""), item.labels.get(f"{LABEL}.instance", "")
            if (instance and instance not in instances) or (kind == "command" and not _owner_lives(item.labels)):
                found.append(item)
        return found


def this_process() -> str:
    """Identify this process, so that others can tell whether it is alive: host, pid and start time."""
    return f"{os.uname().nodename}:{os.getpid()}:{_started(os.getpid())}"


def _owner_lives(labels: Mapping[str, str]) -> bool:
    machine, _, process = labels.get(f"{LABEL}.owner", "").partition(":")
    number, _, started = process.partition(":")
    if machine != os.uname().nodename:
        return True  # another machine's processes cannot be seen
    return number.isdigit() and _started(int(number)) == started


def _started(process: int) -> str:
    """A process's start time in clock ticks since boot (proc(5)); empty: there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
