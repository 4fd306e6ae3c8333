"""A text that grows piece by piece, and of which only so much is kept."""

from __future__ import annotations

__all__ = ["TEXT_LIMIT", "BoundedText"]

#: Longest text of an answer that is kept to be given again with its result, in characters.
TEXT_LIMIT = 16 * 1024 * 1024

#: Pieces of a text before they are joined.
_MOST_PIECES = 4096


class BoundedText:
    """A text that grows by pieces, of which no more than the first TEXT_LIMIT characters are kept.

    Attributes:
        length: of the whole text.
    """

    __slots__ = ("_blocks", "_end", "_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._blocks: list[str] = []
        self._end = ""
        self.length = 0

    def add(self, piece: str) -> None:
        """Append a piece."""
        room = TEXT_LIMIT - self.length
        if room > 0:
            self._pieces.append(piece[:room])
            if len(self._pieces) >= _MOST_PIECES:  # each costs 60 bytes, however small it is
                self._blocks.append("".join(self._pieces))
                self._pieces.clear()
        self.length += len(piece)
        self._end = (self._end + piece)[-2:]

    @property
    def kept(self) -> str:
        """The text, or its beginning."""
        return "".join(self._blocks) + "".join(self._pieces)

    @property
    def is_cut(self) -> bool:
        """The text is longer than what is kept of it."""
        return self.length > TEXT_LIMIT

    @property
    def ends_paragraph(self) -> bool:
        """The text ends with a blank line."""
        return self._end == "\n\n"

    def rest_of(self, whole: str) -> str | None:
        """What a whole text has beyond this one; None: it does not begin with it."""
        return whole[self.length :] if whole.startswith(self.kept) else None
