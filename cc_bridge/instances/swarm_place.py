"""A service of a Docker Swarm: its container is at whichever node, and reached by that node's engine."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import anyio

from ..bridge.surroundings import Ending
from ..bridge.this_program import this_program
from ..channels.base import Channel
from ..channels.named_pipe import NobodyListens
from ..cluster.lease import TTL, Lease
from ..cluster.service_note import ServiceNote
from ..engine.client import Engine
from ..engine.container_spec import CONTAINER_HOME
from ..engine.containers import Containers
from ..engine.node_engines import NodeEngines, engine_at
from ..engine.progress import Progress
from ..engine.services import ServiceInfo, TaskInfo
from ..errors import (
    AgentUnavailable,
    ConnectionLost,
    ContainerNotFound,
    ContainerNotRunning,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    InvalidInput,
)
from ..record import ClaudeInstance
from ..shapes import Kind
from ..state import Installation, write_whole
from .contained_place import ContainedPlace
from .container_agent import STATE, AgentInside
from .container_facts import facts_of
from .container_plan import ContainerPlan
from .container_sessions import archives_of, tail_of_session
from .conversation_copy import ConversationCopy
from .kept_record import change_image
from .node_channel import NodeChannel
from .outside import check_outside
from .place import GRACE, NoAgentPossible
from .placement import Placement
from .registry import Registry
from .service_maker import ServiceMaker
from .service_plan import ServicePlan, service_name
from .sessions import LARGEST, session_path, session_to_begin_with
from .task_container import TaskContainer
from .task_copy import copy_of_task

if TYPE_CHECKING:
    import docker

__all__ = ["SwarmPlace", "swarm_place_of"]

#: Seconds for Swarm to have a task run and for its node to answer: what a node's death takes to be noticed is in it.
_PLACE_LIMIT = 90.0

#: Seconds for a service's tasks to have ended.
_END_LIMIT = GRACE + 25

#: Seconds between two tries to reach a task, of which Swarm may not know yet that it has gone.
_PAUSES = (0.1, 0.3, 1.0)

#: Names a directory for copies of conversations that several machines see, whose programs drive one swarm.
_SHARED = "CC_BRIDGE_CONVERSATIONS"

#: What says that a task is not where Swarm had it last.
_NOT_THERE = (EngineUnavailable, EngineTimeout, ContainerNotFound, ContainerNotRunning)


class SwarmPlace(ContainedPlace):
    """A service of one replica, made on first use, which Swarm places anew when its node has gone.

    Args:
        client: a manager's; see :class:`~cc_bridge.SwarmService`.
        on_progress: see :class:`~cc_bridge.SwarmService`.

    Attributes:
        owns_engine: it is closed with this object.
        full_limit: seconds to wait for room at a node, for who can make some.
        containers: to how many it was connected, one after the other.
    """

    kind: ClassVar[Kind] = "swarm"
    _is_new = _has_made = False

    lease: Lease

    full_limit = _PLACE_LIMIT

    #: Seconds; the same for all programs.
    lease_ttl: ClassVar[float] = TTL

    def __init__(
        self,
        record: ClaudeInstance,
        registry: Registry,
        client: docker.DockerClient | Engine | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> None:
        super().__init__(record, registry)
        self.owns_engine = not isinstance(client, Engine)
        self.engine = client if isinstance(client, Engine) else Engine(client)
        self._nodes = NodeEngines.by(self.engine)
        self._install = Installation.at(registry.root).id_for(self.name)
        self._on_progress = on_progress
        self._task: TaskContainer | None = None  # that was connected to last
        self.containers = 0
        install = "" if record.service else self._install
        who = self.service, self.name, install
        self._placement = Placement(self._nodes, *who, self.log, project=record.project, most=record.most_in_project)
        note = ServiceNote(self.engine, self._placement.own, self._make)
        machine, users = f"{self._install}@{os.uname().nodename}", self.home.path / "lease"
        holder = {"name": self.name, "machine": machine, "host": this_program()}
        self.lease = Lease(note, self.log, users=users, ttl=self.lease_ttl, **holder)
        shared = os.environ.get(_SHARED)
        copies = Path(shared) / self.service if shared else self.home.path / "conversation"
        self._copy = ConversationCopy(copies, self.log)
        self._shares_copies = bool(shared)

    @cached_property
    def _maker(self) -> ServiceMaker:
        return ServiceMaker(self._nodes, self.registry, self.log, on_progress=self._on_progress)

    @property
    def service(self) -> str:
        """The service's name."""
        return self.record.service or service_name(self.name, self._install)

    @property
    def plan(self) -> ServicePlan:
        """What the service is like."""
        return self._plan_of(self.record)

    def _plan_of(self, record: ClaudeInstance) -> ServicePlan:
        like = ContainerPlan(record, self.service, self.home, self._install, None, self.log)
        return ServicePlan(record, self.service, like)

    @property
    def agent(self) -> AgentInside:  # type: ignore[override]
        """The one in the container that was connected to last."""
        assert self._task is not None
        return self._task.agent

    # The way to the agent

    async def connect(self, greeting: bytes) -> Channel:
        """Have the service and a task of it run, wherever that is, and attach to the agent in it.

        Who does not hold the lease may only read on, and comes to what runs; where nothing does, the lease is taken.

        Raises:
            PlacementFailed: Swarm runs it nowhere; its reason is in it.
            EngineUnavailable: its node cannot be reached from here.
        """
        if self.lease.fence is not None:
            return await self._connect(greeting)
        with suppress(AgentUnavailable, *_NOT_THERE):
            found, channel = await self._look(greeting)
            self._use(found)
            return channel
        async with self.lease.held(_PLACE_LIMIT):
            return await self._connect(greeting)

    async def _connect(self, greeting: bytes) -> Channel:
        deadline = anyio.current_time() + _PLACE_LIMIT
        for pause in _pauses():
            await self._want()
            limit = max(1.0, deadline - anyio.current_time())
            task = await self._placement.until_running(limit, full_limit=self.full_limit, is_new=self.is_new)
            try:
                return await self._join(task, greeting)
            except _NOT_THERE as error:
                # Swarm hears of a node's or a container's end seconds later.
                self.log.warning("task_not_reached", task=task.id, node=task.node, reason=error.what)
                if anyio.current_time() > deadline:
                    raise
            await anyio.sleep(pause)  # back-off: of tasks there are no events
        raise AssertionError("pauses go on for ever")

    async def _want(self) -> None:
        """Swarm is to run it; how the last task has ended is noted."""
        service, was_there = await self._placement.own(), True
        if service is None:
            service, was_there = await self._make(), False
        ending = await self._placement.want(service, self._task.task.id if self._task else "")
        if not was_there and not self.is_new:
            ending = Ending("the service was removed")
        if ending is not None and not self.is_new:
            self._ending = ending

    @property
    def is_new(self) -> bool:
        """See ``Place``. A service that was there is not removed because a start of this machine's has failed."""
        return self._is_new and self._has_made

    @is_new.setter
    def is_new(self, is_new: bool) -> None:
        self._is_new = is_new

    async def _make(self) -> ServiceInfo:
        """Make the service, without a task."""
        await self.check()
        self._has_made = True
        return await self._maker.make(self.plan)

    async def _join(self, task: TaskInfo, greeting: bytes) -> Channel:
        """Attach to the agent in a task's container; the main process of a new one is let go before."""
        found = await self._at(task)
        known = task.container == self._joined
        if not known:
            await found.let_go(self._restore)
        channel = await found.attach(greeting)
        if channel is None and known and not found.agent.python_missing:
            await found.let_go()
            channel = await found.attach(greeting)
        if channel is None and not found.agent.python_missing:
            raise ContainerNotRunning(f"no agent answers in the container {task.container[:12]}")
        if channel is None:
            channel = found.agent.none(greeting)
        self._use(found)
        if not known:
            self.log.info("task_joined", service=self.service, task=task.id, node=task.node)
            self._remember(task.container)  # raises nothing: nobody else has the channel
        return NodeChannel(channel, self._placement.until_gone(task.node))

    @property
    def _joined(self) -> str:
        """The container that was let go last, as far as this machine knows."""
        with suppress(OSError):
            return (self.home.path / "container").read_text(errors="replace")
        return ""

    def _remember(self, container: str) -> None:
        try:
            write_whole(self.home.path / "container", container.encode())
            write_whole(self.home.path / "manager", self.engine.address.encode())
        except FileNotFoundError:  # the instance is being removed
            pass
        except OSError as error:  # the disk is full, say: the next program lets it go again
            self.log.warning("container_not_noted", reason=error.strerror)

    async def way(self, greeting: bytes) -> Channel:
        """As :meth:`way_to_look`: this machine has no way of its own."""
        return await self.way_to_look(greeting)

    async def way_to_look(self, greeting: bytes) -> Channel:
        """An attached exec, in a container that runs."""
        return (await self._look(greeting))[1]

    async def _look(self, greeting: bytes) -> tuple[TaskContainer, Channel]:
        try:
            found = await self.find()
            channel = await found.attach(greeting)
        except (ContainerNotFound, ContainerNotRunning) as error:
            raise NobodyListens(error.what, instance=self.name) from error
        if found.agent.python_missing:
            raise NoAgentPossible(f"the container of {self.service} has no Python", instance=self.name)
        if channel is None:
            raise NobodyListens(f"no agent answers in the container of {self.service}", instance=self.name)
        return found, NodeChannel(channel, self._placement.until_gone(found.task.node))

    def _use(self, found: TaskContainer) -> None:
        """What comes of the conversation from here on is of this container."""
        if self._task is None or self._task.id != found.id:
            self.containers += 1
        self._task = found

    async def until_agent_ends(self) -> None:
        """Return when the task that runs now has ended; at once where none runs."""
        with suppress(ContainerNotFound, ContainerNotRunning):
            found = await self.find()
            while not await Containers(found.engine).wait(found.id, "not-running", 3600.0):
                pass

    # The service

    async def find(self) -> TaskContainer:
        """The container that runs now. Nothing is started for it.

        Raises:
            ContainerNotFound, ContainerNotRunning: there is no service, or nothing of it runs.
            EngineError: its node cannot be reached.
        """
        return await self._at(await self._placement.running())

    async def _at(self, task: TaskInfo) -> TaskContainer:
        engine = await self._placement.nodes.of(task.node)
        return TaskContainer(engine, task, self.plan, lambda: self._maker.agent, self.log)

    async def is_running(self) -> bool:
        """A task runs, and an agent in it answers."""
        try:
            return await (await self.find()).agent.answers()
        except (ContainerNotFound, ContainerNotRunning):
            return False

    async def stop(self) -> None:
        """Scale to 0, and wait until nothing of it runs, as far as its node answers."""
        if await self._placement.own() is None:
            return
        with suppress(EngineError):  # nothing of it may run, and the last copy is what there is
            self._use(await self.find())
            await self.copy_conversation()
        await self._placement.stop(_END_LIMIT)

    async def change_image(self, image: str) -> None:
        """Have another image from the next task on, once it was stopped; the record says so, too.

        Raises:
            InvalidInput: the image's name cannot be one. EngineError: as it says.
        """
        changed = ClaudeInstance.of(**{**vars(self.record), "image": image})
        await self._maker.change_image(self._placement.own, self._plan_of(changed))
        change_image(self.home, image)

    async def remove(self) -> None:
        """Remove the service, its containers and its own volumes, at each node that can be reached."""
        await self._maker.take_away(self.plan)
        if left := await anyio.to_thread.run_sync(self._copy.remove):
            self.log.warning("conversation_copy_not_removed", reason="; ".join(left[:3]))

    async def check(self) -> None:
        """Its variables, and where its key is outside, the proxy. What is at the nodes, Swarm finds out."""
        if not self.record.key_is_outside:
            self.claude_env()
        check_outside(self.record)
        await self._nodes.nodes.own_id()

    async def release(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self.owns_engine:
            await self.engine.aclose()

    # Conversations

    @property
    def removes_session(self) -> bool:
        """It is in a volume of the service's."""
        return True

    async def keeps_session(self) -> bool:
        """Neither its volumes nor the copy."""
        return False

    async def open_session(self, session_id: str) -> IO[bytes] | None:
        """The session's file, out of the container, or as it was copied last."""
        path = f"{CONTAINER_HOME}/.claude/{session_path(session_id, self.cwd)}"
        with suppress(ContainerNotFound, ContainerNotRunning):
            found = await self.find()
            return await archives_of(found.engine).get_file(found.id, path, LARGEST)
        return await self._copy.open(session_id)

    async def copy_conversation(self, turn_id: str = "", *, ran_there: bool = True) -> str:
        """Copy what is new of it out of the container that was connected to last; the log says if that fails.

        Args:
            turn_id: it is to be in the copy; empty: whatever there is.
            ran_there: it has run in that container, and not in one before.

        Returns:
            Why it is known nowhere else; empty: it is copied, or still there.
        """
        if (found := self._task) is None or found.agent.python_missing:
            return ""
        session = self.home.session_id or self._copy.session_id  # that of another machine's program
        gone = self._placement.until_gone(found.task.node)
        return await copy_of_task(self._copy, found, session, self.cwd, gone, turn_id, ran_there=ran_there)

    def check_copies(self) -> None:
        """What is copied here has to be what it goes on with at its next node.

        Raises:
            InvalidInput: another installation has made it, and this machine does not see that one's copy.
        """
        if self.record.service and not (self._shares_copies and self._copy.session_id):
            what = "another installation has made it, whose copy of the conversation is not seen here, so that a turn"
            what += f" could be lost: do it there, or let {_SHARED} name one directory for all machines"
            raise InvalidInput(what, instance=self.name)

    async def _restore(self, found: TaskContainer) -> None:
        """Before anything runs in a new container, it has what was copied out of the last one."""
        session = self.home.session_id
        if not session and (session := self.session_to_begin_with) not in ("", self._copy.session_id):
            with self.registry.sessions.open(session) as kept:
                await self._copy.begin_with(session, kept)
        await self._copy.restore(found.execs, found.id, session, self.cwd, forget=f"{STATE}/main")

    @property
    def session_to_begin_with(self) -> str:
        """That of the record or of its name's last instance, else the one that another machine's program has copied."""
        return session_to_begin_with(self.record, self.registry.sessions, self.cwd) or self._copy.session_id

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """Read the transcript's tail by a command in the container."""
        try:
            found = self._task or await self.find()
            return await tail_of_session(found.execs, found.id, session_id)
        except (ContainerNotRunning, ContainerNotFound) as error:
            raise ConnectionLost(error.what, instance=self.name) from error

    async def info(self) -> dict[str, Any]:
        """What Swarm knows of the service, and the node's engine of its container."""
        place: dict[str, Any] = {"service": self.service, "image": self.record.image, "node": None, "task": None}
        if await self._placement.own() is None:
            return {**place, "status": "absent"}
        tasks = await self._placement.tasks()
        task = next((task for task in tasks if task.is_running), tasks[0] if tasks else None)
        if task is None:
            return {**place, "status": "stopped"}
        place |= {"status": task.state if task.is_wanted else "stopped", "task": task.id}
        with suppress(EngineError):
            place["node"] = (await self._nodes.nodes.inspect(task.node)).hostname
            if task.is_running:
                about = await Containers(await self._nodes.of(task.node)).inspect(task.container)
                place |= {**facts_of(about), "container": about.name, "image": self.record.image}
        return place


def swarm_place_of(record: ClaudeInstance, registry: Registry) -> SwarmPlace:
    """The place by the manager that it was reached by last, whatever this program's environment says."""
    try:
        url = (registry.home(record.name).path / "manager").read_text()
    except FileNotFoundError:
        return SwarmPlace(record, registry)
    place = SwarmPlace(record, registry, engine_at(url, "its instance's directory"))
    place.owns_engine = True
    return place


def _pauses() -> Any:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]
