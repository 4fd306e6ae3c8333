"""Conversations apart from the instances that had them: kept, gone on with elsewhere, exported and imported.

A conversation is Claude Code's session file. What lies in an instance's home was written by a container, and an
exported file by anybody: nothing there is believed, no link is followed, and sizes are bounded.
"""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from cc_bridge_agent import wire

from ..beneath import open_beneath, opened, remove_tree
from ..errors import InvalidInput
from ..names import is_uuid
from ..record import ClaudeInstance
from ..values import Value

if TYPE_CHECKING:
    import tarfile

__all__ = [
    "LARGEST",
    "SavedConversation",
    "Sessions",
    "export_session",
    "forget_session",
    "open_session",
    "session_path",
]

#: Largest session kept, in bytes; and for how long, in seconds.
LARGEST = 256 * 1024 * 1024
_KEPT = 30 * 24 * 3600.0

_CHUNK = 1024 * 1024

#: Directories of projects that are looked through for a session; and what says that it is in another.
_MOST_PROJECTS = 10_000
_IS_NOT_HERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO)

_FORMAT = 1
_ABOUT = "conversation.json"


class SavedConversation(Value):
    """The conversation of an instance that was removed: its session, and where it took place.

    Attributes:
        config: Claude Code's configuration directory on this machine, where its transcript still is; else empty.
    """

    session_id: str
    kind: str
    cwd: str
    config: str = ""


