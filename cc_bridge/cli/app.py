"""The verbs, in the order in which a newcomer meets them. A verb's module is imported when the verb is wanted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from .parameters import Argument, Option
from .parameters import given as given_in
from .quick import VERBOSE
from .session import set_verbose
from .verbs import SUBJECTS, VERBS

if TYPE_CHECKING:
    # Typer's own copy of click, or click itself: which of the two is the version's.
    Context = Any
    Command = Any

#: Characters of a verb's sentence in the list of verbs: all of it.
_LONGEST_HELP = 200

_FOREIGN = {"ignore_unknown_options": True, "allow_interspersed_args": False}

__all__ = ["app", "command"]


class _Verbs(typer.core.TyperGroup):
    """The verbs, each imported when it is asked for; all of them only for ``--help`` and for a word that is none."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(VERBS)

    def format_commands(self, ctx: Context, formatter: Any) -> None:
        width = max(map(len, VERBS))
        for subject, names in SUBJECTS.items():
            with formatter.section(subject):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name.ljust(width), found.get_short_help_str(_LONGEST_HELP)) for name, found in commands if found]
                )

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            for name in VERBS:
                self.get_command(ctx, name)  # one of them may be suggested
        if verb is not None and cmd_name not in self.commands:
            made = verb.load(cmd_name)
            self.commands[cmd_name] = command(cmd_name, made, _FOREIGN if verb.foreign_options else {})
        return self.commands.get(cmd_name)


class _Command(typer.core.TyperCommand):
    """A verb. What stands after ``--`` is Claude Code's, where the verb has an option for it."""

    @property
    def _takes_words(self) -> bool:
        return any(parameter.name == "claude_arg" for parameter in self.params)

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        pieces: list[str] = super().collect_usage_pieces(ctx)
        return [*pieces, "[-- CLAUDE ARGS…]"] if self._takes_words else pieces

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if "--" in args and self._takes_words:
            at = args.index("--")
            args = [*args[:at], *(f"--claude-arg={word}" for word in args[at + 1 :])]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def command(name: str, made: Any, settings: dict[str, Any] | None = None) -> Command:
    """The command of a verb's function, or of the verbs below it."""
    if not isinstance(made, typer.Typer):
        function, made = made, _typer(add_completion=False)
        made.command(name, cls=_Command, context_settings=settings or {})(function)
    for registered in made.registered_commands:
        registered.callback = _with_verbose(registered.callback) if registered.callback else None
    return typer.main.get_command(made)


def _with_verbose(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same verb in typer's words, which takes ``-v``, too; harmless when repeated."""
    if hasattr(verb, "takes_verbose"):
        return verb

    own = list(inspect.signature(verb, eval_str=True).parameters.values())
    takes_said, takes_context = hasattr(verb, "takes_said"), any(item.annotation is typer.Context for item in own)
    if takes_said and not takes_context:
        own.append(inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))

    @functools.wraps(verb)
    def with_verbose(*, verbose: bool, **given: Any) -> Any:
        if verbose:
            set_verbose(verbose=True)
        if takes_said:
            given["said"] = given_in(given["context"])
            if not takes_context:
                del given["context"]
        return verb(**given)

    option = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=VERBOSE)
    shown = [item.replace(kind=item.KEYWORD_ONLY, annotation=_for_typer(item.annotation)) for item in [*own, option]]
    vars(with_verbose)["takes_verbose"] = True
    vars(with_verbose)["__signature__"] = inspect.Signature(shown)  # which is what typer reads
    with_verbose.__annotations__ = {item.name: item.annotation for item in shown}
    return with_verbose


def _for_typer(annotation: Any) -> Any:
    """An annotation of a verb's parameter, with typer's own description of it."""
    for said in getattr(annotation, "__metadata__", ()):
        if isinstance(said, Argument):
            told = typer.Argument(
                metavar=said.metavar, help=said.help, autocompletion=said.complete, show_default=False
            )
            return Annotated[annotation.__origin__, told]
        if isinstance(said, Option):
            told = typer.Option(
                *said.names,
                metavar=said.metavar,
                help=said.help,
                min=said.min,
                hidden=said.hidden,
                autocompletion=said.complete,
            )
            return Annotated[annotation.__origin__, told]
    return annotation


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, **options)


app = _typer(
    cls=_Verbs,
    help="Drive Claude Code where it runs: in a container, a tmux pane, or a process of this machine.",
    epilog="Exit codes: 0 done, 1 the turn failed, 2 bad input, 3 Docker, 4 Claude Code, 5 the way to it, "
    "124 time-out, 130 Ctrl-C, 143 SIGTERM.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show on stderr what happens.")] = False,
) -> None:
    """Options before the verb."""
    if version:  # alone it is answered earlier, without typer
        from cc_bridge_agent import __version__

        typer.echo(f"cc-bridge {__version__}")
        raise typer.Exit
    set_verbose(verbose)
