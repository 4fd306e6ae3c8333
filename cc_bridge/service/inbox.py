"""Commands that survive: each stored before it is acknowledged, and given to its instance once, in order.

The database knows that a command is there; the instance's agent knows that it was taken, by its id, and what was said.
So whoever is killed in between goes on where it was:

- ``stored``: nobody has it but us. It can be changed and taken back.
- ``sent``: it may have reached the agent. It is given again under its id, and the agent takes an id once.
- ``running``: the agent has it. It is never given again; its turn is read again, from the agent's journal.
- ``ended``: its result is kept.

One command of an instance is with the agent at a time, the others wait here.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import anyio

from ..errors import BridgeError, InstanceNotFound, TurnNotFound
from ..events import TurnResult, Verdict, Waiting
from ..fleet import Fleet
from ..logs import Log
from ..record import ClaudeInstance
from .events_json import result_json
from .observer import Observer, observed
from .problems import TooLate
from .prompts import prompt_digest, prompt_of
from .store.commands import WITHDRAWN, Command, Commands
from .store.errors import StoreUnavailable
from .store.webhooks import Outgoing

__all__ = ["Inbox"]

T = TypeVar("T")

#: Seconds for the commands of an instance that was removed to end.
_FAREWELL = 10.0

#: Seconds between tries to tell the database what has happened; the last one again and again.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)


def _anything(what: object) -> None:
    """Nobody wants to know."""


class _Line:
    """The commands of one instance that have not ended."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.accepting = anyio.Lock()
        self.is_served = False
        self.changed = anyio.Event()

    def ring(self) -> None:
        """Whoever waits for something here looks again."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    def put(self, command: Command) -> None:
        """In its place, or in the place of what it was before."""
        self.commands = [other for other in self.commands if other.id != command.id]
        self.commands.append(command)
        self.commands.sort(key=lambda other: other.number)
        self.ring()

    def find(self, id: str) -> Command | None:  # noqa: A002  the word that fits
        """The command, if it has not ended."""
        return next((command for command in self.commands if command.id == id), None)

    def drop(self, id: str) -> None:  # noqa: A002
        """It has ended."""
        self.commands = [other for other in self.commands if other.id != id]
        self.ring()


class Inbox:
    """The commands of all instances, from their acceptance to their results.

    Args:
        start_soon: runs a task until it ends, or the service does.
        tell: what webhooks are to be told of a command's end; it is stored with that end.
        changed: called with the name of an instance whose commands are others now.
        over: called with each command that goes on no more, also with one that was admitted and not stored.
        observers: are told of each command.
    """

    def __init__(
        self,
        commands: Commands,
        fleet: Fleet,
        start_soon: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        tell: Callable[[Command, dict[str, Any]], Iterable[Outgoing]] = lambda command, result: (),
        changed: Callable[[str], None] = _anything,
        over: Callable[[Command], None] = _anything,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._commands = commands
        self._fleet = fleet
        self._start_soon = start_soon
        self._tell = tell
        self._changed = changed
        self._over = over
        self._observers = observers
        self._lines: dict[str, _Line] = {}
        self._log = Log("", "service")

    async def begin(self) -> list[Command]:
        """Go on with all that has not ended, which is returned.

        Raises:
            StoreUnavailable: the database is away.
        """
        found = await self._commands.open()
        for command in found:
            self._line(command.instance).put(command)
        for name in self._lines:
            self._serve(name)
        return found

    # What clients do

    async def accept(
        self, instance: str, prompt: Any, *, owner: str = "", key: str = "", admit: Callable[[str], None] = _anything
    ) -> tuple[Command, bool]:
        """Store a command. It will be answered once this returns, whatever happens.

        Args:
            prompt: text or blocks, as JSON.
            owner: whose ``key`` it is.
            key: of the client's choice; with one that was used before, the command of then is returned.
            admit: called with the id of a command before it is stored; what it raises refuses the command.

        Returns:
            The command, and whether it is new.

        Raises:
            InstanceNotFound: there is none.
            InvalidInput: it cannot be a prompt.
            BudgetExceeded: a budget is spent.
            KeyReused: the key was used for another prompt.
            StoreUnavailable: the database is away; nothing was stored, or with a key the same call finds out.
        """
        prompt_of(prompt)
        line = self._line(instance)
        with anyio.CancelScope(shield=True):  # a client that goes away must not leave a command that nobody serves
            async with line.accepting:
                record = self._fleet.open(instance).record  # here, because it may have been removed meanwhile
                new = Command(str(uuid.uuid4()), instance, prompt, owner, made=_made(record))
                if not (key and await self._commands.has_key(owner, instance, key)):
                    self._fleet.accounts.check(instance, record.project)
                    admit(new.id)
                command, is_new = await self._store(line, new, key)
        if is_new:
            self._log.info("accepted", instance_name=instance, turn=command.id)
            for observer in self._observers:
                observer.accepted(command)
            self._changed(instance)
        self._serve(instance)
        return command, is_new

    async def _store(self, line: _Line, new: Command, key: str) -> tuple[Command, bool]:
        try:
            digest = prompt_digest(new.prompt)
            command, is_new = await self._commands.add(new, key=key, owner=new.owner, digest=digest)
        except BaseException as error:  # cancelled, too: it was admitted, and goes on no more
            self._over(new)
            if isinstance(error, StoreUnavailable) and not key:
                # It may be stored all the same, and its client is told that it is not.
                self._start_soon(partial(self._take_back, new))
            raise
        if not is_new:
            self._over(new)
        if command.state != "ended" and line.find(command.id) is None:  # an old one, too: nobody may have known of it
            line.put(command)
        return command, is_new

    async def _take_back(self, command: Command) -> None:
        await self._patiently(lambda: self._commands.withdraw(command.id))

    async def change(self, id: str, prompt: Any) -> Command:  # noqa: A002
        """Another prompt for a command that still waits here.

        Raises:
            InvalidInput: it cannot be a prompt.
            TooLate: the command waits no longer.
        """
        prompt_of(prompt)
        line = next((line for line in self._lines.values() if line.find(id)), _Line())
        with anyio.CancelScope(shield=True):
            async with line.accepting:
                found = line.find(id)
                if found is None or not await self._commands.change(id, prompt):
                    raise TooLate("the command waits no longer", hint="Interrupt it, or send another one.")
                command = found.replace(prompt=prompt)
                line.put(command)
        self._changed(command.instance)
        return command

    async def withdraw(self, id: str) -> bool:  # noqa: A002
        """Take a command back that still waits here; False: it waits no longer."""
        command = await self._commands.get(id)
        if command is None or not await self._commands.withdraw(id):
            return False
        self._ended(command, WITHDRAWN)
        return True

    async def remove(self, instance: str, take_away: Callable[[], Awaitable[None]]) -> None:
        """Remove an instance, and keep nothing of its commands: another one of its name begins anew.

        None is accepted or sent meanwhile; those that wait end as failed.

        Args:
            take_away: removes it, and so ends the one that runs.

        Raises:
            StoreUnavailable: the database is away.
            BridgeError: as ``take_away``; all goes on.
        """
        line = self._line(instance)
        async with line.accepting:
            await take_away()
            for command in [command for command in line.commands if command.state == "stored"]:
                result = _failed("its instance was removed")
                await self._commands.end(command.id, result, list(self._tell(command, result)))
                self._ended(command, result)
            with anyio.move_on_after(_FAREWELL):
                while line.commands:
                    await line.changed.wait()
            await self._commands.forget(instance)

    def waiting(self, instance: str) -> list[Command]:
        """What has not ended, in order; the first is with the agent, or about to be."""
        return list(self._line(instance).commands) if instance in self._lines else []

    def position(self, command: Command) -> int | None:
        """How many of this instance's commands come before it; None: it has ended."""
        ids = [other.id for other in self.waiting(command.instance)]
        return ids.index(command.id) if command.id in ids else None

    def position_here(self, command: Command) -> int | None:
        """The same, as long as nobody but us has it."""
        found = self._line(command.instance).find(command.id)
        return self.position(command) if found is not None and found.state == "stored" else None

    def moved(self, command: Command) -> anyio.Event:
        """Set when its line is another than now: ask for it before looking at the line."""
        return self._line(command.instance).changed

    async def until_ended(self, command: Command) -> None:
        """Until it has ended, or was withdrawn."""
        while self.position(command) is not None:
            await self.moved(command).wait()

    # Each instance's server

    def _line(self, instance: str) -> _Line:
        return self._lines.setdefault(instance, _Line())

    def _serve(self, instance: str) -> None:
        line = self._line(instance)
        if line.commands and not line.is_served:
            line.is_served = True

            async def serve() -> None:
                try:
                    while line.commands:
                        await self._see_through(line, line.commands[0])
                finally:
                    line.is_served = False

            self._start_soon(serve)

    async def _see_through(self, line: _Line, command: Command) -> None:
        """From where it stands to its end."""
        if command.state == "stored":
            async with line.accepting:  # it may be changed or withdrawn just now
                is_sent = await self._patiently(lambda: self._commands.sent(command.id))
                newest = line.find(command.id)
                if not is_sent or newest is None:
                    self._drop(command)
                    return
                kept = await self._patiently(lambda: self._commands.get(command.id))  # a change may be kept, unheard
                command = (kept or newest).replace(state="sent")
                line.put(command)
        try:
            result = await self._ask(line, command)
        except BridgeError as error:
            result = _failed(str(error))
        told = list(self._tell(command, result))
        await self._patiently(lambda: self._commands.end(command.id, result, told))
        self._ended(command, result)

    def _ended(self, command: Command, result: dict[str, Any]) -> None:
        self._drop(command)
        for observer in self._observers:
            observer.ended(command, result)

    def _drop(self, command: Command) -> None:
        self._line(command.instance).drop(command.id)
        self._over(command)
        self._changed(command.instance)

    async def _ask(self, line: _Line, command: Command) -> dict[str, Any]:
        name, id = command.instance, command.id  # noqa: A001
        instance = self._fleet.open(name)
        if command.made not in ("", _made(instance.record)):
            raise InstanceNotFound("the one that it was for was removed, and this is another one", instance=name)
        if command.state == "sent":
            # What it returns is not left by us: leaving would interrupt the turn, and a service that ends must not.
            await instance.submit(prompt_of(command.prompt), id)
        is_taken = command.state == "running"
        try:
            told = self._fleet.feed(name, turn=id)
            if self._observers:
                told = observed(told, command, self._observers)
            async with aclosing(told) as feed:
                async for heard in feed:
                    if isinstance(heard.event, TurnResult):
                        cost = self._fleet.accounts.total(instance=name, turn=id).cost_usd
                        return result_json(heard.event, str(heard.at), cost)
                    if not is_taken and not isinstance(heard.event, Waiting):
                        is_taken = True
                        await self._patiently(lambda: self._commands.running(id))
                        line.put(command.replace(state="running"))
        except TurnNotFound:
            if command.state != "running":
                raise
        return _failed("its answer is not kept any more; it was given to Claude Code, and is not given a second time")

    async def _patiently(self, do: Callable[[], Awaitable[T]]) -> T:
        """Have the database do it, however long it is away."""
        tries = 0
        while True:
            try:
                return await do()
            except StoreUnavailable as error:
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
                self._log.warning("store_unavailable", reason=error.what, again_in=pause)
                await anyio.sleep(pause)  # back-off: somebody has to start it
                tries += 1


def _made(record: ClaudeInstance) -> str:
    """Of several instances that have had a name, one after the other, this one."""
    return f"{record.name} {record.created.isoformat()}"


def _failed(why: str) -> dict[str, Any]:
    """The result of a command that has none of Claude Code's."""
    return result_json(TurnResult(Verdict.FAILED, "", error=why), "", 0.0)
