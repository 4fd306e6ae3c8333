"""Frames on the wire: one JSON object a line, UTF-8. The only copy of the format; the host imports it too.

Sans-I/O: bytes in, frames out. docs/protocol.md describes every frame; this module knows only how
they are cut, written and read.

Claude Code's own line travels inside a frame as it is (``{"seq":17,"out":<line>}``): the sender does
not parse it, so that a format which changes with every release of Claude Code cannot break the bridge.
"""

import binascii
import json
import re
import sys
from typing import Any, Dict, Iterator, Tuple, Union

VERSION = 1

#: Longest frame, in bytes. A 1 MB answer is one line of 1 MB, and a screenshot one of 0.8 MB
#: (measured); a 1 MiB limit has killed readers elsewhere (claude-agent-sdk-python#98).
MAX_FRAME = 64 * 1024 * 1024

#: Deepest nesting of a frame. Beyond it, whoever walks or writes a message again could run out of stack.
MAX_DEPTH = 100

#: Most values in a frame. An empty object is 3 bytes of JSON and 72 of memory: 64 MiB of them would become
#: gigabytes. A frame of up to _SHORT bytes may have as many as it can hold.
MAX_VALUES = 500_000
_SHORT = 1024 * 1024

#: Ids name turns and, as file names, connections: so no dots, slashes or spaces.
ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

#: Inputs whose ids begin so are control messages: they begin no turn and are never "open".
CONTROL = "c-"

#: Sessions whose names begin so are raw: one process, whose standard streams are passed on as bytes.
RAW = "raw-"

#: The session of a proxy, to which connections are passed on; it has no Claude Code. And the bytes that a side may send
#: of a stream without having been given credit for.
EGRESS = "egress"
WINDOW = 256 * 1024

#: Python 3.11 and newer refuse what is no base64.
_STRICT = sys.version_info >= (3, 11)

#: A frame with a line of Claude Code's has a number and the line.
_OUTPUT_FIELDS = 2

#: From this length in bytes on, looking for the next bracket takes less time than looking at every byte.
_LONG = 1024

#: The start of an escaped half of a surrogate pair: the only way in for text that cannot be written as UTF-8.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_OUT = re.compile(rb'\{"seq":(\d{1,18}),"out":')
_IN = re.compile(rb'\{"id":"([A-Za-z0-9_-]{1,64})",(?:"for":"([A-Za-z0-9_-]{1,64})",)?"in":')
_QUEUED = re.compile(rb'\{"seq":\d{1,18},"queued":"([A-Za-z0-9_-]{1,64})","in":')

Frame = Dict[str, Any]

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps() would make one for each frame


class FrameError(ValueError):
    """The peer sent something that is not a frame. The text says what, and quotes at most 80 bytes."""


def encode(frame: Frame) -> bytes:
    """A frame as one line."""
    return _ENCODER.encode(frame).encode("ascii") + b"\n"


def encode_output(seq: int, line: bytes) -> bytes:
    """The frame for a line of Claude Code's output, given without its newline.

    A line that does not look like a JSON object travels as a string. One that merely looks like an
    object is left to the reader (see :func:`decode`), because only a parser could tell.
    """
    if line[:1] == b"{" and line[-1:] == b"}":
        return b'{"seq":%d,"out":%b}\n' % (seq, line)
    return encode({"seq": seq, "out": line.decode("utf-8", "replace")})


def encode_input(input_id: str, line: bytes, turn: str = "") -> bytes:
    """The frame for a line of input to Claude Code, given without its newline.

    Args:
        turn: only while Claude Code has this turn.

    Raises:
        FrameError: ``input_id`` is not an id, or ``line`` is not one JSON object on one line.
    """
    if not ID.match(input_id) or (turn and not ID.match(turn)):
        raise FrameError("not an id: %.80r" % input_id)
    _check_object(line)
    condition = b'"for":"%b",' % turn.encode("ascii") if turn else b""
    return b'{"id":"%b",%b"in":%b}\n' % (input_id.encode("ascii"), condition, line)


