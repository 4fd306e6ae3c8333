"""Who drives an instance that programs of several machines can reach: the rules of its lease. Sans-I/O.

A lease is a *note* in a place that all of them see and that compares and swaps. Time is an argument, in seconds of this
program's monotonic clock, and no two clocks are compared: a lease whose note has not changed for a TTL, *as this
program has itself waited*, belongs to nobody. What a program that slept through its TTL may still send is stopped where
it arrives, by the *fence*: a number that grows with each taking, and that the agent compares (docs/protocol.md).
"""

from __future__ import annotations

import json

from ..values import Value

__all__ = ["Claim", "Note"]

#: Fences are below, see the agent's fence.py.
_FENCES = 2**63

#: Characters of a name in a note, and of a note.
_LONGEST_NAME, _LONGEST_NOTE = 100, 2000


class Note(Value):
    """What stands where everybody sees it.

    Attributes:
        owner: who drives; empty: nobody.
        fence: of whoever has taken it last.
        renewal: another number after each taking and renewal.
        host: what the owner calls itself, for people.
        next: who waits for it and comes next; empty: nobody, as far as is known.
    """

    owner: str = ""
    fence: int = 0
    renewal: int = 0
    host: str = ""
    next: str = ""

    def write(self) -> str:
        """As text."""
        return json.dumps({name: getattr(self, name) for name in Note.__match_args__})

    @classmethod
    def read(cls, text: str) -> Note:
        """A note from its text. What cannot be understood is as good as nothing."""
        try:
            fields = json.loads(text[:_LONGEST_NOTE])
            names = [fields[name] for name in ("owner", "host", "next")]
            numbers = [fields[name] for name in ("fence", "renewal")]
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls()
        if not all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in names):
            return cls()
        if not all(type(number) is int and 0 <= number < _FENCES - 1 for number in numbers):
            return cls()
        return cls(names[0], numbers[0], numbers[1], names[1], names[2])


class Claim:
    """What one program wants of a lease, and what it has.

    What is to be written is a note; whoever holds a :class:`Claim` writes it where nobody has written since the note
    that it answers was read, and tells :meth:`wrote` if that went well.

    Args:
        me: this machine's, whose programs share the lease: among them an instance is what it is without one.
        host: what this program calls itself.
        ttl: seconds.

    Attributes:
        fence: of the lease, while it is held as far as is known.
        until: by then at the latest another program may have taken it.
    """

    def __init__(self, me: str, host: str, ttl: float) -> None:
        self.fence: int | None = None
        self.until = 0.0
        self._me, self._host, self._ttl = me, host[:_LONGEST_NAME], ttl
        self._last_fence: int | None = None  # of mine
        self._refused = 0  # this fence and those below are worth nothing
        self._obstacle: tuple[object, ...] = ()
        self._since = 0.0  # when it was seen first

    def take(self, note: Note, now: float, wall: float) -> Note | float:
        """What to write to have the lease, or to come next; or until when at most to wait for another note.

        Args:
            wall: seconds since 1970. Fences begin there, so that those of a lease whose place was lost and made anew
                are above the old ones', which agents remember. While a place exists no clock matters.
        """
        if self._is_free(note, now):
            return self._taken(note, wall)
        self.fence = None
        if not note.next:
            return note.replace(next=self._me)
        return self._since + self._ttl

    def _is_free(self, note: Note, now: float) -> bool:
        if note.owner:
            obstacle: tuple[object, ...] = (note.owner, note.fence, note.renewal)
        else:
            obstacle = ("", note.fence, note.renewal, note.next)
        if (note.owner or note.next) in ("", self._me):
            return True
        if obstacle != self._obstacle:
            self._obstacle, self._since = obstacle, now
        return now >= self._since + self._ttl

    def _taken(self, note: Note, wall: float) -> Note:
        # No other machine has had it since it was mine: what is connected with that fence may stay so.
        is_mine = note.owner == self._me or (not note.owner and note.fence == self._last_fence)
        fence = note.fence if is_mine and note.fence > self._refused else max(note.fence + 1, int(wall * 1000))
        waits = "" if note.next == self._me else note.next
        return Note(self._me, fence, note.renewal + 1, self._host, waits)

    def renew(self, note: Note) -> Note | None:
        """What to write to keep the lease; None: it is another's, and :attr:`fence` is None now."""
        if self.fence is None or note.owner != self._me:
            self.fence = None
            return None
        self.fence = note.fence  # another program of this machine may have taken it anew
        return note.replace(renewal=note.renewal + 1)

    def confirm(self, note: Note) -> bool:
        """It is this machine's, with the fence that it was taken with."""
        return self.fence is not None and (note.owner, note.fence) == (self._me, self.fence)

    def give_up(self, note: Note) -> Note | None:
        """What to write so that others need not wait, also for one that waited in vain; None: nothing."""
        self.fence = None
        mine = note.owner == self._me
        if not mine and note.next != self._me:
            return None
        waits = "" if note.next == self._me else note.next
        return note.replace(owner="", host="", next=waits) if mine else note.replace(next=waits)

    def wrote(self, note: Note, began: float) -> None:
        """This was written; ``began``: when the note that it answers was about to be read."""
        if note.owner == self._me:
            self.fence = self._last_fence = note.fence
            self.until = began + self._ttl

    def overtaken(self) -> None:
        """An agent has seen a higher fence: this one is worth nothing, whatever the note says."""
        self._refused, self.fence = max(self._refused, self.fence or 0), None
