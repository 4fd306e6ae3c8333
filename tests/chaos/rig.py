"""One round of chaos: a scripted answer of known text, a fault at a random moment, and what has come of it.

The oracle: the text received over all connections equals the known text, or the turn ended with a named error and
what was received is a beginning of it; the command ran at most once; nothing is left behind.
"""

from __future__ import annotations

import random
import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from cc_bridge import BridgeError, TextDelta
from cc_bridge.channels.base import Channel
from cc_bridge.testing import ScriptedModel

#: Of a hello, each way, in bytes: it is not what is cut here.
_HELLO = 1000

#: Seconds for a round; whoever needs longer hangs.
LIMIT = 90.0

#: What is counted for each fault, in the order of the table.
VERDICTS = ("complete", "interrupted", "lost", "duplicated", "reordered", "left behind")


@dataclass
class Trial:
    """What a fault may strike."""

    rng: random.Random
    model: ScriptedModel
    instance: Any
    pieces: int
    said: list[str] = field(default_factory=list)
    error: BridgeError | None = None
    turn_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    pause: Callable[[], Awaitable[None]] | None = None  # the reader's, between two pieces
    broken: list[Callable[[], str]] = field(default_factory=list)  # asked at the very end; what they say is wrong

    @property
    def prompt(self) -> str:
        """Numbered words, so that each that is lost, doubled or out of place can be told."""
        said = "".join(f"[[say w{number} ]]" for number in range(self.pieces))
        return f"[[pace 0.01]]{said}{self.turn_id}"

    @property
    def moment(self) -> float:
        """Seconds into the answer at which to strike; sometimes before it begins, sometimes after its end."""
        return self.rng.uniform(0, 0.013 * self.pieces + 0.3)


async def read(trial: Trial) -> None:
    """A host that reads the answer, as a chat-bot would."""
    try:
        turn = await trial.instance.submit(trial.prompt, id=trial.turn_id)
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    trial.said.append(event.text)
                if trial.pause is not None:
                    await trial.pause()
            turn.raise_for_result()
    except BridgeError as error:
        trial.error = error


async def play(trial: Trial, fault: Callable[[Trial], Awaitable[None]], read_after: bool) -> list[str]:
    """Read while the fault strikes, or after it; what is wrong, or ``complete`` or ``interrupted``."""
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            if read_after:
                await fault(trial)
            else:
                group.start_soon(fault, trial)
            group.start_soon(read, trial)
    return judge(trial)


def judge(trial: Trial) -> list[str]:
    """The verdicts on a round: one of the first two, and any of the others."""
    numbers = [int(number) for number in re.findall(r"w(\d+)", "".join(trial.said))]
    counts = Counter(numbers)
    verdicts = ["interrupted" if trial.error is not None else "complete"]
    expected = range(trial.pieces) if trial.error is None else range(max(numbers, default=-1) + 1)
    if set(expected) - set(numbers):
        verdicts.append("lost")
    if any(count > 1 for count in counts.values()) or trial.model.prompts[trial.prompt] > 1:
        verdicts.append("duplicated")
    if numbers != sorted(numbers):
        verdicts.append("reordered")
    return verdicts


class CutChannel(Channel):
    """A connection that breaks after so many bytes each way, within a frame or between two."""

    def __init__(self, inner: Channel, receive: int, send: int) -> None:
        self.kind = inner.kind
        self._inner = inner
        self._receive = receive
        self._send = send
        self.cut = False

    async def receive(self) -> bytes:
        if self._receive <= 0:
            self.cut = True
            await self._inner.aclose()
            raise anyio.EndOfStream
        data = (await self._inner.receive())[: self._receive]
        self._receive -= len(data)
        return data

    async def send(self, data: bytes) -> None:
        whole, self._send = len(data) <= self._send, self._send - len(data)
        await self._inner.send(data if whole else data[: self._send])
        if not whole:
            self.cut = True
            await self._inner.aclose()
            raise anyio.BrokenResourceError

    async def aclose(self) -> None:
        await self._inner.aclose()


def cut_connections(instance: Any, budget: Callable[[], tuple[int, int] | None]) -> list[CutChannel]:
    """Have each new connection of the instance break after the bytes that ``budget`` says, received and sent.

    Returns:
        A list to which these connections will be added.
    """
    connect, made = instance.connect, []

    async def connect_and_cut(greeting: bytes) -> Channel:
        channel = await connect(greeting)
        bytes_each_way = budget()
        if bytes_each_way is None:
            return channel
        made.append(CutChannel(channel, *bytes_each_way))
        return made[-1]

    instance.connect = connect_and_cut
    return made


def cut_at_random(instance: Any, chance: random.Random) -> list[CutChannel]:
    """Have the instance's connections break after some bytes, now early and now late, until the eighth."""
    made: list[CutChannel] = []

    def cutting(connect: Any) -> Any:
        async def connect_and_cut(greeting: bytes) -> Channel:
            channel: Channel = await connect(greeting)
            if len(made) >= 8:
                return channel
            receive, send = (_HELLO + int(10 ** chance.uniform(0, 5.5)) for _ in range(2))
            made.append(CutChannel(channel, receive, send))
            return made[-1]

        return connect_and_cut

    instance.connect, instance.connect_to_look = cutting(instance.connect), cutting(instance.connect_to_look)
    return made
