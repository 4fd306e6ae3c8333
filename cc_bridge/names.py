"""Names of instances, which are valid, and one for any text; and the ids of turns and sessions."""

from __future__ import annotations

import os
import re

__all__ = ["NAME", "is_uuid", "name_for", "new_uuid"]

#: A name is a directory on this machine and a part of a container's name.
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")

#: Characters of base32: 130 bits, so that nobody finds two texts with one digest.
_DIGEST = 26

#: What comes before the digest, so that both and the dash are within the 63 characters of a name.
_READABLE = 36

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

_ENDS_LIKE_A_DIGEST = re.compile(rf"(.*-)?[a-z2-7]{{{_DIGEST}}}\Z")


def name_for(text: str) -> str:
    """A valid instance name for any text, such as a chat's or a person's; different texts have different names.

    A text that is a valid name is its own name. Any other gets its readable part and a digest of the whole: ``Bob``
    is ``bob-…``, which is not ``bob``. So does a valid name that ends like such a digest: nobody can claim ``Bob``'s
    instance by its name. Therefore do not call this twice: ``name_for(name_for("Bob"))`` is a third name.

    Texts are compared code point by code point: normalize them before where ``é`` may come in two ways.
    """
    if NAME.match(text) and not _ENDS_LIKE_A_DIGEST.match(text):
        return text
    import base64
    import hashlib
    import unicodedata

    digest = base64.b32encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_READABLE].rstrip("-")
    return f"{readable}-".lstrip("-") + digest[:_DIGEST].decode().lower()


def is_uuid(text: str) -> bool:
    """Whether this is a UUID as Python writes it: it becomes a file name and a word of a command line."""
    return _UUID.match(text) is not None


def new_uuid() -> str:
    """A random UUID (RFC 9562, version 4). The module ``uuid`` finds out about the machine when it is imported."""
    value = bytearray(os.urandom(16))
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    digits = value.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
