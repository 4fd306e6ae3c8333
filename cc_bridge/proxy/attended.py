"""One instance that the proxy attends: a connection to its agent, made again when it is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import anyio
from anyio.abc import ByteStream

from ..channels.named_pipe import NobodyListens
from ..errors import (
    AgentUnavailable,
    BridgeError,
    ContainerNotFound,
    ContainerNotRunning,
    InstanceNotFound,
)
from ..instances.place import Place
from ..instances.registry import Registry
from ..instances.way_out import placeholder
from ..logs import Log
from ..record import ClaudeInstance
from ..state import write_whole
from .api_client import ApiClient
from .gate import serve_connection
from .journal import Journal, ProxyLog, network_file, usage_file
from .keys import Login, describe_source
from .meters import Meters
from .terms import Entry, Guest
from .tunnel import open_tunnel
from .way_out import WayOut

__all__ = ["Attended", "place_of"]

#: Seconds without the agent after which an instance has gone: where it is known to have ended, and where it is not.
_GONE, _LOST = 20.0, 600.0

#: Seconds between tries, the first and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0

_ENDED = (NobodyListens, ContainerNotFound, ContainerNotRunning)


class Attended:
    """An instance, its login and its connection.

    Attributes:
        source: as :mod:`.keys` has it.
        is_attached: there is a connection.
        is_over: it has gone, or was left.
    """

    def __init__(self, root: Path, name: str, source: Mapping[str, Any], client: ApiClient, log: ProxyLog) -> None:
        self._registry, self._client, self._log = Registry(root), client, log.of(name)
        self.name = name
        self.is_attached = self.is_over = False
        self._since = time.time()
        self._problem: BridgeError | None = None
        self._changed = anyio.Event()
        self._scope = anyio.CancelScope()
        self._streams = self._requests = self._refused = self._unnoted = 0
        self._network = Journal(network_file(root, name))
        self._usage = usage_file(root, name)
        self._kept = self._usage_kept()
        self._used = anyio.Event()
        record = self._registry.load(name)
        self.source, self._login = source, Login(source, self._log)
        self._meters = Meters(record.api_limits, self._kept)
        self._guest = Guest(
            name=name,
            placeholder=placeholder(self._registry.home(name).path),
            sealed=record.sealed,
            allow_hosts=record.allow_hosts,
            limits=record.api_limits,
            login=lambda: self._login.read(),
            login_refused=lambda login: self._login.refused(login),
            note=self._note,
        )

    def use(self, source: Mapping[str, Any]) -> None:
        """Take another login, and the record as it is now, for requests from now on, also those of open connections.

        Raises:
            InstanceNotFound, InvalidInput: its record cannot be read.
        """
        record = self._registry.load(self.name)
        if source != self.source:  # else a key that its command has printed is good for the next one, too
            self.source, self._login = source, Login(source, self._log)
        self._meters.limits = self._guest.limits = record.api_limits
        self._guest.allow_hosts = record.allow_hosts
        self._used.set()
        self._used = anyio.Event()

    async def run(self) -> None:
        """Serve it until it has gone or is left."""
        lost, pause = anyio.current_time(), _FIRST_PAUSE
        try:
            with self._scope:
                while True:
                    was_attached = await self._connect()
                    now = anyio.current_time()
                    if was_attached:
                        lost, pause = now, _FIRST_PAUSE
                    limit = _GONE if isinstance(self._problem, _ENDED) else _LOST
                    if isinstance(self._problem, InstanceNotFound) or now - lost >= limit:
                        self._log.info("gone", reason=str(self._problem))
                        return
                    used = self._used
                    with anyio.move_on_after(pause) as waited:  # back-off, unless somebody knows that it is there now
                        await used.wait()
                    pause = min(pause * 2, _LONGEST_PAUSE) if waited.cancelled_caught else _FIRST_PAUSE
        finally:
            self.is_over = True
            self._change()

    def end(self) -> None:
        """Serve it no more; what is under way is cut."""
        self._scope.cancel()

    async def until_over(self, limit: float) -> None:
        """Wait until what was under way has ended and is noted; at most so many seconds."""
        with anyio.move_on_after(limit):
            while not self.is_over:
                await self._changed.wait()

    async def until_attached(self, limit: float) -> None:
        """Wait until there is a connection.

        Raises:
            BridgeError: there is none within so many seconds.
        """
        with anyio.move_on_after(limit):
            while not (self.is_attached or self.is_over):
                await self._changed.wait()
        if not self.is_attached:
            raise self._problem or AgentUnavailable("its agent does not answer the proxy", instance=self.name)

    def status(self) -> dict[str, Any]:
        """What is known of it, as JSON types, without anything secret."""
        return {
            "name": self.name,
            "attached": self.is_attached,
            "since": self._since,
            "sealed": self._guest.sealed,
            "key": describe_source(self.source),
            "streams": self._streams,
            "requests": self._requests,
            "refused": self._refused,
            "today": self._meters.as_dict(),
            "problem": None if self.is_attached or self._problem is None else self._problem.what,
        }

    async def _connect(self) -> bool:
        """Serve one connection to its end; whether there was one."""
        was_attached = False

        def attached() -> None:
            nonlocal was_attached
            was_attached = self.is_attached = True
            self._problem = None
            self._log.info("attached")
            self._change()

        try:
            place = place_of(self._registry.load(self.name), self._registry)
            try:
                await WayOut(place, cast(Log, self._log)).serve(self._serve, attached)
            finally:
                with anyio.CancelScope(shield=True):
                    await place.release()
        except BridgeError as error:
            self._problem = error
        except Exception as error:  # of this instance only: the others are served on
            self._log.fault("attending_failed", error)
            self._problem = AgentUnavailable("the proxy failed at it", instance=self.name)
        if self.is_attached:
            self._log.info("detached", reason=str(self._problem or "the connection ended"))
        self.is_attached = False
        return was_attached

    async def _serve(self, stream: ByteStream) -> None:
        self._streams += 1
        try:
            await serve_connection(stream, self._guest, self._meters, self._client, open_tunnel=open_tunnel)
        finally:
            self._streams -= 1
            self._keep()

    def _note(self, entry: Entry) -> None:
        self._requests += 1
        self._refused += bool(entry.refused)
        if entry.refused and self._meters.is_flooded(time.time()):
            self._unnoted += 1  # else what is asked again and again would push out all else
            return
        if self._unnoted:
            more, self._unnoted = f"{self._unnoted} more requests were refused, and not noted each", 0
            self._network.note(Entry(self.name, "", "", refused=more))
        self._network.note(entry)
        self._keep()

    def _keep(self) -> None:
        """Keep the day's sums, which a limit of a day looks at: also those of a proxy that has ended."""
        if (sums := self._meters.as_dict()) != self._kept:
            self._kept = sums
            try:
                write_whole(self._usage, json.dumps(sums).encode())
            except OSError as error:  # the disk is full, say; as long as this process lives, they are known
                self._log.warning("usage_not_kept", reason=error.strerror)

    def _usage_kept(self) -> dict[str, Any] | None:
        with suppress(FileNotFoundError, ValueError):
            found = json.loads(self._usage.read_bytes())
            return found if isinstance(found, dict) else None
        return None

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def place_of(record: ClaudeInstance, registry: Registry) -> Place:
    """Where an instance's agent is."""
    if record.kind == "docker":
        from ..instances.container_place import ContainerPlace

        return ContainerPlace(record, registry)
    if record.kind == "swarm":
        from ..instances.swarm_place import swarm_place_of

        return swarm_place_of(record, registry)
    if record.kind == "tmux":
        from ..instances.pane_place import PanePlace

        return PanePlace(record, registry)
    from ..instances.process_place import ProcessPlace

    return ProcessPlace(record, registry)
