"""``cc-bridge image``: the images that instances are made of."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ..engine.image_names import DEFAULT_IMAGE
from ..engine.images import template, templates
from . import options as o
from .session import run_async
from .stats import human

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Images: build, pull, list, and begin a Dockerfile."
)


@app.command()
def build(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A workspace with a Dockerfile; none: the default image.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Another Dockerfile than DIR's own.")
    ] = None,
) -> None:
    """Build an image now instead of on first use; prints its name. What has been built is not built again."""
    from ..dockerfiles import Dockerfile, Dockerfiles
    from ..engine.client import Engine
    from ..engine.images import Images
    from ..state import agent_archive, state_root
    from .display import Display

    async def main() -> int:
        engine = Engine()
        with Display() as display:
            dockerfile = None
            if file is not None:
                dockerfile = Dockerfile.read(file)
            elif directory is not None:
                dockerfile = await Dockerfiles(state_root()).of(directory, o.asks_about_dockerfiles(display))
            try:
                name = await Images(engine).ensure(
                    DEFAULT_IMAGE, agent_archive(), display.progress, workspace=directory, dockerfile=dockerfile
                )
            finally:
                await engine.aclose()
            display.settle()
            print(name)
        return 0

    run_async(main)


@app.command()
def pull(name: Annotated[str, typer.Argument(metavar="IMAGE", help="As `docker pull` has it.")]) -> None:
    """Pull an image, also where there is one of that name."""
    from ..engine.client import Engine
    from ..engine.images import Images
    from .display import Display

    async def main() -> int:
        engine = Engine()
        with Display() as display:
            try:
                await Images(engine).pull(name, display.progress)
            finally:
                await engine.aclose()
            display.settle()
            print(name)
        return 0

    run_async(main)


@app.command("list")
def list_(as_json: o.Json = False) -> None:
    """List the images that cc-bridge has built."""
    from ..engine.client import Engine
    from ..engine.images import Images
    from .ages import ago
    from .display import print_json
    from .tables import print_table

    async def main() -> int:
        engine = Engine()
        try:
            found = await Images(engine).labelled({"cc-bridge.type": "image"})
        finally:
            await engine.aclose()
        rows: list[dict[str, Any]] = [
            {
                "name": name,
                "size": image.size,
                "created": datetime.fromtimestamp(image.created, UTC).isoformat(),
                "dockerfile": image.labels.get("cc-bridge.dockerfile") or None,
            }
            for image in found
            for name in image.names or (image.id,)
        ]
        if as_json:
            print_json(rows)
        elif rows:
            table = [[row["name"], human(row["size"]), ago(row["created"]), row["dockerfile"] or "-"] for row in rows]
            print_table(["NAME", "SIZE", "CREATED", "DOCKERFILE"], table)
        return 0

    run_async(main)


@app.command("template")
def template_(
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="minimal, development or python.", autocompletion=lambda: templates()),
    ] = "",
) -> None:
    """Print a Dockerfile to begin with, or, without a name, which there are.

    Write it as `Dockerfile` into a workspace, and instances of that workspace are made of it.
    """

    async def main() -> int:
        sys.stdout.write(template(name) if name else "".join(f"{item}\n" for item in templates()))
        return 0

    run_async(main)
