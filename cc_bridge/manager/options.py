"""Options of a project's container, and what follows from them: mounts, environment, names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from ..engine.container_spec import CONTAINER_HOME, Mount
from ..engine.networks import NetworkSpec
from ..errors import InvalidInput
from ..limits import Limits
from ..login import login_file, with_login
from ..mounts import docker_socket, parse_mount

__all__ = [
    "DEPENDENCIES",
    "ContainerEnv",
    "ContainerOptions",
    "PathMap",
    "build_container_env",
    "build_container_mounts",
    "container_name",
    "dependency_volumes",
]

#: Dependency directories by project type, relative to the workspace; each gets a volume.
DEPENDENCIES: Mapping[str, tuple[str, ...]] = {
    "node": ("node_modules",),
    "python": (".venv",),
    "php": ("vendor",),
    "ruby": ("vendor/bundle",),
}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

#: Read-only variables of the shell (bash(1)); assigning one would end it.
_READ_ONLY = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})

_PROJECT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}\Z")


@dataclass(frozen=True)
class ContainerOptions(Limits):
    """Options of a project's container. Limits and hardening have safe defaults.

    Attributes:
        image: ``cc-bridge`` is the default image, ``auto`` that of the workspace's Dockerfile if it has one.
        project: containers are counted, kept and cleaned up by project.
        project_type: ``node``, ``python``, ``php`` or ``ruby``, which have dependency volumes, or another word.
        workspace: mounted at ``mount_at``.
        mounts: more, ``host:container[:ro|rw]``.
        credentials: mount this user's Claude Code login, read-only.
        login: pass this machine's Claude Code login, as a whole (:mod:`cc_bridge.login`); for commands only.
        env: variables; all are treated as secrets and shown in no listing.
        network: a mode (``bridge``, ``host``, ``none``), a network's name, or one to create if it is missing.
        ports: container port to local port (loopback only), 0 for any.
        user: ``uid[:gid]`` or a name; by default this machine's user, never root.
        read_only: the root file system; ``/tmp`` and ``HOME`` are writable.
        restart: ``no``, ``on-failure[:times]``, ``always`` or ``unless-stopped``.
        docker_socket: mount the engine's own socket. Whoever has it is root on the engine's machine.

    Raises:
        InvalidInput: names what is invalid.
    """

    image: str = "cc-bridge"
    project: str = "default"
    project_type: str = ""
    workspace: Path | None = None
    mount_at: str = "/workspace"
    read_only_workspace: bool = False
    mounts: Sequence[str] = ()
    credentials: bool = False
    login: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    network: str | NetworkSpec = "bridge"
    ports: Mapping[int, int] = field(default_factory=dict)
    user: str = ""
    read_only: bool = True
    restart: str = "no"
    docker_socket: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _PROJECT.match(self.project):
            raise InvalidInput(f"{self.project!r} is no name for a project", hint="Letters, digits, '_', '.' and '-'.")
        if self.workspace is not None and not self.workspace.is_dir():
            what = "is not a directory" if self.workspace.exists() else "does not exist"
            raise InvalidInput(f"the workspace {self.workspace} {what}", hint="Create it first.")
        for name, value in self.env.items():
            if not _VARIABLE.match(name) or name in _READ_ONLY or "\0" in value:
                raise InvalidInput(f"env: {name!r} is no name, or has no value, that a variable of a shell can have")
        if not self.mount_at.startswith("/"):
            raise InvalidInput(f"mount_at: {self.mount_at!r} is not an absolute path")


@dataclass(frozen=True)
class ContainerEnv:
    """A container's environment: what ``docker inspect`` may show, and secrets, which it must not."""

    plain: Mapping[str, str]
    secret: Mapping[str, str] = field(repr=False)


def build_container_env(options: ContainerOptions, environ: Mapping[str, str] = os.environ) -> ContainerEnv:
    """``TERM``, ``HOME``, ``PORT`` and ``PROJECT_ID``; as secrets, the user's variables and a requested login."""
    plain = {"TERM": "xterm-256color", "HOME": CONTAINER_HOME, "PROJECT_ID": options.project}
    if options.ports:
        plain["PORT"] = str(next(iter(options.ports)))
    return ContainerEnv(plain, with_login(options.env, environ) if options.login else dict(options.env))


def build_container_mounts(
    options: ContainerOptions, home: Path | None = None, volumes: Mapping[str, str] | None = None
) -> tuple[Mount, ...]:
    """The workspace, the home, the login if requested, the user's mounts, and the dependency volumes.

    Args:
        home: mounted as ``HOME``; Claude Code's sessions are kept there, apart from the host's own.
        volumes: dependency volumes, name to mount point; by default :func:`dependency_volumes`.

    Raises:
        InvalidInput: says which mount is invalid, and why.
    """
    mounts = []
    if options.workspace is not None:
        mounts.append(Mount(str(options.workspace.resolve()), options.mount_at, options.read_only_workspace))
    if home is not None:
        mounts.append(Mount(str(home), CONTAINER_HOME))
    if options.credentials:
        mounts.append(Mount(str(login_file()), f"{CONTAINER_HOME}/.claude/.credentials.json", read_only=True))
    mounts += [Mount(*parse_mount(mount)) for mount in options.mounts]
    dependencies = dependency_volumes(options) if volumes is None else volumes
    mounts += [Mount(name, path) for name, path in dependencies.items()]
    if options.docker_socket:
        path, _ = docker_socket()
        mounts.append(Mount(path, path))
    targets = [mount.target.rstrip("/") for mount in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidInput(f"{target} is mounted twice")
    return tuple(mounts)


def dependency_volumes(options: ContainerOptions) -> dict[str, str]:
    """Volume name to path in the container, by project type."""
    if options.workspace is None:
        return {}
    return {
        f"cc-bridge-{options.project}-{directory.strip('.').replace('/', '-')}": str(
            PurePosixPath(options.mount_at, directory)
        )
        for directory in DEPENDENCIES.get(options.project_type, ())
    }


def container_name(project: str, now: datetime | None = None) -> str:
    """``cc-bridge-{project}-{timestamp}``, the time in UTC."""
    return f"cc-bridge-{project.lower()}-{(now or datetime.now(UTC)):%Y%m%d-%H%M%S}"


class PathMap:
    """Translates paths between this machine and a container with these mounts."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        # The deepest mount that contains a path is the one that counts.
        by_target = sorted(mounts, key=lambda mount: -len(PurePosixPath(mount.target).parts))
        self._by_target = [(PurePosixPath(mount.target), mount) for mount in by_target]
        by_source = sorted(mounts, key=lambda mount: -len(PurePosixPath(mount.source).parts))
        self._by_source = [(PurePosixPath(mount.source), mount) for mount in by_source if not mount.is_volume]

    def to_container(self, path: str | Path) -> str | None:
        """A local path's path in the container; None: it is not mounted, or another mount hides it."""
        host = PurePosixPath(os.path.abspath(path))
        for source, mount in self._by_source:
            if host.is_relative_to(source):
                found = str(PurePosixPath(mount.target) / host.relative_to(source))
                if self.to_host(found) == str(host):
                    return found
        return None

    def to_host(self, path: str | PurePosixPath) -> str | None:
        """A container path's local path; None: it is not mounted, or in a volume."""
        inside = PurePosixPath(os.path.normpath(path))
        for target, mount in self._by_target:
            if inside.is_relative_to(target):
                return None if mount.is_volume else str(PurePosixPath(mount.source) / inside.relative_to(target))
        return None
