"""What a verb takes on the command line, said beside its parameters; `app.py` tells typer, `quick.py` reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["Argument", "Option", "given"]


class Argument:
    """A word of the command line.

    Args:
        complete: what the shell may offer for the beginning of one.
    """

    def __init__(self, *, help: str, metavar: str, complete: Callable[[str], list[str]] | None = None) -> None:  # noqa: A002
        self.help = help
        self.metavar = metavar
        self.complete = complete


class Option:
    """An option, by all its names. For a parameter that is a bool it is a flag, for a list it can be repeated.

    Args:
        names: as typer takes them: ``--relay/--no-relay`` for a flag that can be taken back.
        min: the least number.
        complete: as :class:`Argument` has it.
    """

    def __init__(
        self,
        *names: str,
        help: str = "",  # noqa: A002
        metavar: str | None = None,
        min: float | None = None,  # noqa: A002
        hidden: bool = False,
        complete: Callable[[str], list[str]] | None = None,
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.min = min
        self.hidden = hidden
        self.complete = complete


def given(context: typer.Context) -> list[str]:
    """The parameters that were given on the command line, but for instances' names."""
    return [
        parameter
        for parameter in context.params
        if parameter not in ("name", "names", "verbose")
        and str(context.get_parameter_source(parameter)).endswith("COMMANDLINE")
    ]
