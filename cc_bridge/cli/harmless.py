"""Text of Claude Code's, or of a container's, made harmless for a terminal.

A terminal obeys what is printed on it: escape sequences retitle it, rewrite what was said before, and put words into
its input. So control characters are shown as pictures. Where somebody is to decide by what they read, characters that
cannot be seen, or that turn the order of others, are shown by their numbers, too.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import TextIO

__all__ = ["HarmlessOutput", "harmless", "plain", "shown_on"]

#: Control characters: those of ASCII by their pictures (Unicode, "Control Pictures"), the others by number.
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: "\u2421", **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}}

#: Invisible, or changing the direction of what follows: Unicode's categories Cf, Zl and Zp, and the fillers.
_UNSEEN = (
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """A text whose characters a terminal only shows; lines and tabs stay."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def plain(text: str) -> str:
    """The same for what somebody decides by: nothing in it is invisible, or stands in another order than it is read."""
    return re.sub(_UNSEEN, lambda found: _number(ord(found[0])), harmless(text))


def _number(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def shown_on(stream: TextIO, text: str) -> str:
    """A text for stdout or stderr: harmless on a terminal, and as it is for a file or a program."""
    return harmless(text) if stream.isatty() else text


class HarmlessOutput:
    """Writes what a container's command writes: harmless to a terminal, and as it is to a file or a program."""

    def __init__(self) -> None:
        self._decoders: dict[int, codecs.IncrementalDecoder | None] = {}
        self._held: dict[int, str] = {}  # a carriage return, which may be the beginning of a line's end

    def write(self, fd: int, data: bytes) -> None:
        """Write to stdout (1) or stderr (2), past Python's buffers, which are empty."""
        if fd not in self._decoders:
            self._decoders[fd] = codecs.getincrementaldecoder("utf-8")("replace") if os.isatty(fd) else None
        decoder = self._decoders[fd]
        if decoder is not None:
            text = self._held.pop(fd, "") + decoder.decode(data)
            if text.endswith("\r"):
                text, self._held[fd] = text[:-1], "\r"
            data = harmless(text).encode()
        while data:
            data = data[os.write(fd, data) :]
