"""``cc-bridge logs``: what the agent of an instance has logged, readable, on stdout."""

from __future__ import annotations

import functools
import json
import os
import re
import stat
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread

from cc_bridge_agent import wire

from ..errors import InvalidInput
from . import options as o
from .harmless import plain
from .parameters import Option
from .session import run_async

if TYPE_CHECKING:
    from ..engine.streams import Chunk

__all__ = ["logs", "parse_age", "readable"]

Wait = Callable[[], Awaitable[None]]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: Bytes of a line; the rest of it is shown as another one.
_LONGEST_LINE = 65536

#: The agent's last word.
_LAST = "stopped"


def logs(
    name: o.Name,
    follow: Annotated[bool, Option("--follow", "-f", help="Go on until it ends, or Ctrl-C.")] = False,
    tail: Annotated[int | None, Option("--tail", "-n", metavar="N", min=0, help="The last N lines.")] = None,
    since: Annotated[str, Option("--since", metavar="AGE", help="Not older than this: 90s, 10m, 2h, 1d.")] = "",
    timestamps: Annotated[bool, Option("--timestamps", "-t", help="Whole times, in UTC.")] = False,
    as_json: Annotated[bool, Option("--json", help="As the agent has written it, for programs.")] = False,
) -> None:
    """Show what an instance's agent has logged: starts, ends, turns and faults, never what was said.

    `cc-bridge history` has the conversation.
    """
    from ..instances.contained_instance import ContainedInstance
    from .display import Display

    async def main() -> int:
        begin = time.time() - parse_age(since) if since else 0.0
        show: Callable[[str], str] = _as_it_is if as_json else lambda line: readable(line, whole=timestamps)
        with Display() as display:
            instance = o.load(name, display)
            try:
                if isinstance(instance, ContainedInstance):
                    found = _lines((await instance.get_tools()).logs(follow=follow, tail=tail, since=begin))
                else:
                    over = instance.until_agent_ends if follow else None
                    found = _file_lines(instance.agent_log, over, tail=tail, since=begin)
                async with aclosing(found) as lines, anyio.create_task_group() as group:
                    group.start_soon(_until_nobody_reads)
                    async for line in lines:
                        print(show(line), flush=follow)
                    group.cancel_scope.cancel()
                sys.stdout.flush()
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()
        return 0

    run_async(main)


def parse_age(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``2h``, ``1d``.

    Raises:
        InvalidInput: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise InvalidInput(f"{text!r} is no length of time", hint="Write 90s, 10m, 2h or 1d.")
    return float(found[1]) * _UNITS[found[2]]


def readable(line: str, *, whole: bool = False) -> str:
    """A line of the agent's as a person reads it; any other as it is, but harmless.

    Args:
        whole: its time in UTC and to the millisecond, as ISO 8601.
    """
    record = _record(line)
    if record is None:
        return plain(line)
    facts = {key: value for key, value in record.items() if key not in ("time", "event")}
    if facts.get("session") == "main":  # there is no other, but for what looks whether it lives
        del facts["session"]
    words = " ".join(f"{key}={_word(value)}" for key, value in facts.items())
    event = str(record["event"]).replace("_", " ")
    return plain(f"{_time(record.get('time'), whole=whole)}  {event}" + (f"  {words}" if words else ""))


def _as_it_is(line: str) -> str:
    return plain(line) if sys.stdout.isatty() else line


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = wire.decode(line.encode())
    except wire.FrameError:
        return None
    return record if isinstance(record.get("event"), str) else None


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text and not re.search(r"\s", text) else json.dumps(text, ensure_ascii=False)


def _time(value: Any, *, whole: bool) -> str:
    try:
        if whole:
            return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds")
        return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "-"


async def _until_nobody_reads() -> None:
    """A reader that has gone (`| head`) is noticed also where nothing more is written.

    Raises:
        BrokenPipeError: it has gone.
    """
    if stat.S_ISFIFO(os.fstat(1).st_mode):
        await anyio.wait_readable(1)  # which it never is; but poll(2) reports POLLERR where no reader is left
        raise BrokenPipeError


async def _lines(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[str, None]:
    """The lines of a container's output, both streams'."""
    rest: dict[int, bytes] = {}
    async with aclosing(chunks):
        async for chunk in chunks:
            *lines, rest[chunk.stream] = (rest.get(chunk.stream, b"") + chunk.data).split(b"\n")
            if len(rest[chunk.stream]) > _LONGEST_LINE:
                lines.append(rest.pop(chunk.stream))
            for line in lines:
                yield _text(line)
    for line in rest.values():
        if line:
            yield _text(line)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


async def _file_lines(path: Path, over: Wait | None, *, tail: int | None, since: float) -> AsyncGenerator[str, None]:
    """The same of a local agent's file.

    Args:
        over: what comes is followed until this returns, or the agent says that it ends; None: not followed.
    """
    try:
        file = open(path, "rb")  # noqa: ASYNC230  a small local file, closed below
    except FileNotFoundError:
        return
    with file:
        last: deque[str] = deque(maxlen=tail)
        ended = False

        def read() -> Iterator[str]:
            nonlocal ended
            for line in file:
                text = _text(line.rstrip(b"\n"))
                record = _record(text)
                ended = record is not None and record["event"] == _LAST
                if not since or record is None or not isinstance(at := record.get("time"), int | float) or at >= since:
                    yield text

        await anyio.to_thread.run_sync(lambda: last.extend(read()))
        for line in last:
            yield line
        if over is None or ended:
            return
        async with aclosing(_changes(path, over)) as changes:
            async for _ in changes:
                for line in read():
                    yield line
                if ended or not path.exists():
                    return


async def _changes(path: Path, over: Wait) -> AsyncGenerator[None, None]:
    """Each time that something has happened to a file, and once at the beginning and when it is over."""
    if not sys.platform.startswith("linux"):
        raise InvalidInput("a local agent's log can be followed on Linux only", hint=f"`tail -f {path}` does.")
    from cc_bridge_agent.pane.inotify import Watcher

    watcher = Watcher()
    try:
        watcher.watch(str(path.parent))
        yield
        while await _comes_first(functools.partial(anyio.wait_readable, watcher.fd), over):
            if any(name == path.name for _, name, _ in list(watcher.read())):
                yield
        yield
    finally:
        watcher.close()


async def _comes_first(wanted: Wait, other: Wait) -> bool:
    """Whether the one returns before the other, which is cancelled."""
    first: list[Wait] = []

    async def wait(for_what: Wait) -> None:
        await for_what()
        first.append(for_what)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(wait, wanted)
        group.start_soon(wait, other)
    return first[0] is wanted
