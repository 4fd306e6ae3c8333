"""A program in Claude Code's place: the same words, streams, signals and exit code, and it runs in an instance.

Its own entry, without typer: what starts a ``claude`` waits for it each time. stdin, stdout and stderr are copied as
bytes, with back-pressure both ways.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from .parameters import Argument
from .without_tls import import_anyio

import_anyio()

import anyio  # noqa: E402  after what makes it quick

from ..errors import BridgeError, ConnectionLost, InvalidInput  # noqa: E402
from ..login import PARTS  # noqa: E402

if TYPE_CHECKING:
    from ..bridge.raw import RawSession
    from ..instances.bridged import BridgedInstance

__all__ = ["claude", "run"]

#: Bytes of one read, and of one write: that much a pipe takes at once that can be written to (PIPE_BUF).
_READ, _WRITE = 65536, 4096

#: Words whose values are paths. Of these some take several.
_PATHS = ("--append-system-prompt-file", "--plugin-dir", "--settings", "--system-prompt-file")
_LISTS_OF_PATHS = ("--add-dir", "--mcp-config")

#: Variables of the caller's that are meant for Claude Code; the others stay here, and a login goes as a whole.
_PASSED = ("CLAUDE_CODE_", "CLAUDE_AGENT_SDK_")
_NOT_PASSED = {*PARTS, "CLAUDE_CODE_SSE_PORT"}  # the latter is a port of this machine's

#: With one of these it does not talk to a terminal.
_NOT_INTERACTIVE = {"-p", "--print", "-v", "--version", "-h", "--help"}

_SIGNALS = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGHUP: "TERM"}


def run(words: Sequence[str]) -> NoReturn:
    """Run it to its end.

    Args:
        words: ``--instance NAME`` and ``--``, which may both be left out, and Claude Code's.
    """
    logging.getLogger("cc_bridge").addHandler(logging.NullHandler())  # stderr is Claude Code's
    try:
        code = anyio.run(_main, *_split(words))
    except BridgeError as error:
        from .session import report

        code = report(error)
    sys.stdout.flush()
    if code < 0:  # whoever waits for this program is told the same signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)  # a reader of stdin may still wait


def claude(
    words: Annotated[list[str], Argument(metavar="[--instance NAME] -- ARGS…", help="Claude Code's own arguments.")],
) -> None:
    """Be `claude` for another program: Claude Code runs in an instance, with these streams, signals and exit code.

    Without a name the instance is the one whose workspace has this directory.
    """
    run(words)


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The instance's name, and Claude Code's words."""
    left = list(words)
    name = os.environ.get("CC_BRIDGE_INSTANCE", "")
    if left[:1] == ["--instance"] and len(left) > 1:
        name, left = left[1], left[2:]
    elif left and left[0].startswith("--instance="):
        name, left = left[0].partition("=")[2], left[1:]
    return name, left[1:] if left[:1] == ["--"] else left


async def _main(name: str, words: list[str]) -> int:
    if os.isatty(0) and os.isatty(1) and not _NOT_INTERACTIVE.intersection(words):
        what = "an interactive Claude Code needs a terminal of its own, and `cc-bridge claude` has none for it"
        raise InvalidInput(what, hint="Give it -p, or use an instance `--on tmux` and `cc-bridge attach`.")
    from ..instances.factory import open as open_instance

    here = os.getcwd()
    instance = open_instance(name or _instance_of(here))
    try:
        cwd = instance.beside.inside(here)
        if cwd is None:
            what = f"{here} is neither in its workspace nor in its mounts"
            raise InvalidInput(what, instance=instance.name, hint="Go to a directory that is.")
        session = await instance.beside.run(_translated(words, instance), _variables(), cwd)
        try:
            return await _join(session)
        finally:
            await session.aclose()
    finally:
        await instance.release()


