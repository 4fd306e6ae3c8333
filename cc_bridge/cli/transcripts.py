"""A conversation from its transcript, for the verbs that show it. Nothing is started to read it."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, TYPE_CHECKING

import anyio.to_thread

from cc_bridge_agent import wire

from ..errors import BridgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ..instances.bridged import BridgedInstance
    from ..protocol.transcript import Said

__all__ = ["prompts", "read_conversation"]

#: A line longer than this is passed over: a picture, or something hostile.
_LONGEST_LINE = 16 * 1024 * 1024


async def read_conversation(instance: BridgedInstance, take: Callable[[Said], None]) -> None:
    """Give what was said to ``take``, which is called in a thread, one after the other.

    After a cancellation nobody waits for that thread: it may be printing to somebody who does not read.

    Raises:
        InvalidInput: it has had no conversation yet.
        EngineError: it cannot be had from the container.
    """
    from ..protocol.transcript import read_history

    _, content = await instance.open_conversation()

    def read() -> None:
        with content:
            for said in read_history(_entries(content)):
                take(said)

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


async def prompts(
    instance: BridgedInstance, *, turns: Collection[str] | None, last: int | None, longest: int | None
) -> dict[str, Said]:
    """The prompts of a conversation by their turns' ids, in order; none where it cannot be had.

    Args:
        turns: only of these; None: of all.
        last: how many, the latest; None: all.
        longest: characters of each; None: all.
    """
    found: dict[str, Said] = {}

    def take(said: Said) -> None:
        wanted = said.kind == "prompt" and (turns is None or said.turn in turns)
        if wanted and said.turn not in found:
            found[said.turn] = said.replace(text=said.text[:longest])
            if last is not None and len(found) > last:
                del found[next(iter(found))]

    try:
        await read_conversation(instance, take)
    except BridgeError:
        pass  # no conversation yet, or it is in a container that does not run
    return found
