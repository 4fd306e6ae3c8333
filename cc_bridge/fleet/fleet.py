"""Many instances in one program."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import anyio
import anyio.abc
import anyio.to_thread

from ..bridge.bridge import Bridge
from ..decisions import Decision
from ..engine.client import Engine
from ..errors import BridgeError, InstanceDiffers, InvalidInput, LimitReached
from ..events import PermissionRequest, TurnResult
from ..instances.bridged import BridgedInstance, InstanceOptions
from ..instances.factory import instance_of
from ..instances.registry import Registry
from ..logs import Log
from ..names import NAME
from ..record import ClaudeInstance
from .accounts import Accounts, Budget
from .attended import Attended
from .awake import Awake, Seat
from .desk import Desk, Policy
from .directory import held_by_one, make_private
from .feed import FeedPosition, Heard
from .reader import FeedReader
from .rules import allow_always, kept_rules

__all__ = ["Fleet"]

#: How many instances are looked at at once when a fleet begins.
_AT_ONCE = 20


class Fleet:
    """Instances that one program opens by name, each attended while it has something to do.

    Use it with ``async with``. What it knows lies in the state directory and with the agents, so one that was killed
    has lost nothing: the next one of its name goes on with the turns that run or wait, and asks again what nobody has
    decided.

    Args:
        registry: where instances are kept; by default the user's own. All of them are the fleet's.
        name: of the fleet, whose desk and accounts are kept under it. One program at a time has a fleet of a name.
        most_instances: how many there may be; None: no limit.
        most_awake: how many may have a Claude Code at once. For another one, the one that has rested longest sleeps;
            where all have something to do, commands wait in line (:class:`~cc_bridge.Waiting`). None: no limit.
        on_permission: decides by code on what the rules of an instance's record have not decided; where it returns
            None, somebody is asked at the desk.
        permission_wait: seconds for somebody to decide at the desk; then it is denied. None: as long as it takes.
        budgets: what instances and projects may spend.
        patience: seconds for which an engine or an agent may be away before the commands that wait for it fail.

    Attributes:
        desk: the permission requests of all instances that wait for somebody. There while the fleet is in use.
        accounts: what turns have used and cost. There while the fleet is in use.
    """

    desk: Desk
    accounts: Accounts

    def __init__(
        self,
        *,
        registry: Registry | None = None,
        name: str = "main",
        most_instances: int | None = None,
        most_awake: int | None = None,
        on_permission: Policy | None = None,
        permission_wait: float | None = None,
        budgets: Iterable[Budget] = (),
        patience: float = 300.0,
    ) -> None:
        if not NAME.match(name):
            raise InvalidInput(f"{name!r} is no name for a fleet: lower-case letters, digits, '_', '.', '-'")
        self.registry = registry or Registry()
        self.name = name
        self._most_instances = most_instances
        self._on_permission = on_permission
        self._permission_wait = permission_wait
        self._budgets = tuple(budgets)
        self._patience = patience
        self._awake = Awake(most_awake)
        self._open: dict[str, tuple[BridgedInstance, Attended]] = {}
        self._engine = Engine()
        self._group: anyio.abc.TaskGroup | None = None
        self._context = contextvars.Context()
        self._stack = AsyncExitStack()
        self._making = anyio.Lock()
        self._log = Log("", "fleet")

    async def __aenter__(self) -> Self:
        """Begin, and go on with what runs or waits.

        Raises:
            InvalidInput: it is in use already, by this program or another.
        """
        if self._group is not None:
            raise InvalidInput(f"the fleet {self.name} is in use already")
        directory = await anyio.to_thread.run_sync(make_private, self.registry.root / "fleets" / self.name)
        self._stack.enter_context(held_by_one(directory / "lock", f"the fleet {self.name}"))
        try:
            self.desk = Desk(
                directory / "desk",
                rules=kept_rules(self.registry, lambda: self._engine.is_local),
                remember=allow_always(self.registry),
                wait=self._permission_wait,
                on_permission=self._on_permission,
            )
            self.accounts = Accounts(directory / "accounts", budgets=self._budgets)
            self._context = contextvars.copy_context()  # tasks are not of whoever happened to want them first
            self._group = await self._stack.enter_async_context(anyio.create_task_group())
            self._start_soon(self._take_up)
        except BaseException:  # cancelled, too
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """Leave all instances as they are, but for ephemeral ones, which end."""
        if hasattr(self, "desk"):
            self.desk.close()  # first: what is not asked any more, because we end, is not moot
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as ending:
                for instance, _ in self._open.values():
                    ending.start_soon(instance.cleanup)
        self._open.clear()
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
        try:
            await self._stack.aclose()  # not the error of the block: a task group would wrap it
        finally:
            with anyio.CancelScope(shield=True):
                await self._engine.aclose()

    # Instances

    def open(self, name: str, **options: Unpack[InstanceOptions]) -> BridgedInstance:
        """The instance of this name, which exists; the same object for everybody. It is not started.

        Args:
            options: as :func:`cc_bridge.open` has them, for who opens it first; later ones must not differ.

        Raises:
            InstanceNotFound: there is none.
            InvalidInput: its record cannot be read.
        """
        if name in self._open:
            return self._open[name][0]
        return self._take_in(self.registry.load(name), options)

    def adopt(self, record: ClaudeInstance, **options: Unpack[InstanceOptions]) -> BridgedInstance:
        """The instance of this record, made when it is used first; the same object for everybody.

        Raises:
            InstanceDiffers: another one has this name.
        """
        if record.name not in self._open:
            return self._take_in(record, options)
        instance = self._open[record.name][0]
        if differences := instance.record.differences(record):
            raise InstanceDiffers(differences, instance=record.name, hint="Take another name, or remove it first.")
        return instance

    async def make(self, record: ClaudeInstance, **options: Unpack[InstanceOptions]) -> BridgedInstance:
        """Make the instance of this record and start it; one that exists with the same record is opened.

        Raises:
            InstanceDiffers: another one has this name.
            LimitReached: there are as many instances as there may be.
            BridgeError: it cannot be started; nothing is left of it.
        """
        async with self._making:
            is_new = record.name not in self._open
            names = await anyio.to_thread.run_sync(self.registry.names)
            if record.name not in names and self._most_instances is not None and len(names) >= self._most_instances:
                what = f"there are {len(names)} instances, as many as there may be"
                raise LimitReached(what, instance=record.name, hint="Remove one, or allow more.")
            instance = self.adopt(record, **options)
        try:
            await instance.start()
        except BaseException:  # cancelled, too
            if is_new and not instance.exists():
                self._open.pop(record.name, None)
            raise
        return instance

    def names(self) -> list[str]:
        """The names of all instances, sorted, whether or not they run."""
        return self.registry.names()

    async def remove(self, name: str, *, conversation: bool = False) -> None:
        """Remove an instance; see :meth:`cc_bridge.InstanceInterface.remove`.

        Raises:
            InstanceNotFound: there is none.
            BridgeError: something of it cannot be removed.
        """
        instance = self.open(name)
        await instance.remove(conversation=conversation)
        self.desk.forget(name)
        self._open.pop(name, None)

    @property
    def awake(self) -> int:
        """How many instances have a Claude Code, as far as is known."""
        return len(self._awake)

    async def feed(self, name: str, after: str | None = None) -> AsyncGenerator[Heard, None]:
        """All that an instance says from now on, or after a position, whoever has asked.

        Args:
            after: the position of an event (``str(heard.at)``), also one that another process has received.

        Raises:
            InvalidInput: ``after`` is no position.
            PositionGone: what followed it is not kept any more.
            BridgeError: the instance cannot be reached.
        """
        position = FeedPosition.parse(after) if after is not None else None
        self.open(name)
        attended = self._open[name][1]
        await attended.listen()
        try:
            start = attended.feed.end if position is None else None
            reader = FeedReader(attended, index=start, after=position)
            try:
                while True:
                    for heard in await reader.read():
                        yield heard
            finally:
                await reader.aclose()
        finally:
            attended.unlisten()

    # Private

    def _take_in(self, record: ClaudeInstance, options: InstanceOptions) -> BridgedInstance:
        if self._group is None:
            raise InvalidInput("the fleet is not in use: its instances live within its `async with`")
        made: list[Attended] = []

        def make_bridge(place: Any, log: Log, **settings: Any) -> Bridge:
            seat = Seat(self._awake, record.name, self._sleeper(record.name), lambda: made[0].is_busy)
            made.append(Attended(place, log, host=_Host(self, record), seat=seat, **settings))
            return made[0]

        given: InstanceOptions = {**options, "registry": self.registry}
        instance = instance_of(record, client=self._engine, **given)
        instance.use_bridge(make_bridge)
        self._open[record.name] = instance, made[0]
        return instance

    async def _take_up(self) -> None:
        """Attend to what runs or waits already."""
        names = await anyio.to_thread.run_sync(self.registry.names)
        limit = anyio.CapacityLimiter(_AT_ONCE)
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(self._take_up_one, name, limit)
        self._awake.know_all()

    async def _take_up_one(self, name: str, limit: anyio.CapacityLimiter) -> None:
        async with limit:
            try:
                activity = await self.open(name).get_activity()
                attended = self._open[name][1]
                if activity["turn"] or activity["waiting"]:
                    self._start_soon(attended.take_up)
                elif activity["last_activity"]:
                    attended.found_awake()
            except InvalidInput as error:  # a record that cannot be read: the others are as they are
                self._log.warning("not_taken_up", instance_name=name, reason=error.what)

    def _sleeper(self, name: str) -> Callable[[], Awaitable[None]]:
        async def sleep() -> None:
            await self._open[name][0].sleep()

        return sleep

    def _start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._group is None:
            raise InvalidInput("the fleet is not in use: its instances live within its `async with`")
        self._context.run(partial(self._group.start_soon, task))

    def _count(self, record: ClaudeInstance, turn: str, result: TurnResult, process: str) -> None:
        """Put what a turn has cost to account, and interrupt what may cost nothing more."""
        self.accounts.note(record.name, record.project, result.session_id, turn, result, process=process)
        for name, (instance, attended) in self._open.items():
            if attended.is_busy and (exceeded := self.accounts.interrupts(name, instance.record.project)):
                self._log.warning("interrupted_by_budget", instance_name=name, reason=exceeded.what)
                self._start_soon(partial(_interrupt, instance))


class _Host:
    """What an attendant sees of its fleet."""

    def __init__(self, fleet: Fleet, record: ClaudeInstance) -> None:
        self._fleet = fleet
        self._record = record
        self.patience = fleet._patience

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._fleet._start_soon(task)

    def check(self) -> None:
        self._fleet.accounts.check(self._record.name, self._record.project)

    async def decide(self, turn: str, request: PermissionRequest) -> Decision:
        return await self._fleet.desk.decide(self._record.name, turn, request)

    def turn_ended(self, turn: str, result: TurnResult, process: str) -> None:
        self._fleet.desk.end_turn(self._record.name, turn)
        self._fleet._count(self._record, turn, result, process)


async def _interrupt(instance: BridgedInstance) -> None:
    with suppress(BridgeError):  # it cannot be reached, and so costs nothing that could be stopped
        await instance.interrupt()
