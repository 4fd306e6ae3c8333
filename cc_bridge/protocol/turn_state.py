"""One turn: where it stands, what has been said in it, and when it is to be looked after.

All transitions stand in one table, ``TRANSITIONS``. Time is an argument.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import events
from ..events import Event
from .prompt import text_of
from .streamed_answer import StreamedAnswer
from .verdicts import Judgement, ProcessEnd, turn_result

if TYPE_CHECKING:
    from .blocks import Prompt

__all__ = ["TRANSITIONS", "Interrupt", "TrackedTurn", "TurnState", "TurnStep"]

#: Events that a turn's reader has not fetched, and bytes of the messages they were made of, beyond which a turn is
#: crowded.
_MOST_EVENTS = 1000
_MOST_BYTES = 4 * 1024 * 1024


class TurnState(enum.Enum):
    """Where a turn stands."""

    QUEUED = "queued"
    SENT = "sent"
    WAITING = "waiting"
    TAKEN = "taken"
    RUNNING = "running"
    DONE = "done"


class TurnStep(enum.Enum):
    """What may happen to a turn."""

    SEND = "be sent"
    REQUEUE = "go back to the queue"
    WAIT = "wait in the agent"
    TAKE = "be taken"
    BEGIN = "begin"
    FINISH = "finish"


#: The whole life of a turn. What is not in here is a mistake in this module.
TRANSITIONS: dict[TurnState, dict[TurnStep, TurnState]] = {
    TurnState.QUEUED: {TurnStep.SEND: TurnState.SENT, TurnStep.FINISH: TurnState.DONE},
    TurnState.SENT: {
        TurnStep.REQUEUE: TurnState.QUEUED,
        TurnStep.WAIT: TurnState.WAITING,
        TurnStep.TAKE: TurnState.TAKEN,
        TurnStep.BEGIN: TurnState.RUNNING,
        TurnStep.FINISH: TurnState.DONE,
    },
    TurnState.WAITING: {
        TurnStep.REQUEUE: TurnState.QUEUED,
        TurnStep.TAKE: TurnState.TAKEN,
        TurnStep.FINISH: TurnState.DONE,
    },
    TurnState.TAKEN: {
        TurnStep.WAIT: TurnState.WAITING,  # Claude Code has ended without reading it
        TurnStep.TAKE: TurnState.TAKEN,
        TurnStep.BEGIN: TurnState.RUNNING,
        TurnStep.FINISH: TurnState.DONE,
    },
    TurnState.RUNNING: {
        TurnStep.TAKE: TurnState.RUNNING,
        TurnStep.BEGIN: TurnState.RUNNING,
        TurnStep.FINISH: TurnState.DONE,
    },
    TurnState.DONE: {},
}


class Interrupt(enum.Enum):
    """Whether the turn is to end early."""

    NONE = "none"
    WANTED = "wanted"
    SENT = "sent"


@dataclass(slots=True, eq=False, repr=False)
class TrackedTurn:
    """A turn as this host knows it.

    Attributes:
        prompt: empty: another host's, or an earlier life's of this one.
        followed: it was sent by another host.
        place: in the agent's queue.
        ahead: how many are before it there; -1: nobody has said it.
        events: what its reader has not fetched.
        weight: bytes of the messages that the events were made of.
        announced: its reader knows that it has begun.
        quiet_since: when the last line came.
        wake_at: when it is to be looked after.
        transcript_last: the newest entry when the transcript was last read.
        journal: of the agent that it was given to; empty: of none, or of one that keeps nothing.
        exited: Claude Code has ended in the middle of it, like this.
    """

    id: str
    prompt: Prompt
    state: TurnState = TurnState.QUEUED
    followed: bool = False
    place: int = 0
    ahead: int = -1
    events: deque[Event] = field(default_factory=deque)
    weight: int = 0
    answer: StreamedAnswer = field(default_factory=StreamedAnswer)
    announced: bool = False
    interrupt: Interrupt = Interrupt.NONE
    quiet_since: float = 0.0
    wake_at: float = 0.0
    transcript_last: str = ""
    journal: str = ""
    exited: ProcessEnd | None = None

    # Where it stands

    @property
    def active(self) -> bool:
        """It was sent, and neither waits nor has ended."""
        return self.state in (TurnState.SENT, TurnState.TAKEN, TurnState.RUNNING)

    @property
    def with_claude(self) -> bool:
        """Claude Code has it."""
        return self.state in (TurnState.TAKEN, TurnState.RUNNING)

    @property
    def with_agent(self) -> bool:
        """It was sent and has not ended."""
        return self.active or self.waits

    @property
    def waits(self) -> bool:
        """It waits in the agent."""
        return self.state is TurnState.WAITING

    @property
    def is_unanswered(self) -> bool:
        """It was sent by this host, and the agent has not answered."""
        return self.state is TurnState.SENT and not self.followed

    @property
    def is_done(self) -> bool:
        """It has ended."""
        return self.state is TurnState.DONE

    @property
    def is_interrupted(self) -> bool:
        """Somebody wants it to end."""
        return self.interrupt is not Interrupt.NONE

    @property
    def ticks(self) -> bool:
        """Something is to be done for it when time has come."""
        return self.active or (self.waits and self.is_interrupted)

    @property
    def may_lack_echo(self) -> bool:
        """Its result may come without an echo before it: older releases do not echo slash commands.

        What a followed turn's prompt is, is not known.
        """
        return self.followed or text_of(self.prompt).lstrip().startswith("/")

    # What happens to it

    def step(self, step: TurnStep) -> None:
        """Go on to the next state.

        Raises:
            RuntimeError: the table has no such step; a mistake in the caller.
        """
        try:
            self.state = TRANSITIONS[self.state][step]
        except KeyError:
            raise RuntimeError(f"turn {self.id}: a {self.state.value} turn cannot {step.value}") from None

    def send(self, now: float, silence: float) -> None:
        """It is given to the agent."""
        self.step(TurnStep.SEND)
        self.quiet_since = now
        self.wake_at = now + silence

    def wait(self, place: int, ahead: int) -> None:
        """It has a place in the agent's queue."""
        self.step(TurnStep.WAIT)
        self.place, self.ahead = place, ahead

    def take(self, now: float, patience: float) -> None:
        """The agent has passed it on. ``patience``: seconds until it is looked after, if it has waited."""
        if self.waits:
            self.wake_at = now + patience
        self.step(TurnStep.TAKE)
        self.quiet_since = now

    def begin(self, now: float) -> None:
        """Claude Code has begun with it."""
        self.step(TurnStep.BEGIN)
        self.quiet_since = now

    def announce(self, session_id: str, model: str) -> None:
        """Let the reader know that it has begun, once."""
        if not self.announced:
            self.announced = True
            self.events.append(events.TurnStarted(session_id, model))

    def heard(self, now: float, silence: float, size: int) -> None:
        """A line of so many bytes has come. Lines do not put off the end of an interrupted turn."""
        self.weight += size
        self.quiet_since = now
        if not self.is_interrupted:
            self.wake_at = now + silence

    def tell_position(self) -> None:
        """Let the reader know how many are before it."""
        self.events.append(events.Waiting(self.ahead + 1))

    def tell_silence(self, now: float, transcript_last: str) -> None:
        """Let the reader know that nothing has come for long, and whether the transcript grows."""
        working = transcript_last != self.transcript_last
        self.transcript_last = transcript_last
        self.events.append(events.Silence(round(now - self.quiet_since, 3), working))

    def end(self, judgement: Judgement, session_id: str) -> None:
        """It has ended: its result is its last event."""
        self.step(TurnStep.FINISH)
        for piece in judgement.unsaid:
            self.events += self.answer.say(piece)
        self.events.append(turn_result(judgement, self.answer.text, session_id, self.exited))

    # What its reader gets

    def takeable(self, *, replaying: bool) -> int:
        """How many events may be fetched: none from a permission request that may be decided already."""
        if replaying and not self.is_done:
            for number, event in enumerate(self.events):
                if isinstance(event, events.PermissionRequest):
                    return number
        return len(self.events)

    def fetch(self, count: int) -> list[Event]:
        """The next events."""
        taken = [self.events.popleft() for _ in range(count)]
        if not self.events:
            self.weight = 0
        return taken

    def is_crowded(self, takeable: int) -> bool:
        """Its reader is far behind with what can be fetched."""
        return takeable > _MOST_EVENTS or (self.weight > _MOST_BYTES and takeable > 0)

    def drop_request(self, request_id: str) -> None:
        """A permission request is moot; its event goes, unless it was fetched already."""
        for event in self.events:
            if isinstance(event, events.PermissionRequest) and event.request_id == request_id:
                self.events.remove(event)
                break
