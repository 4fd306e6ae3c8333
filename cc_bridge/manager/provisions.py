"""What a project's container needs before it is created: image, network, volumes, home and specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from .. import __version__
from ..beneath import make_directory, opened
from ..dockerfiles import Dockerfile, Dockerfiles, OnDockerfile
from ..engine.client import Engine
from ..engine.container_spec import CONTAINER_HOME, ContainerSpec, user_for
from ..engine.image_names import AUTO_IMAGE
from ..engine.images import Images
from ..engine.labels import LABEL
from ..engine.networks import Networks, NetworkSpec
from ..engine.progress import Progress
from ..engine.volumes import Volumes
from ..errors import InvalidInput
from ..logs import Log
from ..mounts import docker_socket, parse_mount
from ..state import agent_archive, make_private
from .options import ContainerOptions, build_container_env, build_container_mounts, dependency_volumes
from .own import OwnContainers, this_process

__all__ = ["Provided", "Provisions"]


@dataclass(frozen=True)
class Provided:
    """What a container was provided with.

    Attributes:
        image: its real name.
        network: a network mode or a name.
        volumes: names of dependency volumes, and where they are mounted.
    """

    image: str
    network: str
    volumes: Mapping[str, str]


class Provisions:
    """Creates what containers of projects need, if it is missing.

    Args:
        root: the state directory, which has the projects' homes.
    """

    def __init__(
        self,
        engine: Engine,
        own: OwnContainers,
        root: Path,
        log: Log,
        *,
        on_progress: Progress | None = None,
        on_dockerfile: OnDockerfile | None = None,
    ) -> None:
        self._own = own
        self._root = root
        self._log = log
        self._on_progress = on_progress
        self._on_dockerfile = on_dockerfile
        self._dockerfiles = Dockerfiles(root)
        self.images = Images(engine)
        self.networks = Networks(engine)
        self.volumes = Volumes(engine)

    async def provide(self, options: ContainerOptions) -> Provided:
        """Create the network, the image and the volumes if they are missing."""
        network = await self._network(options)
        image = await self._image(options)
        return Provided(image, network, await self._volumes(options, image))

    def spec(
        self,
        name: str,
        options: ContainerOptions,
        provided: Provided,
        command: Sequence[str],
        kind: str,
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> ContainerSpec:
        """The container's specification, without the user's variables. Creates the project's home if it is missing."""
        uid, gid = user_for(options.workspace)
        groups = [docker_socket()[1]] if options.docker_socket else []
        if groups:
            self._log.warning("docker_socket_given", container=name, risk="whoever has it is root on this machine")
        return ContainerSpec(
            name=name,
            image=provided.image,
            command=command,
            user=options.user or f"{uid}:{gid}",
            labels={
                **options.labels,
                **self._labels(options.project, options.project_type),
                f"{LABEL}.type": kind,
                f"{LABEL}.owner": this_process(),
            },
            environment=build_container_env(options).plain,
            mounts=build_container_mounts(options, project_home(self._root, options.project), provided.volumes),
            workdir=options.mount_at if options.workspace is not None else CONTAINER_HOME,
            network=provided.network,
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

    async def pull_image(self, name: str) -> None:
        """Pull an image."""
        await self.images.pull(name, self._on_progress)

    async def build_image(self, dockerfile: Path, workspace: Path) -> str:
        """Build a Dockerfile unless the same content is built; return the image's name."""
        return await self.images.build_workspace(Dockerfile.read(dockerfile), workspace, self._on_progress)

    async def ensure_image(self, name: str, workspace: Path | None) -> str:
        """Pull or build an image if it is missing; return its real name."""
        agent = await anyio.to_thread.run_sync(agent_archive, self._root)
        dockerfile = None
        if name == AUTO_IMAGE and workspace is not None:
            dockerfile = await self._dockerfiles.of(workspace, self._on_dockerfile)
        return await self.images.ensure(name, agent, self._on_progress, workspace=workspace, dockerfile=dockerfile)

    def _labels(self, project: str, project_type: str = "") -> dict[str, str]:
        return {
            **self._own.labels,
            f"{LABEL}.project": project,
            f"{LABEL}.version": __version__,
            **({f"{LABEL}.project-type": project_type} if project_type else {}),
        }

    async def _network(self, options: ContainerOptions) -> str:
        if not isinstance(options.network, NetworkSpec):
            return options.network
        labels = {**self._labels(options.project), **options.network.labels}
        await self.networks.ensure(replace(options.network, labels=labels))
        return options.network.name

    async def _image(self, options: ContainerOptions) -> str:
        image = await self.ensure_image(options.image, options.workspace)
        writable = [] if options.workspace is None or options.read_only_workspace else [options.workspace]
        writable += [Path(source) for source, _, read_only in map(parse_mount, options.mounts) if not read_only]
        self._dockerfiles.note_writable(writable)
        return image

    async def _volumes(self, options: ContainerOptions, image: str) -> Mapping[str, str]:
        """Create the dependency volumes for the container's user; return their names and mount points."""
        labels = self._labels(options.project, options.project_type)
        uid, gid = _numbers(options.user) or user_for(options.workspace)
        volumes = {}
        for name, path in dependency_volumes(options).items():
            found = await self.volumes.find(name)
            own = name if found is None or self._own.owns(found.labels) else f"{name}-{self._own.install}"
            if await self.volumes.ensure(own, labels):
                await self.volumes.set_owner(own, image, uid, gid, {**labels, f"{LABEL}.type": "command"})
            volumes[own] = path
        return volumes


def project_home(root: Path, project: str) -> Path:
    """Create the home of a project's containers, in which Claude Code's sessions outlive them.

    Raises:
        InvalidInput: something else is there, such as a link that a container has created.
    """
    projects = root / "projects"
    make_private(root)
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


def _numbers(user: str) -> tuple[int, int] | None:
    uid, _, gid = user.partition(":")
    if not uid.isdigit():
        return None
    return int(uid), int(gid) if gid.isdigit() else int(uid)
