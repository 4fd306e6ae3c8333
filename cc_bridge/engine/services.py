"""Services of a swarm and their tasks, as a manager's engine has them.

A swarm tells events of services and nodes, and none of tasks. So a placement is waited for by looking again after a
pause, which grows and is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import anyio

from ..errors import ContainerNotFound, PlacementFailed, SwarmConflict
from ..values import Value
from .client import Engine
from .labels import label_filter
from .swarm import TRIES, asked, registry_headers

__all__ = ["ServiceInfo", "Services", "TaskInfo"]

#: Seconds between two looks at a placement; the last is repeated.
_PAUSES = (0.05, 0.1, 0.2, 0.3, 0.5)

#: Seconds for a node that has a task to run it: it may have to pull the image.
_PULL_LIMIT = 600.0

#: How many tasks of one service may fail before nothing more is hoped for: Swarm itself goes on for ever.
_MOST_FAILURES = 3

#: In Swarm's words where no node has free what a task reserves.
_FULL = "insufficient resources"

#: States of a task that it does not leave any more.
_OVER = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})


class ServiceInfo(Value):
    """A service.

    Attributes:
        version: its version index, which grows with each change of it; an update has to name it.
        replicas: how many tasks it is to have.
        created: ISO 8601.
        spec: as the engine has it.
    """

    id: str
    name: str
    version: int
    replicas: int
    labels: Mapping[str, str]
    image: str
    created: str
    spec: Mapping[str, Any]


class TaskInfo(Value):
    """A task: one container of a service, at one node, or the attempt to have one.

    Attributes:
        node: the node's id; empty: it has none yet.
        state: Swarm's word: ``pending``, ``preparing``, ``running``, ``failed``, ``rejected`` …
        desired: the state that it is to have; after ``running``: it is to end.
        why: what Swarm says of the state, such as "no suitable node (…)"; may be empty.
        container: the id of its container; empty: none yet.
        exit_code: of its container, if it has ended.
        created: ISO 8601.
    """

    id: str
    service: str
    node: str
    state: str
    desired: str
    why: str
    container: str
    exit_code: int | None
    created: str

    @property
    def is_over(self) -> bool:
        """It does not run any more, or never did and never will."""
        return self.state in _OVER

    @property
    def is_wanted(self) -> bool:
        """Swarm means it to run."""
        return self.desired in ("ready", "running")

    @property
    def is_running(self) -> bool:
        """Its container runs, as far as the manager has heard, and is meant to."""
        return self.state == "running" and self.is_wanted and bool(self.container)


class Services:
    """The services of a swarm.

    Args:
        engine: a manager's.

    Raises, from every method:
        NotASwarm: the engine is no manager of a swarm.
        EngineError: of the kind that fits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, spec: Mapping[str, Any]) -> ServiceInfo:
        """Create a service of a spec, in the engine's words.

        Raises:
            NameConflict: there is one of the name.
        """
        client = await self._engine.client()
        image, shown = spec["TaskTemplate"]["ContainerSpec"]["Image"], ["service", "create", "--name", spec["Name"]]

        def post() -> str:
            api, headers = client.api, registry_headers(client.api, image)
            made = api._post_json(api._url("/services/create"), data=dict(spec), headers=headers)
            return str(api._result(made, json=True)["ID"])

        with anyio.CancelScope(shield=True):  # one that nobody has heard of could not be removed
            made = await asked(self._engine, post, shown=[*shown, image])
        return await self.inspect(made)

    async def inspect(self, name: str) -> ServiceInfo:
        """A service, by name or id.

        Raises:
            ContainerNotFound: there is none.
        """
        client = await self._engine.client()
        return _service(await asked(self._engine, client.api.inspect_service, name, repeat=True))

    async def find(self, name: str) -> ServiceInfo | None:
        """The same; None: there is none."""
        try:
            return await self.inspect(name)
        except ContainerNotFound:
            return None

    async def labelled(self, labels: Mapping[str, str]) -> list[ServiceInfo]:
        """Those with all these labels, by name; an empty value matches any."""
        client = await self._engine.client()
        filters = {"label": label_filter(labels)}
        found = await asked(self._engine, client.api.services, filters=filters, repeat=True, shown=["service", "ls"])
        return sorted(map(_service, found), key=lambda service: service.name)

    async def update(
        self,
        service: ServiceInfo,
        *,
        replicas: int | None = None,
        labels: Mapping[str, str] | None = None,
        image: str | None = None,
        force: bool = False,
    ) -> ServiceInfo:
        """Change a service as it was seen; compare and swap, by its version index.

        Args:
            replicas, labels: instead of those that it has. Labels restart no task.
            image: of the tasks, which are made anew if it is another.
            force: make the tasks anew in any case.

        Returns:
            The service after it, or after what somebody else has changed since.

        Raises:
            SwarmConflict: somebody else has changed it since; nothing was done.
            ContainerNotFound: there is none any more.
        """
        client = await self._engine.client()
        spec = _changed(service.spec, replicas=replicas, labels=labels, image=image, force=force)

        def post() -> None:
            api = client.api
            headers = registry_headers(api, image) if image else {}  # without, the engine keeps what it has
            url = api._url("/services/{0}/update", service.id)
            api._result(api._post_json(url, data=spec, params={"version": service.version}, headers=headers), json=True)

        await asked(self._engine, post, shown=["service", "update", service.name])
        return await self.inspect(service.id)

    async def scale(self, name: str, replicas: int) -> ServiceInfo:
        """Have so many tasks; again where somebody else changes the service at the same time.

        Raises:
            SwarmConflict: somebody does so again and again.
            ContainerNotFound: there is none.
        """
        for last in [False] * (TRIES - 1) + [True]:
            service = await self.inspect(name)
            if service.replicas == replicas:
                return service
            try:
                return await self.update(service, replicas=replicas)
            except SwarmConflict:
                if last:
                    raise
        raise AssertionError("every way out of the loop is above")

    async def remove(self, name: str) -> None:
        """Remove it with its tasks, which end after a while. Does nothing if it is gone."""
        client = await self._engine.client()
        try:
            shown = ["service", "rm", name]
            await asked(self._engine, client.api.remove_service, name, repeat=True, shown=shown)
        except ContainerNotFound:
            pass

    async def tasks(self, service: str) -> list[TaskInfo]:
        """The tasks of a service, by its name or id, the newest first; also those that have ended, as far as known."""
        client = await self._engine.client()
        found = await asked(self._engine, client.api.tasks, filters={"service": service}, repeat=True)
        return sorted(map(_task, found), key=lambda task: task.created, reverse=True)

    async def until_running(self, service: str, limit: float, *, full_limit: float = math.inf) -> TaskInfo:
        """Wait until a task of a service of one replica runs; which one.

        Args:
            limit: seconds for a node to be found; one that has to pull the image may take longer.
            full_limit: the same where no node has free what it reserves, if that is less.

        Raises:
            PlacementFailed: it does not, for Swarm's own reason. ``pending``: no node is found for it, and may yet be.
        """
        began = anyio.current_time()
        before: set[str] | None = None  # what has failed earlier says nothing of what is tried now
        for count in range(10**9):
            tasks = await self.tasks(service)
            running = [task for task in tasks if task.is_running]
            if running:
                return running[0]
            before = {task.id for task in tasks if task.is_over} if before is None else before
            if failed := _hopeless([task for task in tasks if task.id not in before]):
                raise _not_placed(failed)
            newest, waited = tasks[0] if tasks else None, anyio.current_time() - began
            has_node = newest is not None and newest.is_wanted and bool(newest.node)
            if waited > (_PULL_LIMIT if has_node else min(limit, full_limit) if _is_full(newest) else limit):
                raise _not_placed(newest, waited)
            await anyio.sleep(_PAUSES[min(count, len(_PAUSES) - 1)])  # back-off: of tasks there are no events
        raise AssertionError("every way out of the loop is above")

    async def until_over(self, service: str, limit: float, *, but_at: Collection[str] = ()) -> bool:
        """Wait until no task of a service has a container that may run; False after ``limit`` seconds.

        Args:
            but_at: ids of nodes that do not say so, such as those that are down.
        """
        with anyio.move_on_after(limit):
            for count in range(10**9):
                tasks = await self.tasks(service)
                if all(task.is_over or not task.node or task.node in but_at for task in tasks):
                    return True
                await anyio.sleep(_PAUSES[min(count, len(_PAUSES) - 1)])  # back-off: of tasks there are no events
        return False


