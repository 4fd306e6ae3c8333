"""The verbs, in the order in which a newcomer meets them. A verb's module is imported when the verb is wanted."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
import typer.core

from .session import set_verbose

if TYPE_CHECKING:
    # Typer's own copy of click, or click itself: which of the two is the version's.
    Context = Any
    Command = Any

#: Characters of a verb's sentence in the list of verbs: all of it.
_LONGEST_HELP = 200

__all__ = ["app"]


#: The verbs by subject, as ``--help`` lists them.
_SUBJECTS = {
    "Talk": ("run", "send", "chat", "attach"),
    "Look": ("ps", "info", "turns", "follow", "history", "logs", "stats", "doctor", "config"),
    "Permissions": ("permissions", "allow", "deny"),
    "Instances": ("up", "start", "stop", "restart", "sleep", "wake", "interrupt", "update", "rm", "prune"),
    "In the container": ("exec", "shell", "cp"),
    "Conversations and images": ("export", "import", "image"),
}


class _Verb(NamedTuple):
    """Where a verb is: a function of a module, or a Typer of verbs of its own."""

    module: str
    function: str = ""
    settings: dict[str, Any] = {}  # noqa: RUF012  nobody changes it


_VERBS = {
    "run": _Verb("run"),
    "up": _Verb("up"),
    "send": _Verb("send"),
    "chat": _Verb("chat"),
    "attach": _Verb("attach"),
    "turns": _Verb("turns"),
    "follow": _Verb("turns", "follow"),
    "interrupt": _Verb("turns", "interrupt"),
    "permissions": _Verb("permissions"),
    "allow": _Verb("permissions", "allow"),
    "deny": _Verb("permissions", "deny"),
    "history": _Verb("history"),
    "ps": _Verb("ps"),
    "info": _Verb("info"),
    "stats": _Verb("stats"),
    "logs": _Verb("logs"),
    "exec": _Verb("exec_", "exec_", {"ignore_unknown_options": True, "allow_interspersed_args": False}),
    "shell": _Verb("exec_", "shell"),
    "cp": _Verb("cp"),
    "start": _Verb("start"),
    "stop": _Verb("stop"),
    "restart": _Verb("start", "restart"),
    "sleep": _Verb("sleep"),
    "wake": _Verb("start", "wake"),
    "update": _Verb("update"),
    "rm": _Verb("rm"),
    "prune": _Verb("prune"),
    "image": _Verb("image", "app"),
    "export": _Verb("export"),
    "import": _Verb("import_", "import_"),
    "config": _Verb("config", "app"),
    "doctor": _Verb("doctor"),
}


class _Verbs(typer.core.TyperGroup):
    """The verbs, each imported when it is asked for; all of them only for ``--help`` and for a word that is none."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(_VERBS)

    def format_commands(self, ctx: Context, formatter: Any) -> None:
        width = max(map(len, _VERBS))
        for subject, names in _SUBJECTS.items():
            with formatter.section(subject):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name.ljust(width), found.get_short_help_str(_LONGEST_HELP)) for name, found in commands if found]
                )

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        verb = _VERBS.get(cmd_name)
        if verb is None:
            for name in _VERBS:
                self.get_command(ctx, name)  # one of them may be suggested
        if verb is not None and cmd_name not in self.commands:
            made = getattr(importlib.import_module(f".{verb.module}", __package__), verb.function or cmd_name)
            if not isinstance(made, typer.Typer):
                function, made = made, _typer(add_completion=False)
                made.command(cmd_name, cls=_Command, context_settings=verb.settings)(function)
            for command in made.registered_commands:
                command.callback = _with_verbose(command.callback) if command.callback else None
            self.commands[cmd_name] = typer.main.get_command(made)
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


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show on stderr what happens.")]


def _with_verbose(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same verb, which takes ``-v``, too; harmless when repeated."""
    if hasattr(verb, "takes_verbose"):
        return verb

    @functools.wraps(verb)
    def with_verbose(*, verbose: bool, **given: Any) -> Any:
        if verbose:
            set_verbose(verbose=True)
        return verb(**given)

    own = [item.replace(kind=item.KEYWORD_ONLY) for item in inspect.signature(verb, eval_str=True).parameters.values()]
    option = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)
    vars(with_verbose)["takes_verbose"] = True
    vars(with_verbose)["__signature__"] = inspect.Signature([*own, option])  # which is what typer reads
    with_verbose.__annotations__ = {item.name: item.annotation for item in [*own, option]}
    return with_verbose


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
    verbose: Verbose = False,
) -> None:
    """Options before the verb."""
    if version:  # alone it is answered earlier, without typer
        from cc_bridge_agent import __version__

        typer.echo(f"cc-bridge {__version__}")
        raise typer.Exit
    set_verbose(verbose)
