"""Copying over any way to the agent, which may have to be started: `claude.py` has the quick one."""

from __future__ import annotations

import logging
import os
import signal
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from .without_tls import import_anyio

import_anyio()

import anyio  # noqa: E402  after what makes it quick

from ..errors import ConnectionLost  # noqa: E402
from ..instances.factory import instance_of  # noqa: E402
from ..instances.factory import open as open_instance  # noqa: E402
from .claude import OF_TERMINALS, SIGNALS  # noqa: E402

if TYPE_CHECKING:
    from ..bridge.piped import PipedSession
    from ..bridge.raw import RawSession
    from ..record import ClaudeInstance
    from .claude_terminal import Terminal

__all__ = ["go_on", "run"]

#: Bytes of one read, and of one write: that much a pipe takes at once that can be written to (PIPE_BUF).
_READ, _WRITE = 65536, 4096


def run(
    made: str | ClaudeInstance, args: Sequence[str], env: Mapping[str, str], cwd: str, terminal: Terminal | None
) -> int:
    """Start Claude Code, and copy until it has ended; its exit code, negative for a signal.

    Args:
        made: the name of an instance, or the record of one that is made by this.
        terminal: the person's, where Claude Code is to have one, too.

    Raises: as ``Beside.run``, and ConnectionLost.
    """
    return _in_event_loop(_run, made, args, env, cwd, terminal)


def _in_event_loop(function: Callable[..., Awaitable[int]], *arguments: object) -> int:
    logging.getLogger("cc_bridge").addHandler(logging.NullHandler())  # stderr is Claude Code's
    return anyio.run(function, *arguments)


async def _run(
    made: str | ClaudeInstance, args: Sequence[str], env: Mapping[str, str], cwd: str, terminal: Terminal | None
) -> int:
    instance = open_instance(made) if isinstance(made, str) else instance_of(made)
    try:
        session = await instance.beside.run(args, env, cwd, tty=terminal.size if terminal else None)
        try:
            return await _join(session, terminal)
        finally:
            await session.aclose()
    finally:
        await instance.release()


def go_on(name: str, piped: PipedSession, terminal: Terminal | None, *, unread: bool) -> int:
    """Go on with a process whose connection is lost; the same.

    Args:
        unread: nobody reads its output: end it.

    Raises:
        ConnectionLost: it is out of reach for good.
    """
    return _in_event_loop(_go_on, name, piped, terminal, unread)


async def _go_on(name: str, piped: PipedSession, terminal: Terminal | None, unread: bool) -> int:
    instance = open_instance(name)
    try:
        session = instance.beside.go_on(piped.streams, piped.name, piped.position)
        try:
            return -signal.SIGPIPE if unread else await _join(session, terminal)
        finally:
            await session.aclose()
    finally:
        await instance.release()


async def _join(session: RawSession, terminal: Terminal | None) -> int:
    """Copy until the process has ended; its exit code, negative for a signal."""
    async with anyio.create_task_group() as group:
        group.start_soon(_copy_signals, session, terminal)
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


async def _copy_signals(session: RawSession, terminal: Terminal | None) -> None:
    with anyio.open_signal_receiver(*SIGNALS, *(OF_TERMINALS if terminal else ())) as arrivals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # held since a connection was lost
        async for number in arrivals:
            if number in SIGNALS:
                await session.signal(SIGNALS[number])
            elif terminal is not None:
                if number == signal.SIGTSTP:
                    terminal.suspend()
                await session.resize(*terminal.size)


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
