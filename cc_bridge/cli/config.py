"""``cc-bridge config``: the configuration file."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from ..errors import InvalidInput
from . import options as o
from .session import run_async

if TYPE_CHECKING:
    from ..config import Config

__all__ = ["app"]

app = typer.Typer(
    help="Check, show and trust the configuration file, cc-bridge.toml.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

#: Keys of a record, of Claude Code's options and of rules by which something is run, mounted or let through.
_POWERS = frozenset(
    (
        *("workspace", "image", "dockerfile", "mounts", "mount_at", "env", "network", "ports", "restart"),
        *("writable", "docker_socket", "credentials", "user", "tmux_socket"),
        *("key_command", "key_file", "allow_hosts"),
        *("program", "mcp_config", "extra", "allowed_tools", "permission_mode", "skip_permissions"),
        *("system_prompt", "append_system_prompt", "allow"),
    )
)

#: How many of them are shown.
_MOST_SHOWN = 100

File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Unless said, the one that holds.")]


@app.command()
def check(file: File = None) -> None:
    """Name all mistakes in it; prints its path where there are none. It need not be trusted."""

    async def main() -> int:
        from ..config import parse_config
        from .configuration import read_text

        path = _path(file)
        parse_config(read_text(path), path)
        print(path)
        return 0

    run_async(main)


@app.command()
def show(as_json: o.Json = False) -> None:
    """Show what holds: the file, and what it says. Values of variables, and passwords, are masked."""
    from .display import print_json
    from .tables import print_table

    async def main() -> int:
        from .configuration import load_config

        config = load_config()
        templates = {name: {**_masked(item.fields), "spares": item.spares} for name, item in config.templates.items()}
        found = {
            "path": str(config.path) if config.path else None,
            "defaults": _masked(config.defaults),
            "templates": templates,
            "fleet": dict(config.fleet),
            "budgets": [dict(budget) for budget in config.budgets],
            "service": _without_password(config.service),
        }
        if as_json:
            print_json(found)
        else:
            print_table(["", ""], _rows(found))
        return 0

    run_async(main)


@app.command()
def trust(file: File = None) -> None:
    """Use this file from now on as it is: you have read it. After a change it has to be trusted anew.

    Shows what in it runs or mounts something, or lets something through; on a terminal you are asked.
    """

    async def main() -> int:
        from ..config import parse_config
        from . import configuration
        from .display import Display

        path = _path(file)
        text = configuration.read_text(path)
        config = parse_config(text, path)
        with Display() as display:
            display.note(f"{path}")
            lines = _powers(config)
            for line in lines[:_MOST_SHOWN]:
                display.note(f"  {line}")
            if len(lines) > _MOST_SHOWN:
                display.note(f"  and {len(lines) - _MOST_SHOWN} more: read it")
            if not await _confirmed():
                display.note("it is not trusted")
                return 1
        configuration.trust(path, text)
        print(path)
        return 0

    run_async(main, ends_at_once=True)


def _powers(config: Config) -> list[str]:
    """What in a file runs or mounts something, or lets something through: a key and its value a line."""
    found = _powers_of("defaults", config.defaults)
    for name, template in config.templates.items():
        own = {key: value for key, value in template.fields.items() if config.defaults.get(key) != value}
        found += _powers_of(f"templates.{name}", own)
    people = _without_password(config.service).get("oidc", {})
    return found + [" = ".join(row) for row in _rows(people, "service.oidc")]


def _powers_of(table: str, fields: Mapping[str, Any]) -> list[str]:
    shown = _masked(fields)
    inner = [(name, shown.pop(name, {})) for name in ("claude", "rules")]
    given = [(f"{table}.{key}", value) for key, value in shown.items() if key in _POWERS]
    given += [
        (f"{table}.{name}.{key}", value) for name, values in inner for key, value in values.items() if key in _POWERS
    ]
    return [" = ".join(row) for key, value in given for row in _rows(value, key)]


async def _confirmed() -> bool:
    """Whether the person at this terminal says so; where nobody is, whoever has called this has read the file."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print("Trust it? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return answer.strip().lower() in ("y", "yes")


def _path(file: Path | None) -> Path:
    from .configuration import current_directory, find_config

    path = (file if file.is_absolute() else current_directory() / file) if file else find_config()
    if path is None:
        raise InvalidInput(
            "there is no configuration file", hint="Name one, or make ~/.config/cc-bridge/cc-bridge.toml."
        )
    return path


def _masked(fields: Any) -> dict[str, Any]:
    found = dict(fields)
    if "env" in found:
        found["env"] = dict.fromkeys(found["env"], "***")
    return found


def _without_password(service: Any) -> dict[str, Any]:
    found = dict(service)
    if "database" in found:
        found["database"] = re.sub(r"(?<=://)[^/]*(?=@)|(?<=\?).*", "***", found["database"])
    if "oidc" in found:
        found["oidc"] = {name: "***" if name == "client_secret" else item for name, item in found["oidc"].items()}
    return found


def _rows(found: Any, key: str = "") -> list[list[str]]:
    if isinstance(found, dict):
        return [row for name, item in found.items() for row in _rows(item, f"{key}.{name}" if key else str(name))]
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return [row for number, item in enumerate(found, 1) for row in _rows(item, f"{key}[{number}]")]
    return [
        [key, "-" if found is None else ", ".join(map(str, found)) if isinstance(found, list | tuple) else str(found)]
    ]
