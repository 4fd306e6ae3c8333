"""``give`` and ``take``: the files of a Claude Code session, out of here and into here, beside the agent.

For a host that keeps a copy, because what is here may be gone with its machine. A file is a header, which is a line
of JSON (``{"name": …, "from": 10, "size": 25}``), and the bytes from there on; ``{"end": true}`` ends them. Names do
not say where the files are: ``transcript``; ``session/…`` is the directory beside it, with what subagents have said
and with results of tools; ``tasks/…`` and ``file-history/…`` are Claude Code's directories of these names.

A mark beside the transcript, which is the host's to understand, says of which copy this was the original last.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from typing import Any, BinaryIO, Dict, Iterator, Tuple

__all__ = ["TAIL", "digest_of", "give", "run", "take"]

#: Bytes before the end of a copy by which a file that has grown is told from one that was written anew.
TAIL = 4096

#: Files and directories of a session: how many, and how deep.
_MOST_FILES = 2000
_DEEPEST = 6

_LONGEST_LINE = 1024 * 1024
_CHUNK = 256 * 1024
_SESSION = re.compile(r"[0-9a-f-]{36}\Z")
_PART = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,199}\Z")


def run(verb: str) -> int:
    """Speak with a host over stdin and stdout; the exit code, and the reason on stderr."""
    try:
        request = _line(sys.stdin.buffer)
        if verb == "give":
            give(request, sys.stdout.buffer)
        else:
            take(request, sys.stdin.buffer, sys.stdout.buffer)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write("cc-bridge: the conversation cannot be copied: %s\n" % error)
        return 1
    return 0


def give(request: Dict[str, Any], output: BinaryIO) -> None:
    """Write what the host lacks. The transcript is the first, so that all that it speaks of follows it.

    Args:
        request: ``session`` and ``project``, the name of the project's directory; ``config``, Claude Code's directory,
            or empty; ``most``, bytes of all files, beyond which files are left out; ``have``, what the host has of
            which file: its size, and :func:`digest_of` it; ``mark``, to be left here.

    Raises:
        OSError: a file cannot be read.
        ValueError: the request is none; or a file has become shorter.
    """
    places = _places(request)
    if os.path.exists(places["transcript"]):  # before it is given: a host that dies meanwhile must take it for newer
        _leave_mark(places, request["mark"])
    room = int(request["most"])
    for name, path in _files(places):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # it has gone, or is a link
        with os.fdopen(fd, "rb", 0) as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size > room:
                continue
            room -= found.st_size
            size, digest = request["have"].get(name, (0, ""))
            start = size if 0 < size <= found.st_size and digest_of(fd, size) == digest else 0
            _say(output, {"name": name, "from": start, "size": found.st_size})
            os.lseek(fd, start, os.SEEK_SET)
            _copy(file, output, found.st_size - start)
    _say(output, {"end": True})


def take(request: Dict[str, Any], source: BinaryIO, output: BinaryIO) -> None:
    """Say how much of the transcript is here, and write what the host sends then, which may be nothing.

    Each file is whole or as it was, and the transcript is the last of them. The end has ``mark``, where something came,
    and ``forget``: the agent's journal, which is of before, and is removed. No agent runs then.

    Args:
        request: as :func:`give` has it, with ``size``, the bytes of the host's transcript. What is said is ``size``,
            those of this one, ``digest``, the SHA-256 of as many bytes as both have, and ``mark``, or null.

    Raises:
        OSError: a file cannot be written.
        ValueError: what comes is no such files.
    """
    places = _places(request)
    _say(output, _what_is_here(places, int(request["size"])))
    while "end" not in (header := _line(source)):
        path = _path(places, header["name"])
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        scratch = "%s.%d.part" % (path, os.getpid())
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(scratch, flags, 0o600), "wb") as file:
                _copy(source, file, int(header["size"]))
            os.rename(scratch, path)
        except BaseException:  # whatever ended it: half a file does not stay, and the error goes on
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)
            raise
    if header.get("forget"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(header["forget"])
    if "mark" in header:
        _leave_mark(places, header["mark"])
    _say(output, {"end": True})


def digest_of(fd: int, size: int) -> str:
    """A file's last bytes before this size, as a SHA-256: the same where it has only grown."""
    start = max(0, size - TAIL)
    return hashlib.sha256(os.pread(fd, size - start, start)).hexdigest()


def _places(request: Dict[str, Any]) -> Dict[str, str]:
    """Where what has which first name is."""
    session, project = request["session"], request["project"]
    if not (_SESSION.match(session) and re.match(r"[A-Za-z0-9-]{1,4096}\Z", project)):
        raise ValueError("%.80r in %.80r is no session" % (session, project))
    config = request.get("config") or os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")
    beside = os.path.join(config, "projects", project, session)
    return {
        "transcript": beside + ".jsonl",
        "session": beside,
        "mark": beside + ".copied",
        "tasks": os.path.join(config, "tasks", session),
        "file-history": os.path.join(config, "file-history", session),
    }


def _path(places: Dict[str, str], name: str) -> str:
    first, *parts = name.split("/")
    is_name = first != "mark" and len(parts) <= _DEEPEST and bool(parts) != (first == "transcript")
    if not is_name or not all(map(_PART.match, parts)):
        raise ValueError("no name of a file: %.200r" % name)
    return os.path.join(places[first], *parts)


def _files(places: Dict[str, str]) -> Iterator[Tuple[str, str]]:
    """Names and paths, the transcript first."""
    yield "transcript", places["transcript"]
    left = _MOST_FILES
    for first in ("session", "tasks", "file-history"):
        for directory, below, names in os.walk(places[first]):
            inside = os.path.relpath(directory, places[first])
            parts = [first] if inside == "." else [first, *inside.split(os.sep)]
            below[:] = sorted(filter(_PART.match, below)) if len(parts) < _DEEPEST else []
            for name in sorted(filter(_PART.match, names)):
                left -= 1
                if left < 0:
                    return
                yield "/".join([*parts, name]), os.path.join(directory, name)


def _leave_mark(places: Dict[str, str], mark: Any) -> None:
    scratch = "%s.%d.part" % (places["mark"], os.getpid())
    with open(scratch, "w") as file:
        json.dump(mark, file)
    os.rename(scratch, places["mark"])


def _what_is_here(places: Dict[str, str], most: int) -> Dict[str, Any]:
    digest, size, left, mark = hashlib.sha256(), 0, most, None
    with contextlib.suppress(OSError, ValueError), open(places["mark"]) as file:
        mark = json.loads(file.read(_CHUNK))
    with contextlib.suppress(FileNotFoundError), open(places["transcript"], "rb") as content:
        size = os.fstat(content.fileno()).st_size
        while left and (data := content.read(min(left, _CHUNK))):
            digest.update(data)
            left -= len(data)
    return {"size": size, "digest": digest.hexdigest(), "mark": mark}


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        data = source.read(min(size, _CHUNK))
        if not data:
            raise ValueError("%d bytes are missing" % size)
        target.write(data)
        size -= len(data)


def _say(output: BinaryIO, message: Dict[str, Any]) -> None:
    output.write(json.dumps(message).encode() + b"\n")
    output.flush()


def _line(source: BinaryIO) -> Dict[str, Any]:
    line = source.readline(_LONGEST_LINE)
    message = json.loads(line) if line.endswith(b"\n") else None
    if not isinstance(message, dict):
        raise ValueError("a line of JSON is missing")
    return message
