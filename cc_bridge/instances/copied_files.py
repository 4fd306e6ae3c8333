"""A copy of one session's files, in a directory of this machine's.

What a container has sent is written to files with names of ours, and ``index.json``, which is replaced as a whole, says
which of them is what, and how much of it counts. So whoever is killed leaves the copy before or the copy after, and
nothing that a container sends is a path here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cc_bridge_agent.conversation import TAIL

from ..beneath import open_beneath, opened, read_file
from ..state import write_whole
from ..values import Value
from .sessions import LARGEST

__all__ = ["TRANSCRIPT", "CopiedFiles", "FileCopy", "Index"]

#: The session's own file; the agent's ``conversation.py`` has the names.
TRANSCRIPT = "transcript"

_INDEX, _LOCK = "index.json", "lock"
_FORMAT = 1
_LARGEST_INDEX = 4 * 1024 * 1024
_LONGEST_HEADER = 4096
_MOST_FILES = 2500

#: How often it is looked whether all is there: another program may have swept between two looks.
_LOOKS = 2
_NAME = re.compile(r"transcript|(?:session|tasks|file-history)(?:/[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,199}){1,6}")
_BLOB = re.compile(r"[0-9a-f]{16}")
_CHUNK = 256 * 1024
_SEARCHED = 16 * 1024 * 1024
_LONGEST_LINE = 256 * 1024


class FileCopy(Value):
    """A file: the name of what has its bytes, and how many of these count."""

    blob: str
    size: int


class Index(Value):
    """What the copy is of.

    Attributes:
        session: empty: there is none.
        copy: names this copy among others; it stays, whichever session it is of.
        number: how often something was copied.
    """

    session: str = ""
    copy: str = ""
    number: int = 0
    files: Mapping[str, FileCopy] = {}


class CopiedFiles:
    """See the module. All methods do disk I/O, and are for threads.

    Args:
        directory: of this copy alone; it is made when something is kept. Not even its name is a container's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def index(self) -> Index:
        """What there is. An index that cannot be read is none; nor is one whose transcript has gone.

        Raises:
            OSError: the directory cannot be read.
        """
        try:
            with opened(self.directory) as root:
                return _read_index(root)
        except FileNotFoundError:
            return Index()

    def have(self, session_id: str) -> dict[str, tuple[int, str]]:
        """Sizes of this session's files here, and digests of their ends, as the agent's ``give`` takes them.

        Raises:
            OSError: a file cannot be read.
        """
        index = self.index()
        if index.session != session_id:
            return {}
        with opened(self.directory) as root:
            return {name: (file.size, _digest_of_end(root, file)) for name, file in index.files.items() if file.size}

    def next_mark(self) -> tuple[str, int]:
        """Name and number that the index will have after the next :meth:`keep`.

        Raises: as :meth:`index`.
        """
        index = self.index()
        return index.copy or os.urandom(8).hex(), index.number + 1

    def keep(self, session_id: str, mark: tuple[str, int], sent: IO[bytes]) -> int:
        """Take over what the agent's ``give`` has sent, all of it or nothing.

        Args:
            mark: see :meth:`next_mark`.

        Returns:
            Bytes that were new.

        Raises:
            ValueError: it is no such thing, has no transcript, or is too large.
            BlockingIOError: another program is copying.
            OSError: it cannot be written.
        """
        self.make()
        with opened(self.directory) as root, _locked(root):
            before = _read_index(root)
            try:
                files, new = _take_over(root, before.files if before.session == session_id else {}, sent)
                _sync(root)  # the index names nothing that a power cut takes away
                _write_index(self.directory, Index(session_id, *mark, files))
                _sync(root)  # and is there before what it does not name goes
            except Exception:  # whatever it was goes on; what a container sends in vain must not fill the disk
                _sweep(root, _read_index(root))
                raise
            _sweep(root, Index(files=files))
            return new

    def make(self) -> None:
        """Make the directory if it is missing.

        Raises:
            OSError: it cannot be made.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def digest(self, file: FileCopy, most: int) -> str:
        """SHA-256 of a file's first bytes.

        Raises:
            OSError: it cannot be read.
        """
        digest = hashlib.sha256()
        for data in self.read(file, min(file.size, most)):
            digest.update(data)
        return digest.hexdigest()

    def read(self, file: FileCopy, most: int) -> Iterator[bytes]:
        """A file's first bytes, in pieces.

        Raises:
            OSError: it cannot be read.
        """
        with self.open(file) as content:
            while most and (data := content.read(min(_CHUNK, most))):
                most -= len(data)
                yield data

    def lines_after(self, file: FileCopy, word: bytes) -> list[str] | None:
        """The lines behind the last one that has these bytes; None: they are not in the file's last 16 MiB.

        Left out are lines that are too long to be decoded beside anything else.

        Raises:
            OSError: it cannot be read.
        """
        with self.open(file) as content:
            at = _last(content, word, file.size, max(0, file.size - _SEARCHED))
            if at < 0:
                return None
            content.seek(at)
            left, lines = file.size - at - len(content.readline(file.size - at)), []
            while left > 0 and (line := content.readline(left)):
                left -= len(line)
                if len(line) <= _LONGEST_LINE:
                    lines.append(line.decode("utf-8", "replace"))
            return lines

    def open(self, file: FileCopy) -> IO[bytes]:
        """A file, to be closed by the caller. What is beyond its size does not count.

        Raises:
            OSError: it cannot be read.
        """
        with opened(self.directory) as root:
            return os.fdopen(open_beneath(root, [file.blob]), "rb")


@contextmanager
def _locked(root: int) -> Iterator[None]:
    fd = open_beneath(root, [_LOCK], os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _read_index(root: int) -> Index:
    """What it names and is there: what has gone is copied anew, and without its transcript the copy is of nothing."""
    for _ in range(_LOOKS):
        index = _named(root)
        files = {name: file for name, file in index.files.items() if _size(root, file.blob) >= file.size}
        if len(files) == len(index.files):
            return index
    session = index.session if TRANSCRIPT in files else ""
    return Index(session, index.copy, index.number, files if session else {})


def _named(root: int) -> Index:
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raw = json.loads(read_file(root, [_INDEX], _LARGEST_INDEX))
        if raw["format"] != _FORMAT:
            return Index()
        files = {str(name): FileCopy(str(blob), int(size)) for name, (blob, size) in raw["files"].items()}
        if all(map(_NAME.fullmatch, files)) and all(_BLOB.fullmatch(file.blob) for file in files.values()):
            return Index(str(raw["session"]), str(raw["copy"]), int(raw["number"]), files)
    return Index()


def _size(root: int, blob: str) -> int:
    """Bytes of a file; -1: it has gone, or is no file."""
    with suppress(FileNotFoundError):
        found = os.stat(blob, dir_fd=root, follow_symlinks=False)
        return found.st_size if stat.S_ISREG(found.st_mode) else -1
    return -1


def _write_index(directory: Path, index: Index) -> None:
    files = {name: (file.blob, file.size) for name, file in index.files.items()}
    mark = {"copy": index.copy, "number": index.number}
    raw = {"format": _FORMAT, "session": index.session, **mark, "files": files}
    write_whole(directory / _INDEX, json.dumps(raw).encode(), lasting=True)


def _take_over(root: int, known: Mapping[str, FileCopy], sent: IO[bytes]) -> tuple[dict[str, FileCopy], int]:
    """Write all files that come; the files, and bytes that were new.

    Raises:
        ValueError, OSError: as :meth:`CopiedFiles.keep`.
    """
    files: dict[str, FileCopy] = {}
    new = total = 0
    while (header := _header(sent)) is not None:
        name, start, size = header
        total += size
        if total > LARGEST or len(files) == _MOST_FILES:
            raise ValueError("it is too large")
        if name in files or not (files or name == TRANSCRIPT):
            raise ValueError(f"{name} is there twice, or comes before the transcript")
        old = known.get(name)
        if start and (old is None or old.size != start):
            raise ValueError(f"{name} goes on at {start}, where nobody was")
        files[name] = old if old and old.size == start == size else _write(root, old, name, start, size, sent)
        new += size - start
    if not files:
        raise ValueError("it has no transcript, or one that is too large")
    return files, new


def _header(sent: IO[bytes]) -> tuple[str, int, int] | None:
    """Name, where it begins and size of the next file; None: there is no other.

    Raises:
        ValueError: this is no header.
    """
    line = sent.readline(_LONGEST_HEADER)
    header: Any = json.loads(line) if line.endswith(b"\n") else None
    match header:
        case {"end": True}:
            return None
        case {"name": str(name), "from": int(start), "size": int(size)} if _NAME.fullmatch(name):
            if 0 <= start <= size <= LARGEST:
                return name, start, size
    raise ValueError(f"what came is not the header of a file: {line[:100]!r}")


def _write(root: int, old: FileCopy | None, name: str, start: int, size: int, sent: IO[bytes]) -> FileCopy:
    """Write a file anew, or what is new of it behind what counts."""
    blob = old.blob if old is not None and start else os.urandom(8).hex()
    flags = os.O_RDWR if start else os.O_RDWR | os.O_CREAT | os.O_EXCL
    with os.fdopen(open_beneath(root, [blob], flags), "r+b", 0) as file:
        file.seek(start)
        left = size - start
        while left:
            data = sent.read(min(left, _CHUNK))
            if not data:
                raise ValueError(f"{left} bytes of {name} are missing")
            left -= file.write(data)
        file.truncate()  # what a program that was killed has left
        if name == TRANSCRIPT or name.endswith(".jsonl"):
            size = _end_of_lines(file.fileno(), start, size)
        os.fsync(file.fileno())
    return FileCopy(blob, size)


def _end_of_lines(fd: int, start: int, size: int) -> int:
    """The end of the last whole line; the rest of it comes with the next copy."""
    while size > start:
        begin = max(start, size - _CHUNK)
        newline = os.pread(fd, size - begin, begin).rfind(b"\n")
        if newline != -1:
            return begin + newline + 1
        size = begin
    return start


def _last(content: IO[bytes], word: bytes, end: int, least: int) -> int:
    """Where a word is in a file for the last time between these; -1: it is not there."""
    begin = end
    while begin > least:
        begin, until = max(least, begin - _CHUNK), min(end, begin + len(word) - 1)
        content.seek(begin)
        found = content.read(until - begin).rfind(word)
        if found != -1:
            return begin + found
    return -1


def _digest_of_end(root: int, file: FileCopy) -> str:
    start = max(0, file.size - TAIL)
    with os.fdopen(open_beneath(root, [file.blob]), "rb", 0) as content:
        return hashlib.sha256(os.pread(content.fileno(), file.size - start, start)).hexdigest()


def _sync(root: int) -> None:
    try:
        os.fsync(root)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing for directories
            raise


def _sweep(root: int, index: Index) -> None:
    """Remove what an index does not name, and cut off what is behind its files."""
    sizes = {file.blob: file.size for file in index.files.values()}
    for name in os.listdir(root):
        with suppress(OSError):  # no file of ours
            if name not in sizes and name not in (_INDEX, _LOCK):
                os.unlink(name, dir_fd=root)
            elif name in sizes and _size(root, name) > sizes[name]:
                with os.fdopen(open_beneath(root, [name], os.O_WRONLY), "wb", 0) as file:
                    file.truncate(sizes[name])
