"""A Docker engine in memory, as the SDK's client shows it: containers, volumes and networks, and who changed them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import docker.errors


class FakeDocker:
    """What a :class:`~cc_bridge.manager.manager.ContainerManager` takes as its client; serves several at once.

    Attributes:
        made: containers, volumes and networks by name, in the order of their making.
        changes: what was done to them, in order: the verb and the name.
        before: called with the verb and the name before something is done; it may raise or do something itself.
    """

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.image_labels: dict[str, str] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.changes: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda verb, name: None
        self.closed = False
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self.api = _Api(self)
        self.containers = SimpleNamespace(create=self._create)
        self.images = SimpleNamespace(get=lambda name: None)

    def close(self) -> None:
        self.closed = True

    def add(self, name: str, labels: Mapping[str, str], status: str = "running", volumes: Iterable[str] = ()) -> str:
        """A container as it is; its id."""
        with self._lock:
            if name in self.made:
                raise docker.errors.APIError("409", None, f'Conflict. The container name "/{name}" is already in use')
            number = next(self._numbers)
            self.made[name] = {
                "Id": f"id-{number:03}",
                "Name": f"/{name}",
                "Created": f"2026-01-01T00:00:{number:02}.0Z",
                "Number": number,
                "State": {"Status": status},
                "Config": {"Labels": dict(labels)},
                "Mounts": [{"Type": "volume", "Name": volume, "Destination": f"/{volume}"} for volume in volumes],
            }
            return f"id-{number:03}"

    def status(self, name: str) -> str:
        return str(self.made[name]["State"]["Status"])

    def _create(self, **options: Any) -> Any:
        name = options["name"]
        self.before("create", name)
        volumes = [mount["Source"] for mount in options["mounts"] if mount["Type"] == "volume"]
        made = self.add(name, {**self.image_labels, **options["labels"]}, "created", volumes)
        with self._lock:
            self.made[name]["Options"] = options
            self.changes.append(("create", name))
        return SimpleNamespace(id=made)

    def find(self, name: str) -> dict[str, Any]:
        with self._lock:
            for raw in self.made.values():
                if name in (raw["Id"], raw["Name"].lstrip("/")):
                    return raw
        raise docker.errors.NotFound("404", None, f"No such container: {name}")

    def change(self, verb: str, name: str, status: str = "") -> dict[str, Any]:
        """Do something to a container."""
        raw = self.find(name)
        self.before(verb, raw["Name"].lstrip("/"))
        with self._lock:
            self.find(name)
            self.changes.append((verb, raw["Name"].lstrip("/")))
            if status:
                raw["State"]["Status"] = status
        return raw


class _Api:
    """The SDK's low-level client, as far as it is used."""

    base_url = "http+docker://localhost"

    def __init__(self, docker: FakeDocker) -> None:
        self._docker = docker

    def inspect_container(self, name: str) -> dict[str, Any]:
        return self._docker.find(name)

    def containers(self, all: bool, filters: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: A002  the SDK's word
        found = [raw for raw in list(self._docker.made.values()) if _has(raw["Config"]["Labels"], filters)]
        return [
            {
                "Id": raw["Id"],
                "Names": [raw["Name"]],
                "State": raw["State"]["Status"],
                "Created": raw["Number"],
                "Labels": raw["Config"]["Labels"],
            }
            for raw in reversed(found)
        ]

    def start(self, name: str) -> None:
        self._docker.change("start", name, "running")

    def stop(self, name: str, timeout: int) -> None:
        self._docker.change(f"stop {timeout}", name, "exited")

    def restart(self, name: str, timeout: int) -> None:
        self._docker.change(f"restart {timeout}", name, "running")

    def unpause(self, name: str) -> None:
        self._docker.change("unpause", name, "running")

    def remove_container(self, name: str, force: bool, v: bool) -> None:
        raw = self._docker.find(name)
        name = raw["Name"].lstrip("/")
        self._docker.before("remove", name)
        if raw["State"]["Status"] == "running" and not force:
            raise docker.errors.APIError("409", None, "You cannot remove a running container")
        self._docker.changes.append(("remove", name))
        self._docker.made.pop(name, None)

    def put_archive(self, name: str, path: str, archive: Any) -> None:
        self._docker.change("put_archive", name)

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        self._docker.volumes[name] = {"Name": name, "Labels": dict(labels)}

    def inspect_volume(self, name: str) -> dict[str, Any]:
        if name not in self._docker.volumes:
            raise docker.errors.NotFound("404", None, f"no such volume: {name}")
        return self._docker.volumes[name]

    def remove_volume(self, name: str) -> None:
        self.inspect_volume(name)
        for raw in self._docker.made.values():
            if any(mount["Name"] == name for mount in raw["Mounts"]):
                raise docker.errors.APIError("409", None, f"remove {name}: volume is in use")
        del self._docker.volumes[name]

    def networks(self, names: Iterable[str] = (), filters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        found = [raw for raw in self._docker.networks.values() if not names or raw["Name"] in names]
        return [raw for raw in found if _has(raw["Labels"], filters or {})]

    def create_network(self, name: str, *, driver: str, ipam: Any, internal: bool, labels: Any, **_: Any) -> None:
        self._docker.networks[name] = {
            "Id": f"network-{name}",
            "Name": name,
            "Created": "1",
            "Driver": driver,
            "Internal": internal,
            "IPAM": {"Config": ipam["Config"]},
            "Labels": dict(labels),
        }

    def inspect_network(self, id: str) -> dict[str, Any]:  # noqa: A002  the SDK's word
        return next(raw for raw in self._docker.networks.values() if raw["Id"] == id)


def _has(labels: Mapping[str, str], filters: Mapping[str, Any]) -> bool:
    wanted = [item.partition("=") for item in filters.get("label", ())]
    return all(labels.get(key) == value if separator else key in labels for key, separator, value in wanted)
