"""A Docker container: pipes first, ``docker exec`` when they fail."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, ClassVar

import anyio

from ..bridge.surroundings import Ending
from ..channels.base import Channel
from ..channels.ladder import Facts, Rung, next_rung
from ..channels.named_pipe import NobodyListens
from ..engine.client import Engine
from ..engine.container_spec import CONTAINER_HOME
from ..engine.containers import ContainerInfo, Containers
from ..engine.execs import Execs
from ..engine.labels import LABEL
from ..engine.progress import Progress
from ..errors import (
    AgentUnavailable,
    ConnectionLost,
    ContainerNotFound,
    ContainerNotRunning,
    ContainerStartError,
    EngineError,
    NameConflict,
)
from ..login import login_file
from ..mounts import docker_socket
from ..record import ClaudeInstance
from ..shapes import Kind
from ..state import Installation
from .contained_place import ContainedPlace
from .container_agent import LISTENING, NO_PYTHON, AgentInside
from .container_facts import ending_of, facts_of
from .container_plan import ContainerPlan
from .container_sessions import archives_of, copy_of_session, tail_of_session
from .outside import check_outside
from .place import GRACE, NoAgentPossible
from .registry import Registry
from .repository_mounts import RepositoryMounts
from .sessions import LARGEST, open_session, session_path, session_to_begin_with

if TYPE_CHECKING:
    import docker

    from ..dockerfiles import OnDockerfile
    from .container_maker import ContainerMaker

__all__ = ["ContainerPlace"]

#: Seconds for a container to come up, and for one that is ending to have ended.
_START_LIMIT = 60.0
_END_LIMIT = 5.0

#: Seconds for an agent that listens to answer before its container is looked at: it may be paused.
_AT_ONCE = 1.0

#: How often a container may end while it is being connected to.
_CONNECT_TRIES = 3


class ContainerPlace(ContainedPlace):
    """A container of its own, made on first use and hardened; or an existing one (``record.container``).

    Args:
        client, on_progress, on_dockerfile: see :class:`~cc_bridge.DockerContainer`.
    """

    kind: ClassVar[Kind] = "docker"

    def __init__(
        self,
        record: ClaudeInstance,
        registry: Registry,
        client: docker.DockerClient | Engine | None = None,
        *,
        on_progress: Progress | None = None,
        on_dockerfile: OnDockerfile | None = None,
    ) -> None:
        super().__init__(record, registry)
        self._owns_engine = not isinstance(client, Engine)
        self.engine = client if isinstance(client, Engine) else Engine(client)
        self.execs = Execs(self.engine)
        self._containers = Containers(self.engine)
        self._install = Installation.at(registry.root).id_for(self.name)
        self._on_progress, self._on_dockerfile = on_progress, on_dockerfile
        self._adopted = bool(record.container)
        self.agent = AgentInside(self.execs, self.container, record, lambda: self._maker.agent, self.log)

    @cached_property
    def _maker(self) -> ContainerMaker:
        from .container_maker import ContainerMaker  # one that runs needs nothing of what makes them

        used = self.engine, self._containers, self.registry, self.log
        return ContainerMaker(*used, on_progress=self._on_progress, on_dockerfile=self._on_dockerfile)

    @property
    def container(self) -> str:
        """The container's name."""
        return self.record.container or f"cc-bridge-{self.name}-{self._install}"

    @property
    def plan(self) -> ContainerPlan:
        """What the container is like, where it is ours."""
        return ContainerPlan(self.record, self.container, self.home, self._install, self.worktree(), self.log)

    async def is_running(self) -> bool:
        """The container runs and is not paused, and an agent in it answers where it has one."""
        await self._is_remote()
        try:
            info = await self._containers.inspect(self.container)
        except ContainerNotFound:
            return False
        if not info.running:
            return False
        return await self.hello() is not None or await self.agent.answers()

    # The way to the agent

    async def connect(self, greeting: bytes) -> Channel:
        """Start the container if need be, and take the best way to the agent (channels/ladder.py)."""
        if self._has_pipes:
            with suppress(AgentUnavailable):  # who listens runs: the engine need not be asked
                return await self.pipes(greeting, _AT_ONCE)
        await self._is_remote()
        for _ in range(_CONNECT_TRIES):
            try:
                await self._ensure_running()
            except NameConflict as error:
                self.log.info("made_by_another_program", reason=error.what)
                await anyio.sleep(0.2)  # back-off: its container may not be shown yet, or be on its way out
                continue
            try:
                return await self._descend_ladder(greeting)
            except (ContainerNotRunning, ContainerNotFound) as error:
                # It was ending while we looked; the engine says so only when it has ended.
                self.log.warning("container_ended", reason=error.what)
                if not await self._containers.wait(self.container, "not-running", _END_LIMIT):
                    raise
        raise AgentUnavailable(f"the container {self.container} ends again and again", instance=self.name)

    async def _is_remote(self) -> bool:
        """Its engine may be on another machine: this one's directories are not there, and volumes take their place."""
        await self.engine.client()
        is_remote = not self._adopted and not self.engine.is_local
        if is_remote:
            self.agent.be_remote()
        return is_remote

    async def _descend_ladder(self, greeting: bytes) -> Channel:
        """Down the ladder of channels/ladder.py, in a container that runs."""
        facts = Facts(await self.engine.shares_kernel() and self._has_pipes, python_missing=self.agent.python_missing)
        problem = "it is on another kernel" if self._has_pipes else "no pipes are mounted in it"
        while True:
            rung = next_rung(facts)
            try:
                match rung:
                    case Rung.PIPES:
                        return await self.pipes(greeting)
                    case Rung.ATTACH:
                        channel = await self.agent.attach(greeting, facts)
                        if channel is not None:
                            self.log.warning("fallback", channel="exec", reason=problem)
                            return channel
                    case Rung.START_AGENT:
                        await self.agent.start(facts)
                    case Rung.DIRECT:
                        return self.agent.none(greeting)
                    case Rung.GIVE_UP:
                        raise AgentUnavailable(
                            f"the agent in the container {self.container} cannot be reached: {problem}",
                            instance=self.name,
                            hint=self._hint_at_log("may say why"),
                        )
            except AgentUnavailable as error:
                if rung is not Rung.PIPES:
                    raise
                facts.pipes_failed = True
                problem = error.what
                log = self.log.info if isinstance(error, NobodyListens) else self.log.warning
                log("pipes_unusable", reason=problem)

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """Pipes, where exec is in use and they work by now."""
        if current != "exec" or not self._has_pipes or not await self.engine.shares_kernel():
            return None
        try:
            channel = await self.pipes(greeting)
        except AgentUnavailable:
            return None
        self.log.info("pipes_usable_again")
        return channel

    async def way_to_look(self, greeting: bytes) -> Channel:
        """The pipes, else an attached exec, in a container that runs."""
        if self._has_pipes:
            with suppress(AgentUnavailable):
                return await self.pipes(greeting)
        await self._is_remote()
        running = (await self.own()).running
        facts = Facts()
        channel = await self.agent.attach(greeting, facts) if running else None
        if facts.python_missing:
            raise NoAgentPossible(f"the container {self.container} has no Python", instance=self.name)
        if channel is None:
            raise NobodyListens(f"no agent answers in the container {self.container}", instance=self.name)
        return channel

    @property
    def _has_pipes(self) -> bool:
        return not self._adopted and sys.platform == "linux"

    # The container

    async def _ensure_running(self) -> None:
        """Create, start or unpause the container as needed; log what was done."""
        try:
            info = await self.own()
        except ContainerNotFound as error:
            if self._adopted:
                raise ContainerNotFound(error.what, instance=self.name, hint="Is its name right?") from None
            self._ending = Ending("the container was removed")
            await self._create()
            await self._start_container()
            return
        if self._adopted and self.engine.is_local:
            self._maker.note_mounted(info.volumes)
        elif self.engine.is_local:
            self._maker.note_what_it_can_write(self.record)  # what 0.1.0 has made was not noted
        if info.status == "paused":
            self.log.warning("container_paused", container=self.container)
            await self._containers.unpause(self.container)
        elif info.status == "created" and not self._adopted:  # a program that made it was killed before it started it
            await self._maker.fill(self.plan, self._session_to_restore(), self.cwd, remote=await self._is_remote())
            await self._start_container()
        elif not info.running and self.record.ephemeral and not self._adopted:
            self._ending = ending_of(info)
            await self._containers.wait(self.container, "removed", _END_LIMIT)  # which it does by itself
            await self._create()
            await self._start_container()
        elif not info.running:
            self._ending = ending_of(info)
            orderly = info.exit_code == 0 and not info.oom_killed
            facts = {"status": info.status, "exit_code": info.exit_code, "oom_killed": info.oom_killed}
            (self.log.info if orderly else self.log.warning)("container_not_running", container=self.container, **facts)
            await self._start_container()

    async def own(self) -> ContainerInfo:
        """The container.

        Raises:
            EngineError: there is one of its name that this installation has not made.
        """
        info = await self._containers.inspect(self.container)
        if not self._adopted and info.labels.get(f"{LABEL}.install") != self._install:
            raise EngineError(
                f"a container named {self.container} exists and is not of this installation",
                instance=self.name,
                hint="Choose another name for the instance, or remove that container.",
            )
        return info

    async def _create(self) -> None:
        await self.check()
        session, remote = self._session_to_restore(), await self._is_remote()
        await self._maker.make(self.plan, self.home, self.agent.path, session, self.cwd, remote=remote)

    def _session_to_restore(self) -> str:
        return "" if self.home.session_id else session_to_begin_with(self.record, self.registry.sessions, self.cwd)

    async def _start_container(self) -> None:
        awaited = () if self._adopted else (LISTENING, NO_PYTHON)
        tree = self.worktree()
        repository = RepositoryMounts.of(tree) if tree and self.engine.is_local else None
        try:
            said = await self._containers.start(self.container, awaited, _START_LIMIT)
        except ContainerStartError as error:
            hint = error.hint or self._hint_at_log("has the rest")
            raise ContainerStartError(error.what, instance=self.name, hint=hint) from error
        if repository is not None:
            await repository.check(self._containers, self.container, self.name, self.log)
        self.agent.python_missing = said == NO_PYTHON
        self.log.info("container_started", container=self.container)

    def _hint_at_log(self, what: str) -> str:
        # After a first start that failed the container is removed, and its log with it.
        return "" if self.is_new else f"`docker logs {self.container}` {what}."

    async def stop(self) -> None:
        """Stop the container; of an adopted one, end the agent."""
        if self._adopted:
            await self.agent.end()
        else:
            with suppress(ContainerNotFound):
                await self.own()
                await self._containers.stop(self.container, GRACE + 5)

    async def remove(self) -> None:
        """Remove the container with its volumes; of an adopted one, end the agent."""
        if self._adopted:
            if self.agent.was_started or not self.is_new:  # else it is another instance's, whose start was not undone
                await self.agent.end()
        else:
            with suppress(ContainerNotFound):
                await self.own()
                await self._containers.remove(self.container)
            if not self.engine.is_local:
                for volume in self.plan.volumes:
                    await self._maker.volumes.remove_unused(volume)

    async def check(self) -> None:
        """What is mounted, and the login that is given to it."""
        if not self.record.key_is_outside:
            self.claude_env()
        try:
            is_remote = await self._is_remote()
        except EngineError:
            if self.engine.address.startswith("unix://"):  # what is wrong in the record first: no engine would help
                self.record.check_directories()
            raise
        check_outside(self.record, is_remote=is_remote)
        if not is_remote:
            self.record.check_directories()
        if self.record.credentials:
            login_file()
        if self.record.docker_socket:
            docker_socket()

    @property
    def removes_session(self) -> bool:
        """Where the container is ours."""
        return not self._adopted

    async def keeps_session(self) -> bool:
        """Not where it is in a volume of another machine's."""
        return not await self._is_remote()

    async def open_session(self, session_id: str) -> IO[bytes] | None:
        """The session's file, in the instance's directory, or out of the container."""
        if await self._is_remote():
            path = f"{CONTAINER_HOME}/.claude/{session_path(session_id, self.cwd)}"
            with suppress(ContainerNotFound):
                return await archives_of(self.engine).get_file(self.container, path, LARGEST)
            return None
        if not self._adopted:
            with suppress(OSError), open_session(self.home.claude_home / ".claude", session_id) as content:
                return os.fdopen(os.dup(content.fileno()), "rb")
            return None
        return await copy_of_session(self.execs, archives_of(self.engine), self.container, session_id)

    async def release(self) -> None:
        """Close the client, unless it is the caller's."""
        if self._owns_engine:
            await self.engine.aclose()

    # Claude Code, and what is known of the container

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """Read the transcript's tail by a command in the container."""
        try:
            return await tail_of_session(self.execs, self.container, session_id)
        except (ContainerNotRunning, ContainerNotFound) as error:
            raise ConnectionLost(error.what, instance=self.name) from error

    async def info(self) -> dict[str, Any]:
        """What the engine knows of the container."""
        info: ContainerInfo | None
        try:
            info = await self._containers.inspect(self.container)
        except ContainerNotFound:
            info = None
        place: dict[str, Any] = {"container": self.container, "status": info.status if info else "absent"}
        if info is None:
            return {**place, "image": self.record.image}
        return {**place, **facts_of(info)}
