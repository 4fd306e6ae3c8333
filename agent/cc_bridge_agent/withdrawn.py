"""Inputs that were withdrawn, and may still come over an older connection of the same host. Sans-I/O.

What a host has sent over a connection that broke may be read after what it says over the next one. The id of such an
input is forgotten with it, and may be sent again: by this host over that connection or a later one, and by any other.
"""

from collections import OrderedDict
from typing import Tuple

MOST_IDS = 4096


class Withdrawn:
    """What comes too late. Connections have numbers, which grow."""

    def __init__(self) -> None:
        self._ids: "OrderedDict[str, Tuple[str, int]]" = OrderedDict()

    def add(self, input_id: str, host: str, connection: int) -> None:
        """This host has withdrawn an input over this connection."""
        self._ids[input_id] = (host, connection)
        self._ids.move_to_end(input_id)
        if len(self._ids) > MOST_IDS:
            self._ids.popitem(last=False)

    def is_late(self, input_id: str, host: str, connection: int) -> bool:
        """An input that comes over this connection was sent before it was withdrawn."""
        known, number = self._ids.get(input_id, ("", 0))
        return host == known and connection < number
