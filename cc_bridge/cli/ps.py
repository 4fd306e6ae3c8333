"""``cc-bridge ps``: the instances of this machine."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread

from ..errors import BridgeError, EngineError, InvalidInput
from . import options as o
from .parameters import Option
from .session import run_async

if TYPE_CHECKING:
    from ..engine.containers import ContainerSummary
    from ..instances.bridged import BridgedInstance

__all__ = ["doing", "ps"]

_RECORDED = ("name", "kind", "status", "image", "workspace", "project", "created")
_SEEN = ("activity", "asks", "permissions", "turn", "turn_since", "waiting", "connected", "last_activity", "channel")
_USED = ("memory", "cost")
_KEYS = (*_RECORDED, *_SEEN, *_USED)

#: Instances that are asked at once, and seconds for one of them.
_AT_ONCE = 16
_LIMIT = 10.0

#: In ``--format``: ``{name}``, or ``{{.Name}}`` as Docker's own commands have it.
_PLACEHOLDER = re.compile(r"\{\{\s*\.(\w+)\s*\}\}|\{(\w+)\}")

Filter = Annotated[
    list[str] | None,
    Option("--filter", metavar="KEY=VALUE", help=f"Only these; KEY: {', '.join(_KEYS)}; VALUE may have *."),
]


def ps(
    filters: Filter = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Names only.")] = False,
    format_: Annotated[str, Option("--format", metavar="TEXT", help="A line each, such as '{name} {activity}'.")] = "",
    everything: Annotated[bool, Option("--all", "-a", help="All, which is what it does anyway.")] = False,
    as_json: o.Json = False,
) -> None:
    """List the instances, running or not, and what each does. None is started."""
    from ..instances.registry import Registry
    from .display import print_json
    from .harmless import plain
    from .tables import print_table

    async def main() -> int:
        wanted = [_parse(item) for item in filters or ()]
        template = _parse_template(format_)
        names = Registry().names()
        needed = {key for key, _ in wanted} | {key for key in _KEYS if f"{{{key}}}" in template}
        shows_all = not (quiet or template)
        rows = await _rows(names, look=shows_all or bool(needed & set(_SEEN)))
        if shows_all or needed & set(_USED):
            await anyio.to_thread.run_sync(_fill_usage, rows)
        found = [row for row in rows if all(fnmatch.fnmatch(_plainly(row[key]), value) for key, value in wanted)]
        if as_json:
            print_json(found)
        elif quiet:
            print("".join(f"{row['name']}\n" for row in found), end="")
        elif template:
            for row in found:
                print(plain(_filled_in(template, row)))
        elif found:
            print_table(*_table(found))
        return 0

    run_async(main)


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    from .ages import ago
    from .stats import human

    keys = [
        "name",
        "kind",
        "status",
        "doing",
        "permissions",
        "memory",
        "cost",
        "image",
        "workspace",
        "project",
        "created",
    ]
    shown = [key for key in keys if key not in ("project", "permissions", "cost") or any(row[key] for row in rows)]
    told = [{**row, "doing": doing(row), "created": ago(row["created"])} for row in rows]
    for row in told:
        row["memory"] = human(row["memory"]) if row["memory"] else None
        row["cost"] = f"${row['cost']:.2f}" if row["cost"] is not None else None
    return [key.upper() for key in shown], [[str(row[key] or "-") for key in shown] for row in told]


def _fill_usage(rows: list[dict[str, Any]]) -> None:
    """What local instances have in memory, and what all have cost."""
    from ..instances.registry import Registry
    from .usage import costs, memory_of

    registry = Registry()
    local = {row["name"]: registry.home(row["name"]).pipes for row in rows if row["kind"] in ("local", "tmux")}
    memory, cost = memory_of(local), costs()
    for row in rows:
        row |= {"memory": memory.get(row["name"]), "cost": cost(row["name"])}


def doing(seen: Any) -> str:
    """What an instance does, in a few words."""
    from .ages import ago

    if seen["channel"] is None:
        return ""
    words: str = seen["activity"] or "unknown"
    if words in ("idle", "asleep", "unknown"):
        words += f", last active {ago(seen['last_activity'])}" if seen["last_activity"] else ""
    else:
        words = f"asks to use {seen['asks']}" if seen["activity"] == "permission" else words
        words += f", turn begun {ago(seen['turn_since'])}" if seen["turn_since"] else ""
    return words + (f", {seen['waiting']} waiting" if seen["waiting"] else "")


def _filled_in(template: str, row: dict[str, Any]) -> str:
    return re.sub(r"\{(\w+)\}", lambda part: _plainly(row[part[1]]), template)


def _plainly(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def _parse(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or key not in _KEYS:
        raise InvalidInput(f"--filter {text!r} is not KEY=VALUE", hint=f"KEY is one of {', '.join(_KEYS)}.")
    return key, value


def _parse_template(text: str) -> str:
    """The same with ``{key}`` only, tabs and new lines as they are.

    Raises:
        InvalidInput: it names a key that there is not.
    """

    def key_of(part: re.Match[str]) -> str:
        key: str = part[2] or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part[1]).lower()
        key = {"names": "name"}.get(key, key)
        if key not in _KEYS:
            raise InvalidInput(f"--format: there is no {part[0]}", hint=f"There are: {', '.join(_KEYS)}.")
        return f"{{{key}}}"

    return _PLACEHOLDER.sub(key_of, text.replace("\\t", "\t").replace("\\n", "\n"))


async def _rows(names: list[str], *, look: bool) -> list[dict[str, Any]]:
    """A row each, asked for at once."""
    containers = await _containers()
    rows: dict[str, dict[str, Any]] = {}
    places = anyio.Semaphore(_AT_ONCE)

    async def ask(name: str) -> None:
        async with places:
            rows[name] = {**dict.fromkeys(_KEYS), "name": name, "status": "unknown: it does not answer in time"}
            with anyio.move_on_after(_LIMIT):
                await _fill(rows[name], containers, look=look)

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(ask, name)
    return [rows[name] for name in names]


async def _containers() -> dict[str, ContainerSummary] | None:
    """This installation's containers by name, asked for once; None: the engine does not answer."""
    from ..instances.registry import Registry
    from ..manager.manager import ContainerManager

    registry = Registry()
    if not any((registry.home(name).path / "pipes").exists() for name in registry.names()):
        return {}
    try:
        async with ContainerManager() as manager:
            return {item.name: item for item in await manager.list()}
    except (EngineError, InvalidInput):
        return None


