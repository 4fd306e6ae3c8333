"""The manager: containers of projects on one engine. Its only memory is the labels on what it has made."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from .. import __version__
from ..beneath import make_directory, opened
from ..dockerfiles import Dockerfile, Dockerfiles, OnDockerfile
from ..engine.archives import Archives, tar_of_tree
from ..engine.client import Engine
from ..engine.containers import LABEL, ContainerInfo, Containers, ContainerSpec, ContainerSummary, Mount, user_for
from ..engine.events import ContainerEvent, Events
from ..engine.execs import LARGEST, ExecResult, Execs, Exit
from ..engine.images import AUTO_IMAGE, Images
from ..engine.networks import Networks, NetworkSpec
from ..engine.progress import Progress
from ..engine.streams import Chunk, Demultiplexer, read_chunks
from ..engine.usage import Usage
from ..engine.volumes import Volumes
from ..errors import ContainerNotFound, ContainerStartError, EngineError, InvalidInput, LimitReached, NameConflict
from ..instance import docker_socket, parse_mount
from ..login import check_reachable
from ..logs import Log
from ..state import Installation, agent_archive, make_private, state_root
from .options import (
    HOME,
    ContainerOptions,
    build_container_env,
    build_container_mounts,
    container_name,
    dependency_volumes,
)

if TYPE_CHECKING:
    import docker

__all__ = ["ContainerManager"]

#: Seconds between SIGTERM and SIGKILL.
_GRACE = 10.0

#: Seconds of one wait for a command's end, of as many as it takes.
_WAIT = 3600.0

#: How often to look again where several programs make the same container at once.
_TRIES = 5

#: How often a name that somebody else has is changed before that is an error.
_NAMES = 5

#: Takes variables from so many bytes of stdin, and becomes the command: so they are in no listing. Byte by byte: what
#: follows them is the command's, and ``head -c`` may take a buffer full (BusyBox does).
_WITH_SECRETS = 'eval "$(dd bs=1 count="$1" 2>/dev/null)"; shift; exec "$@"'

#: A container that stays has its variables in a file, which is mounted: it is started again without us.
_VARIABLES = "/run/cc-bridge-variables"
_WITH_FILE = f'. {_VARIABLES}; exec "$@"'
_FILE = f"{LABEL}.variables"
_TOKEN = re.compile(r"[0-9a-f]{16}\Z")

#: What stays until it is told to end.
_IDLE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]


class ContainerManager:
    """Makes, finds, limits, watches and removes the containers of projects.

    Several programs may manage side by side: what is made and found goes by labels, and of two containers for one
    purpose the elder is used. Only containers of this installation are ever touched.

    Args:
        client: a Docker client to use, which stays the caller's to close; without one, the engine is found as
            Docker's own command finds it.
        keep: containers kept for each project, by :meth:`cleanup_old_containers`.
        most_running: how many may run, by type of project; others are not limited.
        root: the state directory; by default this installation's.
        on_progress: called, from a worker thread, with each step of an image's pull or build.
        on_dockerfile: asked whether to build a Dockerfile that a container may have written.
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
        self._install = self._installation.id
        self._keep = keep
        self._most_running = dict(most_running or {})
        self._on_progress = on_progress
        self._on_dockerfile = on_dockerfile
        self._dockerfiles = Dockerfiles(self._root)
        self._log = Log("", "manager")
        self.containers = Containers(self._engine)
        self.execs = Execs(self._engine)
        self.images = Images(self._engine)
        self.networks = Networks(self._engine)
        self.volumes = Volumes(self._engine)
        self.archives = Archives(self._engine)
        self.events = Events(self._engine)

    @property
    def labels(self) -> dict[str, str]:
        """What everything of this installation's has."""
        return {f"{LABEL}.install": self._install}

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
        """Close the connections to the engine. Containers go on."""
        await self._engine.aclose()

    # Containers that stay

    async def create_secure_container(
        self, options: ContainerOptions, command: Sequence[str] | None = None, *, kind: str = "service"
    ) -> ContainerInfo:
        """Create a container, hardened, with its network, volumes and image; it is not started.

        Args:
            command: its main process; None: one that stays and does nothing, for :meth:`exec`.
            kind: goes into a label.

        Raises:
            InvalidInput: a mount or the workspace cannot be.
            NetworkConflict, ImageNotFound, ImageBuildError, NameConflict: as they say.
            LimitReached: as many containers of this type of project run as may.
        """
        await self._check_limit(options.project_type)
        network = await self._network(options)
        image = await self._image(options)
        volumes = await self._volumes(options, image)
        secret = build_container_env(replace(options, login=False)).secret
        for attempt in range(_NAMES):
            name = container_name(options.project) + (f"-{secrets.token_hex(2)}" if attempt else "")
            spec = self._spec(name, image, options, command or _IDLE, network, kind, volumes)
            spec = self._with_variables(spec, secret)
            try:
                await self.containers.create(spec)
            except BaseException as error:
                self._forget_variables(spec.labels)
                if isinstance(error, NameConflict) and attempt < _NAMES - 1:
                    continue
                raise
            try:
                return await self.containers.inspect(name)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self.containers.remove(name)
                self._forget_variables(spec.labels)
                raise
        raise AssertionError("every way out of the loop is above")

    def _with_variables(self, spec: ContainerSpec, variables: Mapping[str, str]) -> ContainerSpec:
        """The same with these variables for its main process, from a file of ours that is mounted."""
        if not variables:
            return spec
        directory, token = self._root / "variables", secrets.token_hex(8)
        make_private(directory)
        (directory / token).write_bytes(_exports(variables))
        (directory / token).chmod(0o644)  # the container's user may have any number; the directory is private
        return replace(
            spec,
            command=["sh", "-c", _WITH_FILE, "sh", *(spec.command or ())],
            mounts=[*spec.mounts, Mount(str(directory / token), _VARIABLES, read_only=True)],
            labels={**spec.labels, _FILE: token},
        )

    def _forget_variables(self, labels: Mapping[str, str]) -> None:
        if _TOKEN.match(token := labels.get(_FILE, "")):
            (self._root / "variables" / token).unlink(missing_ok=True)

    async def forgotten_variables(self) -> Sequence[Path]:
        """Files with variables of containers that have gone without us."""
        used = {item.labels.get(_FILE) for item in await self._labelled({})}
        return [path for path in (self._root / "variables").glob("*") if path.name not in used]

    async def _remove(self, item: ContainerInfo | ContainerSummary, *, force: bool = True) -> None:
        await self.containers.remove(item.id, force=force)
        self._forget_variables(item.labels)

    async def get_or_create(
        self, options: ContainerOptions, command: Sequence[str] | None = None, *, kind: str = "service"
    ) -> ContainerInfo:
        """The project's container of this kind, started; made if there is none.

        Two programs that ask at once get the same one. One that is there is as it was made, whatever the options say.

        Raises: as :meth:`create_secure_container`, and
            ContainerStartError: it could not be started.
        """
        for _ in range(_TRIES):
            made: ContainerInfo | None = None
            found = await self._eldest(options.project, kind)
            if found is None:
                made = await self.create_secure_container(options, command, kind=kind)
                found = await self._eldest(options.project, kind) or made
            try:
                await self._start(found)
                # An elder one may have come to light meanwhile: containers are dated before they can be seen.
                used = await self._eldest(options.project, kind)
            except ContainerNotFound:
                continue  # its creator removed it in favour of an older one
            if made is not None and (used is None or used.id != made.id):
                await self._remove(made)
            if used is not None and used.id == found.id:
                return await self.containers.inspect(used.id)
        raise NameConflict(f"containers of the project {options.project} come and go; another program makes them, too")

    async def _start(self, info: ContainerInfo) -> None:
        if info.running:
            return
        try:
            if info.status == "paused":
                await self.containers.unpause(info.id)
            else:
                await self.containers.start(info.id)
        except ContainerStartError:
            if info.status == "created":  # it has never run: nothing is lost
                await self._remove(info)
            raise
        self._log.info("container_started", container=info.name)

    async def stop(self, name: str, grace: float = _GRACE) -> None:
        """SIGTERM, ``grace`` seconds, SIGKILL; tolerant of one that has ended or gone."""
        if await self._find(name):
            await self.containers.stop(name, grace)

    async def restart(self, name: str, grace: float = _GRACE) -> None:
        """Stop and start."""
        await self._own(name)
        await self.containers.restart(name, grace)

    async def remove(self, name: str, *, volumes: bool = False) -> None:
        """Kill and remove; tolerant of one that has gone.

        Args:
            volumes: its named volumes too, where no other container has them and they are of this installation.
        """
        info = await self._find(name)
        if info is None:
            return
        await self._remove(info)
        for volume in info.volumes if volumes else ():
            found = None if volume.startswith("/") else await self.volumes.find(volume.partition(":")[0])
            if found is not None and self._owns(found.labels):
                await self.volumes.remove_unused(found.name)

    async def list(self, project: str = "") -> Sequence[ContainerSummary]:
        """Containers of this installation, or of one of its projects: running or not, newest first."""
        return await self._labelled({f"{LABEL}.project": project} if project else {})

    async def stats(self, name: str) -> Usage:
        """What it uses, measured over a second or so."""
        await self._own(name)
        return await self.containers.usage(name)

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
        await self._own(name)
        stream = self.containers.logs(name, follow=follow, tail=tail, since=since, timestamps=timestamps, tty=tty)
        async with aclosing(stream) as output:
            async for chunk in output:
                yield chunk

    async def exec(self, name: str, argv: Sequence[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command in a running container, with the container's variables; its output is buffered.

        Raises:
            LimitReached: it wrote more than can be kept.
        """
        info = await self._own(name)
        words = ["sh", "-c", _WITH_FILE, "sh", *argv] if info.labels.get(_FILE) else argv
        return await self.execs.run(name, words, user=user, limit=limit)

    async def cleanup_old_containers(self, project: str, keep: int | None = None) -> Sequence[str]:
        """Remove the project's oldest stopped containers until ``keep`` are left; never one that runs.

        Returns:
            Names of those removed.
        """
        found = await self.list(project)
        too_many = len(found) - (self._keep if keep is None else keep)
        stopped = [item for item in reversed(found) if item.status in ("created", "exited", "dead")]
        removed = []
        for item in stopped[: max(too_many, 0)]:
            try:
                # Without force: somebody may have started it meanwhile.
                await self._remove(item, force=False)
            except EngineError as error:
                self._log.info("not_removed", container=item.name, reason=error.what)
            else:
                removed.append(item.name)
        return removed

    # Commands, each in a container of its own

    async def run_command(
        self,
        options: ContainerOptions,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        keep_container: bool = False,
    ) -> ExecResult:
        """Run a command in a new container to its end; exit code, stdout and stderr apart, all in memory.

        Raises: as :meth:`create_secure_container`, and
            ContainerStartError: the command cannot be started.
            LimitReached: it has written more than 64 MiB.
        """
        said: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        code = -1
        stream = self.run_command_streaming(options, argv, stdin=stdin, keep_container=keep_container)
        try:
            async for item in stream:
                if isinstance(item, Exit):
                    code = item.exit_code
                elif sum(map(len, said.values())) + len(item.data) > LARGEST:
                    what = f"the command has written more than {LARGEST} bytes"
                    raise LimitReached(what, hint="`run_command_streaming` has no limit.")
                else:
                    said[item.stream] += item.data
        finally:
            await stream.aclose()
        return ExecResult(code, bytes(said[1]), bytes(said[2]))

    async def run_command_streaming(
        self,
        options: ContainerOptions,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        tty: bool = False,
        keep_container: bool = False,
    ) -> AsyncGenerator[Chunk | Exit, None]:
        """Run a command in a new container; its output as it comes, and at last how it ended.

        A slow reader slows the command; nothing is lost. The container is removed at the end, at an error, and when the
        iterator is closed or its consumer cancelled.

        Args:
            stdin: what it reads; variables go the same way, before (the image needs ``sh`` and ``dd`` for that).
            tty: give it a terminal; then all of its output is stdout.
            keep_container: leave the container, for a look at it.

        Raises: as :meth:`run_command`.
        """
        environment = build_container_env(options)
        if options.login and options.network != "host":
            check_reachable(environment.secret)
        command, feed = list(argv), stdin
        if environment.secret and not tty:
            secret = _exports(environment.secret)
            command = ["sh", "-c", _WITH_SECRETS, "sh", str(len(secret)), *command]
            feed = secret + (stdin or b"")
        network = await self._network(options)
        image = await self._image(options)
        volumes = await self._volumes(options, image)
        name = f"{container_name(options.project)}-{secrets.token_hex(4)}"
        kind = "kept" if keep_container else "command"
        spec = self._spec(name, image, options, command, network, kind, volumes, tty=tty, stdin=feed is not None)
        if tty:  # a terminal would show them
            spec = self._with_variables(spec, environment.secret)
        created = False
        try:
            await self.containers.create(spec)
            created = True
            fd, early = await self.containers.attach(name, stdin=feed is not None)
            try:
                await self.containers.start(name)
                async with aclosing(read_chunks(fd, early, Demultiplexer(tty=tty), feed)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                os.close(fd)
            while not await self.containers.wait(name, "not-running", _WAIT):
                pass  # it has closed its output, and goes on
            ended = await self.containers.inspect(name)
            yield Exit(ended.exit_code, ended.oom_killed)
        finally:
            if created and not keep_container:
                with anyio.CancelScope(shield=True):
                    await self.containers.remove(name)
            if not (created and keep_container):
                self._forget_variables(spec.labels)

    # Files, images

    async def put_files(self, name: str, source: Path, target: str, *, uid: int = 1000, gid: int = 1000) -> None:
        """Copy a file or directory of this machine into a container, which need not run, as ``target``.

        Raises:
            InvalidInput: the source cannot be read.
            EngineError: the target's directory is not there, or is read-only.
        """
        await self._own(name)
        directory, _, base = target.rstrip("/").rpartition("/")
        archive = await anyio.to_thread.run_sync(tar_of_tree, source, base, uid, gid)
        with archive:
            await self.archives.put(name, directory or "/", archive)

    async def get_files(self, name: str, path: str, destination: Path) -> Sequence[str]:
        """Copy a file or directory out of a container; see :func:`~cc_bridge.engine.archives.unpack`."""
        await self._own(name)
        return await self.archives.get_files(name, path, destination)

    async def pull_image(self, name: str) -> None:
        """Pull an image; progress goes to ``on_progress``."""
        await self.images.pull(name, self._on_progress)

    async def build_image(self, dockerfile: Path, workspace: Path) -> str:
        """Build a Dockerfile unless just this has been built; the image's name, which has its content's hash."""
        return await self.images.build_workspace(Dockerfile.read(dockerfile), workspace, self._on_progress)

    async def ensure_image(self, name: str, workspace: Path | None = None) -> str:
        """Have an image, pulled or built as needed; its real name.

        Raises:
            DockerfileNotApproved: ``auto``, and a container may have written the workspace's Dockerfile.
        """
        agent = await anyio.to_thread.run_sync(agent_archive, self._root)
        dockerfile = None
        if name == AUTO_IMAGE and workspace is not None:
            dockerfile = await self._dockerfiles.of(workspace, self._on_dockerfile)
        return await self.images.ensure(name, agent, self._on_progress, workspace=workspace, dockerfile=dockerfile)

    # What happens to them

    async def watch(self) -> AsyncGenerator[ContainerEvent, None]:
        """What happens to this installation's containers from now on, as the engine tells it."""
        wanted = "" if self._installation.earlier else self._install  # of any installation, or of this one
        async with aclosing(self.events.watch({f"{LABEL}.install": wanted})) as stream:
            async for event in stream:
                if self._owns(event.labels):
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
        """Containers that nobody will come back for.

        Those of instances that are none of ``instances``, and those of commands, unless they are to be kept, whose
        program has gone.
        """
        found = []
        for item in await self.containers.labelled(self.labels):  # what 0.1.0 has made may be another machine's
            kind, instance = item.labels.get(f"{LABEL}.type", ""), item.labels.get(f"{LABEL}.instance", "")
            if (instance and instance not in instances) or (kind == "command" and not _owner_lives(item.labels)):
                found.append(item)
        return found

    # Parts

    async def _own(self, name: str) -> ContainerInfo:
        """A container of this installation's.

        Raises:
            ContainerNotFound: there is none of this name.
            EngineError: it is somebody else's.
        """
        info = await self.containers.inspect(name)
        if not self._owns(info.labels):
            hint = "Only what cc-bridge has made here is touched; for other containers use Docker's own command."
            raise EngineError(f"the container {name} is not of this installation", hint=hint)
        return info

    async def _find(self, name: str) -> ContainerInfo | None:
        """The same; None: there is none of this name."""
        try:
            return await self._own(name)
        except ContainerNotFound:
            return None

    def _owns(self, labels: Mapping[str, str]) -> bool:
        install, instance, project = (labels.get(f"{LABEL}.{key}", "") for key in ("install", "instance", "project"))
        return self._installation.owns(install, instance=instance, project=project)

    async def _labelled(self, labels: Mapping[str, str]) -> Sequence[ContainerSummary]:
        """This installation's containers with these labels, newest first."""
        found: list[ContainerSummary] = []
        for install in filter(None, (self._install, self._installation.earlier)):
            found += await self.containers.labelled({f"{LABEL}.install": install, **labels})
        return [item for item in found if self._owns(item.labels)]

    def _spec(
        self,
        name: str,
        image: str,
        options: ContainerOptions,
        command: Sequence[str],
        network: str,
        kind: str,
        volumes: Mapping[str, str],
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> ContainerSpec:
        uid, gid = user_for(options.workspace)
        groups = [docker_socket()[1]] if options.docker_socket else []
        if groups:
            self._log.warning("docker_socket_given", container=name, risk="whoever has it is root on this machine")
        return ContainerSpec(
            name=name,
            image=image,
            command=command,
            user=options.user or f"{uid}:{gid}",
            labels={
                **options.labels,
                **self._labels(options.project, options.project_type),
                f"{LABEL}.type": kind,
                f"{LABEL}.owner": _owner(),
            },
            environment=build_container_env(options).plain,
            mounts=build_container_mounts(options, self._home(options.project), volumes),
            workdir=options.mount_at if options.workspace is not None else HOME,
            network=network,
            memory=options.memory,
            cpus=options.cpus,
            cpu_shares=options.cpu_shares,
            pids=options.pids,
            read_only=options.read_only,
            ports=options.ports,
            groups=groups,
            restart=options.restart,
            tty=tty,
            stdin=stdin,
        )

    def _labels(self, project: str, project_type: str = "") -> dict[str, str]:
        return {
            f"{LABEL}.install": self._install,
            f"{LABEL}.project": project,
            f"{LABEL}.version": __version__,
            **({f"{LABEL}.project-type": project_type} if project_type else {}),
        }

    def _home(self, project: str) -> Path:
        """The home of a project's containers: Claude Code's sessions outlive them there."""
        projects = self._root / "projects"
        make_private(self._root)
        make_private(projects)
        try:
            with opened(projects) as parent:
                make_directory(parent, project, 0o777)  # the container's user may have any number
                with opened(project, parent) as home:
                    make_directory(home, ".claude", 0o777)
        except OSError as error:
            what = f"{projects / project / '.claude'} cannot be used: {error.strerror}"
            raise InvalidInput(what, hint="Something in a container may have put it there; remove it.") from error
        return projects / project

    async def _network(self, options: ContainerOptions) -> str:
        if not isinstance(options.network, NetworkSpec):
            return options.network
        labels = {**self._labels(options.project), **options.network.labels}
        spec = NetworkSpec(
            options.network.name,
            options.network.subnet,
            options.network.gateway,
            options.network.driver,
            options.network.internal,
            labels,
        )
        await self.networks.ensure(spec)
        return spec.name

    async def _image(self, options: ContainerOptions) -> str:
        image = await self.ensure_image(options.image, options.workspace)
        writable = [] if options.workspace is None or options.read_only_workspace else [options.workspace]
        writable += [Path(source) for source, _, read_only in map(parse_mount, options.mounts) if not read_only]
        self._dockerfiles.note_writable(writable)
        return image

    async def _volumes(self, options: ContainerOptions, image: str) -> Mapping[str, str]:
        """Have the dependency volumes, new ones given to the container's user; their names, and where they belong."""
        labels = self._labels(options.project, options.project_type)
        uid, gid = _numbers(options.user) or user_for(options.workspace)
        volumes = {}
        for name, path in dependency_volumes(options).items():
            found = await self.volumes.find(name)
            own = name if found is None or self._owns(found.labels) else f"{name}-{self._install}"
            if await self.volumes.ensure(own, labels):
                await self.volumes.set_owner(own, image, uid, gid, {**labels, f"{LABEL}.type": "command"})
            volumes[own] = path
        return volumes

    async def _check_limit(self, project_type: str) -> None:
        most = self._most_running.get(project_type)
        if most is None:
            return
        found = [
            item
            for item in await self.list()
            if item.labels.get(f"{LABEL}.project-type") == project_type and item.status == "running"
        ]
        if len(found) >= most:
            names = ", ".join(item.name for item in found)
            raise LimitReached(
                f"{len(found)} containers of type {project_type} run, and {most} may: {names}",
                hint="Stop one of them, or raise the limit.",
            )

    async def _eldest(self, project: str, kind: str) -> ContainerInfo | None:
        """The container that everybody uses for this purpose."""
        found = []
        for item in await self._labelled({f"{LABEL}.project": project, f"{LABEL}.type": kind}):
            with suppress(ContainerNotFound):
                found.append(await self.containers.inspect(item.id))
        usable = [info for info in found if info.status not in ("removing", "dead")]
        return min(usable, key=lambda info: (info.created, info.id), default=None)

    async def _with_cause(self, event: ContainerEvent) -> ContainerEvent:
        """The engine may tell of the end before it tells that memory ran out; by now it knows."""
        with suppress(ContainerNotFound):
            info = await self.containers.inspect(event.id)
            return replace(event, oom_killed=event.oom_killed or info.oom_killed)
        return event


def _exports(variables: Mapping[str, str]) -> bytes:
    """Lines for ``sh`` that set these variables."""
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return lines.encode("utf-8", "surrogateescape")


def _numbers(user: str) -> tuple[int, int] | None:
    uid, _, gid = user.partition(":")
    if not uid.isdigit():
        return None
    return int(uid), int(gid) if gid.isdigit() else int(uid)


def _owner() -> str:
    """This process, so that others can tell whether it still lives: machine, number and start."""
    return f"{os.uname().nodename}:{os.getpid()}:{_started(os.getpid())}"


def _owner_lives(labels: Mapping[str, str]) -> bool:
    machine, _, process = labels.get(f"{LABEL}.owner", "").partition(":")
    number, _, started = process.partition(":")
    if machine != os.uname().nodename:
        return True  # its processes cannot be seen from here
    return number.isdigit() and _started(int(number)) == started


def _started(process: int) -> str:
    """When a process began, in clock ticks since the machine did (proc(5)); empty: there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
