"""Mounts as users write them, and the engine's socket, which is one, too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import InvalidInput

__all__ = ["docker_socket", "parse_mount", "split_mount"]


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
