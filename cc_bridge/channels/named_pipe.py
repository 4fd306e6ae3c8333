"""Two FIFOs become a channel, by the rendezvous of docs/protocol.md.

Nothing waits in an ``open()``, nothing polls: whether an agent listens is known at once (ENXIO), and
from then on the kernel reports readiness, the end of the file when the agent dies, and back-pressure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterator

import anyio

from ..errors import AgentUnavailable
from .base import Channel
from .fifo import Descriptor, make_fifo, open_fifo

__all__ = ["LISTEN", "NamedPipeChannel", "NobodyListens", "prepare_directory"]

LISTEN = "listen"

#: Names left by a host that was killed during a rendezvous are removed when this old, in seconds.
_STALE = 60.0


class NobodyListens(AgentUnavailable):
    """No agent has the ``listen`` pipe open *on this kernel*: it is not running, or the pipes never meet."""


def prepare_directory(directory: str) -> None:
    """Make the directory that host and container share, and the pipe on which the agent listens.

    Its parent must be private (0700): the pipes themselves are open to any user, because the user in
    the container is often another than the host's.

    Raises:
        OSError: it cannot be made, or ``listen`` is something else than a FIFO.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    os.chmod(directory, 0o755)  # makedirs' mode is cut by the umask
    with contextlib.suppress(FileExistsError):
        make_fifo(directory, LISTEN)
    open_fifo(directory, LISTEN, os.O_RDWR).close()


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
        """Meet the agent that listens in ``directory``.

        Args:
            greeting: the first bytes to send; the agent's answer to them completes the rendezvous.
            limit: seconds for the agent to answer.

        Raises:
            NobodyListens: known at once, nothing has been waited for.
            AgentUnavailable: an agent listens but did not answer in time, or the directory is unusable.
        """
        _sweep(directory)
        with contextlib.ExitStack() as undo:
            try:
                listen = open_fifo(directory, LISTEN, os.O_WRONLY)
                undo.callback(listen.close)
                name = uuid.uuid4().hex
                undo.enter_context(_names(directory, name))
                # The reading end first: the agent's open() for writing needs a reader.
                incoming = open_fifo(directory, f"{name}.out", os.O_RDONLY)
                undo.callback(incoming.close)
                # Read and write, so that the agent sees no end of file before it has said hello.
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
        _forget(directory, name)
        listen.close()
        both.close()
        return cls(incoming, outgoing)

    async def send(self, data: bytes) -> None:
        """Write to the agent's pipe; a cancelled call may have written a part, which breaks the channel."""
        await self._outgoing.write_all(data)

    async def receive(self) -> bytes:
        """What the agent has written; a cancelled call loses nothing."""
        data = await self._incoming.read()
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        """Close both pipes: the agent sees the end at once."""
        self._outgoing.close()
        self._incoming.close()


async def _answer(incoming: Descriptor, listen: Descriptor) -> None:
    """Wait until the agent answers, or has ended: then the kernel reports an error on ``listen``, too.

    A killed agent's descriptors are closed one after the other, so ``listen`` may have been opened in between.

    Raises:
        NobodyListens: it has ended.
    """
    ended = False

    async def watch() -> None:
        nonlocal ended
        await listen.wait_readable()  # which it never is; but poll(2) reports POLLERR where no reader is left
        ended = True
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await incoming.wait_readable()
        group.cancel_scope.cancel()
    if ended:
        raise NobodyListens("the agent ended during the rendezvous")


@contextlib.contextmanager
def _names(directory: str, name: str) -> Iterator[None]:
    try:
        make_fifo(directory, f"{name}.in")
        make_fifo(directory, f"{name}.out")
        yield
    finally:
        _forget(directory, name)


def _forget(directory: str, name: str) -> None:
    for end in ("in", "out"):
        with contextlib.suppress(OSError):  # gone with its directory, or swept by another host
            os.unlink(os.path.join(directory, f"{name}.{end}"))


def _sweep(directory: str) -> None:
    """Remove what a host that was killed in mid-rendezvous has left."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            stem, _, end = entry.name.rpartition(".")
            if end in ("in", "out") and entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE:
                _forget(directory, stem)


def _unavailable(directory: str, error: OSError) -> AgentUnavailable:
    if error.errno == errno.ENXIO:
        return NobodyListens("no agent listens on the pipes")
    return AgentUnavailable(f"the pipes cannot be used: {error.strerror or error} ({directory})")
