"""Where instances are kept on this machine: a directory each (:mod:`.home`), by their names."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..beneath import opened
from ..channels.fifo import open_fifo
from ..channels.named_pipe import LISTEN
from ..errors import BridgeError, InstanceNotFound, InvalidInput
from ..instance import ClaudeInstance
from ..state import (
    agent_archive,
    make_private,
    state_root,
)
from .home import Home
from .sessions import Sessions
from .steps import exclusive_if_free

__all__ = ["Registry", "agent_archive", "can_change", "state_root"]

#: Fields that can be changed: they enter with each start of Claude Code. All others are its container's or its place's.
_CHANGEABLE = ("claude", "env", "relay")

#: An ephemeral instance whose host was killed is swept when this old, in seconds.
_STALE = 120.0


class Registry:
    """The instances of this machine and user."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or state_root()
        if self.root.exists():
            make_private(self.root)  # before anything in it is believed

    @property
    def sessions(self) -> Sessions:
        """The conversations of instances that have gone."""
        return Sessions(self.root / "sessions")

    def home(self, name: str) -> Home:
        """The directory of the instance of this name, which need not exist."""
        return Home(self.root / "instances" / name)

    def names(self) -> list[str]:
        """All instances, sorted."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.parent.name for path in (self.root / "instances").glob("*/record.json"))
        return []

    def load(self, name: str) -> ClaudeInstance:
        """The record of an instance. Raises as :meth:`Home.load`."""
        if "/" in name or name in ("", ".", ".."):
            raise InstanceNotFound(f"there is no instance {name!r}")
        return self.home(name).load()

    def update(self, name: str, **changes: Any) -> ClaudeInstance:
        """Change an instance's record; Claude Code has the changes when it is started the next time (``restart()``).

        Args:
            changes: fields of :func:`can_change`, as :meth:`ClaudeInstance.of` takes them; they replace what was there.

        Returns:
            The new record.

        Raises:
            InvalidInput: names the fields that need a new instance, or what is wrong with a value. Nothing was changed.
            InstanceNotFound: there is none of this name.
        """
        return self.change(name, lambda kept: changes)

    def change(self, name: str, changes_of: Callable[[ClaudeInstance], Mapping[str, Any]]) -> ClaudeInstance:
        """The same for changes that depend on what is there: no other program changes it in between.

        Args:
            changes_of: is given the record, and returns the changes; it must not call this.

        Raises: as :meth:`update`.
        """
        self.load(name)
        home = self.home(name)
        with contextlib.suppress(FileNotFoundError), opened(home.path) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)  # the directory itself: `lock` says who uses the instance
            kept = self.load(name)
            changes = changes_of(kept)
            if fixed := [field for field in changes if not can_change([field])]:
                raise InvalidInput(
                    f"{', '.join(fixed)}: only a new instance can have that changed; {', '.join(_CHANGEABLE)} can be",
                    instance=name,
                    hint=f"`cc-bridge rm {name}` and `cc-bridge up {name} …` make a new one, which goes on with the "
                    "conversation where kind and directory are the same.",
                )
            record = ClaudeInstance.of(**{**dict(kept), **changes})
            home.save(record)
            return record
        raise InstanceNotFound(f"there is no instance {name!r}")  # it has just been removed

    def stale(self) -> list[str]:
        """Ephemeral instances that no program uses any more, and no agent either: their hosts were killed."""
        found = []
        for name in self.names():
            with contextlib.suppress(BridgeError, OSError), self._claimed_if_stale(name) as stale:
                found += [name] if stale else []
        return found

    def remove_if_stale(self, name: str) -> bool:
        """Remove what a stale instance has left; False: it is none, or not any more.

        Raises:
            InvalidInput: names what could not be removed.
        """
        with self._claimed_if_stale(name) as stale:
            if stale:
                self.home(name).remove()
            return stale

    def sweep(self) -> list[str]:
        """Remove what stale instances have left; their names."""
        self.sessions.sweep()
        swept = []
        for name in self.names():
            # One that cannot be: others can start all the same, and `cc-bridge prune` tells why.
            with contextlib.suppress(BridgeError, OSError):
                swept += [name] if self.remove_if_stale(name) else []
        return swept

    @contextmanager
    def _claimed_if_stale(self, name: str) -> Iterator[bool]:
        """Whether it is stale; within the block, no program takes it into use."""
        home = self.home(name)
        with contextlib.ExitStack() as stack:
            yield (
                home.is_older_than(_STALE)
                # First, because a failed start asks within its own block whether it may undo itself.
                and stack.enter_context(exclusive_if_free(home.changing))
                and stack.enter_context(home.claimed())
                and home.exists()
                and home.load().ephemeral
                and not _somebody_listens(home)
            )


def can_change(differences: Iterable[str]) -> bool:
    """Whether an instance can have all of these fields changed: ``claude``, one of its fields, ``env``, ``relay``."""
    return all(difference.partition(".")[0] in _CHANGEABLE for difference in differences)


def _somebody_listens(home: Home) -> bool:
    try:
        open_fifo(str(home.pipes), LISTEN, os.O_WRONLY).close()
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENOENT)
    return True
