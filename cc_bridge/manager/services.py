"""Long-running containers of projects: one for each purpose, even if several programs ask, and limited in number."""

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

#: Attempts when several programs create the same container concurrently.
_TRIES = 5

#: Attempts with different names before a name conflict is an error.
_NAMES = 5

#: A main process that idles until SIGTERM.
_IDLE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]


class Services:
    """Creates, starts and removes long-running containers.

    Args:
        most_running: most running containers, by project type.
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
        """Create one, with its image, network and volumes; under another name if its own is taken."""
        await self._check_limit(options.project_type)
        provided = await self._provisions.provide(options)
        secret = build_container_env(replace(options, login=False)).secret
        for attempt in range(_NAMES):
            name = container_name(options.project) + (f"-{secrets.token_hex(2)}" if attempt else "")
            spec = self._provisions.spec(name, options, provided, command or _IDLE, kind)
            spec = self._variables.give(spec, secret)
            try:
                await self._containers.create(spec)
            except BaseException as error:  # cancelled, too: no file with secrets stays without its container
                self._variables.remove(spec.labels)
                if isinstance(error, NameConflict) and attempt < _NAMES - 1:
                    continue
                raise
            try:
                return await self._containers.inspect(name)
            except BaseException:  # cancelled, too: nobody else knows of the container
                with anyio.CancelScope(shield=True):
                    await self._containers.remove(name)
                self._variables.remove(spec.labels)
                raise
        raise AssertionError("every way out of the loop is above")

    async def get_or_create(self, options: ContainerOptions, command: Sequence[str] | None, kind: str) -> ContainerInfo:
        """Find or create the container that all programs use for this purpose, and start it."""
        for _ in range(_TRIES):
            made: ContainerInfo | None = None
            found = await self._own.oldest(options.project, kind)
            if found is None:
                made = await self.create(options, command, kind)
                found = await self._own.oldest(options.project, kind) or made
            try:
                await self._start(found)
                # An older one may have appeared meanwhile: containers get their date before they are listed.
                used = await self._own.oldest(options.project, kind)
            except ContainerNotFound:
                continue  # its creator removed it in favour of an older one
            if made is not None and (used is None or used.id != made.id):
                await self.remove(made)
            if used is not None and used.id == found.id:
                return await self._containers.inspect(used.id)
        raise NameConflict(f"containers of the project {options.project} come and go; another program makes them, too")

    async def remove(self, item: ContainerInfo | ContainerSummary, *, force: bool = True) -> None:
        """Remove it and its variables. ``force``: even if it is running."""
        await self._containers.remove(item.id, force=force)
        self._variables.remove(item.labels)

    async def clean_up(self, project: str, keep: int) -> Sequence[str]:
        """Remove a project's oldest stopped containers until ``keep`` are left; return the removed names."""
        found = await self._own.of_project(project)
        too_many = len(found) - keep
        stopped = [item for item in reversed(found) if item.status in ("created", "exited", "dead")]
        removed = []
        for item in stopped[: max(too_many, 0)]:
            try:
                # Without force: another program may have started it meanwhile.
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
            if info.status == "created":  # it never ran, so nothing is lost
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
