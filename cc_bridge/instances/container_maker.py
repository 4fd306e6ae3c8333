"""Makes the container of a record: its image, its volumes, and what lies in it before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..dockerfiles import Dockerfile, Dockerfiles, OnDockerfile
from ..engine.archives import Archives, tar_of
from ..engine.client import Engine
from ..engine.container_spec import CONTAINER_HOME
from ..engine.containers import Containers
from ..engine.image_names import AUTO_IMAGE
from ..engine.images import Images
from ..engine.labels import LABEL
from ..engine.progress import Progress
from ..engine.volumes import Volumes
from ..errors import EngineError, InvalidInput
from ..logs import Log
from ..mounts import split_mount
from ..record import ClaudeInstance
from ..state import Installation
from .container_agent import STATE
from .container_plan import ContainerPlan
from .registry import Home, Registry, agent_archive
from .sessions import session_path

__all__ = ["ContainerMaker"]

#: Seconds after which a container that was never started is an orphan.
_STALE = 120.0


class ContainerMaker:
    """See the module.

    Args:
        on_progress, on_dockerfile: see :class:`~cc_bridge.DockerContainer`.

    Attributes:
        volumes: of the engine.
    """

    def __init__(
        self,
        engine: Engine,
        containers: Containers,
        registry: Registry,
        log: Log,
        *,
        on_progress: Progress | None,
        on_dockerfile: OnDockerfile | None,
    ) -> None:
        self._containers = containers
        self._images = Images(engine)
        self._archives = Archives(engine)
        self.volumes = Volumes(engine)
        self._dockerfiles = Dockerfiles(registry.root)
        self._registry = registry
        self._log = log
        self._on_progress = on_progress
        self._on_dockerfile = on_dockerfile

    @cached_property
    def agent(self) -> Path:
        """Its archive, on this machine: found when it is needed, because that takes a while."""
        return agent_archive(self._registry.root)

    async def make(
        self, plan: ContainerPlan, home: Home, agent: str, session_id: str, cwd: str, *, remote: bool
    ) -> None:
        """Make the container; it is not started.

        Args:
            agent: the path of the agent in it.
            session_id, cwd: see :meth:`fill`.
            remote: the engine is on another machine.

        Raises:
            InvalidInput, EngineError: say what cannot be had.
        """
        record = plan.record
        if session_id:
            self._registry.sessions.open(session_id).close()  # one that is not there is told before anything is made
        dockerfile = await self._dockerfile(record, home, remote=remote)
        image = await self._images.ensure(
            record.image,
            self.agent,
            self._on_progress,
            workspace=record.workspace,
            dockerfile=dockerfile,
        )
        if dockerfile is not None:  # which says what the project needs, and seldom Claude Code
            image = await self._images.with_claude(image, self.agent, plan.user, self._on_progress)
        if not remote:
            self.note_what_it_can_write(record)
        if remote:
            for volume in plan.volumes:
                if await self.volumes.ensure(volume, plan.labels):
                    await self.volumes.set_owner(volume, image, *plan.owner, plan.labels)
        try:
            await self._containers.create(plan.spec(image, self.agent, agent, remote=remote))
        except EngineError as error:
            if "bind source path does not exist" not in error.what:
                raise
            hint = "Workspaces and mounts are directories of the engine's machine."
            raise InvalidInput(error.what, instance=record.name, hint=hint) from error
        await self.fill(plan, session_id, cwd, remote=remote)
        self._log.info("container_created", container=plan.container, image=image)
        await self._sweep()

    async def _dockerfile(self, record: ClaudeInstance, home: Home, *, remote: bool) -> Dockerfile | None:
        """What is to be built for the container; None: nothing, its image has a name.

        Raises:
            DockerfileNotApproved: a container may have written it.
        """
        if record.dockerfile is not None:
            return await self._dockerfiles.named(record.dockerfile, home.path / "dockerfile", self._on_dockerfile)
        if record.image != AUTO_IMAGE or record.workspace is None or remote:
            return None
        return await self._dockerfiles.of(record.workspace, self._on_dockerfile, repository=record.repository)

    def note_mounted(self, volumes: Iterable[str]) -> None:
        """The same for what a container that is not ours can write to, of ``source:target:mode``."""
        mounts = [volume.rsplit(":", 2) for volume in volumes if volume.startswith("/")]
        self._dockerfiles.note_writable([Path(source) for source, _, mode in mounts if mode == "rw"])

    def note_what_it_can_write(self, record: ClaudeInstance) -> None:
        """What Dockerfiles are, from here on, in directories that the container can write to."""
        found = [] if record.workspace is None or record.read_only_workspace else [record.workspace]
        found += [Path(source) for source, _, read_only in map(split_mount, record.mounts) if not read_only]
        self._dockerfiles.note_writable(found, repository=record.repository)

    async def _sweep(self) -> None:
        """Remove containers of ephemeral instances whose programs were killed before they started them.

        Those that were started remove themselves.
        """
        install = Installation.at(self._registry.root).id  # never that of 0.1.0, which others may have
        labels = {f"{LABEL}.install": install, f"{LABEL}.type": "ephemeral"}
        known = self._registry.names()
        for item in await self._containers.labelled(labels):
            instance = item.labels.get(f"{LABEL}.instance")
            if item.status == "created" and instance not in known and time.time() - item.created > _STALE:
                self._log.warning("orphan_removed", container=item.name)
                await self._containers.remove(item.id)

    async def fill(self, plan: ContainerPlan, session_id: str, cwd: str, *, remote: bool) -> None:
        """Put into a new container, before it starts, what it needs of this machine.

        Args:
            session_id: to go on with, which its user will own; empty: none.
            cwd: where Claude Code will start.
        """
        if remote:
            await self._archives.put_files(plan.container, STATE, {self.agent.name: self.agent.read_bytes()})
        if not session_id:
            return
        uid, gid = plan.owner
        path = PurePosixPath(".claude") / session_path(session_id, cwd)
        with self._registry.sessions.open(session_id) as session, tar_of(path, session, uid, gid) as archive:
            await self._archives.put(plan.container, CONTAINER_HOME, archive)