def _changed(
    spec: Mapping[str, Any],
    *,
    replicas: int | None,
    labels: Mapping[str, str] | None,
    image: str | None,
    force: bool,
) -> dict[str, Any]:
    """The spec with the changes."""
    task = dict(spec["TaskTemplate"])
    if image is not None:
        task["ContainerSpec"] = {**task["ContainerSpec"], "Image": image}
    if force:
        task["ForceUpdate"] = int(task.get("ForceUpdate") or 0) + 1
    changed = {**spec, "TaskTemplate": task}
    if labels is not None:
        changed["Labels"] = dict(labels)
    if replicas is not None:
        changed["Mode"] = {"Replicated": {"Replicas": replicas}}
    return changed


def _hopeless(tasks: list[TaskInfo]) -> TaskInfo | None:
    """A task of those that fail again and again; None: there may yet be one that runs."""
    failed = [task for task in tasks if task.state in ("failed", "rejected")]
    return failed[0] if len(failed) >= _MOST_FAILURES and failed[0].why else None


def _not_placed(task: TaskInfo | None, limit: float = 0) -> PlacementFailed:
    within = f" within {limit:.0f} s" if limit else ""
    if task is None:
        return PlacementFailed(f"Swarm has made no task of it{within}")
    why = task.why or "it does not say why"
    if task.is_over:
        return PlacementFailed(f"its container could not be started: {why}")
    return PlacementFailed(
        f"it has not come up{within}; its task is {task.state}: {why}", pending=not task.node, full=_is_full(task)
    )


def _is_full(task: TaskInfo | None) -> bool:
    return task is not None and not task.node and _FULL in task.why


def _service(raw: Mapping[str, Any]) -> ServiceInfo:
    spec = raw["Spec"]
    return ServiceInfo(
        id=str(raw["ID"]),
        name=str(spec["Name"]),
        version=int(raw["Version"]["Index"]),
        replicas=int(((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas") or 0),
        labels=dict(spec.get("Labels") or {}),
        image=str(((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image", "")),
        created=str(raw.get("CreatedAt", "")),
        spec=spec,
    )


def _task(raw: Mapping[str, Any]) -> TaskInfo:
    status = raw.get("Status") or {}
    container = status.get("ContainerStatus") or {}
    state = str(status.get("State", "new"))
    why = str(status.get("Err") or "")
    return TaskInfo(
        id=str(raw["ID"]),
        service=str(raw.get("ServiceID", "")),
        node=str(raw.get("NodeID") or ""),
        state=state,
        desired=str(raw.get("DesiredState", "")),
        why=why or ("" if state == "running" else str(status.get("Message") or "")),
        container=str(container.get("ContainerID") or ""),
        exit_code=int(container.get("ExitCode") or 0) if state in _OVER and container else None,
        created=str(raw.get("CreatedAt", "")),
    )
