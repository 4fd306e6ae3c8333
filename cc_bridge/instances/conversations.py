"""A conversation from its transcript. Nothing is started to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING

import anyio.to_thread

from cc_bridge_agent import wire

from ..protocol.transcript import Said, read_history

if TYPE_CHECKING:
    from .bridged import BridgedInstance

__all__ = ["read_conversation", "read_session"]

#: A line longer than this is passed over: a picture, or something hostile.
_LONGEST_LINE = 16 * 1024 * 1024


async def read_conversation(instance: BridgedInstance, take: Callable[[Said], bool | None]) -> None:
    """Give what was said to ``take``, which is called in a thread, one after the other.

    After a cancellation nobody waits for that thread: it may be printing to somebody who does not read.

    Args:
        take: returns True when it has had enough.

    Raises:
        InvalidInput: it has had no conversation yet.
        EngineError: it cannot be had from the container.
    """
    _, content = await instance.open_conversation()
    await read_session(content, take)


async def read_session(content: IO[bytes], take: Callable[[Said], bool | None]) -> None:
    """The same for a session's file, which is closed."""

    def read() -> None:
        with content:
            for said in read_history(_entries(content)):
                if take(said):
                    return

    await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


def _entries(file: IO[bytes]) -> Iterator[wire.Frame]:
    """What is no JSON object, or no bounded one, is passed over: the file may be a container's, and its end torn."""
    for line in _lines(file):
        with suppress(wire.FrameError):
            yield wire.decode(line)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        whole = line.endswith(b"\n")
        if whole or len(line) < _LONGEST_LINE:
            yield line.rstrip(b"\n")
        while not whole and (rest := file.readline(_LONGEST_LINE)):
            whole = rest.endswith(b"\n")
