"""Containers of projects that stay: one for each purpose, whoever asks, and not too many of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio

from ..engine.containers import ContainerInfo, Containers, ContainerSummary
from ..engine.labels import LABEL
from ..errors import ContainerNotFound, ContainerStartError, EngineError, LimitReached, NameConflict
from ..logs import Log
from .options import ContainerOptions, build_container_env, container_name
from .own import OwnContainers
from .provisions import Provisions
from .variables import VariableFiles

__all__ = ["Services"]

#: How often to look again where several programs make the same container at once.
_TRIES = 5

#: How often a name that somebody else has is changed before that is an error.
_NAMES = 5

#: What stays until it is told to end.
_IDLE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]


class Services:
    """Makes, starts and removes containers that stay.

    Args:
        most_running: how many may run, by type of project.
    """

    def __init__(
        self,
        containers: Containers,
        own: OwnContainers,
        provisions: Provisions,
        variables: VariableFiles,
        log: Log,
        most_running: Mapping[str, int],
    ) -> None:
        self._containers = containers
        self._own = own
        self._provisions = provisions
        self._variables = variables
        self._log = log
        self._most_running = most_running

    async def create(self, options: ContainerOptions, command: Sequence[str] | None, kind: str) -> ContainerInfo:
        """Create one, with what it needs; under another name where its own is taken."""
        await self._check_limit(options.project_type)
        provided = await self._provisions.provide(options)
        secret = build_container_env(replace(options, login=False)).secret
        for attempt in range(_NAMES):
            name = container_name(options.project) + (f"-{secrets.token_hex(2)}" if attempt else "")
            spec = self._provisions.spec(name, options, provided, command or _IDLE, kind)
            spec = self._variables.give(spec, secret)
            try:
                await self._containers.create(spec)
            except BaseException as error:
                self._variables.remove(spec.labels)
                if isinstance(error, NameConflict) and attempt < _NAMES - 1:
                    continue
                raise
            try:
                return await self._containers.inspect(name)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._containers.remove(name)
                self._variables.remove(spec.labels)
                raise
        raise AssertionError("every way out of the loop is above")

    async def get_or_create(self, options: ContainerOptions, command: Sequence[str] | None, kind: str) -> ContainerInfo:
        """The one that everybody uses for this purpose, started; made if there is none."""
        for _ in range(_TRIES):
            made: ContainerInfo | None = None
            found = await self._own.eldest(options.project, kind)
            if found is None:
                made = await self.create(options, command, kind)
                found = await self._own.eldest(options.project, kind) or made
            try:
                await self._start(found)
                # An elder one may have come to light meanwhile: containers are dated before they can be seen.
                used = await self._own.eldest(options.project, kind)
            except ContainerNotFound:
                continue  # its creator removed it in favour of an older one
            if made is not None and (used is None or used.id != made.id):
                await self.remove(made)
            if used is not None and used.id == found.id:
                return await self._containers.inspect(used.id)
        raise NameConflict(f"containers of the project {options.project} come and go; another program makes them, too")

    async def remove(self, item: ContainerInfo | ContainerSummary, *, force: bool = True) -> None:
        """Remove it, and its variables. ``force``: also while it runs."""
        await self._containers.remove(item.id, force=force)
        self._variables.remove(item.labels)

    async def clean_up(self, project: str, keep: int) -> Sequence[str]:
        """Remove the oldest stopped ones of a project until ``keep`` are left; the names of those removed."""
        found = await self._own.of_project(project)
        too_many = len(found) - keep
        stopped = [item for item in reversed(found) if item.status in ("created", "exited", "dead")]
        removed = []
        for item in stopped[: max(too_many, 0)]:
            try:
                # Without force: somebody may have started it meanwhile.
                await self.remove(item, force=False)
            except EngineError as error:
                self._log.info("not_removed", container=item.name, reason=error.what)
            else:
                removed.append(item.name)
        return removed

    async def _start(self, info: ContainerInfo) -> None:
        if info.running:
            return
        try:
            if info.status == "paused":
                await self._containers.unpause(info.id)
            else:
                await self._containers.start(info.id)
        except ContainerStartError:
            if info.status == "created":  # it has never run: nothing is lost
                await self.remove(info)
            raise
        self._log.info("container_started", container=info.name)

    async def _check_limit(self, project_type: str) -> None:
        most = self._most_running.get(project_type)
        if most is None:
            return
        found = [
            item
            for item in await self._own.of_project()
            if item.labels.get(f"{LABEL}.project-type") == project_type and item.status == "running"
        ]
        if len(found) >= most:
            names = ", ".join(item.name for item in found)
            raise LimitReached(
                f"{len(found)} containers of type {project_type} run, and {most} may: {names}",
                hint="Stop one of them, or raise the limit.",
            )
