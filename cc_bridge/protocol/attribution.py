"""Whose turn a line of Claude Code's output belongs to.

In order of trust: the ids in it (``result``, ``system/init``, ``command_lifecycle``: newer releases), the echo of the
user's message by its uuid, and the order in which the agent took the inputs. A ``result`` that belongs to no turn,
such as one left over from an interrupted turn, ends none.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from . import stream_json as sj
from .remembered import remember

__all__ = ["Attribution"]


class Attribution:
    """Whose turn the output belongs to; ids of any host's turns.

    It is told what happens, and knows nothing of turns but their ids. ``ours`` are the turns of this host that the
    agent may have passed on and that have not ended.

    Attributes:
        current: the turn that lines without an id belong to; empty: nobody's.
    """

    def __init__(self) -> None:
        self.current = ""
        self._order: dict[str, None] = {}  # ids as the agent took them, until their result
        self._claimed: dict[str, None] = {}  # ids of the turns that the output since the last result belongs to
        self._names = False  # this Claude Code's system/init names its turns

    def copy(self) -> Attribution:
        """The same, for a conversation that goes on by itself."""
        other = Attribution()
        other.current, other._order, other._claimed = self.current, dict(self._order), dict(self._claimed)
        other._names = self._names
        return other

    def reset(self) -> None:
        """Claude Code is a new process, or nothing more is heard of this one."""
        self.current = ""
        self._order.clear()
        self._claimed.clear()
        self._names = False

    def found_open(self, turn_ids: Iterable[str]) -> None:
        """The inputs, of other hosts, that were taken before this one listened."""
        self._order.clear()
        for turn_id in turn_ids:
            remember(self._order, turn_id)

    def took(self, turn_id: str) -> None:
        """The agent has passed the turn's input on."""
        remember(self._order, turn_id)

    def waits(self, turn_id: str) -> bool:
        """The turn's input waits in the agent; True: Claude Code had it, and has ended without reading it."""
        had_it = turn_id in self._order
        self._order.pop(turn_id, None)
        return had_it

    def begins(self, message: sj.Init | sj.Lifecycle | sj.Echo, ours: Container[str]) -> str:
        """Claude Code says something of a turn.

        Returns:
            The id of the turn, if it begins now; empty: none does.
        """
        match message:
            case sj.Init(turn_ids=named):
                return self._initialized(named, ours)
            case sj.Echo(turn_id) if turn_id:
                return self._echoed(turn_id, ours)
            case sj.Lifecycle(turn_id, "held") if turn_id in ours:
                self.current = turn_id  # and it can be interrupted from here on
                return turn_id
            case sj.Lifecycle(turn_id, "started") if turn_id:
                self.current = turn_id
                remember(self._claimed, turn_id)
                # It has not begun: an interrupt before system/init would be ignored by older releases.
        return ""

    def _initialized(self, named: Sequence[str], ours: Container[str]) -> str:
        """A turn begins; where Claude Code has merged several, one of ours, if any is.

        Where turns are named, one that is not was begun by Claude Code itself, when work in the background had ended.
        """
        self._names = self._names or bool(named)
        if self._names:
            self.current = next((turn_id for turn_id in named if turn_id in ours), named[0] if named else "")
        else:
            self.current = next(iter(self._order), "")
        return self.current

    def _echoed(self, turn_id: str, ours: Container[str]) -> str:
        """The output since the last result answers this turn, among others maybe, and then belongs to the first."""
        remember(self._claimed, turn_id)
        if self.current in ours and self.current in self._claimed:
            return ""
        self.current = turn_id
        return turn_id

    def result(self, named: Sequence[str], *, unclaimed_ends: bool) -> dict[str, bool]:
        """A result has come.

        Args:
            named: the turns that it names.
            unclaimed_ends: it ends the current turn also where nothing says so.

        Returns:
            The turns that it ends; true: the agent had passed them on, as far as is known.
        """
        current = [self.current] if self.current and unclaimed_ends else []
        ended = {turn_id: turn_id in self._order for turn_id in named or list(self._claimed) or current}
        for turn_id in ended:
            self._claimed.pop(turn_id, None)
            self.ended(turn_id)
        return ended

    def ended(self, turn_id: str) -> None:
        """The turn has ended, however."""
        self._order.pop(turn_id, None)
        if self.current == turn_id:
            self.current = ""
