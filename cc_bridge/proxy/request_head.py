"""The head of a request that comes out of a container: read strictly, because what is read in two ways is smuggled."""

from __future__ import annotations

import re

from ..values import Value
from .terms import Refused

__all__ = ["LARGEST_BODY", "LARGEST_HEAD", "Head", "find_end", "read_head"]

#: Bytes. Claude Code's heads have some 1,200; nginx takes 32 KiB, Node.js 16 KiB.
LARGEST_HEAD = 32 * 1024

#: Bytes of a request's body. The API itself takes 32 MB, and says so better than we could.
LARGEST_BODY = 64 * 1024 * 1024

_MOST_HEADERS = 100
_LONGEST_TARGET = 2048

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_WORD}) ([\x21-\x7e]+) HTTP/1\.([01])")
_HEADER = re.compile(rf"({_WORD}):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*")

#: Headers of which two would be two opinions (RFC 9112, 6.3; RFC 9110, 7.2).
_ONCE = {"host", "content-length", "transfer-encoding", "content-type", "authorization", "x-api-key", "expect"}


class Head(Value):
    """A request without its body.

    Attributes:
        target: as it was written: a path, ``name:port`` of a tunnel, a whole URL.
        version: ``1.0`` or ``1.1``.
        headers: names in lower case, in their order.
    """

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first header of that name, which is given in lower case; empty: there is none."""
        return next((value for header, value in self.headers if header == name), "")

    @property
    def has_body(self) -> bool:
        """Whether one is announced."""
        return bool(self.get("transfer-encoding")) or self.get("content-length").strip("0") != ""


def find_end(data: bytes | bytearray) -> int:
    """Where the body begins; -1: the head has not ended, read on.

    Raises:
        Refused: it can end no more: it is too long, or has a line end that is none.
    """
    end = data.find(b"\r\n\r\n", 0, LARGEST_HEAD + 4)
    head = bytes(data[: end if end >= 0 else LARGEST_HEAD + 1])
    # A lone line feed ends a line for lenient readers, and is part of a value for others.
    if re.search(rb"[^\r]\n|^\n|\r[^\n]|\0", head):
        raise _malformed("a line of its head ends with something else than CR LF")
    if end < 0 and len(data) > LARGEST_HEAD:
        raise Refused(431, "invalid_request_error", f"the request's head has more than {LARGEST_HEAD} bytes")
    return end + 4 if end >= 0 else -1


def read_head(raw: bytes) -> Head:
    """Read what is before the body, with the empty line that ends it.

    Raises:
        Refused: it is malformed, or could be read in two ways.
    """
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if not line:
        raise _malformed("its first line is none of HTTP/1.1")
    if len(line[2]) > _LONGEST_TARGET:
        raise Refused(414, "invalid_request_error", f"the request's path has more than {_LONGEST_TARGET} characters")
    if len(lines) > _MOST_HEADERS:
        raise Refused(431, "invalid_request_error", f"the request has more than {_MOST_HEADERS} headers")
    found = [_HEADER.fullmatch(item) for item in lines]
    headers = tuple((item[1].lower(), item[2] or "") for item in found if item)
    if len(headers) < len(lines):
        raise _malformed("one of its headers is malformed")
    names = [name for name, _ in headers]
    if twice := sorted(name for name in _ONCE if names.count(name) > 1):
        raise _malformed(f"it has the header {twice[0]} more than once")
    head = Head(line[1], line[2], f"1.{line[3]}", headers)
    _check_framing(head)
    return head


def _check_framing(head: Head) -> None:
    """How long the body is must be said once, and plainly."""
    names = {name for name, _ in head.headers}
    if head.version == "1.1" and "host" not in names:
        raise _malformed("it has no header Host")
    if {"content-length", "transfer-encoding"} <= names:
        raise _malformed("it has both Content-Length and Transfer-Encoding")
    if "transfer-encoding" in names and (head.get("transfer-encoding") != "chunked" or head.version == "1.0"):
        raise Refused(501, "invalid_request_error", "the only Transfer-Encoding that is read is chunked")
    if "content-length" in names and not re.fullmatch(r"[0-9]{1,15}", head.get("content-length")):
        raise _malformed("its Content-Length is no number")
    if int(head.get("content-length") or 0) > LARGEST_BODY:
        raise Refused(413, "request_too_large", f"the request's body has more than {LARGEST_BODY} bytes")
    if wrong := sorted(names & {"upgrade", "trailer"}):
        raise _malformed(f"the header {wrong[0]} is not passed on")
    if head.get("expect").lower() not in ("", "100-continue"):
        raise Refused(417, "invalid_request_error", "the only thing that may be expected is 100-continue")


def _malformed(what: str) -> Refused:
    return Refused(400, "invalid_request_error", f"the request is refused: {what}")
