"""Where instances are kept on this machine: one private directory each.

::

    $CC_BRIDGE_HOME, or $XDG_STATE_HOME/cc-bridge, or ~/.local/state/cc-bridge
    ├── agent-<hash>.pyz          the agent, as it is put into containers
    ├── sessions/                 conversations of instances that have gone
    ├── installation.json         the id that tells this installation's containers from others'
    ├── fleets/<name>/            0700: a fleet's desk and accounts
    ├── workspaces/<fleet>/<name>/  0700: of instances that a fleet's pool has made
    ├── run/                      0700: sockets of agents and panes, and of the proxy
    ├── proxy/                    0700: locks and log of the proxy, if a key is outside; never a key
    │   ├── network/<name>        what an instance has asked for
    │   └── usage/<name>          what it has used today
    └── instances/<name>/         0700
        ├── record.json           0600: the record; it may have secrets in `env`
        ├── lock, changing        held by every program that uses it; by the one that starts, stops or removes it
        ├── session               Claude Code's session id, to go on with
        ├── pipes/                mounted read-only into the container
        ├── placeholder           0600: what is inside in the place of a key that is outside
        ├── journal/              the agent's: what Claude Code has said; outlives agent and container
        ├── home/                 Claude Code's home in the container: conversations outlive it
        ├── config/               Claude Code's configuration and conversations in a pane
        ├── conversation/         a copy of what a swarm's container has of it
        └── agent.log             what the agent of a local process logs
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..beneath import opened, remove_tree
from ..channels.fifo import open_fifo
from ..channels.named_pipe import LISTEN, prepare_directory
from ..errors import BridgeError, InstanceBusy, InstanceNotFound, InvalidInput
from ..record import ClaudeInstance
from ..state import (
    MARKER,
    agent_archive,
    make_private,
    mark_instance,
    runtime_directory,
    shared_runtime_directory,
    state_root,
    unusable,
    write_whole,
)
from ..values import Value
from .proxy_files import forget
from .sessions import Sessions
from .steps import exclusive_if_free

__all__ = ["Home", "Registry", "agent_archive", "can_change", "let_go", "state_root"]

#: Fields that the proxy looks at.
_OF_THE_PROXY = ("allow_hosts", "api_limits", "key_command", "key_file")
#: Fields that can be changed: they enter with each start of Claude Code, rules at once. Others are its place's.
_CHANGEABLE = ("claude", "env", "relay", "rules", "sleep_after", "stop_after", *_OF_THE_PROXY)

#: What says that there is no record of a name; a name may be longer than a directory's can be.
_THERE_IS_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)

#: What goes with the directory itself: who waits for one of them must not find another in its place.
_STAYS = ("lock", "changing", MARKER)

#: How often a directory that is removed at the same time is made.
_TRIES = 100

#: How many things that could not be removed are named.
_SHOWN = 3

#: An ephemeral instance whose host was killed is swept when this old, in seconds.
_STALE = 120.0


class Home(Value):
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
        before, now = shared_runtime_directory(), runtime_directory(self.path.parent.parent)
        there = before != now and before.exists()  # else there is no need to hash a name, nor to load what hashes
        if there and any((before / f"{self._short_name}.{suffix}").exists() for suffix in ("sock", "pane")):
            return before
        return now

    @property
    def _short_name(self) -> str:
        import hashlib

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

    def save(self, record: ClaudeInstance, *, new: bool = False) -> None:
        """Write the record, whole or not at all.

        Args:
            new: there must be none.

        Raises:
            FileExistsError: there is one.
        """
        text = json.dumps(record.as_json_types(), indent=1, ensure_ascii=False)
        write_whole(self.path / "record.json", text.encode(), new=new)

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
            return ClaudeInstance.from_kept(json.loads(text))
        except (ValueError, RecursionError) as error:
            what = f"its record cannot be read: {error.what if isinstance(error, InvalidInput) else error}"
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
        left, root = [], self.path.parent.parent
        # In both places: what 0.1.0 has started is in the shared one only as long as it runs.
        for place in {runtime_directory(root), shared_runtime_directory()}:
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
                gone = f".{self.path.name}.{os.urandom(4).hex()}"
                os.rename(self.path.name, gone, src_dir_fd=instances, dst_dir_fd=instances)
                left += remove_tree(instances, gone)
            forget(root, self.path.name)
        if left:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            raise InvalidInput(
                f"{self.path} could not be removed: {'; '.join(left[:_SHOWN])}{more}",
                instance=self.path.name,
                hint="Delete that directory as its owner or as root, or repeat this when it can be done.",
            )


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
        """Change a record, for Claude Code's next start (``restart()``), or for the proxy from the next connection on.

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
            record = ClaudeInstance.of(**{**vars(kept), **changes})
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
                home.exists()
                and time.time() - (home.path / "record.json").stat().st_mtime > _STALE
                # First, because a failed start asks within its own block whether it may undo itself.
                and stack.enter_context(exclusive_if_free(home.changing))
                and stack.enter_context(home.claimed())
                and home.load().ephemeral
                and not _somebody_listens(home)
            )


def let_go(held: int) -> None:
    """Take back what :meth:`Home.hold` has marked, also where a child that was forked has a copy of the descriptor."""
    fcntl.flock(held, fcntl.LOCK_UN)
    os.close(held)


def can_change(differences: Iterable[str]) -> bool:
    """Whether an instance can have all of these fields changed: what ``update`` takes, and ``claude``'s own."""
    return all(difference.partition(".")[0] in _CHANGEABLE for difference in differences)


def _somebody_listens(home: Home) -> bool:
    try:
        open_fifo(str(home.pipes), LISTEN, os.O_WRONLY).close()
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENOENT)
    return True
