"""What the proxy was told, in memory that outlives its process: logins among it, which never are on a disk."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from typing import Any

__all__ = ["Notes"]

#: Number, length and checksum of what is in a slot.
_HEADER = struct.Struct("<QQI")

#: Bytes between the two slots; what is not written takes no memory.
_SLOT = 1 << 26


class Notes:
    """Values in a memory file (memfd_create(2)), whose descriptor is handed on from process to process.

    Each value is written to the slot that the one before it is not in: a process that is killed while it writes leaves
    the one before.

    Args:
        fd: of the file.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._number = max((number for number, _ in self._slots()), default=0)

    @classmethod
    def make(cls) -> Notes:
        """New ones, without a value."""
        return cls(os.memfd_create("cc-bridge-proxy", os.MFD_CLOEXEC))

    def save(self, value: Any) -> None:
        """Keep a value, of JSON types, in the place of the one before.

        Raises:
            ValueError: it is too large.
        """
        data = json.dumps(value).encode()
        if len(data) > _SLOT - _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too many to be kept")
        self._number += 1
        header = _HEADER.pack(self._number, len(data), zlib.crc32(data))
        os.pwrite(self.fd, header + data, self._number % 2 * _SLOT)

    def load(self) -> Any:
        """The newest value; None: there is none."""
        newest = max(self._slots(), key=lambda slot: slot[0], default=None)
        return None if newest is None else json.loads(newest[1])

    def _slots(self) -> list[tuple[int, bytes]]:
        found = []
        for slot in (0, 1):
            with contextlib.suppress(struct.error):
                number, length, checksum = _HEADER.unpack(os.pread(self.fd, _HEADER.size, slot * _SLOT))
                data = os.pread(self.fd, min(length, _SLOT), slot * _SLOT + _HEADER.size)
                if number and len(data) == length and zlib.crc32(data) == checksum:
                    found.append((number, data))
        return found
