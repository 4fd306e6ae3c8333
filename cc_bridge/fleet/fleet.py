"""Many instances in one program."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import anyio
import anyio.abc
import anyio.to_thread

from ..bridge.bridge import Bridge
from ..engine.client import Engine
from ..errors import InstanceDiffers, InvalidInput, LimitReached
from ..events import PermissionRequest
from ..instance import ClaudeInstance, Decision, Deny, OnPermission
from ..instances.bridged import BridgedInstance, InstanceOptions
from ..instances.factory import instance_of
from ..instances.registry import Registry
from ..logs import Log
from .attended import Attended
from .awake import Awake, Seat
from .feed import FeedPosition, Heard
from .reader import FeedReader

__all__ = ["Fleet"]

#: How many instances are looked at at once when a fleet begins.
_AT_ONCE = 20


class Fleet:
    """Instances that one program opens by name, each attended while it has something to do.

    Use it with ``async with``. What it holds lies in the state directory and with the agents, so a fleet that was killed has
    lost nothing: the next one goes on with the turns that run or wait, and asks again what nobody has decided.

    Args:
        registry: where instances are kept; by default the user's own. All of them are the fleet's.
        most_instances: how many there may be; None: no limit.
        most_awake: how many may have a Claude Code at once. For another one, the one that has rested longest sleeps; where
            all have something to do, commands wait in line (:class:`~cc_bridge.Waiting`). None: no limit.
        on_permission: decides on the permission requests of instances without an ``on_permission`` of their own; without it
            they are denied.
        patience: seconds for which an engine or an agent may be away before the commands that wait for it fail.
    """

    def __init__(
        self,
        *,
        registry: Registry | None = None,
        most_instances: int | None = None,
        most_awake: int | None = None,
        on_permission: OnPermission | None = None,
        patience: float = 300.0,
    ) -> None:
        self.registry = registry or Registry()
        self.patience = patience
        self._most_instances = most_instances
        self._on_permission = on_permission
        self._awake = Awake(most_awake)
        self._open: dict[str, tuple[BridgedInstance, Attended]] = {}
        self._engine = Engine()
        self._group: anyio.abc.TaskGroup | None = None
        self._context = contextvars.Context()
        self._stack = AsyncExitStack()
        self._making = anyio.Lock()
        self._log = Log("", "fleet")

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise InvalidInput("the fleet is in use already")
        self._context = contextvars.copy_context()  # tasks are not of whoever happened to want them first
        self._group = await self._stack.enter_async_context(anyio.create_task_group())
        try:
            await self._take_up()
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
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for instance, _ in self._open.values():
                    group.start_soon(instance.cleanup)
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

    # For attendants

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends, or the fleet does.

        Raises:
            InvalidInput: the fleet has ended, or not begun.
        """
        if self._group is None:
            raise InvalidInput("the fleet is not in use: its instances live within its `async with`")
        self._context.run(partial(self._group.start_soon, task))

    # Private

    def _take_in(self, record: ClaudeInstance, options: InstanceOptions) -> BridgedInstance:
        if self._group is None:
            raise InvalidInput("the fleet is not in use: its instances live within its `async with`")
        made: list[Attended] = []

        def make_bridge(place: Any, log: Log, **settings: Any) -> Bridge:
            seat = Seat(self._awake, record.name, lambda: self._open[record.name][0].sleep(), lambda: made[0].is_busy)
            made.append(
                Attended(place, log, host=self, seat=seat, decide=partial(self._decide, record.name), **settings)
            )
            return made[0]

        given: InstanceOptions = {**options, "registry": self.registry, "make_bridge": make_bridge}
        instance = instance_of(record, client=self._engine, **given)
        self._open[record.name] = instance, made[0]
        return instance

    async def _take_up(self) -> None:
        """Attend to what runs or waits already."""
        names = await anyio.to_thread.run_sync(self.registry.names)
        limit = anyio.CapacityLimiter(_AT_ONCE)
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(self._take_up_one, name, limit)

    async def _take_up_one(self, name: str, limit: anyio.CapacityLimiter) -> None:
        async with limit:
            try:
                activity = await self.open(name).get_activity()
                attended = self._open[name][1]
                if activity["turn"] or activity["waiting"]:
                    self.start_soon(attended.take_up)
                elif activity["last_activity"]:
                    attended.found_awake()
            except InvalidInput as error:  # a record that cannot be read: the others are as they are
                self._log.warning("not_taken_up", instance_name=name, reason=error.what)

    async def _decide(self, instance: str, turn: str, request: PermissionRequest) -> Decision:
        if self._on_permission is None:
            return Deny()
        return await self._on_permission(request)
