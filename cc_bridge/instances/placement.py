"""Where Swarm runs an instance's service, and having it run."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import anyio

from ..bridge.surroundings import Ending
from ..engine.labels import LABEL
from ..engine.node_engines import NodeEngines
from ..engine.services import ServiceInfo, Services, TaskInfo
from ..engine.swarm import TRIES
from ..errors import (
    ContainerNotFound,
    ContainerNotRunning,
    EngineError,
    NameConflict,
    PlacementFailed,
    SwarmConflict,
)
from ..logs import Log
from .task_container import ending_of_task

__all__ = ["Placement"]

#: Seconds before the manager is asked again about a node, where it did not answer.
_PAUSE = 1.0

#: How often one that may be too many for its project is tried, and names that are shown then.
_BEGINS, _SHOWN = 5, 5


class Placement:
    """One service of one replica.

    Args:
        service: its name.
        instance: the instance's name.
        install: the installation that has made it, if no other's is meant; empty: any.
        project, most: it is run only while fewer others of its project are; 0: no limit.

    Attributes:
        nodes: with their engines.
    """

    def __init__(
        self,
        nodes: NodeEngines,
        service: str,
        instance: str,
        install: str,
        log: Log,
        *,
        project: str = "",
        most: int = 0,
    ) -> None:
        self.nodes = nodes
        self._services = Services(nodes.manager)
        self._service = service
        self._instance = instance
        self._install = install
        self._log = log
        self._project = project
        self._most = most

    async def own(self) -> ServiceInfo | None:
        """The service; None: there is none.

        Raises:
            NameConflict: there is one of its name that is not the instance's.
        """
        service = await self._services.find(self._service)
        if service is None:
            return None
        labels = service.labels
        is_ours = labels.get(f"{LABEL}.install") == self._install or not self._install
        if not is_ours or labels.get(f"{LABEL}.instance") != self._instance:
            what = f"a service named {self._service} exists and is not this instance's"
            raise NameConflict(what, instance=self._instance)
        return service

    async def want(self, service: ServiceInfo, before: str) -> Ending | None:
        """Swarm is to run a task of it. What is known of how the last one has ended; None: nothing, or it runs.

        Args:
            service: as it was seen before this, and not since.
            before: the id of the task that was connected to last; empty: none.

        Raises:
            SwarmConflict: somebody else changes the service again and again.
            ContainerNotFound: there is none any more.
            PlacementFailed: so many of its project run already.
        """
        for last in [False] * (TRIES - 1) + [True]:
            try:
                return await self._want(service, before)
            except SwarmConflict:
                if last:
                    raise
                service = await self._services.inspect(service.name)
        raise AssertionError("every way out of the loop is above")

    async def _want(self, service: ServiceInfo, before: str) -> Ending | None:
        if service.replicas == 0:
            await self._begin(service)
            return Ending("the service was stopped")
        tasks = await self._services.tasks(service.name)
        last = next((task for task in tasks if task.id == before), None)
        ending = None
        if last is not None and not last.is_running:
            ending = ending_of_task(last, await self._trouble_of(last.node))
        if tasks and not any(task.is_wanted for task in tasks):
            ending = ending_of_task(tasks[0], "")
            # As it was before these tasks were seen: where another program has it run meanwhile, that one's task stays.
            await self._services.update(service, force=True)
        return ending

    async def _begin(self, service: ServiceInfo) -> None:
        """Scale it up, as it was seen, where its project may have one more.

        Who finds that others have begun at the same moment takes it back, and looks again after a while.
        """
        for pause in [*_pauses(), None] if self._most else [None]:
            try:
                await self._check_project(service.name)
                with anyio.CancelScope(shield=True):  # else nobody would know whose it is
                    await self._services.update(service, replicas=1)
                    try:
                        await self._check_project(service.name)
                    except BaseException:  # whatever it is goes on: what was begun is taken back
                        pause = pause if await self._is_taken_back(service.name) else None
                        raise
                return
            except PlacementFailed:
                if pause is None:
                    raise
            await anyio.sleep(pause)  # back-off: those who have begun at once may have taken it back
            service = await self._services.inspect(service.name)
            if service.replicas:
                return  # somebody else has begun it

    async def _check_project(self, service: str) -> None:
        if not self._most:
            return
        found = await self._services.labelled({f"{LABEL}.type": "service", f"{LABEL}.project": self._project})
        others = [other for other in found if other.replicas and other.name != service]
        if len(others) >= self._most:
            names = ", ".join(other.labels.get(f"{LABEL}.instance", other.name) for other in others[:_SHOWN])
            what = f"the project {self._project} may have {self._most} in this swarm, and has {names}"
            hint = "`cc-bridge stop` one of them, or say a larger most_in_project."
            raise PlacementFailed(what, instance=self._instance, hint=hint)

    async def until_running(self, limit: float, *, full_limit: float, is_new: bool) -> TaskInfo:
        """A task that runs, as far as Swarm knows.

        Args:
            limit: seconds. full_limit: where no node has room for what it reserves, if that is less.
            is_new: the service is removed where this fails.

        Raises:
            PlacementFailed: there is none.
        """
        try:
            return await self._services.until_running(self._service, limit, full_limit=full_limit)
        except PlacementFailed as error:
            if not is_new:
                await self._services.scale(self._service, 0)  # Swarm would try it for ever
            why, of = error.what, self._instance
            raise PlacementFailed(why, instance=of, pending=error.pending, full=error.full) from error

    async def tasks(self) -> list[TaskInfo]:
        """Those of the service, the newest first."""
        return await self._services.tasks(self._service)

    async def running(self) -> TaskInfo:
        """The task that runs now.

        Raises:
            ContainerNotFound: there is no service.
            ContainerNotRunning: nothing of it runs.
        """
        if await self.own() is None:
            raise ContainerNotFound(f"there is no service {self._service}", instance=self._instance)
        tasks = await self.tasks()
        for task in tasks:
            if task.is_running:
                return task
        why = f": {tasks[0].state}, {tasks[0].why}" if tasks and tasks[0].is_wanted else ""
        raise ContainerNotRunning(f"the service {self._service} runs at no node{why}", instance=self._instance)

    async def stop(self, limit: float) -> None:
        """Scale to 0, and wait until nothing of it runs, as far as its node answers, for so many seconds."""
        await self._services.scale(self._service, 0)
        silent = {node.id for node in await self.nodes.nodes.list() if not node.is_ready}
        if not await self._services.until_over(self._service, limit, but_at=silent):
            self._log.warning("tasks_not_ended", service=self._service)

    def until_gone(self, node: str) -> Callable[[], Awaitable[None]]:
        """What returns when a node is not ready any more."""

        async def until_gone() -> None:
            while True:
                try:
                    await self.nodes.nodes.until_down(node)
                except ContainerNotFound:
                    pass
                except EngineError as error:
                    self._log.warning("node_not_watched", node=node, reason=error.what)
                    await anyio.sleep(_PAUSE)  # back-off: the manager cannot be asked
                    continue
                self._log.warning("node_gone", node=node)
                return

        return until_gone

    async def _is_taken_back(self, service: str) -> bool:
        try:
            await self._services.scale(service, 0)
        except EngineError as error:
            self._log.error("not_taken_back", service=service, reason=error.what)
            return False
        return True

    async def _trouble_of(self, node: str) -> str:
        """A node that is not ready: its name, and what it is."""
        with suppress(EngineError):
            found = await self.nodes.nodes.inspect(node)
            return "" if found.is_ready else f"{found.hostname} is {found.state}"
        return f"{node} has left the swarm"


def _pauses() -> Iterator[float]:
    """Others have others, so that not all look again at the same moment."""
    for number in range(1, _BEGINS):
        yield (0.1 + secrets.randbelow(100) / 1000) * number
