"""Instances that are ready before anybody wants them: started, and without a conversation.

A *spare* is an instance as any other, of a name of its own, which cannot be changed any more: its container, its pipes
and its journal are called so. Whoever takes it gives it an alias. Its record says both, as labels, and is written whole
or not at all; so the records are the pool's table on disk, and whoever is killed at any moment has either taken a spare
or not.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread

from ..beneath import opened, remove_tree
from ..bridge.connection import Connection, this_program
from ..errors import BridgeError, InstanceBusy, InstanceDiffers, InstanceNotFound, InvalidInput
from ..instances.bridged import BridgedInstance
from ..instances.registry import Registry
from ..logs import Log
from ..names import NAME
from ..protocol.link import Link
from ..record import ClaudeInstance
from ..state import unusable
from .spares import Spares
from .template import ALIAS, SPARE, Template, is_kept_as, record_of

__all__ = ["Opener", "Pool"]

#: Seconds after which a spare that could not be made is tried again: doubled each time, up to the second.
_PAUSE = 5.0
_LONGEST_PAUSE = 600.0

#: Characters of a template's name: a spare's has it, and eight digits more.
_LONGEST_NAME = 40

_PREFIX = "spare-"


class Opener(Protocol):
    """What a pool needs of its fleet."""

    def take_in(self, record: ClaudeInstance, *, is_spare: bool) -> BridgedInstance:
        """The instance of this record, under its alias; it is not started."""

    async def hand_over(self, name: str) -> BridgedInstance:
        """The same instance, which was a spare, under its alias, with the record that it has by now."""

    def found_awake(self, name: str) -> None:
        """Its Claude Code runs."""

    async def forget(self, name: str) -> None:
        """There is no instance any more that is opened by this name; what its object holds is given back."""

    async def check_number(self, name: str) -> None:
        """Raises LimitReached: there cannot be another instance."""

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends, or the fleet does."""