def _instance_of(directory: str) -> str:
    """The instance whose workspace has this directory, the deepest of several.

    Raises:
        InvalidInput: there is none, or two are equally near.
    """
    from ..instances.registry import Registry

    registry = Registry()
    here, found = Path(directory).resolve(), list[tuple[int, str]]()
    for name in registry.names():
        try:
            record = registry.load(name)
        except InvalidInput:
            continue  # made by another release, or being removed
        if record.workspace and not record.in_pane and here.is_relative_to(record.workspace.resolve()):
            found.append((len(record.workspace.resolve().parts), name))
    nearest = [name for depth, name in found if depth == max(found)[0]]
    if len(nearest) == 1:
        return nearest[0]
    what = f"no instance has {directory} in its workspace" if not nearest else f"several have: {', '.join(nearest)}"
    raise InvalidInput(what, hint="Name one: `--instance NAME`, or CC_BRIDGE_INSTANCE; `cc-bridge up` makes one.")


def _variables() -> dict[str, str]:
    names = [name for name in os.environ if name.startswith(_PASSED) and name not in _NOT_PASSED]
    return {name: os.environ[name] for name in names}


def _translated(words: Sequence[str], instance: BridgedInstance) -> list[str]:
    """Claude Code's words, with the paths as they are named at the instance."""
    made: list[str] = []
    option, several = "", False
    for word in words:
        name, equals, value = word.partition("=")
        if option and not (several and word.startswith("-")):
            made.append(_path(option, word, instance))
            option = option if several else ""
        elif name in (*_PATHS, *_LISTS_OF_PATHS) and equals:
            made.append(f"{name}={_path(name, value, instance)}")
            option = ""
        else:
            made.append(word)
            option, several = (word, word in _LISTS_OF_PATHS) if word in (*_PATHS, *_LISTS_OF_PATHS) else ("", False)
    return made


def _path(option: str, value: str, instance: BridgedInstance) -> str:
    if not os.path.isabs(value):
        return value  # JSON, or of the directory in which it starts
    path = instance.beside.inside(value)
    if path is None:
        raise InvalidInput(f"{option}: {value} is neither in its workspace nor in its mounts", instance=instance.name)
    return path


async def _join(session: RawSession) -> int:
    """Copy until the process has ended; its exit code, negative for a signal."""
    async with anyio.create_task_group() as group:
        group.start_soon(_copy_signals, session)
        group.start_soon(_copy_input, session)
        while (came := await session.receive()) is not None:
            if not await _write(1 if came.stream == "stdout" else 2, came.data):
                group.cancel_scope.cancel()
                return -signal.SIGPIPE
        group.cancel_scope.cancel()
    exited = session.exited
    if exited is None or exited.code is None:
        raise ConnectionLost("Claude Code ended with its agent, and nobody saw how")
    return exited.code


async def _copy_signals(session: RawSession) -> None:
    with anyio.open_signal_receiver(*_SIGNALS) as arrivals:
        async for number in arrivals:
            await session.signal(_SIGNALS[number])


async def _copy_input(session: RawSession) -> None:
    try:
        while data := await _read():
            await session.write(data)
        await session.end_input()
    except ConnectionLost:
        pass  # whoever reads is told


async def _read() -> bytes:
    try:
        if _waits(0):
            await anyio.wait_readable(0)
        return os.read(0, _READ)
    except OSError:  # it was closed, or its terminal has gone
        return b""


async def _write(fd: int, data: bytes) -> bool:
    """Write it, as quickly as it is read; False: nobody reads."""
    rest = memoryview(data)
    try:
        waits = _waits(fd)
        while rest:
            if waits:
                await anyio.wait_writable(fd)
            with suppress(BlockingIOError):  # somebody else writes there, too
                rest = rest[os.write(fd, rest[:_WRITE] if waits else rest) :]
    except OSError:
        return fd != 1  # stderr may be closed, and that is nobody's fault
    return True


def _waits(fd: int) -> bool:
    """It can be waited for; a file need not be, and cannot."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


if __name__ == "__main__":
    run(sys.argv[1:])
