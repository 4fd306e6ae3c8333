"""What one program at a time has."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InstanceBusy

__all__ = ["held_by_one"]


@contextmanager
def held_by_one(lock: Path, what: str) -> Iterator[None]:
    """Within the block no other program has it; one that is killed there has left it.

    Raises:
        InstanceBusy: another one has.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            hint = "End that program, or give this fleet a name of its own."
            raise InstanceBusy(f"{what} is in use by the process {holder}", hint=hint) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
