"""The note of a lease in a label of the instance's service, whose version index compares and swaps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import anyio

from ..engine.client import Engine
from ..engine.labels import LABEL
from ..engine.nodes import watch_swarm
from ..engine.services import ServiceInfo, Services
from ..errors import ContainerNotFound, SwarmConflict

__all__ = ["LEASE", "ServiceNote"]

#: The label, of the service and not of its containers: a change of it restarts nothing.
LEASE = f"{LABEL}.lease"

#: Seconds before the note is looked at again, where the manager has ended its events.
_PAUSE = 0.5


class ServiceNote:
    """See :class:`.lease.NotePlace`.

    Args:
        manager: a manager's engine.
        find: finds the service; None: there is none.
        make: makes it, without a task.
    """

    def __init__(
        self,
        manager: Engine,
        find: Callable[[], Awaitable[ServiceInfo | None]],
        make: Callable[[], Awaitable[object]],
    ) -> None:
        self._manager = manager
        self._services = Services(manager)
        self._find = find
        self._make = make
        self._seen: ServiceInfo | None = None

    async def read(self) -> tuple[str, int] | None:
        """See :class:`.lease.NotePlace`."""
        self._seen = await self._find()
        return (self._seen.labels.get(LEASE, ""), self._seen.version) if self._seen else None

    async def make(self) -> None:
        """See :class:`.lease.NotePlace`."""
        await self._make()

    async def write(self, text: str, version: int) -> bool:
        """See :class:`.lease.NotePlace`."""
        seen = self._seen
        if seen is None or seen.version != version:
            return False
        try:
            self._seen = await self._services.update(seen, labels={**seen.labels, LEASE: text})
        except (SwarmConflict, ContainerNotFound):
            return False
        return True

    async def wait(self, version: int, limit: float) -> None:
        """See :class:`.lease.NotePlace`."""
        with anyio.move_on_after(limit):
            async with aclosing(watch_swarm(self._manager, "service")) as events:
                async for _ in events:
                    seen = await self._find()
                    if seen is None or seen.version != version:
                        return
            await anyio.sleep(_PAUSE)  # back-off: the manager has ended the stream
