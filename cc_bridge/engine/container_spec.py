"""What a container is to be: the arguments of the SDK, and the words of ``docker create``; no I/O."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..limits import Limits
from ..mounts import CONTAINER_HOME
from ..values import Value

__all__ = ["CONTAINER_HOME", "ContainerSpec", "Mount", "docker_words", "user_for"]


class Mount(Value):
    """A directory or file of the engine's machine (``source`` begins with ``/``), or a named volume."""

    source: str
    target: str
    read_only: bool = False

    @property
    def is_volume(self) -> bool:
        """Whether it is a named volume."""
        return not self.source.startswith("/")

    def words(self) -> str:
        """For ``docker --mount``: comma-separated values, quoted as in RFC 4180."""
        parts = [f"type={'volume' if self.is_volume else 'bind'}", f"source={self.source}", f"target={self.target}"]
        parts += ["readonly"] if self.read_only else []
        quoted = ['"{}"'.format(part.replace('"', '""')) if set(part) & set(',"') else part for part in parts]
        return ",".join(quoted)


@dataclass(frozen=True)
class ContainerSpec(Limits):
    """What to create, hardened unless it says otherwise (requirement M2).

    Attributes:
        command: replaces the image's entrypoint and command; None: keep them.
        tmpfs: container path to mount options.
        ports: container port to local port, 0 for any.
        groups: supplementary group ids.
        restart: ``no``, ``on-failure[:times]``, ``always`` or ``unless-stopped``.
        log_size: bytes of output that the engine keeps.
    """

    name: str
    image: str
    command: Sequence[str] | None
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    workdir: str = ""
    network: str = "bridge"
    read_only: bool = True
    tmpfs: Mapping[str, str] = field(default_factory=lambda: {"/tmp": "rw,nosuid,nodev,size=512m,mode=1777"})
    ports: Mapping[int, int] = field(default_factory=dict)
    groups: Sequence[int] = ()
    restart: str = "no"
    auto_remove: bool = False
    tty: bool = False
    stdin: bool = False
    log_size: int = 30 * 1024**2

    def options(self) -> dict[str, Any]:
        """The arguments of the SDK's ``containers.create``."""
        import docker.types

        policy, _, times = self.restart.partition(":")
        return {
            "name": self.name,
            "image": self.image,
            **({} if self.command is None else {"entrypoint": list(self.command), "command": []}),
            "user": self.user or None,
            "labels": dict(self.labels),
            "environment": dict(self.environment),
            "mounts": [
                docker.types.Mount(
                    mount.target, mount.source, type="volume" if mount.is_volume else "bind", read_only=mount.read_only
                )
                for mount in self.mounts
            ],
            "working_dir": self.workdir or None,
            "network": self.network if not _is_mode(self.network) else None,
            "network_mode": self.network if _is_mode(self.network) else None,
            "ports": {f"{inside}/tcp": ("127.0.0.1", outside or None) for inside, outside in self.ports.items()},
            "init": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": self.memory,
            "memswap_limit": self.memory,
            "nano_cpus": int(self.cpus * 1e9),
            "cpu_shares": self.cpu_shares,
            "pids_limit": self.pids,
            "read_only": self.read_only,
            "tmpfs": dict(self.tmpfs),
            "group_add": [str(group) for group in self.groups],
            "restart_policy": {"Name": policy, "MaximumRetryCount": int(times or 0)},
            "auto_remove": self.auto_remove,
            "tty": self.tty,
            "stdin_open": self.stdin,
            "log_config": docker.types.LogConfig(
                type="json-file", config={"max-size": str(self.log_size // 3), "max-file": "3"}
            ),
        }


def docker_words(spec: ContainerSpec) -> list[str]:
    """The arguments of ``docker`` that create the same container."""
    words = ["create", "--name", spec.name, "--init", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    words += ["--memory", str(spec.memory), "--memory-swap", str(spec.memory), "--cpus", f"{spec.cpus:g}"]
    words += ["--cpu-shares", str(spec.cpu_shares), "--pids-limit", str(spec.pids)]
    words += ["--read-only"] if spec.read_only else []
    words += ["--network", spec.network, "--restart", spec.restart]
    words += ["--log-driver", "json-file", "--log-opt", f"max-size={spec.log_size // 3}", "--log-opt", "max-file=3"]
    words += ["--user", spec.user] if spec.user else []
    words += ["--workdir", spec.workdir] if spec.workdir else []
    words += ["--rm"] if spec.auto_remove else []
    words += ["--tty"] if spec.tty else []
    words += ["--interactive"] if spec.stdin else []
    for option, values in (
        ("--label", [f"{key}={value}" for key, value in spec.labels.items()]),
        ("--env", [f"{key}={value}" for key, value in spec.environment.items()]),
        ("--mount", [mount.words() for mount in spec.mounts]),
        ("--tmpfs", [f"{path}:{options}" for path, options in spec.tmpfs.items()]),
        ("--publish", [f"127.0.0.1:{outside or ''}:{inside}/tcp" for inside, outside in spec.ports.items()]),
        ("--group-add", [str(group) for group in spec.groups]),
    ):
        words += [word for value in values for word in (option, value)]
    if spec.command is None:
        return [*words, spec.image]
    first, *rest = spec.command
    return [*words, "--entrypoint", first, spec.image, *rest]


def user_for(workspace: Path | None) -> tuple[int, int]:
    """User and group id for a container: this process's, so that files have the right owner, but never root."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:  # the workspace's owner, or else the first regular user of Debian
        owner = workspace.stat() if workspace and workspace.exists() else None
        uid, gid = (owner.st_uid, owner.st_gid) if owner and owner.st_uid else (1000, 1000)
    return uid, gid


def _is_mode(network: str) -> bool:
    return network in ("bridge", "host", "none", "default") or network.startswith("container:")
