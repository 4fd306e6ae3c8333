"""An instance for `cc-bridge claude` where a directory has none: by the options of `up`, or by a template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ..errors import InvalidInput
from ..names import name_for
from . import record_options as r
from .configuration import load_config
from .display import Display

if TYPE_CHECKING:
    from ..record import ClaudeInstance

__all__ = ["record_for"]

#: The template that says what is made where nothing else does.
TEMPLATE = "claude"


def record_for(name: str, directory: Path, words: Sequence[str]) -> ClaudeInstance | None:
    """The record of the instance that is to be made; None: nobody has said what it should be like.

    Two programs that ask for the same get the same record, so that whoever is second finds the first one's instance.

    Args:
        name: the instance's; empty: one that the directory has, and no other.
        words: options of ``up``.

    Raises:
        InvalidInput: they cannot be, or the configuration file is not trusted.
        SystemExit: they are no options; it has been said which.
    """
    configured = TEMPLATE in load_config().templates
    if not words and not configured:
        return None
    options = _options(["--workspace", str(directory), *words])
    if configured and not options.template:
        options = r.with_template(options, TEMPLATE)
    return anyio.run(_record, name or name_for(str(directory)), options)


async def _record(name: str, options: r.Options) -> ClaudeInstance:
    with Display() as display:
        record = await options.record(name, display, ephemeral=False)
    if record.in_pane:
        raise InvalidInput("it would be a pane, and nothing is run beside it", hint="Use `cc-bridge attach` there.")
    if record.workspace is None:
        raise InvalidInput("a container that is there is not made for a directory", hint="`cc-bridge up` takes it.")
    return record


def _options(words: list[str]) -> r.Options:
    from .app import command

    taken: list[r.Options] = []

    @r.takes_options
    def take(options: r.Options) -> None:
        taken.append(options)

    try:
        command("claude", take).main(args=words, prog_name="cc-bridge claude")
    except SystemExit as end:
        if end.code or not taken:  # a mistake, or --help
            raise
    return taken[0]
