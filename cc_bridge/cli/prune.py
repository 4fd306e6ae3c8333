"""``cc-bridge prune``: what nobody will come back for."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BridgeError, EngineError, InvalidInput, NotASwarm
from . import options as o
from .parameters import Option
from .session import run_async

if TYPE_CHECKING:
    from ..instances.registry import Registry
    from ..manager.manager import ContainerManager
    from .display import Display

__all__ = ["prune"]


@dataclass(frozen=True)
class _Leftover:
    kind: str
    name: str
    why: str
    remove: Callable[[], Awaitable[object]]


def prune(
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be removed.")] = False,
    force: Annotated[bool, Option("--force", "-f", help="Do not ask.")] = False,
    images: Annotated[bool, Option("--images", help="Also images of workspaces and other versions.")] = False,
    volumes: Annotated[
        bool, Option("--volumes", help="Also volumes that nothing uses: of dependencies, of instances that have gone.")
    ] = False,
    conversations: Annotated[
        bool, Option("--conversations", help="Also conversations whose instances have gone.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Remove what killed programs have left: containers without an instance, unused networks, stale directories.

    Of a swarm: services without an instance, their volumes at each node that answers, and configs and the network of
    sealed instances that no service has.

    It says what it would remove and asks. Only what this installation has made is ever touched.
    """
    from ..instances.proxy_files import forgotten
    from ..instances.registry import Registry
    from ..manager.manager import ContainerManager
    from .display import Display, print_json
    from .tables import print_table

    async def main() -> int:
        with Display() as display:
            registry = Registry()
            async with AsyncExitStack() as open_ones:
                stale = registry.stale()
                kept = [name for name in registry.names() if name not in stale]
                found = [_directory(registry, name) for name in stale]
                found += [_proxys(registry, name) for name in forgotten(registry.root, registry.names())]
                try:
                    found += await _of_swarm(open_ones, registry, kept, display, volumes=volumes)
                    manager = await open_ones.enter_async_context(ContainerManager())
                    told = {(item.kind, item.name) for item in found}
                    others = await _leftovers(manager, kept, images=images, volumes=volumes)
                    found += [item for item in others if (item.kind, item.name) not in told]
                except (EngineError, InvalidInput) as error:  # what is on this machine can be removed without it
                    display.note(f"containers and what belongs to them stay: {error}")
                if conversations:
                    found += _conversations(registry)
                rows = [{"kind": item.kind, "name": item.name, "why": item.why} for item in found]
                if as_json:
                    print_json(rows)
                elif rows:
                    print_table(["KIND", "NAME", "WHY"], [[row["kind"], row["name"], row["why"]] for row in rows])
                else:
                    display.note("nothing to remove")
                if dry_run or not found or not (force or _agreed(len(found))):
                    return 0
                for item in found:
                    try:
                        await item.remove()
                    except BridgeError as error:
                        display.note(f"{item.kind} {item.name} stays: {error.what}")
        return 0

    run_async(main)


async def _of_swarm(
    open_ones: AsyncExitStack, registry: Registry, kept: list[str], display: Display, *, volumes: bool
) -> list[_Leftover]:
    """What is in the swarm that the engine is a manager of, if it is of one."""
    from ..engine.client import Engine
    from ..engine.node_engines import NodeEngines
    from ..instances.swarm_leftovers import leftovers_of_swarm
    from ..state import Installation

    engine = Engine()
    open_ones.push_async_callback(engine.aclose)
    nodes = NodeEngines(engine)
    open_ones.push_async_callback(nodes.aclose)
    install = Installation.at(registry.root).id
    try:
        found = await leftovers_of_swarm(nodes, registry, install, kept, volumes=volumes, tell=display.note)
    except NotASwarm:
        return []
    return [_Leftover(*item) for item in found]


