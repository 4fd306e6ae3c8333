"""What the proxy has done, as JSON lines in files that are bounded."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..instances.proxy_files import before, network_file, usage_file
from .terms import Entry

__all__ = ["Journal", "ProxyLog", "as_record", "log_file", "network_file", "records", "usage_file"]

#: Bytes of a file, after which the next one begins; the one before it is kept.
_LARGEST = 4 * 1024 * 1024

#: Characters of one text in a record: of a path or a host that a container has said.
_LONGEST = 2048


def log_file(root: Path) -> Path:
    """What the proxy itself has done: its starts, ends and faults."""
    return root / "proxy" / "log"


class Journal:
    """One such file, and the one before it (:func:`before`).

    What cannot be written (the disk is full) is dropped, and how much that was is said in the next line that can be:
    requests do not fail for want of a log.

    Args:
        largest: bytes, after which the next file begins.
    """

    def __init__(self, path: Path, largest: int = _LARGEST) -> None:
        self._path = path
        self._largest = largest
        self._dropped = 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record, with the time."""
        facts = {"time": round(time.time(), 3), **{key: _short(value) for key, value in record.items()}}
        if self._dropped:
            facts["dropped"] = self._dropped
        line = json.dumps(facts, default=str).encode() + b"\n"
        try:
            self._append(line)
        except OSError:
            self._dropped += 1
        else:
            self._dropped = 0

    def _append(self, line: bytes) -> None:
        # Opened for each line: files may be removed by hand, and there are as many as instances.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(line) > self._largest:
                os.replace(self._path, before(self._path))
                os.close(fd)
                fd = os.open(self._path, flags, 0o600)
            elif size and os.pread(fd, 1, size - 1) != b"\n":  # the end of a line was lost, with a process or a disk
                line = b"\n" + line
            os.write(fd, line)
        finally:
            os.close(fd)

    def note(self, entry: Entry) -> None:
        """Append a request."""
        self.write(entry.as_dict())


def records(path: Path) -> Iterator[dict[str, Any]]:
    """All that is kept, the oldest first; what is no record is left out."""
    for file in (before(path), path):
        with contextlib.suppress(FileNotFoundError), open(file, "rb") as lines:
            for line in lines:
                if (found := as_record(line)) is not None:
                    yield found


def as_record(line: bytes) -> dict[str, Any] | None:
    """What a line says; None: it is torn, or no record."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _short(value: Any) -> Any:
    return value[:_LONGEST] + "…" if isinstance(value, str) and len(value) > _LONGEST else value


class ProxyLog(logging.Handler):
    """The proxy's own log, which also takes what the library logs in it.

    Args:
        instance: that it is about; empty: the proxy.
    """

    def __init__(self, journal: Journal, instance: str = "") -> None:
        super().__init__(logging.WARNING)
        self._journal = journal
        self._facts = {"instance": instance} if instance else {}

    def of(self, instance: str) -> ProxyLog:
        """The same, about an instance."""
        return ProxyLog(self._journal, instance)

    def debug(self, event: str, **facts: object) -> None:
        """Is not kept."""

    def info(self, event: str, **facts: object) -> None:
        """A change of state that was to be expected."""
        self._journal.write({"level": "info", "event": event, **self._facts, **facts})

    def warning(self, event: str, **facts: object) -> None:
        """What somebody should know of."""
        self._journal.write({"level": "warning", "event": event, **self._facts, **facts})

    def error(self, event: str, **facts: object) -> None:
        """What should never happen."""
        self._journal.write({"level": "error", "event": event, **self._facts, **facts})

    def fault(self, event: str, error: BaseException) -> None:
        """An error that nobody has foreseen, with where it came from."""
        self.error(event, error=repr(error), where="".join(traceback.format_exception(error))[-_LONGEST:])

    def emit(self, record: logging.LogRecord) -> None:
        """What the library says (:mod:`cc_bridge.logs`)."""
        self._journal.write({"level": record.levelname.lower(), "event": record.getMessage()})
