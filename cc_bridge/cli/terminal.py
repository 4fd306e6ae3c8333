"""A command in a container, joined to this terminal, or to this process's stdin and stdout."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty as terminal_modes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ..engine.streams import Demultiplexer, read_chunks
from ..errors import InvalidInput
from .harmless import HarmlessOutput

if TYPE_CHECKING:
    from ..engine.container_tools import ContainerTools
    from ..engine.execs import Attached

__all__ = ["interact", "write_all"]


async def interact(tools: ContainerTools, argv: Sequence[str], *, user: str, tty: bool) -> int:
    """Run a command (none: a shell) until it ends; its exit code.

    Args:
        tty: give it a terminal: this one, whose keys it gets, Ctrl-C included, and whose size it follows.

    Raises:
        InvalidInput: a terminal was asked for, and there is none here.
    """
    if tty and not sys.stdin.isatty():
        raise InvalidInput("there is no terminal here", hint="`cc-bridge exec` without --tty needs none.")
    attached = await tools.attach(argv, user=user, tty=tty, term=os.environ.get("TERM", ""))
    try:
        with _keys_to_it() if tty else nullcontext():
            async with anyio.create_task_group() as group:
                if tty:
                    await group.start(_follow_size, tools, attached)
                group.start_soon(_copy_stdin, attached.fd)
                write = write_all if tty else HarmlessOutput().write
                async for chunk in read_chunks(attached.fd, attached.early, Demultiplexer(tty=tty)):
                    await anyio.to_thread.run_sync(write, chunk.stream, chunk.data)
                group.cancel_scope.cancel()
    finally:
        os.close(attached.fd)
    code = await tools.exit_code(attached.id)
    return 1 if code is None else code


def write_all(fd: int, data: bytes) -> None:
    """Write to stdout (1) or stderr (2) as it is, past Python's buffers, which are empty."""
    while data:
        data = data[os.write(fd, data) :]


async def _copy_stdin(fd: int) -> None:
    """This process's stdin to the command, as far as it wants it, and then its end."""
    import socket

    while True:
        try:
            await anyio.wait_readable(0)
        except (OSError, ValueError):
            pass  # a plain file, which is always readable
        data = await anyio.to_thread.run_sync(os.read, 0, 65536, abandon_on_cancel=True)
        if not data:
            break
        while data:
            await anyio.wait_writable(fd)
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except OSError:
                return  # it has ended
    with socket.socket(fileno=os.dup(fd)) as connection, suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


async def _follow_size(
    tools: ContainerTools, attached: Attached, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGWINCH) as changes:
        columns, rows = os.get_terminal_size(0)
        await tools.resize(attached.id, rows, columns)
        task_status.started()
        async for _ in changes:
            columns, rows = os.get_terminal_size(0)
            await tools.resize(attached.id, rows, columns)


@contextmanager
def _keys_to_it() -> Iterator[None]:
    """Every key goes through as it is, and the terminal is as it was afterwards."""
    before = termios.tcgetattr(0)
    terminal_modes.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