def _directory(registry: Registry, name: str) -> _Leftover:
    async def remove() -> None:
        if not registry.remove_if_stale(name):  # a person has thought about it meanwhile
            raise InvalidInput("it is used again, or has gone", instance=name)

    return _Leftover("directory", name, "the host of this ephemeral instance was killed", remove)


def _proxys(registry: Registry, name: str) -> _Leftover:
    async def remove() -> None:
        from ..instances.proxy_files import forget

        if name in registry.names():  # it has been made again meanwhile
            raise InvalidInput("it is used again", instance=name)
        forget(registry.root, name)

    return _Leftover("network log", name, "its instance has gone", remove)


def _conversations(registry: Registry) -> list[_Leftover]:
    def delete(session_id: str) -> Callable[[], Awaitable[object]]:
        async def remove() -> None:
            if session_id not in _gone(registry):  # a person has thought about it meanwhile
                raise InvalidInput("an instance has it by now, or it has gone")
            registry.sessions.delete(session_id)

        return remove

    return [
        _Leftover(
            "conversation", session_id, f"of {', '.join(names) or 'an instance'}, which has gone", delete(session_id)
        )
        for session_id, names in _gone(registry).items()
    ]


def _gone(registry: Registry) -> dict[str, tuple[str, ...]]:
    """The conversations that are kept, but for what an instance has or may still begin with; whose they were."""
    living, wanted = registry.names(), set()
    for name in living:
        with suppress(BridgeError):
            wanted.add(registry.home(name).session_id)
        with suppress(BridgeError):  # a broken record begins with nothing
            wanted.add(registry.load(name).resume)
    kept = registry.sessions.kept()
    return {
        session_id: names
        for session_id, names in kept.items()
        if session_id not in wanted and not set(names) & set(living)
    }


async def _leftovers(
    manager: ContainerManager, instances: list[str], *, images: bool, volumes: bool
) -> list[_Leftover]:
    def container(name: str) -> Callable[[], Awaitable[object]]:
        return lambda: manager.remove(name)

    def network(name: str) -> Callable[[], Awaitable[object]]:
        return lambda: manager.networks.remove_unused(name)

    def volume(name: str) -> Callable[[], Awaitable[object]]:
        return lambda: manager.volumes.remove_unused(name)

    def image(name: str) -> Callable[[], Awaitable[object]]:
        return lambda: manager.images.remove_unused(name)

    def unlink(path: Path) -> Callable[[], Awaitable[object]]:
        async def remove() -> None:
            path.unlink(missing_ok=True)

        return remove

    labels = manager.labels
    found = [
        _Leftover(
            "container", item.name, f"nobody will come back for it ({item.about or item.status})", container(item.id)
        )
        for item in await manager.orphans(instances)
        if "com.docker.swarm.service.name" not in item.labels  # Swarm removes it with its service
    ]
    found += [
        _Leftover("network", item.name, "no container belongs to it", network(item.id))
        for item in await manager.networks.labelled(labels)
        if not await manager.networks.is_used(item.id)
    ]
    found += [
        _Leftover("variables", path.name, "their container has gone", unlink(path))
        for path in await manager.forgotten_variables()
    ]
    if volumes:
        found += [
            _Leftover("volume", item.name, "no container has it", volume(item.name))
            for item in await manager.volumes.labelled(labels, unused=True)
            if item.labels.get("cc-bridge.instance") not in instances  # or a conversation is in it
        ]
    if images:
        found += [
            _Leftover("image", name, "built by cc-bridge; it is built again when it is needed", image(name))
            for item in await manager.images.labelled({"cc-bridge.type": "image"})
            for name in item.names
            if name.startswith(("cc-bridge:", "cc-bridge-auto:")) and name != manager.default_image
        ]
    return found


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise InvalidInput("there is no terminal to ask at", hint="--force removes them, --dry-run only shows them.")
    try:
        return typer.confirm(f"Remove {count}?", err=True)
    except typer.Abort:  # Ctrl-C or Ctrl-D, which quick.py would let through
        print(file=sys.stderr)
        return False
