"""Texts as a pane has them: what can be entered, what counts as the same, what a terminal's colours leave."""

import re
from typing import Any

#: What Claude Code's input line drops or breaks differently: blanks, and characters that nobody sees.
_UNSEEN = re.compile("[\\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]+")

#: What it may change: of an emoji before a Hebrew letter it makes two replacement characters (2.1.329).
_CHANGED = re.compile("[\ufffd\ud800-\udfff\U00010000-\U0010ffff]+")

#: ECMA-48's sequences: CSI, OSC, and those of two characters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\].*?(?:\x07|\x1b\\)|[@-Z\\-_])")

#: Of a text of more UTF-16 units than about this, it shows so many from the beginning and the end, and the rest as one
#: word until it is submitted (2.1.329).
_LEAST_CUT, _KEPT = 9_000, 500

#: Around what it takes for a paste: a long text that its editor was opened on again (2.1.329).
_PASTED = re.compile('</?pasted_content( id="[0-9a-f]*")?>')

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def essence(text: str) -> str:
    """What stays the same of a text that went through the input line."""
    seen = _UNSEEN.sub("", _PASTED.sub("", text))
    return _CHANGED.sub("", seen) or seen


def to_enter(text: str) -> str:
    """What is to be put into the input line, so that it is submitted as it is.

    A blank after it, which Claude Code takes off again: Enter would make a new line of a last backslash, and would take
    a suggestion for a last word with @ or /. One before it, where a slash begins no command. And one more where a long
    text would otherwise be cut in the middle of a character.
    """
    before = " " if text.startswith("/") and not text[1:2].isalpha() else ""
    after = " "
    units = text.encode("utf-16-le", "surrogatepass")
    if len(units) > 2 * _LEAST_CUT:
        before += " " if _halves(units, _KEPT - len(before)) else ""
        after += " " if _halves(units, len(units) // 2 - _KEPT + len(after)) else ""
    return before + text + after


def _halves(units: bytes, at: int) -> bool:
    """A cut there leaves one half of a surrogate pair on each side."""
    return 0xD8 <= units[2 * at - 1] <= 0xDB


def plain(text: str) -> str:
    """Without colours and control characters, for a person or a program to read."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def last_lines(screen: str, count: int = 12) -> str:
    """The end of what a pane shows, without empty lines."""
    lines = [line.rstrip() for line in plain(screen).splitlines()]
    return "\n".join([line for line in lines if line.strip("─╌▔ ")][-count:])


def between(text: str, tag: str) -> str:
    """What stands between ``<tag>`` and ``</tag>``; empty: nothing does."""
    found = re.search("<%s>(.*?)</%s>" % (tag, tag), text, re.DOTALL)
    return found.group(1) if found else ""


def texts_of(content: Any) -> "list[str]":
    """The texts in a message's content, which is a text or a list of blocks."""
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    found = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
    return [text for text in found if isinstance(text, str)]
