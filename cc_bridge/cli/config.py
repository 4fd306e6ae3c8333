"""``cc-bridge config``: the configuration file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InvalidInput
from . import options as o
from .session import run_async

__all__ = ["app"]

app = typer.Typer(
    help="Check, show and trust the configuration file, cc-bridge.toml.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

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
    """Use this file from now on as it is: you have read it. After a change it has to be trusted anew."""

    async def main() -> int:
        from ..config import parse_config
        from . import configuration

        path = _path(file)
        text = configuration.read_text(path)
        parse_config(text, path)
        configuration.trust(path, text)
        print(path)
        return 0

    run_async(main)


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
    return found


def _rows(found: Any, key: str = "") -> list[list[str]]:
    if isinstance(found, dict):
        return [row for name, item in found.items() for row in _rows(item, f"{key}.{name}" if key else str(name))]
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return [row for number, item in enumerate(found, 1) for row in _rows(item, f"{key}[{number}]")]
    return [
        [key, "-" if found is None else ", ".join(map(str, found)) if isinstance(found, list | tuple) else str(found)]
    ]
