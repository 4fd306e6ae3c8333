"""Networks: created if missing, reused if equal, never changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from ..errors import EngineError, InvalidInput, NetworkConflict
from .client import Engine
from .labels import label_filter

__all__ = ["NetworkInfo", "NetworkSpec", "Networks"]


#: Seconds between lookups of a network that another program is creating.
_PAUSES = (0.05, 0.2, 0.5)


@dataclass(frozen=True)
class NetworkSpec:
    """A network. ``gateway``: empty means the subnet's first address. ``internal``: without outside access.

    Raises:
        InvalidInput: subnet or gateway is invalid.
    """

    name: str
    subnet: str = "172.28.0.0/16"
    gateway: str = ""
    driver: str = "bridge"
    internal: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            subnet = ipaddress.ip_network(self.subnet)
            inside = not self.gateway or ipaddress.ip_address(self.gateway) in subnet
        except ValueError as error:
            raise InvalidInput(f"the network {self.name}: {error}") from None
        if not inside:
            raise InvalidInput(f"the network {self.name}: the gateway {self.gateway} is not in {self.subnet}")


@dataclass(frozen=True)
class NetworkInfo:
    """What the engine says about a network. ``containers``: names of those that run in it."""

    id: str
    name: str
    driver: str
    subnet: str
    gateway: str
    internal: bool
    labels: Mapping[str, str]
    containers: tuple[str, ...]


class Networks:
    """The engine's networks.

    Raises, from every method:
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ensure(self, spec: NetworkSpec) -> NetworkInfo:
        """Create the network if it is missing.

        Raises:
            NetworkConflict: it exists with other values, or another network has its addresses.
        """
        found = await self.find(spec.name)
        if found is None:
            try:
                await self._create(spec)
            except EngineError as error:
                if (found := await self._made_by_another(spec.name)) is None:
                    raise await self._explained(spec, error) from error
            # The engine allows two networks of one name: remove ours if another is older.
            found = found or await self._keep_oldest(spec.name)
        if differences := _differences(spec, found):
            raise NetworkConflict(
                f"the network {spec.name} exists and differs: {'; '.join(differences)}",
                hint=f"Choose another name or the same values, or remove it: docker network rm {spec.name}",
            )
        return found

    async def _made_by_another(self, name: str) -> NetworkInfo | None:
        """The network that another program has just created: its addresses are taken a little before it is listed."""
        for pause in _PAUSES:
            if (found := await self.find(name)) is not None:
                return found
            await anyio.sleep(pause)  # back-off
        return await self.find(name)

    async def find(self, name: str) -> NetworkInfo | None:
        """The network of this name, the oldest if there are several; None: there is none."""
        found = await self._named(name)
        return await self._inspect(found[0]["Id"]) if found else None

    async def labelled(self, labels: Mapping[str, str]) -> list[NetworkInfo]:
        """Those with all these labels."""
        client = await self._engine.client()
        found = await self._engine.call(client.api.networks, filters={"label": label_filter(labels)}, repeat=True)
        return [info for raw in found if (info := await self._inspect(raw["Id"])) is not None]

    async def is_used(self, id: str) -> bool:  # noqa: A002  the word that fits
        """Whether a container uses it, running or not: a stopped one could not start without it."""
        client = await self._engine.client()
        return bool(await self._engine.call(client.api.containers, all=True, filters={"network": id}, repeat=True))

    async def remove_unused(self, name: str) -> bool:
        """Remove it, by name or id, unless a container is connected; return True if it is gone."""
        client = await self._engine.client()
        try:
            await self._engine.call(client.api.remove_network, name, repeat=True, shown=("network", "rm", name))
        except EngineError as error:
            if "active endpoints" in error.what:
                return False
            if await self._inspect(name) is not None:
                raise
        return True

    async def _create(self, spec: NetworkSpec) -> None:
        import docker.types

        client = await self._engine.client()
        pool = docker.types.IPAMPool(subnet=spec.subnet, gateway=spec.gateway or None)
        shown = ["network", "create", "--driver", spec.driver, "--subnet", spec.subnet]
        shown += ["--gateway", spec.gateway] if spec.gateway else []
        shown += ["--internal"] if spec.internal else []
        shown += [word for key, value in spec.labels.items() for word in ("--label", f"{key}={value}")]
        with anyio.CancelScope(shield=True):  # a half-created network could not be removed
            await self._engine.call(
                client.api.create_network,
                spec.name,
                driver=spec.driver,
                ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                check_duplicate=True,
                internal=spec.internal,
                labels=dict(spec.labels),
                shown=[*shown, spec.name],
            )

    async def _keep_oldest(self, name: str) -> NetworkInfo:
        first, *later = await self._named(name)
        for raw in later:
            await self.remove_unused(raw["Id"])
        found = await self._inspect(first["Id"])
        if found is None:
            raise NetworkConflict(f"the network {name} was removed while it was made")
        return found

    async def _named(self, name: str) -> list[dict[str, Any]]:
        client = await self._engine.client()
        found = await self._engine.call(client.api.networks, names=[name], repeat=True)
        return sorted((raw for raw in found if raw["Name"] == name), key=lambda raw: (raw["Created"], raw["Id"]))

    async def _inspect(self, id: str) -> NetworkInfo | None:  # noqa: A002  the word that fits
        client = await self._engine.client()
        try:
            raw = await self._engine.call(client.api.inspect_network, id, repeat=True)
        except EngineError as error:
            if "not found" in error.what.lower() or "no such network" in error.what.lower():
                return None
            raise
        return _info(raw)

    async def _explained(self, spec: NetworkSpec, error: EngineError) -> EngineError:
        """A better error, if another network has the addresses."""
        client = await self._engine.client()
        wanted = ipaddress.ip_network(spec.subnet)
        for raw in await self._engine.call(client.api.networks, repeat=True):
            other = _info(raw)
            if other.subnet and _overlap(wanted, other.subnet):
                return NetworkConflict(
                    f"the network {spec.name} cannot have {spec.subnet}: {other.name} has {other.subnet}",
                    hint="Choose another subnet, or remove that network.",
                )
        return EngineError(f"the network {spec.name} cannot be made: {error.what}", hint=error.hint)


def _overlap(wanted: ipaddress.IPv4Network | ipaddress.IPv6Network, other: str) -> bool:
    network = ipaddress.ip_network(other)
    return network.version == wanted.version and network.overlaps(wanted)


def _differences(spec: NetworkSpec, found: NetworkInfo) -> list[str]:
    pairs = [("driver", spec.driver, found.driver), ("subnet", spec.subnet, found.subnet)]
    pairs += [("gateway", spec.gateway, found.gateway)] if spec.gateway else []
    differing = [f"its {what} is {has or 'not set'}, not {wanted}" for what, wanted, has in pairs if wanted != has]
    if spec.internal != found.internal:
        differing.append("it is internal" if found.internal else "it is not internal")
    return differing


def _info(raw: Mapping[str, Any]) -> NetworkInfo:
    pools = (raw.get("IPAM") or {}).get("Config") or [{}]
    return NetworkInfo(
        id=raw["Id"],
        name=raw["Name"],
        driver=str(raw.get("Driver", "")),
        subnet=str(pools[0].get("Subnet", "")),
        gateway=str(pools[0].get("Gateway", "")),
        internal=bool(raw.get("Internal")),
        labels=dict(raw.get("Labels") or {}),
        containers=tuple(str(of.get("Name", "")) for of in (raw.get("Containers") or {}).values()),
    )
