"""A channel over two FIFOs, opened by the rendezvous of docs/protocol.md.

No ``open()`` blocks and nothing polls: without a listening agent the open fails at once (ENXIO); afterwards the kernel
reports readiness, end of file when the agent dies, and back-pressure.
"""

from __future__ import annotations

import contextlib
import errno
import os

import anyio

from ..errors import AgentUnavailable
from .base import Channel
from .fifo import Descriptor, make_fifo, open_fifo
from .pipe_ends import LISTEN, names, sweep, unlink_names

__all__ = ["LISTEN", "NamedPipeChannel", "NobodyListens", "prepare_directory", "until_nobody_listens"]


class NobodyListens(AgentUnavailable):
    """No agent has the ``listen`` pipe open *on this kernel*: it is not running, or runs on another kernel."""


def prepare_directory(directory: str) -> None:
    """Create the directory that host and container share, and the agent's ``listen`` pipe.

    Its parent must be private (0700): any user may open the pipes, because the container's user often differs from the
    host's.

    Raises:
        OSError: it cannot be created, or ``listen`` is not a FIFO.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    os.chmod(directory, 0o755)  # makedirs applies the umask
    with contextlib.suppress(FileExistsError):
        make_fifo(directory, LISTEN)
    open_fifo(directory, LISTEN, os.O_RDWR).close()


async def until_nobody_listens(directory: str) -> None:
    """Return when no agent listens in ``directory``, on this kernel; at once where none does."""
    try:
        listen = open_fifo(directory, LISTEN, os.O_WRONLY)
    except OSError:
        return
    try:
        await listen.wait_readable()  # as in _answer
    finally:
        listen.close()


class NamedPipeChannel(Channel):
    """One input pipe (host to agent) and one output pipe (agent to host).

    Use :meth:`connect`.
    """

    kind = "pipes"

    def __init__(self, incoming: Descriptor, outgoing: Descriptor) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    @classmethod
    async def connect(cls, directory: str, greeting: bytes, limit: float = 5.0) -> NamedPipeChannel:
        """Connect to the agent that listens in ``directory``.

        Args:
            greeting: the first bytes to send; the agent's answer completes the rendezvous.
            limit: seconds for the agent to answer.

        Raises:
            NobodyListens: raised at once, without waiting.
            AgentUnavailable: an agent listens but did not answer in time, or the directory is unusable.
        """
        sweep(directory)
        with contextlib.ExitStack() as undo:
            try:
                listen = open_fifo(directory, LISTEN, os.O_WRONLY)
                undo.callback(listen.close)
                name = os.urandom(16).hex()
                undo.enter_context(names(directory, name))
                # The reading end first: the agent's open() for writing needs a reader.
                incoming = open_fifo(directory, f"{name}.out", os.O_RDONLY)
                undo.callback(incoming.close)
                # Read and write, so that the agent sees no end of file before our writing end is open.
                both = open_fifo(directory, f"{name}.in", os.O_RDWR)
                undo.callback(both.close)
            except OSError as error:
                raise _unavailable(directory, error) from error
            try:
                with anyio.fail_after(limit):
                    await both.write_all(greeting)
                    await listen.write_all(f"{name}\n".encode())
                    await _answer(incoming, listen)
                outgoing = open_fifo(directory, f"{name}.in", os.O_WRONLY)
            except TimeoutError:
                raise AgentUnavailable(f"the agent did not answer on the pipes within {limit:g} s") from None
            except (OSError, anyio.BrokenResourceError) as error:
                raise NobodyListens(f"the agent ended during the rendezvous: {error}") from error
            undo.pop_all()
        unlink_names(directory, name)
        listen.close()
        both.close()
        return cls(incoming, outgoing)

    @property
    def ends(self) -> tuple[Descriptor, Descriptor]:
        """What is read from and what is written to, for who passes on bytes and no frames."""
        return self._incoming, self._outgoing

    @property
    def has_ended(self) -> bool:
        """See :class:`~cc_bridge.channels.base.Channel`."""
        return self._incoming.has_hung_up()

    async def send(self, data: bytes) -> None:
        """Write to the agent's pipe; a cancelled call may have written a part, which breaks the channel."""
        await self._outgoing.write_all(data)

    async def receive(self) -> bytes:
        """Read the agent's pipe; a cancelled call loses nothing."""
        data = await self._incoming.read()
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        """Close both pipes; the agent sees end of file at once."""
        self._outgoing.close()
        self._incoming.close()


async def _answer(incoming: Descriptor, listen: Descriptor) -> None:
    """Wait until the agent answers or dies, which the kernel reports on ``listen``.

    A killed agent's descriptors are closed one by one, so opening ``listen`` may have succeeded in between.

    Raises:
        NobodyListens: it has died.
    """
    ended = False

    async def watch() -> None:
        nonlocal ended
        await listen.wait_readable()  # it never becomes readable, but poll(2) reports POLLERR without a reader
        ended = True
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await incoming.wait_readable()
        group.cancel_scope.cancel()
    if ended:
        raise NobodyListens("the agent ended during the rendezvous")


def _unavailable(directory: str, error: OSError) -> AgentUnavailable:
    if error.errno == errno.ENXIO:
        return NobodyListens("no agent listens on the pipes")
    return AgentUnavailable(f"the pipes cannot be used: {error.strerror or error} ({directory})")
