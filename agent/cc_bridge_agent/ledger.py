"""What a session has said and taken: numbers, the journal, and which inputs were accepted.

No I/O of its own but the journal's. The session tells it what happens and gives the frames on to the hosts.
"""

import itertools
import re
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Set

from . import wire
from .journal import Journal
from .queue import Queue

#: Ids of inputs remembered, to answer a repeat.
_REMEMBERED_IDS = 4096

_EVENT = re.compile(rb'\{"seq":\d+,"(took|done|started|exit|queued|withdrawn)":"?([A-Za-z0-9_-]*)')


class Ledger:
    """The account of one session.

    Args:
        directory, limit: see :class:`~cc_bridge_agent.journal.Journal`.

    Attributes:
        open_ids: inputs that the running Claude Code was given, and whose turns nobody has declared done.
        queue: inputs that were accepted, and wait for the turn before them to end.
        waiting: frames that could not be kept yet, because the disk is full: not to be given to anybody.
    """

    def __init__(self, directory: str, limit: int) -> None:
        self.open_ids: "OrderedDict[str, None]" = OrderedDict()
        self.queue = Queue()
        self.waiting: List[bytes] = []
        self._taken: "OrderedDict[str, int]" = OrderedDict()
        self._unread: Set[str] = set()  # of those taken: nobody has declared them done
        self._settled = 0  # the number at which a turn was declared done last
        self._ran = False
        self.journal = Journal(directory, limit, self._recall)
        if self._ran:  # it has ended with the agent that had started it, and nobody saw how
            self.number([{"exit": None}])
            self.keep()
        self.open_ids.clear()

    @property
    def seq(self) -> int:
        """The newest number given."""
        return self.journal.last + len(self.waiting)

    def number(self, frames: List[Dict[str, Any]]) -> None:
        """Give the next numbers to frames; :meth:`keep` follows."""
        for frame in frames:
            self.waiting.append(wire.encode({"seq": self.seq + 1, **frame}))

    def number_output(self, lines: List[bytes]) -> None:
        """The same for lines of Claude Code's stdout."""
        self.waiting += map(wire.encode_output, itertools.count(self.seq + 1), lines)

    def number_bytes(self, stream: str, data: bytes) -> None:
        """The same for what a raw session's process has written to a stream."""
        self.waiting.append(wire.encode_bytes(self.seq + 1, stream, data))

    def keep(self) -> List[bytes]:
        """Journal what waits; the frames that are kept now, to be given to the hosts.

        Raises:
            OSError: there is no room; they go on waiting.
        """
        if self.waiting:
            self.journal.append(self.waiting)
        kept, self.waiting = self.waiting, []
        return kept

    def give_up_keeping(self) -> List[bytes]:
        """Forget all, for want of room; the frames that waited, to be given to hosts that have all before them."""
        kept, self.waiting = self.waiting, []
        self.journal.restart(self.journal.last + len(kept))
        return kept

    def take(self, input_id: str) -> bool:
        """Accept an input; False: it had been accepted before, by this agent or an earlier one."""
        if input_id in self._taken:
            return False
        self.give(input_id)
        return True

    def give(self, input_id: str) -> None:
        """An input is passed to Claude Code, be it one that has waited."""
        self._note(input_id, self.seq + 1)
        if not input_id.startswith(wire.CONTROL):
            self.queue.current = input_id
            self.open_ids[input_id] = None
        self.number([{"took": input_id}])

    def hold(self, input_id: str, line: bytes, *, first: bool = False) -> None:
        """Accept an input that has to wait; it is kept with its text, and waits in the next agent, too.

        Args:
            first: it had been given to a Claude Code that has ended without reading it.
        """
        self._note(input_id, self.seq + 1)
        self.open_ids.pop(input_id, None)
        self.queue.hold(input_id, line, first=first)
        self.waiting.append(wire.encode_queued(self.seq + 1, input_id, line))

    def hold_again(self, up_to: int) -> bool:
        """Keep anew what waits, and was kept at or before this number: that is about to be forgotten.

        Returns: there is something to be kept.
        """
        lines = [held for held in self.queue.lines() if self._taken.get(held[0], 0) <= up_to]
        for input_id, line in lines:
            self.hold(input_id, line)
        return bool(lines)

    def withdraw(self, input_id: str) -> bool:
        """An input that waits is not to be passed on, and forgotten; False: it does not wait (any more)."""
        if not self.queue.withdraw(input_id):
            return False
        self._forget(input_id)
        self.number([{"withdrawn": input_id}])
        return True

    def has_taken(self, input_id: str) -> bool:
        """Whether an input was accepted before."""
        return input_id in self._taken

    def done(self, input_id: str, given: int) -> bool:
        """The end of this input's turn was seen: what came before need not be kept, once all hosts have it.

        Returns: False if that was known.

        Args:
            given: up to this number every connected host has been given all.
        """
        if input_id not in self._unread:
            return False
        self._unread.discard(input_id)
        self.open_ids.pop(input_id, None)
        self.number([{"done": input_id}])
        unread = min([self._taken[other] for other in self._unread], default=self.seq + 1)
        self.journal.trim(min(self._settled, given, unread - 1))
        self._settled = self.journal.last
        return True

    def kept(self) -> List[Dict[str, Any]]:
        """The inputs whose turns can be read from their beginning, oldest first."""
        return [
            {"id": input_id, "read": input_id not in self._unread}
            for input_id, seq in self._taken.items()
            if seq >= self.journal.first and not input_id.startswith(wire.CONTROL)
        ]

    def position(self, have: object, turn: object, whole: bool = False) -> Optional[int]:
        """The number after which a host wants the frames; None: they are not kept (any more).

        Args:
            have: the number and the journal that the host has seen last, or nothing: only what is to come.
            turn: the id of an input, from whose acceptance on the host wants all.
            whole: it wants the turn that it was in the middle of from its beginning, if that is kept.
        """
        if isinstance(turn, str):
            after = self._taken.get(turn, 0) - 1
        elif isinstance(have, list):
            number, journal = have
            after = number if journal == self.journal.id and isinstance(number, int) else -1
        else:
            return self.seq
        # Nobody can have seen what still waits.
        if not self.journal.first - 1 <= after <= self.journal.last:
            return None
        return self._beginning(after) if whole else after

    def _beginning(self, seq: int) -> int:
        """The number before the last turn that had begun by then."""
        first = self.journal.first
        waiting = self.queue.waiting
        begun = [
            taken for name, taken in self._taken.items() if not name.startswith(wire.CONTROL) and name not in waiting
        ]
        return max((taken - 1 for taken in begun if first <= taken <= seq), default=seq)

    def _note(self, input_id: str, seq: int) -> None:
        self._taken[input_id] = seq
        if len(self._taken) > _REMEMBERED_IDS:
            waiting = self.queue.waiting
            self._forget(next(known for known in self._taken if known not in waiting))
        if not input_id.startswith(wire.CONTROL):
            self._unread.add(input_id)

    def _forget(self, input_id: str) -> None:
        self._taken.pop(input_id, None)
        self._unread.discard(input_id)
        self.open_ids.pop(input_id, None)

    def _recall(self, seq: int, frame: bytes) -> None:
        """Learn from a frame that an earlier agent has kept."""
        event = _EVENT.match(frame)
        if event is None:
            return
        kind, value = event.groups()
        if kind in (b"took", b"withdrawn"):
            self.queue.withdraw(value.decode("ascii"))
        if kind == b"took":
            self._note(value.decode("ascii"), seq)
        elif kind == b"queued":
            held = wire.split_queued(frame)
            if held is not None:
                given = held[0] in self._taken and held[0] not in self.queue.waiting
                self._note(held[0], seq)
                self.queue.hold(*held, first=given)
        elif kind == b"withdrawn":
            self._forget(value.decode("ascii"))
        elif kind == b"done":
            self._unread.discard(value.decode("ascii"))
        else:
            self._ran = kind == b"started"
