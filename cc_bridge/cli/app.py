"""The verbs, in the order in which a newcomer meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from . import (
    attach,
    chat,
    cp,
    doctor,
    exec_,
    export,
    image,
    import_,
    info,
    logs,
    prune,
    ps,
    rm,
    run,
    send,
    start,
    stats,
    stop,
    up,
)
from .session import set_verbose

__all__ = ["app"]

app = typer.Typer(
    help="Drive Claude Code where it runs: in a container, a tmux pane, or a process of this machine.",
    epilog="Exit codes: 0 done, 1 the turn failed, 2 bad input, 3 Docker, 4 Claude Code, 5 the way to it, "
    "124 time-out, 130 Ctrl-C, 143 SIGTERM.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
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


app.command()(run.run)
app.command()(up.up)
app.command()(send.send)
app.command()(chat.chat)
app.command()(attach.attach)
app.command()(ps.ps)
app.command()(info.info)
app.command()(stats.stats)
app.command()(logs.logs)
app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(exec_.exec_)
app.command()(exec_.shell)
app.command()(cp.cp)
app.command()(start.start)
app.command()(stop.stop)
app.command()(start.restart)
app.command()(rm.rm)
app.command()(prune.prune)
app.add_typer(image.app, name="image")
app.command()(export.export)
app.command("import")(import_.import_)
app.command()(doctor.doctor)