class Sessions:
    """The directory in which conversations are kept when their instances go.

    ``<session>.jsonl`` is a session, ``names/<instance>.json`` says which one an instance had.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, session_id: str, content: IO[bytes]) -> None:
        """Keep a session, whole or not at all; an unfinished last line is left out.

        Raises:
            OSError: it cannot be written.
            InvalidInput: it is too large.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        import tempfile

        fd, scratch = tempfile.mkstemp(dir=self.directory, suffix=".part")  # 0600
        try:
            with os.fdopen(fd, "wb") as copy:
                _copy(content, copy)
            os.rename(scratch, self._path(session_id))
        except BaseException:  # whatever it was is raised again: half a file must not stay
            with suppress(FileNotFoundError):
                os.unlink(scratch)
            raise

    def has(self, session_id: str) -> bool:
        """It is kept here."""
        return self._path(session_id).is_file()

    def open(self, session_id: str) -> IO[bytes]:
        """A session that is kept, to be closed by the caller.

        Raises:
            InvalidInput: it is not kept here.
        """
        try:
            return self._path(session_id).open("rb")
        except OSError:
            raise InvalidInput(
                f"there is no session {session_id} to go on with",
                hint="Sessions of removed instances are kept for 30 days; a local one needs `--on local`.",
            ) from None

    def remember(self, name: str, kept: SavedConversation) -> None:
        """Note which conversation an instance had."""
        path = self._name(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(json.dumps(kept.as_dict()))

    def recall(self, name: str) -> SavedConversation | None:
        """The conversation that the last instance of this name had."""
        try:
            return SavedConversation(**json.loads(self._name(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def forget(self, name: str) -> None:
        """Delete what is kept of an instance of this name."""
        kept = self.recall(name)
        for path in [self._name(name)] + ([self._path(kept.session_id)] if kept and is_uuid(kept.session_id) else []):
            path.unlink(missing_ok=True)

    def kept(self) -> dict[str, tuple[str, ...]]:
        """The sessions that are kept: each one's id, and the names of the instances that had it, as far as known."""
        names: dict[str, list[str]] = {}
        for path in sorted((self.directory / "names").glob("*.json")):
            if (saved := self.recall(path.stem)) is not None:
                names.setdefault(saved.session_id, []).append(path.stem)
        return {path.stem: tuple(names.get(path.stem, ())) for path in sorted(self.directory.glob("*.jsonl"))}

    def delete(self, session_id: str) -> None:
        """Delete a session that is kept, its instances' transcripts and their notes; harmless when repeated.

        Raises:
            InvalidInput: names what could not be deleted.
        """
        if not is_uuid(session_id):
            return
        for name in self.kept().get(session_id, ()):
            saved = self.recall(name)
            if saved is not None and saved.config:
                forget_session(Path(saved.config), session_id)
            self._name(name).unlink(missing_ok=True)
        self._path(session_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what nobody has gone on with for long."""
        for directory in (self.directory, self.directory / "names"):
            with suppress(FileNotFoundError), os.scandir(directory) as entries:
                for entry in entries:
                    old = entry.stat(follow_symlinks=False).st_mtime < time.time() - _KEPT
                    if old and not entry.is_dir(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            os.unlink(entry.path)

    def import_file(self, path: Path) -> str:
        """Keep the session in an exported file; its id.

        Raises:
            InvalidInput: says what is wrong with the file. Nothing was kept.
        """
        import tarfile

        try:
            with tarfile.open(path, "r:gz") as tar:
                about = _about(tar)
                session_id = about["session_id"]
                member = tar.next()
                content = tar.extractfile(member) if member is not None and member.isreg() else None
                if content is None or member is None or member.name != f"{session_id}.jsonl":
                    raise ValueError("its session is missing")
                first = content.readline(LARGEST)
                wire.decode(first.rstrip(b"\n"))  # which counts what it would become
                content.seek(0)
                self.keep(session_id, content)
        except FileNotFoundError:
            raise InvalidInput(f"there is no file {path}") from None
        except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{path} is no exported conversation: {error}") from None
        return str(session_id)

    def _path(self, session_id: str) -> Path:
        return self.directory / f"{session_id}.jsonl"

    def _name(self, name: str) -> Path:
        return self.directory / "names" / f"{name}.json"


def export_session(session_id: str, content: IO[bytes], about: dict[str, str], target: Path) -> None:
    """Write a session into a file of its own, whole or not at all, readable by its owner only.

    Args:
        about: more facts for whoever looks into the file.

    Raises:
        InvalidInput: the file cannot be written, or the session is too large.
    """
    import tarfile
    import tempfile

    facts = json.dumps({"format": _FORMAT, "session_id": session_id, **about}, indent=1).encode()
    try:
        fd, scratch = tempfile.mkstemp(dir=target.absolute().parent, suffix=".part")  # 0600
        try:
            with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar, _whole(content) as whole:
                tar.addfile(_header(_ABOUT, len(facts)), io.BytesIO(facts))
                tar.addfile(_header(f"{session_id}.jsonl", whole.seek(0, os.SEEK_END)), _rewound(whole))
            os.rename(scratch, target)
        except BaseException:  # whatever it was is raised again: half a file must not stay
            with suppress(FileNotFoundError):
                os.unlink(scratch)
            raise
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror}") from error


def session_path(session_id: str, cwd: str) -> PurePosixPath:
    """Where Claude Code looks for a session when it starts in ``cwd``, within its configuration directory."""
    # 2.1.197 and 2.1.329 name the directory after the working directory in this way.
    return PurePosixPath("projects", re.sub(r"[^A-Za-z0-9]", "-", cwd), f"{session_id}.jsonl")


@contextmanager
def open_session(config: Path, session_id: str) -> Iterator[IO[bytes]]:
    """Open the session's file in whatever project directory it is. Every step by descriptor, none over a link.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or is no file.
    """
    with opened(config) as parent, opened("projects", parent) as projects, os.scandir(projects) as entries:
        for entry in itertools.islice(entries, _MOST_PROJECTS):
            try:
                found = open_beneath(projects, [entry.name, f"{session_id}.jsonl"])
            except OSError as error:
                if error.errno not in _IS_NOT_HERE:
                    raise  # out of descriptors, say: that does not mean that there is no session
                continue
            with os.fdopen(found, "rb") as content:
                if stat.S_ISREG(os.fstat(found).st_mode):
                    yield content
                    return
        raise FileNotFoundError(session_id)


def forget_session(config: Path, session_id: str) -> None:
    """Delete a session's file and the directory of its name, in whatever project they are.

    Raises:
        InvalidInput: names what could not be deleted.
    """
    left = []
    with (
        suppress(FileNotFoundError, NotADirectoryError),
        opened(config) as parent,
        opened("projects", parent) as projects,
    ):
        for name in os.listdir(projects):
            with suppress(OSError), opened(name, projects) as project:  # what cannot be opened has nothing of it
                for item in (f"{session_id}.jsonl", session_id):
                    left += remove_tree(project, item)
    if left:
        raise InvalidInput(f"the conversation in {config} could not be removed: {'; '.join(left)}")


def _about(tar: tarfile.TarFile) -> dict[str, Any]:
    member = tar.next()
    content = tar.extractfile(member) if member is not None and member.isreg() else None
    if content is None or member is None or member.name != _ABOUT or member.size > _CHUNK:
        raise ValueError(f"it does not begin with {_ABOUT}")
    about: dict[str, Any] = json.loads(content.read())
    if about["format"] != _FORMAT:
        raise ValueError(f"its format is {about['format']!r}, not {_FORMAT}")
    if not is_uuid(about["session_id"]):
        raise ValueError("its session has no id")
    return about


def _header(name: str, size: int) -> tarfile.TarInfo:
    import tarfile

    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = size, 0o600, int(time.time())
    return header


@contextmanager
def _whole(content: IO[bytes]) -> Iterator[IO[bytes]]:
    """A copy that does not grow while it is read, without an unfinished last line."""
    import tempfile

    with tempfile.TemporaryFile() as copy:
        _copy(content, copy)
        yield copy


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _copy(content: IO[bytes], copy: IO[bytes]) -> None:
    size = whole = 0
    while data := content.read(_CHUNK):
        size += len(data)
        if size > LARGEST:
            raise InvalidInput(f"the session is larger than {LARGEST} bytes")
        copy.write(data)
        if (newline := data.rfind(b"\n")) != -1:
            whole = size - len(data) + newline + 1
    copy.truncate(whole)


def session_to_begin_with(record: ClaudeInstance, sessions: Sessions, cwd: str) -> str:
    """The session that a new instance begins with: the one asked for, or that of its name's last instance; "": none.

    Args:
        cwd: where its Claude Code starts: a session goes on only where it was.

    Raises:
        InvalidInput: the one asked for is not a session's id.
    """
    if record.resume:
        if not is_uuid(record.resume):
            raise InvalidInput(f"{record.resume!r} is not a session's id", instance=record.name)
        return record.resume
    kept = None if record.ephemeral else sessions.recall(record.name)
    if kept is None or (kept.kind, kept.cwd) != (record.kind, cwd):
        return ""
    return kept.session_id if sessions.has(kept.session_id) else ""
