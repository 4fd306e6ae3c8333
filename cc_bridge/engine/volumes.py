"""Named volumes: created if missing, labelled, removed on request if unused."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from ..errors import ContainerNotFound, EngineError
from .archives import Archives, tar_of_directory
from .client import Engine
from .container_spec import ContainerSpec, Mount
from .containers import Containers
from .labels import label_filter

__all__ = ["VolumeInfo", "Volumes"]


@dataclass(frozen=True)
class VolumeInfo:
    """What the engine says about a volume."""

    name: str
    driver: str
    created: str
    labels: Mapping[str, str]


class Volumes:
    """The engine's volumes.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ensure(self, name: str, labels: Mapping[str, str]) -> bool:
        """Create it if missing; True if it was created. One that exists keeps its labels."""
        if await self.find(name) is not None:
            return False
        client = await self._engine.client()
        shown = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        await self._engine.call(
            client.api.create_volume, name, labels=dict(labels), repeat=True, shown=["volume", "create", *shown, name]
        )
        return True

    async def set_owner(self, name: str, image: str, uid: int, gid: int, labels: Mapping[str, str]) -> None:
        """Set the owner of an empty volume, which the engine creates for root.

        A container that is never started mounts it, and an archive that is unpacked over it carries the owner.

        Args:
            image: any local image.
        """
        containers, archives = Containers(self._engine), Archives(self._engine)
        scratch = f"{name}-{secrets.token_hex(4)}"
        mounts = [Mount(name, "/volume")]
        with anyio.CancelScope(shield=True):
            spec = ContainerSpec(scratch, image, ["true"], labels=labels, mounts=mounts, read_only=False)
            await containers.create(spec)
            try:
                with tar_of_directory("volume", uid, gid) as archive:
                    await archives.put(scratch, "/", archive)
            finally:
                await containers.remove(scratch)

    async def find(self, name: str) -> VolumeInfo | None:
        """The volume; None: there is none."""
        client = await self._engine.client()
        try:
            return _info(await self._engine.call(client.api.inspect_volume, name, repeat=True))
        except ContainerNotFound:
            return None

    async def labelled(self, labels: Mapping[str, str], *, unused: bool = False) -> list[VolumeInfo]:
        """Those with all these labels. ``unused``: only those without a container."""
        client = await self._engine.client()
        wanted: dict[str, Any] = {"label": label_filter(labels)}
        if unused:
            wanted["dangling"] = True
        found = await self._engine.call(client.api.volumes, filters=wanted, repeat=True)
        return [_info(raw) for raw in found.get("Volumes") or ()]

    async def remove_unused(self, name: str) -> bool:
        """Remove it unless a container uses it; return True if it is gone."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.api.remove_volume, name, repeat=True, shown=("volume", "rm", name))
        except ContainerNotFound:
            pass
        except EngineError as error:
            if "in use" in error.what:
                return False
            raise
        return True


def _info(raw: Mapping[str, Any]) -> VolumeInfo:
    created = str(raw.get("CreatedAt", ""))
    return VolumeInfo(raw["Name"], str(raw.get("Driver", "")), created, dict(raw.get("Labels") or {}))
