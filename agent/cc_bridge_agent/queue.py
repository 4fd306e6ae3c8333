"""The one order of a session's turns, for all hosts. Sans-I/O.

Claude Code merges a message that comes in mid-turn into the turn that runs. So an input that begins a turn is held here
until the turn before it has ended, whichever host sent either. For that the agent looks at one thing that Claude Code
says, a ``result`` line at the top level, and at nothing else: what else means what is the hosts' to know.
"""

from collections import OrderedDict
from typing import List, Optional, Tuple

from . import wire

#: Inputs that may wait, and their bytes.
MOST_INPUTS = 1000
MOST_BYTES = 32 * 1024 * 1024

#: Where a result names its turns, and the bytes of its end in which that is: behind its kind, and the answer (2.1.329).
_TURNS, _END = "user_message_uuids", 64 * 1024


class Queue:
    """What waits, and for what.

    Attributes:
        current: the input whose turn Claude Code has now; empty: none.
    """

    def __init__(self) -> None:
        self.current = ""
        self._names = False  # this Claude Code's results name their turns
        self._waiting: "OrderedDict[str, bytes]" = OrderedDict()
        self._size = 0

    @property
    def waiting(self) -> List[str]:
        """Ids of the inputs that wait, the next one first."""
        return list(self._waiting)

    def lines(self) -> List[Tuple[str, bytes]]:
        """What waits, with its lines."""
        return list(self._waiting.items())

    @property
    def is_free(self) -> bool:
        """An input that comes now need not wait."""
        return not self.current and not self._waiting

    def has_room(self, size: int) -> bool:
        """An input of so many bytes may wait."""
        return len(self._waiting) < MOST_INPUTS and self._size + size <= MOST_BYTES

    def hold(self, input_id: str, line: bytes, *, first: bool = False) -> None:
        """The last of those that wait, or the first."""
        self._size += len(line) - len(self._waiting.get(input_id, b""))
        self._waiting[input_id] = line
        if first:
            self._waiting.move_to_end(input_id, last=False)

    def withdraw(self, input_id: str) -> bool:
        """Forget one that waits; False: it does not."""
        line = self._waiting.pop(input_id, None)
        self._size -= len(line or b"")
        return line is not None

    def next(self) -> Optional[Tuple[str, bytes]]:
        """The input to be given to Claude Code now, and no more one that waits; None: none."""
        if self.current or not self._waiting:
            return None
        input_id, line = self._waiting.popitem(last=False)
        self._size -= len(line)
        return input_id, line

    def ends_turn(self, line: bytes) -> bool:
        """A line of Claude Code's is the end of the turn that it has now, which is over then.

        A result that names turns, as newer releases' do, ends only one that it names: an interrupted turn's may come
        when the next one runs. From then on one that names none ends none.
        """
        if not self.current or b'"result"' not in line:
            return False
        try:
            message = _decode(line)
        except wire.FrameError:
            return False  # text, or more than anybody reads
        if message.get("type") != "result":
            return False
        named = message.get(_TURNS)
        named = named if isinstance(named, list) else []
        self._names = self._names or bool(named)
        if self.current not in named and self._names:
            return False
        self.current = ""
        return True

    def begin(self) -> None:
        """A new Claude Code, of whichever release, has no turn."""
        self.current, self._names = "", False


def _decode(line: bytes) -> wire.Frame:
    """A line's fields; of a long result's only the last ones, because an answer of 60 MB takes long to decode."""
    kind = line.rfind(b'"type":"result"', -_END) if len(line) > _END else -1
    if kind != -1:
        try:
            end = wire.decode(b"{" + line[kind:])  # no object, where that is not at the line's top level
        except wire.FrameError:
            end = {}
        if _TURNS in end:
            return end
    return wire.decode(line)