async def _fill(row: dict[str, Any], containers: dict[str, ContainerSummary] | None, *, look: bool) -> None:
    """What is known of an instance; one that is broken must not hide the others."""
    from .display import Display

    try:
        instance = o.load(row["name"], Display())
    except BridgeError as error:
        row["status"] = f"broken: {error.what}"
        return
    record = instance.record
    image = str(record.dockerfile or "") or record.image or record.container or None
    workspace = record.workspace or ("a volume" if record.kind == "swarm" else None)
    row |= {"kind": record.kind, "image": image, "workspace": str(workspace), "project": record.project}
    row["created"] = record.created.isoformat(timespec="seconds")
    try:
        await _fill_state(row, instance, containers)
        if look and not record.container and row["status"] in ("running", "unknown: Docker does not answer"):
            row |= await instance.get_activity()
    except EngineError:
        row["status"] = "unknown: Docker does not answer"
    except BridgeError as error:  # removed meanwhile, or made anew
        row["status"] = f"unknown: {error.what}"
    finally:
        with anyio.CancelScope(shield=True):
            await instance.release()


async def _fill_state(
    row: dict[str, Any], instance: BridgedInstance, containers: dict[str, ContainerSummary] | None
) -> None:
    from ..instances.docker_container import DockerContainer

    if instance.record.kind == "swarm":
        info = await instance.get_info()
        row |= {key: value for key, value in info.items() if key in ("status", "node", *_SEEN)}
    elif not isinstance(instance, DockerContainer):
        row["status"] = "running" if await instance.is_running() else "stopped"
    elif instance.record.container:
        info = await instance.get_info()  # it is not in the list: somebody else has made it
        row |= {key: value for key, value in info.items() if key in ("status", "image", *_SEEN)}
    elif containers is None:
        row["status"] = "unknown: Docker does not answer"
    else:
        there = containers.get(instance.container)
        row["status"] = there.status if there else "absent"
        row["image"] = there.image if there else row["image"]
