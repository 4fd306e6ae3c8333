"""The container of a service's task, at the engine of its node."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import anyio

from ..bridge.surroundings import Ending
from ..channels.base import Channel
from ..channels.ladder import Facts
from ..engine.archives import Archives, tar_of_directory
from ..engine.client import Engine
from ..engine.containers import Containers
from ..engine.execs import Execs
from ..engine.services import TaskInfo
from ..engine.streams import Demultiplexer, read_chunks
from ..errors import AgentUnavailable, ContainerNotFound, ContainerNotRunning, EngineError
from ..logs import Log
from .container_agent import LISTENING, NO_PYTHON, AgentInside
from .service_plan import WAITING, ServicePlan

__all__ = ["TaskContainer", "ending_of_task"]

#: Seconds for the agent to listen, once it is let go.
_START_LIMIT = 60.0

#: Seconds for what is left to read of one that has ended.
_LAST_WORDS = 1.0

#: Bytes at the beginning of a log in which its words are; where they are not, it has begun anew since.
_KEPT = 65536

#: Exit code above which it is 128 + the number of a signal.
_KILLED = 128


class TaskContainer:
    """One task's container, and the agent in it.

    Args:
        engine: of the node.
        archive: finds the agent on this machine.

    Attributes:
        agent: the one in the container.
    """

    def __init__(
        self, engine: Engine, task: TaskInfo, plan: ServicePlan, archive: Callable[[], Path], log: Log
    ) -> None:
        self.engine = engine
        self.task = task
        self.execs = Execs(engine)
        self._plan = plan
        self._log = log
        self.agent = AgentInside(self.execs, task.container, plan.record, archive, log)

    @property
    def id(self) -> str:
        """The container's."""
        return self.task.container

    async def attach(self, greeting: bytes) -> Channel | None:
        """An attached exec that an agent has answered; None: no agent serves, or none can (``agent.python_missing``).

        Raises:
            ContainerNotRunning, AgentUnavailable, EngineError: as they say.
        """
        return await self.agent.attach(greeting, Facts())

    async def ends(self, limit: float) -> bool:
        """Wait until its engine says that it has ended; False: it says after ``limit`` seconds that it runs.

        Raises:
            EngineError: it does not say anything.
        """
        containers = Containers(self.engine)
        try:
            # An engine that is silent while one waits may be one that does not answer: only what it says is an answer.
            return await containers.wait(self.id, "not-running", limit) or not (await containers.inspect(self.id)).pid
        except ContainerNotFound:
            return True

    async def let_go(self, before: Callable[[TaskContainer], Awaitable[None]] | None = None) -> None:
        """Give the container what it needs, and let its main process begin; return when the agent listens.

        It begins once, whoever lets it go, and as often as it is.

        Args:
            before: awaited when all is there but what only the caller has; not where the agent listens already.

        Raises:
            ContainerNotRunning: it has ended.
            AgentUnavailable: no agent listens in time.
            EngineError: of the kind that fits.
        """
        containers = Containers(self.engine)
        fd, early = await containers.attach(self.id, stdin=True, logs=True)
        seen, was_let_go = b"", False
        try:
            # The engine may never end the connection to a container that had ended when it was made.
            runs = (await containers.inspect(self.id)).pid != 0
            with anyio.move_on_after(_START_LIMIT if runs else _LAST_WORDS) as waited:
                async with aclosing(read_chunks(fd, early, Demultiplexer())) as chunks:
                    async for chunk in chunks:
                        seen += chunk.data
                        if LISTENING.encode() in seen or NO_PYTHON.encode() in seen:
                            self.agent.python_missing = NO_PYTHON.encode() in seen
                            return
                        if WAITING.encode() in seen and not was_let_go:
                            await self._fill()
                            if before is not None and not await self.agent.answers():
                                await before(self)
                            await anyio.wait_writable(fd)
                            try:
                                os.write(fd, b"go\n")
                            except OSError:
                                break  # it has ended, or its node has, while it was filled
                            was_let_go = True
                        if len(seen) > _KEPT and not was_let_go:
                            return
                        seen = seen[-_KEPT:]
        finally:
            os.close(fd)
        if runs and waited.cancelled_caught:
            what = f"no agent listens in the container {self.id[:12]} within {_START_LIMIT:g} s"
            raise AgentUnavailable(what, instance=self._plan.record.name)
        raise ContainerNotRunning(f"the container {self.id[:12]} has ended: {seen[-500:].decode('utf-8', 'replace')}")

    async def _fill(self) -> None:
        """Before anything runs in it: its volumes are its user's, and one that is to have no network has none."""
        archives, plan = Archives(self.engine), self._plan
        for path in plan.owned:
            await self._give(archives, path)
        if plan.record.workspace_volume and not plan.record.read_only_workspace:
            can = await self.execs.run(self.id, ["test", "-w", plan.record.mount_at])
            if can.exit_code:
                await self._give(archives, plan.record.mount_at)
        if not plan.has_network:
            await self._cut_off()

    async def _give(self, archives: Archives, path: str) -> None:
        """A volume's directory to its user. An engine passes over an archive's ``.``, and not over its ``/``."""
        with tar_of_directory("/", *self._plan.owner) as archive:
            await archives.put(self.id, path, archive)

    async def _cut_off(self) -> None:
        """Take its networks away.

        Raises:
            EngineError: it would have one left.
        """
        client = await self.engine.client()
        containers = Containers(self.engine)
        for name in (await containers.inspect(self.id)).networks:
            shown = ("network", "disconnect", "--force", name, self.id)
            await self.engine.call(client.api.disconnect_container_from_network, self.id, name, force=True, shown=shown)
        if left := (await containers.inspect(self.id)).networks:
            raise EngineError(f"the container {self.id[:12]} is still in the network {', '.join(left)}")


def ending_of_task(task: TaskInfo, node: str) -> Ending:
    """What is known of a task that is not the service's any more.

    Args:
        node: the hostname of its node, and what is wrong with it, where something is; empty: nothing.
    """
    code = task.exit_code
    if node and not task.is_over:
        return Ending(f"its node {node}")
    if task.state == "complete":
        return Ending("the container was stopped", code)
    if code is not None and code > _KILLED:
        return Ending(f"the container was ended by signal {code - _KILLED}", code)
    if task.state == "failed":
        return Ending(f"the container failed: {task.why}", code)
    return Ending("the container was ended by Swarm, which runs it anew", code)
