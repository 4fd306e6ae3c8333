"""The turns of one conversation that have not been read to their end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ..events import Event
from .turn_state import TrackedTurn, TurnState, TurnStep

__all__ = ["Turns"]


class Turns:
    """Turns by their ids, in the order of their submission.

    Attributes:
        replaying: what comes may be of the past, and permission requests may have been decided.
    """

    def __init__(self) -> None:
        self.replaying = False
        self._turns: dict[str, TrackedTurn] = {}

    def __contains__(self, turn_id: object) -> bool:
        return turn_id in self._turns

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[TrackedTurn]:
        return iter(list(self._turns.values()))

    def get(self, turn_id: str) -> TrackedTurn | None:
        """The turn, if it is known."""
        return self._turns.get(turn_id)

    def state(self, turn_id: str) -> TurnState | None:
        """Where the turn stands; None: it is not known."""
        turn = self._turns.get(turn_id)
        return turn.state if turn is not None else None

    def own(self, turn_id: str) -> TrackedTurn | None:
        """The turn, if output can belong to it."""
        turn = self._turns.get(turn_id)
        return turn if turn is not None and turn.active else None

    def add(self, turn: TrackedTurn) -> None:
        """A new turn."""
        self._turns[turn.id] = turn

    def follow(self, turn_id: str, wake_at: float) -> None:
        """A turn that another program has sent; one of this program's that it has not sent yet is that one."""
        turn = self._turns.get(turn_id)
        if turn is None:
            self.add(TrackedTurn(turn_id, "", TurnState.SENT, followed=True, wake_at=wake_at))
        elif turn.state is TurnState.QUEUED:
            turn.step(TurnStep.SEND)
            turn.followed, turn.wake_at = True, wake_at

    def remove(self, turn_id: str) -> TrackedTurn:
        """Forget a turn."""
        return self._turns.pop(turn_id)

    # Which

    @property
    def active_ids(self) -> Collection[str]:
        """The turns that output can belong to."""
        return {turn.id for turn in self._turns.values() if turn.active}

    @property
    def queued(self) -> tuple[str, ...]:
        """The turns that wait to be sent, in order."""
        return tuple(turn.id for turn in self._turns.values() if turn.state is TurnState.QUEUED)

    @property
    def next_queued(self) -> TrackedTurn | None:
        """The first of them."""
        return next((turn for turn in self._turns.values() if turn.state is TurnState.QUEUED), None)

    @property
    def with_agent(self) -> int:
        """How many were sent and have not ended."""
        return sum(turn.with_agent for turn in self._turns.values())

    @property
    def next(self) -> str | None:
        """The turn that is with Claude Code, or else the next that will be."""
        return next(
            (turn.id for turn in self._turns.values() if turn.with_claude),
            next((turn.id for turn in self._turns.values() if turn.active), None),
        )

    @property
    def crowded(self) -> list[str]:
        """Turns whose readers are far behind. One that has ended gets no more events."""
        return [turn.id for turn in self._turns.values() if not turn.is_done and turn.is_crowded(self._takeable(turn))]

    @property
    def unsent(self) -> bool:
        """One waits to be sent, or to be sent again because nobody has answered."""
        return any(turn.state is TurnState.QUEUED or turn.is_unanswered for turn in self._turns.values())

    @property
    def accepted(self) -> bool:
        """The agent has accepted one that has not ended."""
        return any(turn.with_agent and not turn.is_unanswered for turn in self._turns.values())

    @property
    def has_own(self) -> bool:
        """One that this host has begun has not ended."""
        return any(not (turn.is_done or turn.followed) for turn in self._turns.values())

    # Their readers

    def fetch(self, turn_id: str) -> list[Event]:
        """The turn's events since the last call. After the result, the turn is forgotten."""
        turn = self._turns.get(turn_id)
        if turn is None:
            return []
        if turn.is_done:
            del self._turns[turn_id]
        return turn.fetch(self._takeable(turn))

    def fetch_all(self) -> list[tuple[str, list[Event], int]]:
        """The events of all turns since the last call, whether or not they are held back, with the turns' ids.

        The third is how many bytes they were made of. A turn whose result is among them is forgotten.
        """
        found = []
        for turn in list(self._turns.values()):
            if turn.events:
                weight = turn.weight
                found.append((turn.id, turn.fetch(len(turn.events)), weight))
            if turn.is_done:
                del self._turns[turn.id]
        return found

    def backlog(self, turn_id: str) -> int:
        """Events of the turn that can be fetched."""
        turn = self._turns.get(turn_id)
        return self._takeable(turn) if turn is not None else 0

    def replayed(self) -> None:
        """What comes from here on is new; who waits is told its position now, because it may have changed often."""
        if self.replaying:
            for turn in self._turns.values():
                if turn.waits:
                    turn.tell_position()
        self.replaying = False

    # What happens to several

    def tell_active(self, event: Event) -> None:
        """Something is of interest to all turns that were sent and do not wait."""
        for turn in self._turns.values():
            if turn.active:
                turn.events.append(event)

    def tell_queued(self, ahead: int) -> None:
        """What waits to be sent waits for so many others, somewhere else than in the agent's queue."""
        for turn in self._turns.values():
            if turn.state is TurnState.QUEUED and turn.ahead != ahead:
                turn.ahead = ahead
                turn.tell_position()

    def move_back(self, place: int) -> None:
        """An input has come back to this place in the agent's queue: who is behind it learns it."""
        for turn in self._turns.values():
            if turn.waits and turn.place > place:
                turn.ahead += 1
                turn.tell_position()

    def move_up(self, freed: Iterable[int]) -> None:
        """Places in the agent's queue have become free: who is behind them learns it."""
        for place in freed:
            for turn in self._turns.values():
                if turn.waits and turn.place > place:
                    turn.ahead -= 1
                    turn.tell_position()

    # Time

    def due(self, now: float) -> list[TrackedTurn]:
        """The turns that are to be looked after."""
        return [turn for turn in self._turns.values() if turn.ticks and turn.wake_at <= now]

    def next_timer(self) -> float | None:
        """When the first of them is; None: never."""
        return min((turn.wake_at for turn in self._turns.values() if turn.ticks), default=None)

    def put_off(self, until: float) -> None:
        """None is to be looked after before that."""
        for turn in self._turns.values():
            if turn.ticks:
                turn.wake_at = max(turn.wake_at, until)

    def _takeable(self, turn: TrackedTurn) -> int:
        return turn.takeable(replaying=self.replaying)
