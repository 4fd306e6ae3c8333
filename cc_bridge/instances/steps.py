"""The steps of an instance's life, one at a time: among the tasks of this program, and among programs."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..channels.fifo import Descriptor, make_fifo, open_fifo
from ..errors import AgentUnavailable, InstanceBusy, InvalidInput
from ..state import unusable
from .life import Answer, Life, State, Step

__all__ = ["Steps", "exclusive", "exclusive_if_free"]

#: In whose steps the code that runs is.
_inside: ContextVar[frozenset[Steps]] = ContextVar("_inside", default=frozenset())

#: Seconds after which whoever waits for another program looks again: a child that the other has forked meanwhile may
#: have a copy of what tells its end.
_AGAIN = 5.0

#: In /proc/locks (proc_locks(5)): who has locked the file of an inode.
_WRITE_LOCK = r"FLOCK +ADVISORY +WRITE (\d+) [0-9a-f]+:[0-9a-f]+:%d 0 EOF$"

#: Held where there is no directory, and nothing to exclude anybody from.
_NOTHING = Descriptor(-1)


class _Start:
    """Somebody who wants the instance to start, and gives way to whoever ends it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.given_up_for: Step | None = None

    def give_up(self, step: Step) -> None:
        self.given_up_for = step
        self.scope.cancel()


class Steps:
    """Asks the table of the instance's life, and does as it says.

    Args:
        name: the instance's, for error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._life = Life()
        self._over: anyio.Event | None = None  # of the step that is under way
        self._starts: set[_Start] = set()
        self._ends: set[anyio.Event] = set()  # each set when whoever waits to end it does so, or gives up

    @property
    def state(self) -> State:
        """Where the instance stands."""
        return self._life.state

    async def rest(self) -> bool:
        """Wait until nothing is under way; False: something was, and much may be different now."""
        if self._over is None:
            return True
        await self._over.wait()
        return False

    @asynccontextmanager
    async def giving_way(self) -> AsyncIterator[None]:
        """Within the block somebody wants the instance to start, and may have to wait for that.

        Raises:
            AgentUnavailable: somebody else wanted it to end meanwhile; the block was cancelled.
        """
        start = _Start()
        self._starts.add(start)
        try:
            with start.scope:
                yield
        finally:
            self._starts.discard(start)
        if start.scope.cancelled_caught and start.given_up_for:
            what = f"its start was given up, because somebody wanted to {start.given_up_for.value} it"
            raise AgentUnavailable(what, instance=self._name)

    @asynccontextmanager
    async def take(self, step: Step) -> AsyncIterator[None]:
        """Within the block the step is under way, and no other of this object.

        Raises:
            AgentUnavailable: it was a start, and somebody wants the instance to end.
            InvalidInput: this is called from within a step, by a callback for example.
        """
        if self in _inside.get():
            what = f"somebody wants to {step.value} it from within its own {self._life.state.value}"
            raise InvalidInput(what, instance=self._name, hint="A callback must not; cancel the call that it is of.")
        async with AsyncExitStack() as stack:
            if step is Step.START:
                await stack.enter_async_context(self.giving_way())
            await self._turn_of(step)
            self._life.begin(step)
            over, token = anyio.Event(), _inside.set(_inside.get() | {self})
            self._over, failed = over, True
            try:
                if step not in (Step.START, Step.SLEEP):
                    self._end_starts(step)  # which wait for something else, and would begin after this
                yield
                failed = False
            finally:
                _inside.reset(token)
                self._life.end(failed=failed)
                self._over = None
                over.set()

    async def _turn_of(self, step: Step) -> None:
        """Wait until the step can begin, which it has to do at once.

        What waits to end the instance comes before what comes later: a start that was given up is often tried again
        before the end that it was given up for has noticed.
        """
        earlier, begun = list(self._ends), anyio.Event()
        if step not in (Step.START, Step.SLEEP):
            self._ends.add(begun)
        try:
            while self._over is not None or (earlier := [end for end in earlier if not end.is_set()]):
                if self._over is None:  # they have been told that it is over, as we have, and are about to begin
                    await anyio.lowlevel.cancel_shielded_checkpoint()
                    continue
                if self._life.ask(step) is Answer.CANCEL:
                    self._end_starts(step)
                await self._over.wait()
        finally:
            self._ends.discard(begun)
            begun.set()

    def _end_starts(self, step: Step) -> None:
        for start in self._starts:
            start.give_up(step)


@asynccontextmanager
async def exclusive(path: Path, limit: float, name: str, make: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Within the block no other program, and no other task of this one, is in a block with the same path.

    A program that is killed in its block leaves it by that.

    Args:
        path: a FIFO, which is made where it is missing.
        limit: seconds to wait.
        name: the instance's, for error messages.
        make: makes its directory; without it, nothing is locked where that is missing.

    Raises:
        InstanceBusy: somebody else was in the block for so long.
        InvalidInput: it cannot be made.
    """
    held = None
    try:
        with anyio.move_on_after(limit):
            held = await _acquire(path, make)
    except OSError as error:  # the disk is full, say
        raise unusable(path.parent, error) from error
    if held is None:
        who = await anyio.to_thread.run_sync(_holder, path)
        raise InstanceBusy(f"{who} was starting or ending it for {limit:.0f} seconds", instance=name)
    try:
        yield
    finally:
        _unlock(held)


@contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """The same without waiting, and for threads, too; False: somebody is in a block with that path."""
    held = _try(path, None)
    try:
        yield held is not None
    finally:
        if held is not None:
            _unlock(held)


def _holder(path: Path) -> str:
    """Who holds the lock, for people."""
    try:
        found = re.search(_WRITE_LOCK % path.stat().st_ino, Path("/proc/locks").read_text(), re.MULTILINE)
        pid = int(found[1]) if found else 0
        program = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip() if pid > 0 else ""
    except OSError:  # not Linux, or it has just ended
        return "another program"
    if pid == os.getpid():
        return "this program itself"
    return f"process {pid} ({program})" if program else "another program"


async def _acquire(path: Path, make: Callable[[], None] | None) -> Descriptor:
    """What holds the lock as long as it is open."""
    while (held := _try(path, make)) is None:
        with suppress(FileNotFoundError):
            reader = _open(path, os.O_RDONLY)
            try:
                # Again, now that the end of whoever has it will be seen: it may have gone in between.
                if not _lock(reader):
                    with anyio.move_on_after(_AGAIN):
                        await reader.wait_readable()
            finally:
                _unlock(reader)
    return held


def _try(path: Path, make: Callable[[], None] | None) -> Descriptor | None:
    """The lock, if it is free.

    It is held by an end for writing, because the kernel takes the lock back before it says to those who wait for
    reading that the last writer has gone, also when a process is killed.
    """
    try:
        if make is not None:
            make()
        held = _open(path, os.O_RDWR)
    except FileNotFoundError:
        return _NOTHING if make is None else None  # it was removed at this moment
    if _lock(held):
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held.fileno()), os.stat(path)):  # else it was removed while we waited
                return held
    _unlock(held)
    return None


def _open(path: Path, flags: int) -> Descriptor:
    with suppress(FileExistsError):
        make_fifo(str(path.parent), path.name)
    return open_fifo(str(path.parent), path.name, flags)


def _lock(descriptor: Descriptor) -> bool:
    try:
        fcntl.flock(descriptor.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: Descriptor) -> None:
    if descriptor is _NOTHING:
        return
    fcntl.flock(descriptor.fileno(), fcntl.LOCK_UN)  # a child that was forked may have a copy
    descriptor.close()
