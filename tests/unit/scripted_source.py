"""A source of turns that says what it was told to say, and notes what is asked of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import anyio

from cc_bridge.events import Event, PermissionRequest


class ScriptedSource:
    """A :class:`~cc_bridge.turn.TurnSource`.

    Attributes:
        asked: what was asked of it, in order: the method's name, and what it was about.
        never_over: abandoning a turn does not return.
        idle: called when there is nothing more to say.
        over: called when a turn has been abandoned.
    """

    instance_name = "demo"

    def __init__(self, *batches: Sequence[Event]) -> None:
        self.batches = deque(batches)
        self.asked: list[tuple[str, object]] = []
        self.never_over = False
        self.idle: Callable[[], None] = lambda: None
        self.over: Callable[[], None] = lambda: None
        self.undecided = anyio.Event()
        self.undecided.set()

    async def wait_for_events(self, turn_id: str) -> list[Event]:
        self.asked.append(("wait_for_events", turn_id))
        await anyio.lowlevel.checkpoint()
        if not self.batches:
            self.idle()
            await anyio.sleep_forever()
        return list(self.batches.popleft())

    async def decide(self, request: PermissionRequest) -> None:
        self.asked.append(("decide", request.request_id))
        await self.undecided.wait()

    async def interrupt_turn(self, turn_id: str) -> None:
        self.asked.append(("interrupt_turn", turn_id))

    async def abandon(self, turn_id: str) -> None:
        self.asked.append(("abandon", turn_id))
        await anyio.lowlevel.checkpoint()
        if self.never_over:
            await anyio.sleep_forever()
        self.asked.append(("abandoned", turn_id))
        self.over()

    async def leave(self) -> None:
        self.asked.append(("leave", ""))
