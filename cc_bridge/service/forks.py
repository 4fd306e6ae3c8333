"""A new instance that goes on in a copy of another one's conversation."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from ..beneath import link_target, make_directory, open_beneath, opened, remove_tree
from ..errors import InstanceDiffers, InvalidInput
from ..fleet import Fleet
from ..fleet.template import ALIAS, SPARE
from ..record import ClaudeInstance

__all__ = ["copy_tree", "fork"]

#: Of a workspace that is copied: bytes, entries, directories within each other.
_LARGEST = 2 * 1024**3
_MOST = 100_000
_DEEPEST = 64

_CHUNK = 1024 * 1024


async def fork(fleet: Fleet, name: str, new: str) -> None:
    """Make an instance of another one's record, and start it in a copy of the conversation as it is now.

    A workspace that a fleet has made for the one is copied for the other; any other workspace they share.

    Raises:
        InstanceDiffers: there is an instance of the new name.
        InvalidInput: there is no conversation yet, or there cannot be two of it.
        BridgeError: it cannot be started; nothing is left of it.
    """
    original = fleet.open(name)
    record = original.record
    if record.in_pane:
        raise InvalidInput("it is in a pane, which cannot be had twice", instance=name)
    if new in {*fleet.names(), *fleet.registry.names()}:  # also of those that are ready for others
        raise InstanceDiffers(["name"], instance=new, hint="Take another name.")
    session = await original.keep_conversation()
    labels = {key: value for key, value in record.labels.items() if key not in (SPARE, ALIAS)}
    made = replace(record, name=new, resume=session, fork=True, labels=labels, created=datetime.now(UTC))
    if not _is_fleets(fleet, record):
        await fleet.make(made)
        return
    assert record.workspace is not None
    workspace = record.workspace.parent / new
    await anyio.to_thread.run_sync(_make, workspace)
    try:
        await anyio.to_thread.run_sync(copy_tree, record.workspace, workspace)
        await fleet.make(replace(made, workspace=workspace))
    except BaseException:  # cancelled, too
        if new not in fleet.registry.names():
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_remove, workspace)
        raise


def _is_fleets(fleet: Fleet, record: ClaudeInstance) -> bool:
    """The workspace was made for this instance, and is removed with it."""
    workspace, root = record.workspace, fleet.registry.root / "workspaces"
    return workspace is not None and workspace.parent.parent == root and workspace.name == record.name


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise InvalidInput(f"the workspace cannot be copied: {error.strerror}") from error


def _remove(path: Path) -> None:
    with opened(path.parent) as parent:
        remove_tree(parent, path.name)


def copy_tree(source: Path, target: Path) -> None:
    """Copy what is in a directory that others may write to: by descriptor, and over no link. Links stay links.

    Sockets, devices and pipes are left out. Owners are kept where this process may give files away.

    Raises:
        InvalidInput: it is too large, or cannot be copied; there may be a part of it.
    """
    try:
        with opened(source.parent) as parent, opened(source.name, parent) as root, opened(target) as copy:
            _Copy().directory(root, copy, 0)
    except OSError as error:
        raise InvalidInput(f"the workspace cannot be copied: {error.strerror}") from error


class _Copy:
    def __init__(self) -> None:
        self._bytes = self._entries = 0

    def directory(self, source: int, target: int, depth: int) -> None:
        """What is in it, and then its owner and mode."""
        if depth > _DEEPEST:
            raise InvalidInput("the workspace cannot be copied: its directories are too deep within each other")
        for name in os.listdir(source):
            self._entries += 1
            if self._entries > _MOST:
                raise InvalidInput(f"the workspace cannot be copied: it has more than {_MOST} files")
            self._entry(name, source, target, depth)
        facts = os.fstat(source)
        _keep_owner(target, facts)
        os.fchmod(target, stat.S_IMODE(facts.st_mode) & 0o777)

    def _entry(self, name: str, source: int, target: int, depth: int) -> None:
        kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        with ExitStack() as stack:
            if stat.S_ISDIR(kind):
                inner = stack.enter_context(opened(name, source))
                make_directory(target, name, 0o700)
                self.directory(inner, stack.enter_context(opened(name, target)), depth + 1)
            elif stat.S_ISLNK(kind):
                os.symlink(link_target(source, [name]), name, dir_fd=target)
            elif stat.S_ISREG(kind):
                self._file(name, source, target)

    def _file(self, name: str, source: int, target: int) -> None:
        with os.fdopen(open_beneath(source, [name]), "rb") as content:
            facts = os.fstat(content.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(open_beneath(target, [name], flags), "wb") as copy:
                while data := content.read(_CHUNK):
                    self._bytes += len(data)
                    if self._bytes > _LARGEST:
                        raise InvalidInput(f"the workspace cannot be copied: it has more than {_LARGEST} bytes")
                    copy.write(data)
                _keep_owner(copy.fileno(), facts)
                os.fchmod(copy.fileno(), stat.S_IMODE(facts.st_mode) & 0o777)


def _keep_owner(fd: int, facts: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, facts.st_uid, facts.st_gid)