def encode_bytes(seq: int, stream: str, data: bytes) -> bytes:
    """The frame for bytes that came from a raw session's ``stdout`` or ``stderr``."""
    return b'{"seq":%d,"%b":"%b"}\n' % (seq, stream.encode("ascii"), binascii.b2a_base64(data, newline=False))


def encode_stdin(input_id: str, data: Union[bytes, None]) -> bytes:
    """The frame for bytes on their way to a raw session's stdin; None: the end of its input.

    Raises:
        FrameError: ``input_id`` is not an id.
    """
    if not ID.match(input_id):
        raise FrameError("not an id: %.80r" % input_id)
    carried = b"null" if data is None else b'"%b"' % binascii.b2a_base64(data, newline=False)
    return b'{"id":"%b","stdin":%b}\n' % (input_id.encode("ascii"), carried)


def decode_bytes(value: object) -> bytes:
    """The bytes that a frame carries.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, str):
        raise ValueError("bytes are to be text in base64")
    return binascii.a2b_base64(value, strict_mode=True) if _STRICT else binascii.a2b_base64(value)


def encode_stream(number: int, data: bytes) -> bytes:
    """The frame for bytes of a connection to the way out, either way."""
    return b'{"stream":%d,"data":"%b"}\n' % (number, binascii.b2a_base64(data, newline=False))


def encode_queued(seq: int, input_id: str, line: bytes) -> bytes:
    """The frame that keeps an input which waits, so that the next agent has it, too."""
    return b'{"seq":%d,"queued":"%b","in":%b}\n' % (seq, input_id.encode("ascii"), line)


def split_queued(frame: bytes) -> Union[Tuple[str, bytes], None]:
    """Id and line of an input that was kept so, from a frame with its newline; None where it is another frame."""
    match = _QUEUED.match(frame)
    return (match.group(1).decode("ascii"), frame[match.end() : -2]) if match else None


def decode(line: bytes) -> Frame:
    """The frame in a line given without its newline. Its text is good UTF-8, its nesting no deeper than MAX_DEPTH.

    Output that only looked like JSON, is nested too deeply or has too many values arrives as a string: garbage from
    Claude Code is not a protocol error of the agent's.

    Raises:
        FrameError: the line is not a JSON object.
    """
    try:
        _check_values(line)
        text = line.decode("utf-8")
        frame, end = _scan(text, 0)
        if end != len(text):  # blanks after it, which are rare, or more than one value
            frame = _DECODER.decode(text)
        if _has_many_brackets(line) and _depth(frame) > MAX_DEPTH:
            raise ValueError("nested more than %d deep" % MAX_DEPTH)
    except (ValueError, RecursionError, StopIteration) as error:  # UnicodeDecodeError is a ValueError
        output = _OUT.match(line)
        if output and line[-1:] == b"}":
            return {"seq": int(output.group(1)), "out": line[output.end() : -1].decode("utf-8", "replace")}
        raise FrameError("not JSON (%s): %.80r" % (error, line[:80])) from None
    if not isinstance(frame, dict):
        raise FrameError("not a JSON object: %.80r" % line[:80])
    seq = frame.get("seq")
    plain = len(frame) == _OUTPUT_FIELDS and isinstance(seq, int) and line.startswith(b'{"seq":%d,' % seq)
    if not plain and (output := _OUT.match(line)):
        # Claude Code's line was no object, and went on behind its end as if it were the agent speaking.
        return {"seq": int(output.group(1)), "out": line[output.end() : -1].decode("utf-8", "replace")}
    if b"\\" in line and _SURROGATE.search(line):
        text = json.dumps(frame, ensure_ascii=False)
        return dict(json.loads(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")))
    return frame


def _refuse_constant(name: str) -> Any:
    raise ValueError("%s is not JSON" % name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)

#: The decoder's inner step, which looks for no blanks: StopIteration where no value begins.
_scan = _DECODER.scan_once  # type: ignore[attr-defined]


def _check_values(line: bytes) -> None:
    """Refuse a line that would take much more memory than its length, before anything is made of it.

    Raises:
        ValueError: it has more than MAX_VALUES values.
    """
    if len(line) <= _SHORT or _count_structure(line) <= MAX_VALUES:
        return
    # What stands inside of strings does not count. They are found by their quotes, once escaped ones are gone.
    bare = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * MAX_VALUES or sum(map(_count_structure, bare.split(b'"')[::2])) > MAX_VALUES:
        raise ValueError("more than %d values" % MAX_VALUES)


def _count_structure(text: bytes) -> int:
    """An upper limit of how many values begin in a text: one at each bracket and each comma."""
    return text.count(b",") + text.count(b"{") + text.count(b"[")


def _has_many_brackets(line: bytes) -> bool:
    """Whether a line has as many as one that is nested too deeply must have. A long line of text is skipped over."""
    if len(line) < _LONG:
        return line.count(b"{") + line.count(b"[") > MAX_DEPTH
    found = 0
    for bracket in (b"{", b"["):
        at = line.find(bracket)
        while at != -1 and found <= MAX_DEPTH:
            found += 1
            at = line.find(bracket, at + 1)
    return found > MAX_DEPTH


def _depth(value: Any) -> int:
    """How deeply a value is nested; no more than MAX_DEPTH + 1 is counted."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [child for items in inner for child in items if isinstance(child, (dict, list))]
    return depth


