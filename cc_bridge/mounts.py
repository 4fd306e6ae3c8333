"""Mounts as users write them, and the engine's socket, which is one, too."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

from .errors import InvalidInput

__all__ = ["CONTAINER_HOME", "docker_socket", "mounted_at", "parse_mount", "split_mount"]

#: ``HOME`` in a container: where Claude Code finds its login and keeps its sessions.
CONTAINER_HOME = "/home/cc-bridge"


def parse_mount(text: str, *, instance: str = "") -> tuple[str, str, bool]:
    """As :func:`split_mount`, of what is there.

    Raises:
        InvalidInput: says which part is wrong, or what does not exist.
    """
    path, inside, read_only = split_mount(text)
    if not os.path.exists(path):
        raise InvalidInput(f"the mount {text!r}: {path} does not exist on this machine", instance=instance)
    return path, inside, read_only


def split_mount(text: str) -> tuple[str, str, bool]:
    """Host path (absolute), container path and read-only of ``host:container[:ro|rw]``; the host's need not exist.

    Raises:
        InvalidInput: says which part is wrong.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0]:
        raise InvalidInput(f"the mount {text!r} is not host:container or host:container:mode")
    host, inside, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else "rw"
    if not inside.startswith("/"):
        raise InvalidInput(f"the mount {text!r}: the path in the container must be absolute")
    if mode not in ("ro", "rw"):
        raise InvalidInput(f"the mount {text!r}: the mode is 'ro' or 'rw', not {mode!r}")
    return str(Path(host).expanduser().resolve()), inside, mode == "ro"


def mounted_at(path: str, mounts: Sequence[tuple[str, str]]) -> str | None:
    """Where a path is in a container; None: it is not there.

    A path of this machine's goes by the mount that it is deepest in, also through links; one of the container's stays.

    Args:
        path: absolute.
        mounts: of each the path here, without links, and there.
    """
    real = PurePath(os.path.realpath(path))
    for here, there in sorted(mounts, key=lambda mount: len(PurePath(mount[0]).parts), reverse=True):
        if real.is_relative_to(here):
            return str(PurePosixPath(there) / real.relative_to(here))
    inside = PurePosixPath(os.path.normpath(path))
    return str(inside) if any(inside.is_relative_to(there) for _, there in mounts) else None


def docker_socket() -> tuple[str, int]:
    """The engine's socket on this machine, and the group that may use it.

    Raises:
        InvalidInput: there is none.
    """
    path = "/var/run/docker.sock"
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be given to a container: {error.strerror}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise InvalidInput(f"{path} is no socket")
    return path, found.st_gid
