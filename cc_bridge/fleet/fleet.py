"""Many instances in one program."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import anyio
import anyio.abc
import anyio.to_thread

from ..bridge.bridge import Bridge
from ..engine.client import Engine
from ..errors import ConnectionLost, InstanceDiffers, InvalidInput, LimitReached
from ..events import TurnResult
from ..instances.bridged import BridgedInstance, InstanceOptions
from ..instances.factory import instance_of
from ..instances.kept_record import KeptRecord
from ..instances.registry import Registry
from ..logs import Log
from ..names import NAME
from ..permission_rules import PermissionRules
from ..record import ClaudeInstance
from ..state import make_private
from .accounts import Accounts, Budget
from .attended import Attended
from .awake import Awake, Seat
from .desk import Desk, Policy
from .feed import FeedPosition, Heard
from .held import held_by_one
from .host import HostOf
from .listening import interrupt_quietly, listen_to, look_at, look_at_all
from .memory import memory_of
from .pool import Pool
from .rules import allow_always, kept_rules
from .states import Changes, InstanceState, States
from .template import Template

__all__ = ["Fleet"]

_NOT_IN_USE = "the fleet is not in use: its instances live within its `async with`"


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
        memory: bytes that all of them may use together, as measured when a turn ends and before another one starts; for
            one that does not fit, others sleep as above. One alone may use more. None: no limit.
        templates: what :meth:`make_from` makes instances from, by name. Of each, spares are kept with Claude Code
            started, within these limits; they go when commands need their room and nobody else can sleep.
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
        memory: int | None = None,
        templates: Mapping[str, Template] | None = None,
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
        self.templates = dict(templates or {})
        self._on_permission, self._permission_wait = on_permission, permission_wait
        self._budgets, self._patience = tuple(budgets), patience
        self._awake = Awake(most_awake, memory, knows_all=False)
        self._open: dict[str, tuple[BridgedInstance, Attended]] = {}
        self._was_used = self._is_ending = False
        self._being_made: list[str] = []
        self._seats: dict[str, Seat] = {}
        self._states = States()
        self._engine = Engine()
        self._group: anyio.abc.TaskGroup | None = None
        self._context, self._stack = contextvars.Context(), AsyncExitStack()
        self._making = anyio.Lock()
        self._pool = Pool(self.registry, name, self.templates, _Opener(self), self._making)
        self._log = Log("", "fleet")

    async def __aenter__(self) -> Self:
        """Begin, and go on with what runs or waits.

        Raises:
            InvalidInput: it is in use already, by this program or another.
        """
        if self._was_used:
            raise InvalidInput(f"the fleet {self.name} is in use already, or was: make another one")
        self._was_used = True
        directory = self.registry.root / "fleets" / self.name
        await anyio.to_thread.run_sync(make_private, directory)
        self._stack.enter_context(held_by_one(directory / "lock", f"the fleet {self.name}"))
        try:
            rules, allow = kept_rules(self.registry, lambda: self._engine.is_local), allow_always(self.registry)
            real = self._pool.spares.name_of
            self.desk = Desk(
                directory / "desk",
                rules=lambda instance: rules(real(instance)),
                remember=lambda instance, rule: allow(real(instance), rule),
                wait=self._permission_wait,
                on_permission=self._on_permission,
            )
            self.accounts = Accounts(directory / "accounts", budgets=self._budgets)
            self._context = contextvars.copy_context()  # tasks are not of whoever happened to want them first
            self._group = await self._stack.enter_async_context(anyio.create_task_group())
            await self._pool.begin()
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
        self._is_ending = True  # one that was opened from now on would be left as it is, and who waits for it, too
        self._pool.close()
        self._states.close()
        if hasattr(self, "desk"):
            self.desk.close()  # first: what is not asked any more, because we end, is not moot
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as ending:
                for instance, attended in self._open.values():
                    attended.end(InvalidInput(_NOT_IN_USE))
                    ending.start_soon(instance.cleanup)
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
        try:
            await self._stack.aclose()  # not the error of the block: a task group would wrap it
        finally:
            self._open, self._seats = {}, {}
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
        name = self._pool.spares.alias_of(name)
        if name in self._open:
            return self._open[name][0]
        return self._take_in(self.registry.load(self._pool.spares.name_of(name)), options)

    def adopt(self, record: ClaudeInstance, **options: Unpack[InstanceOptions]) -> BridgedInstance:
        """The instance of this record, made when it is used first; the same object for everybody.

        Raises:
            InstanceDiffers: another one has this name.
        """
        name = self._pool.spares.name_of(record.name)
        if name == record.name not in self._open:
            record = KeptRecord(self.registry.home(name)).check(record) or record
            return self._take_in(record, options)
        instance = self.open(name)
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
            await self._check_number(record.name)
            instance = self.adopt(record, **options)
            self._being_made.append(record.name)
        try:
            await instance.start()
        except BaseException:  # cancelled, too
            if is_new and not instance.exists():
                self._forget(record.name)
            raise
        finally:
            self._being_made.remove(record.name)
        return instance

    async def make_from(
        self,
        template: str,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        project: str | None = None,
        rules: PermissionRules | None = None,
    ) -> BridgedInstance:
        """A new instance of a template: a spare, which is ready, or where there is none, one that is started now.

        Fleets call it by ``name``, in feeds, at the desk and in accounts. Elsewhere it has the name that it had as a
        spare, and its record has ``name`` as the label ``cc-bridge.alias``. One that exists and was made in the same
        way is opened.

        Args:
            labels: beside the template's.
            project, rules: instead of the template's.

        Raises:
            InvalidInput: there is no such template, or it is no name for an instance.
            InstanceDiffers: another one has this name.
            InstanceBusy: another task makes it.
            LimitReached: there are as many instances as there may be.
            BridgeError: it cannot be started; nothing is left of it.
        """
        given = {"labels": labels, "project": project, "rules": rules}
        changes = {field: value for field, value in given.items() if value is not None}
        return await self._pool.make_from(template, name, changes)

    def names(self) -> list[str]:
        """The names of all instances, sorted, whether or not they run. Spares are none."""
        return self._pool.spares.listed(self.registry.names())

    async def remove(self, name: str, *, conversation: bool = False) -> None:
        """Remove an instance; see :meth:`cc_bridge.InstanceInterface.remove`.

        Raises:
            InstanceNotFound: there is none.
            BridgeError: something of it cannot be removed.
        """
        instance, name = self.open(name), self._pool.spares.alias_of(name)
        with self._open[name][1].leaving(ConnectionLost("it was removed", instance=name)):
            await instance.remove(conversation=conversation)
        if self._open.get(name, (None,))[0] is instance:  # else another task has removed it, too
            self._forget(name)
            await self._pool.removed(instance.record)

    @property
    def awake(self) -> int:
        """How many instances have a Claude Code, spares among them, as far as is known."""
        return len(self._awake)

    @property
    def memory_used(self) -> int:
        """Bytes that they use, as measured last; for one that was not, as many as the largest. 0: without a limit."""
        return self._awake.memory_used

    @property
    def spares(self) -> dict[str, int]:
        """How many spares of each template are ready."""
        return self._pool.spares.ready

    def state(self, name: str) -> InstanceState:
        """What an instance does at the moment, as far as the fleet has heard; nobody is asked."""
        return self._states.of(self._pool.spares.alias_of(name))

    def changes(self) -> Changes:
        """Whose state changes from now on, also by being made or removed."""
        return self._states.watch()

    async def feed(self, name: str, after: str | None = None, turn: str | None = None) -> AsyncGenerator[Heard, None]:
        """All that an instance says from now on, or after a position, whoever has asked.

        Nothing is started for who listens from now on: one that does not run is heard when something is done with it.

        Args:
            after: the position of an event (``str(heard.at)``), also one that another process has received. For what
                memory has not, its agent is started.
            turn: the id of one: only what it says, from its first event or after the position, up to its result.

        Raises:
            TurnNotFound: the turn is not kept.
            InvalidInput: ``after`` is no position.
            PositionGone: what followed it is not kept any more.
            BridgeError: the instance cannot be reached, or was removed.
        """
        async with aclosing(self.batches(name, after, turn)) as batches:
            async for batch in batches:
                for heard in batch:
                    yield heard

    def batches(
        self, name: str, after: str | None = None, turn: str | None = None
    ) -> AsyncGenerator[list[Heard], None]:
        """As :meth:`feed`, with what is there already in one list, never an empty one: cheaper to pass on."""
        position = FeedPosition.parse(after) if after is not None else None
        self.open(name)
        return listen_to(self._open[self._pool.spares.alias_of(name)][1], position, turn)

    # Private

    async def _check_number(self, name: str) -> None:
        names = {*await anyio.to_thread.run_sync(self.names), *self._being_made}
        if name not in names and self._most_instances is not None and len(names) >= self._most_instances:
            what = f"there are {len(names)} instances, as many as there may be"
            raise LimitReached(what, instance=name, hint="Remove one, or allow more.")

    def _forget(self, name: str) -> None:
        self._open.pop(name, None)
        self.desk.forget(name)
        self._states.forget(name)
        if seat := self._seats.pop(name, None):
            self._awake.leave(seat)

    def _take_in(self, record: ClaudeInstance, options: InstanceOptions, *, is_spare: bool = False) -> BridgedInstance:
        if self._group is None or self._is_ending:
            raise InvalidInput(_NOT_IN_USE)
        made: list[Attended] = []
        name = self._pool.spares.alias_of(record.name)

        def make_bridge(place: Any, log: Log, **settings: Any) -> Bridge:
            sleep, measure = partial(self._sleep, name), partial(memory_of, place)
            seat = Seat(self._awake, name, sleep, lambda: made[0].keeps_awake, measure, is_spare=is_spare)
            self._seats[name] = seat
            told = self._states.teller(name, is_silent=is_spare), partial(self._turn_ended, name, record.project)
            host = HostOf(name, record.project, self._patience, self._start_soon, self.accounts, self.desk, *told)
            made.append(Attended(place, log, host=host, seat=seat, **settings))
            return made[0]

        given: InstanceOptions = {**options, "registry": self.registry}
        instance = instance_of(record, client=self._engine, **given)
        instance.use_bridge(make_bridge)
        self._open[name] = instance, made[0]
        return instance

    async def _take_up(self) -> None:
        """Attend to what runs or waits already."""
        await look_at_all(await anyio.to_thread.run_sync(self.names), self._take_up_one)
        self._awake.know_all()

    async def _take_up_one(self, name: str) -> None:
        try:
            self.open(name)
            if await look_at(*self._open[name]):
                self._start_soon(self._open[name][1].take_up)
        except InvalidInput as error:  # a record that cannot be read: the others are as they are
            self._log.warning("not_taken_up", instance_name=name, reason=error.what)

    async def _sleep(self, name: str) -> None:
        if self._pool.spares.is_spare(name):
            await self._pool.dismiss(name)
        elif name in self._open:  # else it was removed meanwhile
            await self._open[name][0].sleep()

    def _start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._group is None:
            raise InvalidInput(_NOT_IN_USE)
        self._context.run(partial(self._group.start_soon, task))

    def _turn_ended(self, name: str, project: str, turn: str, result: TurnResult, process: str) -> None:
        """Put what a turn has cost to account, interrupt what may cost nothing more, and measure what it has left."""
        self.desk.end_turn(name, turn)
        self.accounts.note(name, project, result.session_id, turn, result, process=process)
        for other, (instance, attended) in self._open.items():
            if attended.is_busy and (exceeded := self.accounts.interrupts(other, instance.record.project)):
                self._log.warning("interrupted_by_budget", instance_name=other, reason=exceeded.what)
                self._start_soon(partial(interrupt_quietly, instance))
        if self._awake.limits_memory and name in self._seats:
            self._start_soon(partial(self._awake.measure, self._seats[name]))


class _Opener:
    """What a pool sees of its fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def take_in(self, record: ClaudeInstance, *, is_spare: bool) -> BridgedInstance:
        name = self._fleet._pool.spares.alias_of(record.name)
        if name in self._fleet._open:
            return self._fleet._open[name][0]
        return self._fleet._take_in(record, {}, is_spare=is_spare)

    async def hand_over(self, name: str) -> BridgedInstance:
        fleet = self._fleet
        if fleet._is_ending:
            raise InvalidInput(_NOT_IN_USE)
        seat, (spare, _) = fleet._seats.pop(name), fleet._open.pop(name)
        instance = fleet.open(name)
        seat.give_to(fleet._seats[fleet._pool.spares.alias_of(name)])
        await spare.release()
        return instance

    def found_awake(self, name: str) -> None:
        self._fleet._open[name][1].found_awake()

    async def forget(self, name: str) -> None:
        instance, _ = self._fleet._open.get(name, (None, None))
        self._fleet._forget(name)
        if instance is not None:
            await instance.release()

    async def check_number(self, name: str) -> None:
        await self._fleet._check_number(name)

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._fleet._start_soon(task)
