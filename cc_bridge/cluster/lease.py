"""The lease of an instance: the rules of :mod:`claim`, over a place for its note."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio

from ..errors import BridgeError, EngineError, InstanceBusy, LeaseLost
from ..logs import Log
from .claim import Claim, Note
from .users import Users

__all__ = ["TTL", "Lease", "NotePlace", "ended_under", "started_under"]

#: Seconds after which a lease that is not renewed is anybody's: what a program that was killed costs the next.
TTL = 30.0

#: Seconds for a renewal, which may have to be waited for between two events; and for giving it up.
_RENEW_LIMIT, _END_LIMIT = 2.0, 5.0


class NotePlace(Protocol):
    """A text that all programs see, with a version that changes whenever somebody writes it, or anything beside it."""

    async def read(self) -> tuple[str, int] | None:
        """The text, empty where there is none, and the version; None: the place is not there.

        Raises:
            EngineError: it cannot be read now.
        """

    async def make(self) -> None:
        """Make the place, unless somebody has made it meanwhile.

        Raises:
            EngineError: it cannot be made.
        """

    async def write(self, text: str, version: int) -> bool:
        """Write it, if it still has this version; False: it has another.

        Raises:
            EngineError: it cannot be written, or nobody knows whether it was.
        """

    async def wait(self, version: int, limit: float) -> None:
        """Return when it may have another version than this, or after so many seconds."""


class Lease:
    """The lease of one instance, for one object of this program. The programs of one machine share it.

    It is held from :meth:`take` to :meth:`give_up`, and renewed by whoever calls :meth:`renew` in time or uses
    :meth:`kept`. Safe to use from several tasks.

    Args:
        name: the instance's, for error messages.
        machine: a name of this machine, or of its state directory, that no other has.
        users: a file of this machine, in a directory of the instance's.
        host: what this program calls itself, for those who have to wait for it.
        ttl: seconds, the same for all programs.
    """

    def __init__(
        self, place: NotePlace, log: Log, *, name: str, machine: str, users: Path, host: str, ttl: float = TTL
    ) -> None:
        self._place, self._log, self._name, self._ttl = place, log, name, ttl
        self._claim, self._users = Claim(machine, host, ttl), Users(users)
        self._using = anyio.Lock()
        self._next = math.inf  # when to renew it
        self._holders, self._is_unwanted = 0, False  # in blocks; it is given up when the last of them ends

    @property
    def fence(self) -> int | None:
        """Its number, to be said with each hello; None: it is not held, as far as is known."""
        return self._claim.fence

    @property
    def renew_at(self) -> float:
        """When :meth:`renew` is to be called, in anyio's time; infinite: it is not held."""
        return math.inf if self.fence is None else self._next

    async def take(self, limit: float = math.inf, *, makes: bool = True) -> None:
        """Have it; wait while another program has it, and renew it where it is held.

        Args:
            limit: seconds to wait.
            makes: make its place where that is missing; otherwise there is nothing to be had.

        Raises:
            InstanceBusy: another program has it for so long.
            EngineError: its place cannot be reached.
        """
        who, self._is_unwanted = "", False
        with anyio.move_on_after(limit):
            async with self._using:
                try:
                    self._users.join()
                    while self.fence is None or self._next <= anyio.current_time():
                        began, seen = anyio.current_time(), await self._place.read()
                        if seen is None and not makes:
                            return
                        who = await self._try(began, seen)
                    return
                except BaseException:  # cancelled, too: nobody is to wait for who does not wait any more
                    with anyio.CancelScope(shield=True):
                        await self._leave()
                    raise
        raise InstanceBusy(f"{who or 'another program'} drives it, for {limit:.0f} seconds now", instance=self._name)

    async def _try(self, began: float, seen: tuple[str, int] | None) -> str:
        """One step to have it, after its place was read; who else has it."""
        if seen is None:
            await self._place.make()
            return ""
        note, version = Note.read(seen[0]), seen[1]
        wanted = self._claim.take(note, began, time.time())
        if isinstance(wanted, Note):
            await self._write(wanted, version, began)
        else:
            await self._place.wait(version, max(0.0, wanted - anyio.current_time()))
        return note.host

    async def _write(self, note: Note, version: int, began: float) -> bool:
        written = await self._place.write(note.write(), version)
        if written:
            self._claim.wrote(note, began)
            self._next = began + self._ttl / 3
        return written

    async def confirm(self) -> None:
        """Make sure that it is still this program's, after an agent has heard its fence.

        From then on nobody needs a clock: whoever takes it later comes to that agent later, and all that this program
        sends after that is refused there. Before the agent had the fence, this program may have slept.

        Raises:
            LeaseLost: it is another's.
            EngineError: its place cannot be reached.
        """
        async with self._using:
            seen = await self._place.read()
            if seen is None or not self._claim.confirm(Note.read(seen[0])):
                self.overtaken()
                raise LeaseLost("another program has taken its lease", instance=self._name)

    async def renew(self) -> bool:
        """Renew it, in two seconds at most; False: it is another's by now.

        Where its place cannot be reached it is tried again later: as long as nobody else has taken it, it is held.
        """
        self._next = anyio.current_time() + self._ttl / 3
        try:
            with anyio.move_on_after(_RENEW_LIMIT):
                async with self._using:
                    await self._renew()
        except EngineError as error:
            self._log.warning("lease_not_renewed", reason=str(error))
        return self.fence is not None

    async def _renew(self) -> None:
        written = False
        while not written:  # what else is written there changes the version, too
            began = anyio.current_time()
            seen = await self._place.read()
            note = self._claim.renew(Note.read(seen[0] if seen else ""))
            if seen is None or note is None:
                self._log.warning("lease_lost")
                return
            written = await self._write(note, seen[1], began)

    def overtaken(self) -> None:
        """An agent has said that a higher fence was there: the next :meth:`take` begins anew."""
        self._claim.overtaken()

    async def give_up(self) -> None:
        """Let others have it, at once, unless other programs of this machine use it; or at the end of :meth:`kept`.

        Where its place cannot be reached, other machines have to wait until it has run out.
        """
        if self.fence is None and not self._users.has_joined:
            return
        if self._holders:
            self._is_unwanted = True
            return
        with anyio.CancelScope(shield=True):
            async with self._using:
                await self._leave()

    async def _leave(self) -> None:
        self._claim.fence = None  # whatever becomes of the note: nothing may be sent any more without taking it again
        self._users.leave()
        try:
            with anyio.move_on_after(_END_LIMIT):
                while (seen := await self._place.read()) is not None:
                    note = self._claim.give_up(Note.read(seen[0]))
                    # One that begins to use it now writes, too: then this is not written, and looks again.
                    if note is None or self._users.are_left or await self._write(note, seen[1], 0.0):
                        return
        except EngineError as error:
            self._log.warning("lease_not_given_up", reason=str(error))

    @asynccontextmanager
    async def held(self, limit: float) -> AsyncIterator[None]:
        """Within the block it is held, and afterwards, if it was before.

        Raises: as :meth:`take`.
        """
        before = self.fence is not None
        await self.take(limit)
        try:
            async with self.kept():
                yield
        finally:
            if not before:
                await self.give_up()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within the block it is renewed, by a task."""
        failure: BridgeError | None = None
        self._holders += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep)
                try:
                    yield
                except BridgeError as error:  # as itself, and not in a group
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            self._holders -= 1
            if self._is_unwanted:
                await self.give_up()
        if failure is not None:
            raise failure

    async def _keep(self) -> None:
        while self.fence is not None:
            await anyio.sleep_until(self.renew_at)
            if self.renew_at <= anyio.current_time():
                await self.renew()


@asynccontextmanager
async def started_under(lease: Lease | None) -> AsyncIterator[None]:
    """Within the block the lease is held, and afterwards, too, if the block comes to its end. None: there is none.

    Raises: as :meth:`Lease.take`.
    """
    if lease is None:
        yield
        return
    await lease.take()
    try:
        async with lease.kept():
            yield
    except BaseException:  # cancelled, too: what has not begun need not be waited for
        await lease.give_up()
        raise


@asynccontextmanager
async def ended_under(lease: Lease | None, limit: float) -> AsyncIterator[None]:
    """Within the block the lease is held, and afterwards not. None: there is none.

    Raises: as :meth:`Lease.take`.
    """
    if lease is None:
        yield
        return
    await lease.take(limit, makes=False)
    try:
        async with lease.kept():
            yield
    finally:
        await lease.give_up()
