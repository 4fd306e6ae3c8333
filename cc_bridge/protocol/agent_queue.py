"""The agent's queue, as far as this host knows it: who waits in what place, what is given up, whether there is room."""

from __future__ import annotations

from collections.abc import Iterable

from .remembered import MOST_IDS, remember

__all__ = ["AgentQueue"]

#: Turns of ours that are with the agent at once: enough that it never waits for us, and others find room, too.
_MOST_AHEAD = 64


class AgentQueue:
    """The inputs of all hosts that wait in the agent. A place is a number that grows along the queue.

    Attributes:
        exists: the agent has a queue. Agents of 0.1.0 have none, and where no agent can run there is none.
    """

    def __init__(self) -> None:
        self.exists = False
        self._places: dict[str, int] = {}
        self._last = 0
        self._withdrawing: dict[str, None] = {}  # ids given up, of which the agent has not said what became
        self._is_full = False

    def __contains__(self, input_id: str) -> bool:
        return input_id in self._places

    def copy(self) -> AgentQueue:
        """The same, for a conversation that goes on by itself and has withdrawn nothing."""
        other = AgentQueue()
        other.exists, other._places, other._last = self.exists, dict(self._places), self._last
        return other

    def found(self, waiting: Iterable[str]) -> None:
        """What waits, as the agent says in its hello."""
        self._places.clear()
        for input_id in waiting:
            self.join(input_id)

    def lose(self) -> None:
        """The connection broke: who waits is not known any more."""
        self._places.clear()

    def join(self, input_id: str, *, first: bool = False) -> list[int]:
        """An input waits from now on, as the last or as the first.

        Returns:
            Places that have become free: of the oldest input, where there are too many to remember.
        """
        if input_id in self._places:
            return []
        self._last += 1
        self._places[input_id] = min(self._places.values(), default=1) - 1 if first else self._last
        return self.leave(next(iter(self._places))) if len(self._places) > MOST_IDS else []

    def leave(self, input_id: str) -> list[int]:
        """An input waits no longer.

        Returns:
            Places that have become free: its own, if it had one.
        """
        place = self._places.pop(input_id, None)
        return [] if place is None else [place]

    def place(self, input_id: str) -> tuple[int, int]:
        """The place of an input that waits, and how many are before it."""
        place = self._places[input_id]
        return place, sum(other < place for other in self._places.values())

    def withdraw(self, input_id: str) -> None:
        """This host gives an input up."""
        remember(self._withdrawing, input_id)

    @property
    def withdrawing(self) -> tuple[str, ...]:
        """What this host has given up, and the agent has not answered."""
        return tuple(self._withdrawing)

    def answered(self, input_id: str) -> None:
        """The agent has passed an input on or withdrawn it: something has left the queue."""
        self._withdrawing.pop(input_id, None)
        self._is_full = False

    def refused(self) -> bool:
        """There is no room for an input; False: and nothing waits whose end would make some."""
        if self._places:
            self._is_full = True
        return bool(self._places)

    def has_room(self, ahead: int) -> bool:
        """An input may be sent, if so many of this host's have not ended."""
        return not self._is_full and ahead < (_MOST_AHEAD if self.exists else 1)