class Pool:
    """The spares of a fleet, and the instances that were spares.

    Args:
        fleet: its name.
        lock: held while it is decided which instance has a name.
    """

    def __init__(
        self, registry: Registry, fleet: str, templates: Mapping[str, Template], opener: Opener, lock: anyio.Lock
    ) -> None:
        for name in templates:
            if not NAME.match(name) or len(name) > _LONGEST_NAME:
                what = f"1 to {_LONGEST_NAME} lower-case letters, digits, '_', '.', '-'"
                raise InvalidInput(f"{name!r} is no name for a template: {what}")
        self._registry = registry
        self._fleet = fleet
        self._templates = dict(templates)
        self._opener = opener
        self._lock = lock
        self._workspaces = registry.root / "workspaces" / fleet
        self._changed = anyio.Event()
        self._scope: anyio.CancelScope | None = None  # of what makes spares
        self._log = Log("", "fleet")
        self.spares = Spares({name: template.spares for name, template in templates.items()})

    # For the fleet

    async def begin(self) -> None:
        """Find the spares of the fleet before, and refill. Those of templates that changed or went are removed."""
        self._scope = scope = anyio.CancelScope()
        found = await anyio.to_thread.run_sync(self._find)
        async with anyio.create_task_group() as group:
            for record in found:
                group.start_soon(self._keep_or_remove, record)
        self._opener.start_soon(partial(self._refill_all, scope))

    def close(self) -> None:
        """Make no more spares; those that are there stay for the next fleet."""
        if self._scope is not None:
            self._scope.cancel()

    async def make_from(self, template: str, alias: str, changes: Mapping[str, Any]) -> BridgedInstance:
        """See :meth:`Fleet.make_from`."""
        if template not in self._templates:
            known = ", ".join(sorted(self._templates)) or "none"
            raise InvalidInput(f"there is no template {template!r}; there are: {known}", instance=alias)
        if not NAME.match(alias):
            raise InvalidInput(f"{alias!r} is no name for an instance: lower-case letters, digits, '_', '.', '-'")
        async with self._lock:
            instance = await self._existing(template, alias, changes)
            is_new = instance is None
            if instance is None:
                await self._opener.check_number(alias)
                with anyio.CancelScope(shield=True):  # a file is written, and a connection closed
                    taken = await self._take(template, alias, changes)
                if taken is not None:
                    return taken
                record = await self._new_record(template, alias, changes)
                self.spares.call(record.name, alias)
                instance = self._opener.take_in(record, is_spare=False)
        try:
            await instance.start()
        except BaseException:  # cancelled, too
            if is_new:  # else others use it
                with anyio.CancelScope(shield=True):
                    await self._give_up(instance)
            raise
        return instance

    async def dismiss(self, name: str) -> None:
        """Remove a spare, because others need its room.

        Raises:
            InstanceBusy: it has just been taken, or is not ready yet.
            BridgeError: it cannot be removed, and can be taken as before.
        """
        template = self.spares.withdraw(name)
        if not template:
            raise InstanceBusy("it is no spare any more, or not yet", instance=name)
        try:
            record = self._registry.load(name)
        except InstanceNotFound:  # another program has removed it
            await self._opener.forget(name)
            self.spares.gone(name)
            self._look_again()
            return
        try:
            await self._opener.take_in(record, is_spare=True).remove(conversation=True)
        except BaseException:  # cancelled, too
            self.spares.add(template, name)
            raise
        self._log.info("spare_dismissed", instance_name=name)
        await self._removed(record)

    async def removed(self, record: ClaudeInstance) -> None:
        """An instance was removed: its alias is free, and its workspace goes, if the pool has made it."""
        await self._removed(record)

    # What was there before

    def _find(self) -> list[ClaudeInstance]:
        found = []
        names = [name for name in self._registry.names() if name.startswith(_PREFIX)]
        for name in names:
            with suppress(InstanceNotFound, InvalidInput):
                record = self._registry.load(name)
                mark, alias = record.labels.get(SPARE, ""), record.labels.get(ALIAS, "")
                if alias:
                    self.spares.call(name, alias)
                elif mark:
                    self.spares.hide(name)
                    if mark.partition("/")[0] == self._fleet:
                        found.append(record)
        with suppress(FileNotFoundError):
            for path in self._workspaces.iterdir():  # whoever made or removed its instance was killed
                if path.name not in names:
                    _remove_workspace(path)
        return found

    async def _keep_or_remove(self, record: ClaudeInstance) -> None:
        name, template = record.name, record.labels[SPARE].partition("/")[2]
        instance = self._opener.take_in(record, is_spare=True)
        of = self._templates.get(template)
        if of is not None and self.spares.missing(template) > 0:
            fits = is_kept_as(record, of, self._workspaces / name)
            if fits and (await instance.get_activity())["activity"] == "idle" and self.spares.missing(template) > 0:
                self._opener.found_awake(name)
                self.spares.add(template, name)
                return
        self._opener.start_soon(partial(self._remove_quietly, instance))

    async def _remove_quietly(self, instance: BridgedInstance) -> None:
        try:
            await instance.remove(conversation=True)
        except BridgeError as error:  # the next fleet tries it again
            self._log.warning("spare_not_removed", instance_name=instance.name, reason=error.what)
        else:
            await self._removed(instance.record)

    async def _give_up(self, instance: BridgedInstance) -> None:
        """A start has failed: a first one is undone, also where it was going on for us."""
        await instance.release()
        if not instance.exists():
            await self._removed(instance.record)

    async def _removed(self, record: ClaudeInstance) -> None:
        await self._opener.forget(self.spares.alias_of(record.name))
        self.spares.gone(record.name)
        self._look_again()
        workspace = record.workspace
        if workspace and workspace.name == record.name and workspace.parent.parent == self._workspaces.parent:
            await anyio.to_thread.run_sync(_remove_workspace, workspace)

    # Taking

    async def _existing(self, template: str, alias: str, changes: Mapping[str, Any]) -> BridgedInstance | None:
        """The instance of this alias, if it was made in the same way."""
        name = self.spares.name_of(alias)
        if name == alias and alias not in await anyio.to_thread.run_sync(self._registry.names):
            return None
        try:
            kept = await anyio.to_thread.run_sync(self._registry.load, name)
        except InstanceNotFound:
            if name != alias:  # another task makes it
                raise InstanceBusy("it is being made", instance=alias) from None
            return None
        of = self._templates[template]
        wanted = of.taken(of.spare(name, self._workspaces / name, self._mark(template)), alias, changes)
        if wanted.rules <= kept.rules:  # somebody has answered "always" since
            wanted = replace(wanted, rules=kept.rules)
        if differences := kept.differences(wanted):
            raise InstanceDiffers(differences, instance=alias, hint="Take another name, or remove it first.")
        return self._opener.take_in(kept, is_spare=False)

    async def _take(self, template: str, alias: str, changes: Mapping[str, Any]) -> BridgedInstance | None:
        while (name := self.spares.take(template)) is not None:
            try:
                kept = await anyio.to_thread.run_sync(self._registry.load, name)
                record = self._templates[template].taken(kept, alias, changes)
                await anyio.to_thread.run_sync(self._keep, record)
            except InstanceNotFound:  # somebody has removed it
                await self._opener.forget(name)
                self.spares.gone(name)
                self._look_again()
                continue
            except BaseException:  # cancelled, too: it is as good as before
                self.spares.add(template, name)
                raise
            self.spares.call(name, alias)
            instance = await self._opener.hand_over(name)
            self._opener.start_soon(partial(_tell_sleep, instance))
            self._look_again()
            self._log.info("spare_taken", instance_name=alias, spare=name)
            return instance
        return None

    def _keep(self, record: ClaudeInstance) -> None:
        home = self._registry.home(record.name)
        try:
            home.save(record)
        except FileNotFoundError:
            raise InstanceNotFound(f"there is no instance {record.name!r}") from None
        except OSError as error:
            raise unusable(home.path, error) from error

    async def _new_record(self, template: str, alias: str, changes: Mapping[str, Any]) -> ClaudeInstance:
        return self._templates[template].taken(await self._spare_record(template), alias, changes)

    # Refilling

    async def _refill_all(self, scope: anyio.CancelScope) -> None:
        with scope:
            async with anyio.create_task_group() as group:
                for template, of in self._templates.items():
                    if of.spares:
                        group.start_soon(self._refill, template)

    async def _refill(self, template: str) -> None:
        """Make the spares of a template, one after the other, as long as the fleet is there."""
        failures = 0
        while True:
            while self.spares.missing(template) <= 0:
                await self._changed.wait()
            try:
                await self._make_spare(template)
                failures = 0
            except BridgeError as error:
                if not failures:  # the same again and again
                    self._log.warning("spare_not_made", template=template, reason=str(error))
                pause = min(_PAUSE * 2.0**failures, _LONGEST_PAUSE)
                failures = min(failures + 1, 30)
                with anyio.move_on_after(pause):
                    await anyio.sleep_forever()

    async def _make_spare(self, template: str) -> None:
        record = await self._spare_record(template)
        instance = self._opener.take_in(record, is_spare=True)
        try:
            await instance.start()
        except BaseException:  # cancelled, too
            with anyio.CancelScope(shield=True):
                await self._give_up(instance)
            raise
        self.spares.add(template, record.name)
        self._log.info("spare_ready", instance_name=record.name)

    async def _spare_record(self, template: str) -> ClaudeInstance:
        name = f"{_PREFIX}{template}-{secrets.token_hex(4)}"
        of, mark = self._templates[template], self._mark(template)
        with anyio.CancelScope(shield=True):  # else nobody would remove the directory
            record = await anyio.to_thread.run_sync(record_of, of, name, self._workspaces, mark)
        self.spares.hide(name)
        return record

    def _mark(self, template: str) -> str:
        return f"{self._fleet}/{template}"

    def _look_again(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


async def _tell_sleep(instance: BridgedInstance) -> None:
    """Have the agent let it sleep as its template says: a spare is awake for longer."""
    with suppress(BridgeError):  # it does not run any more, and the next start says it
        connection = await Connection.open(Link(host=this_program()), instance.connect_to_look, instance.name)
        try:
            if connection.hello.state == "running":
                launch = await instance.launch("")
                sleep, stop = launch.sleep_after, launch.stop_after
                connection.link.start_claude(launch.argv, launch.env, launch.cwd, sleep=sleep, stop=stop)
                await connection.write()
        finally:
            await connection.aclose()


def _remove_workspace(path: Path) -> None:
    with suppress(OSError), opened(path.parent) as parent:
        remove_tree(parent, path.name)
