"""The place of a lease's note in a swarm: a label of the instance's service, which restarts no task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio

from ..engine.client import Engine
from ..engine.labels import LABEL
from ..engine.nodes import watch_swarm
from ..engine.services import ServiceInfo, Services
from ..errors import ContainerNotFound, EngineError, SwarmConflict

__all__ = ["NOTE", "ServiceNote"]

#: The label.
NOTE = f"{LABEL}.lease"

#: Seconds before a manager is asked for its events again, where it has ended them.
_PAUSE = 0.5


class ServiceNote:
    """See :class:`~cc_bridge.cluster.lease.NotePlace`; the version is the service's version index.

    Args:
        engine: a manager's.
        find: the service, unless somebody else's has its name; None: there is none.
        make: makes it, with no task.
    """

    def __init__(
        self,
        engine: Engine,
        find: Callable[[], Awaitable[ServiceInfo | None]],
        make: Callable[[], Awaitable[object]],
    ) -> None:
        self._engine, self._find, self._make = engine, find, make
        self._seen: ServiceInfo | None = None

    async def read(self) -> tuple[str, int] | None:
        """See the contract."""
        self._seen = await self._find()
        return (self._seen.labels.get(NOTE, ""), self._seen.version) if self._seen is not None else None

    async def make(self) -> None:
        """See the contract."""
        await self._make()

    async def write(self, text: str, version: int) -> bool:
        """See the contract. What is written beside the label is what was read with it."""
        seen = self._seen
        if seen is None or seen.version != version:
            return False
        try:
            await Services(self._engine).update(seen, labels={**seen.labels, NOTE: text})
        except (SwarmConflict, ContainerNotFound):
            return False
        return True

    async def wait(self, version: int, limit: float) -> None:
        """See the contract: woken by the manager's events."""
        with anyio.move_on_after(limit):
            while True:
                try:
                    async with aclosing(watch_swarm(self._engine, "service")) as events:
                        async for event in events:
                            if await self._is_other(event, version):
                                return
                except EngineError:
                    pass  # who reads next is told, or the manager is there again
                await anyio.sleep(_PAUSE)  # back-off: the manager has ended the stream

    async def _is_other(self, event: Mapping[str, Any], version: int) -> bool:
        about = event.get("Actor") or {}
        if event and self._seen is not None and about.get("ID") != self._seen.id:
            return False
        found = await self._find()
        return found is None or found.version != version