def split_input(line: bytes) -> Union[Tuple[str, str, bytes], None]:
    """Id, turn that it is for (or nothing), and Claude Code's line of an input frame; None: it is another frame.

    Raises:
        FrameError: what the frame carries is not one JSON object. Claude Code ends when it reads a
            line that is not JSON, so nothing unchecked may reach it.
    """
    match = _IN.match(line)
    if not match or line[-1:] != b"}":
        return None
    carried = line[match.end() : -1]
    _check_object(carried)
    return match.group(1).decode("ascii"), (match.group(2) or b"").decode("ascii"), carried


def _check_object(line: bytes) -> None:
    try:
        _check_values(line)
        value = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError("input is not JSON (%s): %.80r" % (error, line[:80])) from None
    if not isinstance(value, dict):
        raise FrameError("input is not a JSON object: %.80r" % line[:80])
    if b"\n" in line or b"\r" in line:
        raise FrameError("input is not on one line: %.80r" % line[:80])


class LineSplitter:
    """Cuts a byte stream into lines. Memory is bounded by ``limit`` plus one chunk, however small the chunks.

    Args:
        limit: longest line in bytes, without its newline.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._rest = bytearray()  # of a line that has not ended

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that ``data`` completes, without their newlines; empty ones are left out.

        An iterator, so that the lines before one that is too long are not lost with it. Use it up
        before the next call.

        Raises:
            FrameError: a line is longer than the limit. The splitter is unusable from then on.
        """
        start = 0
        while (end := data.find(b"\n", start)) != -1:
            self._check(len(self._rest) + end - start)
            line = data[start:end]
            start = end + 1
            if self._rest:
                line = self._join(line)
            if line:
                yield line
        if start < len(data):
            self._check(len(self._rest) + len(data) - start)
            self._rest += data[start:] if start else data

    def _join(self, end: bytes) -> bytes:
        self._rest += end
        line = bytes(self._rest)
        self._rest = bytearray()  # its memory goes with it
        return line

    def _check(self, size: int) -> None:
        if size > self.limit:
            raise FrameError("a line of at least %d bytes; the limit is %d" % (size, self.limit))

    def flush(self) -> bytes:
        """The unfinished last line, which is forgotten."""
        return self._join(b"")
