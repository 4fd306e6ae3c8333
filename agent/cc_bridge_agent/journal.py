"""A session's numbered frames on disk: appended, read again from any number still kept, forgotten when acknowledged.

A journal is a directory of segments, each named by the number of its first frame. A record is the length and the
CRC-32 of a frame in hexadecimal, a space after each, and the frame. By them a record that a crash has torn is
found, and cut. Written without fsync: it survives the end of any process and of the container, not a loss of power.
"""

import bisect
import os
import sys
import time
import zlib
from typing import Callable, Iterator, List, Optional, Tuple

#: A new segment begins beyond this size, in bytes: what is forgotten goes by whole segments.
SEGMENT = 4 * 1024 * 1024

#: What need not be kept is kept as long as there is not more than so many bytes of it, and so many seconds.
HISTORY = 16 * 1024 * 1024
HISTORY_AGE = 7 * 24 * 3600.0

#: Bytes between two records whose places in a segment are remembered: at most this much is re-read to find a record.
_MARK = 64 * 1024

_HEADER = 18  # "xxxxxxxx xxxxxxxx "


class _Segment:
    """A file of the journal: the number of its first frame, its size, and where some of its records begin."""

    __slots__ = ("first", "marks", "size")

    def __init__(self, first: int) -> None:
        self.first = first
        self.size = 0
        self.marks = [(first, 0)]  # number and offset, ascending

    def grow(self, number: int, size: int) -> None:
        """From this number on, records of so many bytes were added."""
        if self.size - self.marks[-1][1] >= _MARK:
            self.marks.append((number, self.size))
        self.size += size

    def mark(self, number: int) -> Tuple[int, int]:
        """Number and offset of a record that is this one, or not far before it."""
        return self.marks[max(0, bisect.bisect_right(self.marks, (number, sys.maxsize)) - 1)]


class Journal:
    """The frames of one session. Nothing is written, not even the directory, before the first frame.

    Args:
        directory: this journal's only.
        limit: bytes beyond which it is full: nothing is refused, but whoever feeds it should wait.
        on_record: called with number and frame of each record that an earlier agent has left.

    Attributes:
        id: tells this journal's numbers from those of another, which began anew.
        first, last: numbers of the oldest and the newest frame kept; ``first`` is ``last + 1`` where none is.
        size: bytes kept.
    """

    def __init__(self, directory: str, limit: int, on_record: Callable[[int, bytes], None]) -> None:
        self._directory = directory
        self._limit = limit
        self._segments: List[_Segment] = []  # oldest first
        self._fd: Optional[int] = None
        self.first, self.last, self.size = 1, 0, 0
        self.id = os.urandom(8).hex()
        if os.path.isdir(directory):
            self._recover(on_record)

    @property
    def full(self) -> bool:
        """Nothing more may be kept before something is forgotten."""
        return self.size >= self._limit

    def close(self) -> None:
        """Close the segment that is written to; harmless when repeated."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def append(self, frames: List[bytes]) -> None:
        """Keep frames, whole lines; the first gets the number after ``last``.

        Raises:
            OSError: ENOSPC among others; none of them is kept then.
        """
        if self._fd is None or self._segments[-1].size >= SEGMENT:
            self._begin_segment()
        assert self._fd is not None
        record = b"".join([b"%08x %08x %b" % (len(frame), zlib.crc32(frame), frame) for frame in frames])
        segment = self._segments[-1]
        try:
            written = os.write(self._fd, record)
            while written < len(record):  # the disk is almost full, or a signal came
                written += os.write(self._fd, record[written:])
        except OSError:
            os.ftruncate(self._fd, segment.size)
            raise
        segment.grow(self.last + 1, len(record))
        self.size += len(record)
        self.last += len(frames)

    def restart(self, last: int) -> None:
        """Give up all that is kept, and go on after this number: there was no room for what came before it."""
        self.close()
        self._remove([segment.first for segment in self._segments])
        self._segments = []
        self.first, self.last, self.size = last + 1, last, 0

    def remove(self) -> None:
        """Leave nothing on disk."""
        self.restart(self.last)
        try:
            os.unlink(self._path_of_id())
            os.rmdir(self._directory)
        except FileNotFoundError:
            pass  # no frame was ever kept

    def read(self, after: int) -> Iterator[Tuple[int, bytes]]:
        """Number and frame of each record after this number, in order, up to the newest at that time."""
        for index, segment in enumerate(list(self._segments)):
            beyond = self._segments[index + 1].first if index + 1 < len(self._segments) else self.last + 1
            if beyond > after + 1:
                for number, frame, _ in _records(self._path(segment.first), *segment.mark(after + 1)):
                    if number > after:
                        yield number, frame

    def forget(self, up_to: int) -> None:
        """Give up what is not needed, as far as it fills whole segments; the newest one stays."""
        while len(self._segments) > 1 and self._segments[1].first <= up_to + 1:
            forgotten = self._segments.pop(0)
            self.size -= forgotten.size
            self.first = self._segments[0].first
            os.unlink(self._path(forgotten.first))

    def trim(self, up_to: int) -> None:
        """The same, but of what is young only so much as is beyond ``HISTORY``."""
        old = time.time() - HISTORY_AGE
        while len(self._segments) > 1 and self._segments[1].first <= up_to + 1:
            if self.size <= HISTORY and os.stat(self._path(self._segments[0].first)).st_mtime > old:
                break
            self.forget(self._segments[1].first - 1)

    def _begin_segment(self) -> None:
        self.close()
        if not self._segments:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(self._path_of_id(), "w") as file:
                file.write(self.id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path(self.last + 1), flags, 0o600)
        self._segments.append(_Segment(self.last + 1))

    def _recover(self, on_record: Callable[[int, bytes], None]) -> None:
        """Take up what is there; what is torn is cut, and what comes after it or after a hole is removed."""
        firsts = sorted(int(name[:-4]) for name in os.listdir(self._directory) if name[:-4].isdigit())
        for index, first in enumerate(firsts):
            if self._segments and first != self.last + 1:
                self._remove(firsts[index:])
                break
            segment, self.last = _Segment(first), first - 1
            for number, frame, end in _records(self._path(first), first):
                on_record(number, frame)
                segment.grow(number, end - segment.size)
                self.last = number
            self._segments.append(segment)
            self.size += segment.size
            if segment.size < os.path.getsize(self._path(first)):
                os.truncate(self._path(first), segment.size)
        if self._segments:
            self.first = firsts[0]
            path = self._path(self._segments[-1].first)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            with open(self._path_of_id()) as file:
                self.id = file.read()

    def _remove(self, firsts: List[int]) -> None:
        for first in firsts:
            os.unlink(self._path(first))

    def _path(self, first: int) -> str:
        return os.path.join(self._directory, "%020d.log" % first)

    def _path_of_id(self) -> str:
        return os.path.join(self._directory, "id")


def _records(path: str, number: int, end: int = 0) -> Iterator[Tuple[int, bytes, int]]:
    """Number, frame and end of each whole record of a segment, from one on; ends at the first that is torn."""
    with open(path, "rb") as file:
        file.seek(end)
        while True:
            header = file.read(_HEADER)
            try:
                length, checksum = int(header[:8], 16), int(header[9:17], 16)
            except ValueError:
                return
            frame = file.read(length) if 0 < length <= 2**31 else b""
            if not frame or len(frame) != length or zlib.crc32(frame) != checksum:
                return
            end += _HEADER + length
            yield number, frame, end
            number += 1
