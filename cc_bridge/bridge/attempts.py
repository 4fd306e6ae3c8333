"""Which inputs were sent again, and how often in vain."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Attempts"]

#: How often one command may lose its connection before it was taken.
_RETRIES = 3


class Attempts:
    """The tries of inputs that the agent has not taken yet."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        self._repeated: set[str] = set()  # over a new connection: "again" is a good answer

    def fail(self, waiting: Iterable[str]) -> bool:
        """A try has failed for all that wait; True: one of them has failed too often, and counting begins anew."""
        for input_id in waiting:
            self._failed[input_id] = self._failed.get(input_id, 0) + 1
            if self._failed[input_id] > _RETRIES:
                self._failed.clear()
                return True
        return False

    def repeat(self, input_ids: Iterable[str]) -> None:
        """These were not answered over the connection that was lost, and are sent again."""
        self._repeated.update(input_ids)

    def accept(self, input_id: str) -> None:
        """It waits in the agent: what was tried before does not count any more."""
        self._failed.pop(input_id, None)

    def take(self, input_id: str) -> bool:
        """The agent has passed it on; whether it was sent again, so that the agent may have known it by ourselves."""
        self._failed.pop(input_id, None)
        repeated = input_id in self._repeated
        self._repeated.discard(input_id)
        return repeated
