"""What there is only one of on a machine, and how tests in several processes take turns at it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def using(what: str, *, alone: bool) -> Iterator[None]:
    """Use it: together with others, or alone. Holds for all test processes of this user's on this machine.

    Nobody is overtaken: who comes while somebody waits to be alone waits behind. The kernel ends the turn of a
    process that dies.
    """
    directory = Path(tempfile.gettempdir(), f"cc-bridge-tests-turns-{os.getuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / f"{what}.door").open("w") as door, (directory / what).open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
