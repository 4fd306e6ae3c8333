"""HTTP/1.1 on its way through the relay: where messages begin and end, and what is in them. Sans-I/O.

Bytes are passed on as they are, framing included; only a request's head is changed (:func:`readdress`).
"""

import json
from typing import Any, Dict, Iterator, List, NamedTuple

_LONGEST_HEAD = 256 * 1024
_LONGEST_LINE = 1024


class HttpError(ValueError):
    """Not HTTP/1.1 as the relay knows it."""


class Piece(NamedTuple):
    """A part of a message. ``kind``: ``head``, ``body`` or ``end``.

    Attributes:
        raw: the bytes to pass on.
        data: of a body, without the framing of chunks.
    """

    kind: str
    raw: bytes
    data: bytes = b""


class Head(NamedTuple):
    """A start line in its three words, and the headers by their names in lower case."""

    start: List[str]
    headers: Dict[str, str]


def parse_head(raw: bytes) -> Head:
    """The head of a message.

    Raises:
        HttpError: it is none.
    """
    first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    start = first.split(" ", 2)
    if len(start) < 2:
        raise HttpError("no start line: %.80r" % first)
    pairs = [line.partition(":") for line in rest]
    return Head(start, {name.strip().lower(): value.strip() for name, _, value in pairs})


def readdress(raw: bytes, host: str, prefix: str) -> bytes:
    """A request's head for another host, below ``prefix``, whose answer is to come unpacked."""
    first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, _, target = first.partition(" ")
    kept = [line for line in rest if line.split(":", 1)[0].strip().lower() not in ("host", "accept-encoding")]
    lines = ["%s %s%s" % (method, prefix, target), "Host: " + host, *kept, "Accept-Encoding: identity", "", ""]
    return "\r\n".join(lines).encode("latin-1")


class Messages:
    """Cuts one direction of a connection into messages.

    Attributes:
        methods: for answers: those of the requests that they belong to, oldest first.
    """

    def __init__(self, *, answers: bool) -> None:
        self.methods: List[str] = []
        self._answers = answers
        self._buffer = b""
        self._state = self._head
        self._remaining = 0

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that the bytes complete. Use the iterator up.

        Raises:
            HttpError: nothing can be told any more.
        """
        self._buffer += data
        while True:
            found = self._state()
            if found is None:
                return
            yield from found

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _head(self) -> Any:
        end = self._buffer.find(b"\r\n\r\n")
        if end == -1:
            if len(self._buffer) > _LONGEST_HEAD:
                raise HttpError("a head of more than %d bytes" % _LONGEST_HEAD)
            return None
        raw = self._take(end + 4)
        head = parse_head(raw)
        if self._answers and head.start[1].startswith("1"):
            return [Piece("body", raw)]  # "100 Continue" and its like: the answer is to come
        self._state = self._after(head)
        return [Piece("head", raw)]

    def _after(self, head: Head) -> Any:
        if self._answers:
            method = self.methods.pop(0) if self.methods else ""
            if method == "HEAD" or head.start[1] in ("204", "304"):
                return self._end
        try:
            length = int(head.headers.get("content-length", "-1"))
        except ValueError:
            raise HttpError("no length: %.80r" % head.headers["content-length"]) from None
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            return self._chunk
        if length >= 0:
            self._remaining = length
            return self._counted
        return self._rest if self._answers else self._end

    def _counted(self) -> Any:
        if not self._remaining:
            return self._end()
        data = self._take(self._remaining)
        self._remaining -= len(data)
        return [Piece("body", data, data)] if data else None

    def _chunk(self) -> Any:
        line = self._line()
        if line is None:
            return None
        try:
            self._remaining = int(line.split(b";")[0], 16)
        except ValueError:
            raise HttpError("no chunk: %.80r" % line) from None
        self._state = self._chunk_data if self._remaining else self._trailer
        return [Piece("body", line)]

    def _chunk_data(self) -> Any:
        if self._remaining:
            data = self._take(self._remaining)
            self._remaining -= len(data)
            return [Piece("body", data, data)] if data else None
        line = self._line()
        if line is None:
            return None
        self._state = self._chunk
        return [Piece("body", line)]

    def _trailer(self) -> Any:
        line = self._line()
        if line is None:
            return None
        return [Piece("body", line), *(self._end() if line == b"\r\n" else ())]

    def _line(self) -> Any:
        end = self._buffer.find(b"\n")
        if end == -1 and len(self._buffer) > _LONGEST_LINE:
            raise HttpError("a line of more than %d bytes" % _LONGEST_LINE)
        return self._take(end + 1) if end != -1 else None

    def _rest(self) -> Any:
        data = self._take(len(self._buffer))
        return [Piece("body", data, data)] if data else None

    def _end(self) -> Any:
        self._state = self._head
        return [Piece("end", b"")]


class ServerEvents:
    """The JSON objects in a stream of server-sent events."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> List[Dict[str, Any]]:
        """What the bytes complete; what is no JSON object is left out."""
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        found = [decoded(line[5:]) for line in lines if line.startswith(b"data:")]
        return [event for event in found if event]


def decoded(data: bytes) -> Dict[str, Any]:
    """The JSON object in these bytes; an empty one where there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
