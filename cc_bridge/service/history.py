"""A conversation in parts, from its transcript."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from ..errors import InvalidInput
from ..instances.bridged import BridgedInstance
from ..instances.conversations import read_conversation, read_session
from ..instances.sessions import Sessions
from ..protocol.transcript import Said

__all__ = ["Page", "read_page"]

#: Characters of a part, about; one message alone may be longer.
_LONGEST = 4 * 1024 * 1024


class Page:
    """The last messages before one place of a conversation; give them to :meth:`take` from the first.

    Args:
        before: the index of the first message that is not wanted; None: all are.
        limit: how many messages.
        longest: characters of all of them together, about.
        until: ids of turns; what follows the prompt of one is not wanted.
    """

    def __init__(self, before: int | None, limit: int, until: frozenset[str], longest: int = _LONGEST) -> None:
        self._before = before
        self._limit = limit
        self._until = until
        self._longest = longest
        self._kept: deque[tuple[int, Said, int]] = deque()
        self._size = 0
        self._next = 0

    def take(self, said: Said) -> bool:
        """The next one; True: no more are wanted."""
        if self._next == self._before or (said.kind == "prompt" and said.turn in self._until):
            return True
        size = len(said.text) + (len(json.dumps(said.input, default=str)) if said.input is not None else 0)
        self._kept.append((self._next, said, size))
        self._size += size
        self._next += 1
        while len(self._kept) > self._limit or (self._size > self._longest and len(self._kept) > 1):
            self._size -= self._kept.popleft()[2]
        return False

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Those that were kept, in order, each with its index."""
        return [{"index": index, **said.as_dict()} for index, said, _ in self._kept]

    @property
    def before(self) -> int | None:
        """Where the part before this one ends; None: there is none."""
        return self._kept[0][0] if self._kept and self._kept[0][0] > 0 else None


async def read_page(instance: BridgedInstance, sessions: Sessions, page: Page) -> None:
    """Fill a page; of a conversation that has not begun, with what it will go on with, if there is anything.

    Raises:
        EngineError: it cannot be had from the container.
        InvalidInput: of another kind than that: the instance was removed, or is another.
    """
    try:
        await read_conversation(instance, page.take)
    except InvalidInput as error:
        if type(error) is not InvalidInput:
            raise
        if session := instance.conversation_to_go_on_with():
            await read_session(sessions.open(session), page.take)
