"""The private directory of one instance, in the state directory.

::

    $CC_BRIDGE_HOME, or $XDG_STATE_HOME/cc-bridge, or ~/.local/state/cc-bridge
    ├── agent-<hash>.pyz          the agent, as it is put into containers
    ├── sessions/                 conversations of instances that have gone
    ├── installation.json         the id that tells this installation's containers from others'
    ├── run/                      0700: sockets of agents and panes
    └── instances/<name>/         0700
        ├── record.json           0600: the record; it may have secrets in `env`
        ├── lock                  held by every program that uses the instance
        ├── changing              held by the one that starts, stops or removes it
        ├── session               Claude Code's session id, to go on with
        ├── pipes/                mounted read-only into the container
        ├── journal/              the agent's: what Claude Code has said; outlives agent and container
        ├── home/                 Claude Code's home in the container: conversations outlive it
        ├── config/               Claude Code's configuration and conversations in a pane
        └── agent.log             what the agent of a local process logs
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..beneath import opened, remove_tree
from ..channels.named_pipe import prepare_directory
from ..errors import InstanceBusy, InstanceNotFound, InvalidInput
from ..instance import ClaudeInstance
from ..state import MARKER, make_private, mark_instance, runtime_directory, shared_runtime_directory, unusable

__all__ = ["Home", "let_go"]

#: What says that there is no record of a name; a name may be longer than a directory's can be.
_THERE_IS_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)

#: What goes with the directory itself: who waits for one of them must not find another in its place.
_STAYS = ("lock", "changing", MARKER)

#: How often a directory that is removed at the same time is made.
_TRIES = 100

#: How many things that could not be removed are named.
_SHOWN = 3


@dataclass(frozen=True)
class Home:
    """The directory of one instance."""

    path: Path

    @property
    def pipes(self) -> Path:
        """The directory in which host and agent meet, mounted read-only into a container."""
        return self.path / "pipes"

    @property
    def journal(self) -> Path:
        """The agent's journals, one for each session."""
        return self.path / "journal"

    @property
    def changing(self) -> Path:
        """What programs lock that start, stop or remove the instance (:func:`.steps.exclusive`)."""
        return self.path / "changing"

    @property
    def claude_home(self) -> Path:
        """HOME of Claude Code in a container."""
        return self.path / "home"

    @property
    def agent_log(self) -> Path:
        """What a local agent writes to stderr."""
        return self.path / "agent.log"

    @property
    def socket(self) -> str:
        """The agent's own socket; elsewhere, because its path has to be short."""
        return str(self._runtime / f"{self._short_name}.sock")

    @property
    def _runtime(self) -> Path:
        """Where its sockets are: where those of 0.1.0 are, as long as what it started runs."""
        before, name = shared_runtime_directory(), self._short_name
        if (before / f"{name}.sock").exists() or (before / f"{name}.pane").exists():
            return before
        return runtime_directory(self.path.parent.parent)

    @property
    def _short_name(self) -> str:
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:16]

    @property
    def pane(self) -> str:
        """The directory of the instance's pane, with the socket of its tmux server; elsewhere for the same reason."""
        return self.socket.removesuffix(".sock") + ".pane"

    @property
    def tmux_socket(self) -> str:
        """The socket of the pane's own tmux server."""
        return os.path.join(self.pane, "tmux")

    @property
    def config(self) -> Path:
        """Claude Code's configuration in a pane: the user's own stays as it is."""
        return self.path / "config"

    def make(self) -> None:
        """Make the directory.

        Raises:
            InvalidInput: it cannot be made.
        """
        self._make(pipes=False)

    def prepare(self) -> None:
        """Make the directory and its pipes.

        Raises:
            InvalidInput: it cannot be made.
        """
        self._make(pipes=True)

    def _make(self, *, pipes: bool) -> None:
        for tries in range(_TRIES):
            try:
                make_private(self.path)
                if pipes:
                    make_private(self._runtime)
                    mark_instance(self.path)
                    prepare_directory(str(self.pipes))
                return
            except OSError as error:
                # Another program may be removing it at this moment.
                if not isinstance(error, FileNotFoundError) or tries == _TRIES - 1:
                    raise unusable(self.path, error) from error

    def hold(self) -> int:
        """Mark the instance as used by this program: a descriptor; closing it, or the program's end, takes it back.

        Call it after :meth:`prepare`, before the record is written, and within a block of :attr:`changing`: whoever
        removes the directory is in one, too.

        Raises:
            InstanceBusy: somebody removes it all the same.
            InvalidInput: the directory cannot be used.
        """
        path = self.path / "lock"
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:  # it has just been removed
                self.prepare()
                continue
            except OSError as error:
                raise unusable(self.path, error) from error
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise InstanceBusy("another program is removing it", instance=self.path.name) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
            os.close(fd)  # the lock of a directory that was removed at this moment
            self.prepare()

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Whether no program uses the instance; within the block, none begins to."""
        try:
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:  # one of 0.1.0, which locks nothing
            yield True
            return
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            let_go(fd)

    def exists(self) -> bool:
        """There is an instance of this name."""
        return (self.path / "record.json").exists()

    def is_older_than(self, seconds: float) -> bool:
        """Its record was written so long ago; False: there is none."""
        try:
            return time.time() - (self.path / "record.json").stat().st_mtime > seconds
        except FileNotFoundError:
            return False

    def save(self, record: ClaudeInstance, *, new: bool = False) -> None:
        """Write the record, whole or not at all.

        Args:
            new: there must be none.

        Raises:
            FileExistsError: there is one.
        """
        fd, scratch = tempfile.mkstemp(dir=self.path)  # 0600
        try:
            with os.fdopen(fd, "w") as file:
                file.write(record.model_dump_json(indent=1))
            if new:
                os.link(scratch, self.path / "record.json")
            else:
                os.replace(scratch, self.path / "record.json")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)

    def load(self) -> ClaudeInstance:
        """The record.

        Raises:
            InstanceNotFound: there is none.
            InvalidInput: it cannot be read.
        """
        try:
            text = (self.path / "record.json").read_text()
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno in _THERE_IS_NONE:
                raise InstanceNotFound(f"there is no instance {self.path.name!r}") from None
            what = f"its record cannot be read: {error.strerror if isinstance(error, OSError) else error}"
            raise InvalidInput(what, instance=self.path.name, hint="`cc-bridge rm --force` removes it.") from None
        try:
            return ClaudeInstance.model_validate_json(text)
        except ValidationError as error:
            what = f"its record cannot be read: {error.error_count()} problems, the first: {error.errors()[0]['msg']}"
            raise InvalidInput(what, instance=self.path.name, hint="`cc-bridge rm --force` removes it.") from None

    @property
    def session_id(self) -> str:
        """The session to go on with; empty: none.

        Raises:
            InvalidInput: the state directory is not this user's to read.
        """
        try:
            return (self.path / "session").read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise unusable(self.path, error) from error

    def remember_session(self, value: str) -> None:
        """Keep the session to go on with."""
        with contextlib.suppress(FileNotFoundError):  # the instance is being removed
            (self.path / "session").write_text(value)

    def remove(self) -> None:
        """Delete the directory and all in it; harmless when repeated.

        The record goes last: what could not be removed still belongs to an instance, and no other inherits it.

        Raises:
            InvalidInput: names what could not be removed.
        """
        left = []
        # In both places: what 0.1.0 has started is in the shared one only as long as it runs.
        for place in {runtime_directory(self.path.parent.parent), shared_runtime_directory()}:
            with contextlib.suppress(FileNotFoundError), opened(place) as run:
                ours = os.fstat(run).st_uid == os.geteuid()
                for suffix in (".sock.lock", ".pane.lock", ".sock", ".pane") if ours else ():
                    left += remove_tree(run, self._short_name + suffix)
        with contextlib.suppress(FileNotFoundError), opened(self.path) as home:
            for name in set(os.listdir(home)) - {"record.json", *_STAYS}:
                left += remove_tree(home, name)
            if not left:
                left += remove_tree(home, "record.json")
        if not left:
            with contextlib.suppress(FileNotFoundError), opened(self.path.parent) as instances:
                # Away at once: who comes now must make a directory of its own, and not lock in this one.
                gone = f".{self.path.name}.{secrets.token_hex(4)}"
                os.rename(self.path.name, gone, src_dir_fd=instances, dst_dir_fd=instances)
                left += remove_tree(instances, gone)
        if left:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            raise InvalidInput(
                f"{self.path} could not be removed: {'; '.join(left[:_SHOWN])}{more}",
                instance=self.path.name,
                hint="Delete that directory as its owner or as root, or repeat this when it can be done.",
            )


def let_go(held: int) -> None:
    """Take back what :meth:`Home.hold` has marked, also where a child that was forked has a copy of the descriptor."""
    fcntl.flock(held, fcntl.LOCK_UN)
    os.close(held)
