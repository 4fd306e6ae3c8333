"""Names of instances, which are valid, and one for any text; and the ids of turns and sessions."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
import uuid

__all__ = ["NAME", "is_uuid", "name_for"]

#: A name is a directory on this machine and a part of a container's name.
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")

#: Characters of base32: 130 bits, so that nobody finds two texts with one digest.
_DIGEST = 26

#: What comes before the digest, so that both and the dash are within the 63 characters of a name.
_READABLE = 36

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
    digest = base64.b32encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_READABLE].rstrip("-")
    return f"{readable}-".lstrip("-") + digest[:_DIGEST].decode().lower()


def is_uuid(text: str) -> bool:
    """Whether this is a UUID as Python writes it: it becomes a file name and a word of a command line."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
