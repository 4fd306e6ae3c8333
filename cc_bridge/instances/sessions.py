"""Claude Code's session files, kept when a container goes, so that ``resume`` works in another one.

What lies in an instance's home was written by a container: nothing there is believed, no link is followed,
and sizes are bounded.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import InvalidInput

__all__ = ["keep_session", "restore_session", "sweep_sessions"]

#: Largest session kept, in bytes; and for how long, in seconds.
_LARGEST = 256 * 1024 * 1024
_KEPT = 30 * 24 * 3600.0

_CHUNK = 1024 * 1024


def keep_session(home: Path, session_id: str, kept: Path) -> bool:
    """Copy a session's file out of an instance's home; False if there is none that could be kept.

    Args:
        home: the home directory of the instance.
        session_id: a UUID, checked by the caller.
        kept: the directory to copy to; made if missing.
    """
    try:
        with _session_file(home, session_id) as source:
            kept.mkdir(mode=0o700, exist_ok=True)
            target = kept / f"{session_id}.jsonl"
            scratch = target.with_suffix(".part")
            with open(scratch, "wb") as copy:
                os.fchmod(copy.fileno(), 0o600)
                left = _LARGEST
                while left > 0 and (data := os.read(source, min(_CHUNK, left))):
                    left -= copy.write(data)
            scratch.rename(target)
    except OSError:
        return False
    return True


def restore_session(kept: Path, session_id: str, home: Path, cwd: str) -> None:
    """Put a kept session where Claude Code looks for it when it starts in ``cwd``.

    Raises:
        InvalidInput: it is not kept here.
    """
    source = kept / f"{session_id}.jsonl"
    if not source.is_file():
        raise InvalidInput(
            f"there is no session {session_id} to go on with",
            hint="Sessions of removed containers are kept for 30 days; a local one needs `--on local`.",
        )
    # 2.1.197 and 2.1.329 name the directory after the working directory in this way.
    directory = home / ".claude" / "projects" / re.sub(r"[^A-Za-z0-9]", "-", cwd)
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / source.name
    target.write_bytes(source.read_bytes())
    target.chmod(0o666)  # the container's user has another number; the home's parent is private
    for path in (directory, directory.parent, directory.parent.parent):
        path.chmod(0o777)


def sweep_sessions(kept: Path) -> None:
    """Remove sessions that nobody has gone on with for long."""
    with suppress(FileNotFoundError), os.scandir(kept) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_mtime < time.time() - _KEPT:
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)


@contextmanager
def _session_file(home: Path, session_id: str) -> Iterator[int]:
    """Open the session's file in whatever project directory it is. Every step by descriptor, none over a link."""
    with ExitStack() as opened:
        parent = _open(str(home), os.O_DIRECTORY, None, opened)
        for name in (".claude", "projects"):
            parent = _open(name, os.O_DIRECTORY, parent, opened)
        for name in os.listdir(parent)[:1000]:
            with suppress(OSError):
                project = _open(name, os.O_DIRECTORY, parent, opened)
                found = _open(f"{session_id}.jsonl", os.O_NONBLOCK, project, opened)
                if stat.S_ISREG(os.fstat(found).st_mode):
                    yield found
                    return
        raise FileNotFoundError(session_id)


def _open(name: str, flags: int, parent: int | None, opened: ExitStack) -> int:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    opened.callback(os.close, fd)
    return fd
