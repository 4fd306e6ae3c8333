"""The manager: containers of projects on one engine. It keeps no state but the labels on what it creates."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from ..dockerfiles import OnDockerfile
from ..engine.archives import Archives
from ..engine.client import Engine
from ..engine.container_spec import user_for
from ..engine.container_tools import ContainerTools
from ..engine.containers import ContainerInfo, Containers, ContainerSummary
from ..engine.events import ContainerEvent, Events
from ..engine.execs import ExecResult, Execs, Exit
from ..engine.labels import LABEL
from ..engine.progress import Progress
from ..engine.streams import Chunk
from ..engine.usage import Usage
from ..errors import ContainerNotFound
from ..logs import Log
from ..state import Installation, agent_archive, state_root
from .commands import Commands
from .options import ContainerOptions
from .own import OwnContainers
from .provisions import Provisions
from .services import Services
from .variables import VariableFiles

if TYPE_CHECKING:
    import docker

__all__ = ["ContainerManager"]

#: Seconds between SIGTERM and SIGKILL.
_GRACE = 10.0


class ContainerManager:
    """Makes, finds, limits, watches and removes the containers of projects.

    Several programs may manage concurrently: containers are found by labels, and of two for one purpose all use the
    older. Only containers of this installation are ever touched.

    Args:
        client: a Docker client to use, which the caller closes; without one, the engine is found as the ``docker``
            command finds it.
        keep: how many containers of each project :meth:`cleanup_old_containers` keeps.
        most_running: most running containers by project type; other types are not limited.
        root: the state directory; by default this installation's.
        on_progress: called in a worker thread with each step of a pull or build.
        on_dockerfile: decides whether to build a Dockerfile that a container may have written.
    """

    def __init__(
        self,
        client: docker.DockerClient | None = None,
        *,
        keep: int = 5,
        most_running: Mapping[str, int] | None = None,
        root: Path | None = None,
        on_progress: Progress | None = None,
        on_dockerfile: OnDockerfile | None = None,
    ) -> None:
        self._engine = Engine(client)
        self._root = root or state_root()
        self._installation = Installation.at(self._root)
        self._keep = keep
        self._log = Log("", "manager")
        self.containers = Containers(self._engine)
        self.execs = Execs(self._engine)
        self.archives = Archives(self._engine)
        self.events = Events(self._engine)
        self._own = OwnContainers(self.containers, self._installation)
        self._provisions = Provisions(
            self._engine, self._own, self._root, self._log, on_progress=on_progress, on_dockerfile=on_dockerfile
        )
        self.images = self._provisions.images
        self.networks = self._provisions.networks
        self.volumes = self._provisions.volumes
        self._variables = VariableFiles(self._root)
        self._services = Services(
            self.containers, self._own, self._provisions, self._variables, self._log, dict(most_running or {})
        )
        self._commands = Commands(self.containers, self._provisions, self._variables)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything that this installation creates."""
        return self._own.labels

    @property
    def default_image(self) -> str:
        """The default image's real name."""
        return self.images.default_name(agent_archive(self._root))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to the engine. Containers keep running."""
        await self._engine.aclose()

    # Containers that stay

    async def create_secure_container(
        self, options: ContainerOptions, command: Sequence[str] | None = None, *, kind: str = "service"
    ) -> ContainerInfo:
        """Create a container, hardened, with its network, volumes and image; it is not started.

        Args:
            command: its main process; None: one that idles, for use with :meth:`exec`.
            kind: its purpose, which becomes a label.

        Raises:
            InvalidInput: a mount or the workspace is invalid.
            NetworkConflict, ImageNotFound, ImageBuildError, NameConflict: as they say.
            LimitReached: too many containers of this project type are running.
        """
        return await self._services.create(options, command, kind)

    async def forgotten_variables(self) -> Sequence[Path]:
        """Variables files whose containers are gone."""
        return self._variables.left([item.labels for item in await self._own.labelled({})])

    async def get_or_create(
        self, options: ContainerOptions, command: Sequence[str] | None = None, *, kind: str = "service"
    ) -> ContainerInfo:
        """Find or create the project's container of this kind, and start it.

        Concurrent programs get the same one. An existing one is not changed, whatever the options say.

        Raises: as :meth:`create_secure_container`, and
            ContainerStartError: it could not be started.
        """
        return await self._services.get_or_create(options, command, kind)

    async def stop(self, name: str, grace: float = _GRACE) -> None:
        """SIGTERM, ``grace`` seconds, SIGKILL. Does nothing if it is stopped or gone."""
        if await self._own.find(name):
            await self.containers.stop(name, grace)

    async def restart(self, name: str, grace: float = _GRACE) -> None:
        """Stop and start."""
        await self._own.inspect(name)
        await self.containers.restart(name, grace)

    async def remove(self, name: str, *, volumes: bool = False) -> None:
        """Kill and remove it. Does nothing if it is gone.

        Args:
            volumes: also its named volumes that no other container uses and that belong to this installation.
        """
        info = await self._own.find(name)
        if info is None:
            return
        await self._services.remove(info)
        for volume in info.volumes if volumes else ():
            found = None if volume.startswith("/") else await self.volumes.find(volume.partition(":")[0])
            if found is not None and self._own.owns(found.labels):
                await self.volumes.remove_unused(found.name)

    async def list(self, project: str = "") -> Sequence[ContainerSummary]:
        """Containers of this installation, or of one project; running or not, newest first."""
        return await self._own.of_project(project)

    async def stats(self, name: str) -> Usage:
        """Its resource usage, measured over about a second."""
        await self._own.inspect(name)
        return await self._tools(name).usage()

    async def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float = 0,
        timestamps: bool = False,
        tty: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """Its output; see :meth:`~cc_bridge.engine.containers.Containers.logs`."""
        await self._own.inspect(name)
        stream = self._tools(name).logs(follow=follow, tail=tail, since=since, timestamps=timestamps, tty=tty)
        async with aclosing(stream) as output:
            async for chunk in output:
                yield chunk

    async def exec(self, name: str, argv: Sequence[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command in a running container, with the container's variables, and collect its output.

        Raises:
            LimitReached: it wrote more than 64 MiB.
        """
        info = await self._own.inspect(name)
        words = self._variables.command(info.labels, argv)
        return await self._tools(name).exec(words, user=user, limit=limit)

    async def cleanup_old_containers(self, project: str, keep: int | None = None) -> Sequence[str]:
        """Remove the project's oldest stopped containers until ``keep`` are left; never a running one.

        Returns:
            Names of those removed.
        """
        return await self._services.clean_up(project, self._keep if keep is None else keep)

    # Commands, each in a container of its own

    async def run_command(
        self,
        options: ContainerOptions,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        keep_container: bool = False,
    ) -> ExecResult:
        """Run a command in a new container; collect its exit code, stdout and stderr in memory.

        Raises: as :meth:`create_secure_container`, and
            ContainerStartError: the command cannot be started.
            LimitReached: it wrote more than 64 MiB.
        """
        return await self._commands.run(options, argv, stdin=stdin, keep_container=keep_container)

    async def run_command_streaming(
        self,
        options: ContainerOptions,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        tty: bool = False,
        keep_container: bool = False,
    ) -> AsyncGenerator[Chunk | Exit, None]:
        """Run a command in a new container; its output as it arrives, then an Exit.

        A slow reader slows the command; nothing is lost. The container is removed at the end, on an error, and when the
        iterator is closed or its consumer cancelled.

        Args:
            stdin: its input; variables are sent before it (the image needs ``sh`` and ``dd`` for that).
            tty: give it a terminal; all output is then stdout.
            keep_container: keep the container for inspection.

        Raises: as :meth:`run_command`.
        """
        stream = self._commands.stream(options, argv, stdin=stdin, tty=tty, keep_container=keep_container)
        async with aclosing(stream) as output:
            async for item in output:
                yield item

    # Files, images

    async def put_files(self, name: str, source: Path, target: str, *, uid: int = 1000, gid: int = 1000) -> None:
        """Copy a local file or directory into a container, running or not, as ``target``.

        Raises:
            InvalidInput: the source cannot be read.
            EngineError: the target's directory is missing or read-only.
        """
        await self._own.inspect(name)
        await self.archives.put_tree(name, target, source, uid=uid, gid=gid)

    async def get_files(self, name: str, path: str, destination: Path) -> Sequence[str]:
        """Copy a file or directory out of a container; see :func:`~cc_bridge.engine.archives.unpack`."""
        await self._own.inspect(name)
        return await self.archives.get_files(name, path, destination)

    async def pull_image(self, name: str) -> None:
        """Pull an image, with progress to ``on_progress``."""
        await self._provisions.pull_image(name)

    async def build_image(self, dockerfile: Path, workspace: Path) -> str:
        """Build a Dockerfile unless the same content is built; return the image's name, which has a hash of it."""
        return await self._provisions.build_image(dockerfile, workspace)

    async def ensure_image(self, name: str, workspace: Path | None = None) -> str:
        """Pull or build an image if it is missing; return its real name.

        Raises:
            DockerfileNotApproved: for ``auto``: a container may have written the workspace's Dockerfile.
        """
        return await self._provisions.ensure_image(name, workspace)

    # What happens to them

    async def watch(self) -> AsyncGenerator[ContainerEvent, None]:
        """The engine's events of this installation's containers, from now on."""
        wanted = "" if self._installation.earlier else self._own.install  # any installation's, or only this one's
        async with aclosing(self.events.watch({f"{LABEL}.install": wanted})) as stream:
            async for event in stream:
                if self._own.owns(event.labels):
                    yield event

    async def report_exits(self, on_exit: Callable[[ContainerEvent], Awaitable[None]]) -> None:
        """Log each unexpected exit and call ``on_exit`` with it, until cancelled.

        The event says the exit code, and whether memory ran out.
        """
        stream = self.watch()
        try:
            async for event in stream:
                if event.is_unexpected_exit:
                    event = await self._with_cause(event)
                    self._log.warning(
                        "unexpected_exit",
                        container=event.name,
                        exit_code=event.exit_code,
                        oom_killed=event.oom_killed,
                    )
                    await on_exit(event)
        finally:
            await stream.aclose()

    async def orphans(self, instances: Collection[str]) -> Sequence[ContainerSummary]:
        """Containers of instances that are not in ``instances``, and of commands whose program is gone.

        Commands' containers that are to be kept are not among them.
        """
        return await self._own.orphans(instances)

    # Parts

    def _tools(self, name: str) -> ContainerTools:
        return ContainerTools(self._engine, name, user_for(None))

    async def _with_cause(self, event: ContainerEvent) -> ContainerEvent:
        """Look again whether memory ran out: the engine may report the end first."""
        with suppress(ContainerNotFound):
            info = await self.containers.inspect(event.id)
            return replace(event, oom_killed=event.oom_killed or info.oom_killed)
        return event
