"""Containers: made with hardening on, started, watched while they start, ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from ..errors import ContainerNotFound, ContainerStartError, EngineError, EngineTimeout
from .client import Engine
from .streams import raw_socket, read_until

__all__ = ["LABEL", "ContainerInfo", "ContainerSpec", "Containers"]

#: The prefix of every label of ours.
LABEL = "cc-bridge"


@dataclass(frozen=True)
class ContainerSpec:
    """What to create. The limits are the hardening defaults (requirement M2).

    Attributes:
        mounts: host path, container path, read-only.
        memory: bytes; swap is not added to it.
        tmpfs: container path to mount options.
    """

    name: str
    image: str
    command: Sequence[str]
    user: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    mounts: Sequence[tuple[str, str, bool]]
    workdir: str
    network: str = "bridge"
    memory: int = 2 * 1024**3
    cpus: float = 2.0
    pids: int = 512
    read_only: bool = True
    tmpfs: Mapping[str, str] = field(default_factory=lambda: {"/tmp": "rw,nosuid,nodev,size=512m,mode=1777"})
    auto_remove: bool = False

    def options(self) -> dict[str, Any]:
        """The SDK's arguments."""
        return {
            "name": self.name,
            "image": self.image,
            "entrypoint": list(self.command),
            "command": [],
            "user": self.user,
            "labels": dict(self.labels),
            "environment": dict(self.environment),
            "volumes": [f"{host}:{inside}:{'ro' if ro else 'rw'}" for host, inside, ro in self.mounts],
            "working_dir": self.workdir,
            "network_mode": self.network,
            "init": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": self.memory,
            "memswap_limit": self.memory,
            "nano_cpus": int(self.cpus * 1e9),
            "pids_limit": self.pids,
            "read_only": self.read_only,
            "tmpfs": dict(self.tmpfs),
            "auto_remove": self.auto_remove,
        }


@dataclass(frozen=True)
class ContainerInfo:
    """What the engine says about a container. ``networks``: network name to address."""

    id: str
    name: str
    image: str
    status: str
    created: str
    labels: Mapping[str, str]
    ports: Mapping[str, Any]
    networks: Mapping[str, str]
    volumes: Sequence[str]
    limits: Mapping[str, Any]
    health: str
    exit_code: int
    oom_killed: bool

    @property
    def running(self) -> bool:
        """Running and not paused."""
        return self.status == "running"


class Containers:
    """The engine's containers.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, spec: ContainerSpec) -> str:
        """Create, and return the id. A cancellation waits for it: what is half made could not be removed."""
        client = await self._engine.client()
        with anyio.CancelScope(shield=True):
            container = await self._engine.call(client.containers.create, **spec.options())
        return str(container.id)

    async def start(self, name: str, awaited: Sequence[str], limit: float) -> str:
        """Start, and return which of the awaited texts the container has logged first.

        Args:
            limit: seconds.

        Raises:
            ContainerStartError: it ended, or time ran out, without any; its last lines are quoted.
        """
        client = await self._engine.client()
        if not awaited:
            await self._engine.call(client.api.start, name)
            return ""
        # Attached before it starts, so that no line is missed and none has to be polled for.
        wanted = {"stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
        fd, early = await self._engine.call(lambda: raw_socket(client.api.attach_socket(name, params=wanted)))
        try:
            await self._engine.call(client.api.start, name)
            found, lines = await read_until(fd, early, awaited, limit)
        except ContainerNotFound:
            raise
        except EngineError as error:
            raise ContainerStartError(error.what, hint=error.hint) from error
        finally:
            os.close(fd)
        if found is None:
            last = lines.strip()[-1000:] or "it logged nothing"
            raise ContainerStartError(f"the container did not come up within {limit:g} s: {last}")
        return found

    async def inspect(self, name: str) -> ContainerInfo:
        """What it is and how it does."""
        client = await self._engine.client()
        return _info(await self._engine.call(client.api.inspect_container, name))

    async def stop(self, name: str, grace: float) -> None:
        """SIGTERM, ``grace`` seconds, SIGKILL. Nothing happens to one that has stopped or gone."""
        await self._tolerant(lambda client: client.api.stop(name, timeout=int(grace)), limit=grace + 30)

    async def wait(self, name: str, condition: str, limit: float) -> bool:
        """Wait until it is ``not-running`` or ``removed``; False after ``limit`` seconds."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.api.wait, name, timeout=limit, condition=condition, limit=limit + 5)
        except ContainerNotFound:
            return True
        except EngineTimeout:
            return False
        return True

    async def unpause(self, name: str) -> None:
        """Let a paused container go on."""
        client = await self._engine.client()
        await self._engine.call(client.api.unpause, name)

    async def remove(self, name: str) -> None:
        """Kill and remove, with its anonymous volumes. Nothing happens to one that has gone."""
        await self._tolerant(lambda client: client.api.remove_container(name, force=True, v=True))

    async def _tolerant(self, act: Callable[[Any], object], limit: float = 30.0) -> None:
        client = await self._engine.client()
        try:
            await self._engine.call(act, client, limit=limit)
        except ContainerNotFound:
            pass
        except EngineError as error:
            if "already in progress" not in error.what:  # another host removes it just now
                raise


def _info(raw: Mapping[str, Any]) -> ContainerInfo:
    state, config, host = raw.get("State", {}), raw.get("Config", {}), raw.get("HostConfig", {})
    network = raw.get("NetworkSettings", {})
    return ContainerInfo(
        id=raw["Id"],
        name=str(raw.get("Name", "")).lstrip("/"),
        image=str(config.get("Image", "")),
        status=str(state.get("Status", "unknown")),
        created=str(raw.get("Created", "")),
        labels=dict(config.get("Labels") or {}),
        ports=dict(network.get("Ports") or {}),
        networks={name: str(of.get("IPAddress", "")) for name, of in (network.get("Networks") or {}).items()},
        volumes=tuple(host.get("Binds") or ()),
        limits={
            "memory": host.get("Memory"),
            "cpus": (host.get("NanoCpus") or 0) / 1e9,
            "pids": host.get("PidsLimit"),
            "read_only": host.get("ReadonlyRootfs"),
            "network": host.get("NetworkMode"),
        },
        health=str((state.get("Health") or {}).get("Status", "")),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
    )
