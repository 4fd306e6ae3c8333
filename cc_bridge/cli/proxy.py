"""``cc-bridge proxy``: the process that has the keys of instances whose key is outside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import anyio.to_thread
import typer

from . import options as o
from .session import run_async

__all__ = ["app"]

app = typer.Typer(
    help="Look at, or stop, the proxy that has the keys of instances whose key is outside.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def status(as_json: o.Json = False) -> None:
    """Show whether it runs, whom it attends, and what each has used today. Never shows a key."""
    from .display import print_json
    from .tables import print_table

    async def main() -> int:
        answer = await _ask({"status": True})
        found = answer["status"] if answer else None
        if as_json:
            print_json({"running": found is not None, **(found or {"instances": []})})
        elif found is None:
            print("no proxy runs; the next instance whose key is outside starts one")
        elif not found["instances"]:
            print(f"process {found['pid']} runs, and attends no instance")
        else:
            print_table(
                ["NAME", "STATUS", "KEY", "STREAMS", "REQUESTS", "REFUSED", "TOKENS TODAY", "USD TODAY", "SINCE"],
                [_row(item) for item in found["instances"]],
            )
        return 0

    run_async(main)


@app.command()
def stop() -> None:
    """Stop it: it forgets the logins and cuts what is under way. The next command to such an instance starts it."""

    async def main() -> int:
        await _ask({"stop": True})
        return 0

    run_async(main)


@app.command()
def logs(
    tail: Annotated[int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="The last N lines.")] = None,
    as_json: o.Json = False,
) -> None:
    """Show what it has done: starts, ends and faults. `cc-bridge network NAME` has the requests."""
    from ..proxy.journal import log_file, records
    from ..state import state_root
    from .harmless import plain
    from .network import print_records

    def line(record: dict[str, Any]) -> str:
        facts = {key: value for key, value in record.items() if key not in ("time", "event", "level", "where")}
        when = datetime.fromtimestamp(record.get("time", 0), UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        words = " ".join(f"{key}={value}" for key, value in facts.items())
        return plain(f"{when}  {str(record.get('event')).replace('_', ' ')}" + (f"  {words}" if words else ""))

    async def main() -> int:
        await print_records(list(records(log_file(state_root()))), tail, line, as_json=as_json)
        return 0

    run_async(main)


async def _ask(request: dict[str, Any]) -> dict[str, Any] | None:
    from ..instances.way_out import ask_proxy
    from ..state import state_root

    return await anyio.to_thread.run_sync(ask_proxy, state_root(), request, abandon_on_cancel=True)


def _row(item: dict[str, Any]) -> list[str]:
    from .ages import ago

    today = item["today"]
    tokens = today.get("input_tokens", 0) + today.get("output_tokens", 0)
    state = "attached" if item["attached"] else f"not attached: {item['problem'] or 'it is being connected to'}"
    since = ago(datetime.fromtimestamp(item["since"], UTC))
    counts = [str(item["streams"]), str(item["requests"]), str(item["refused"])]
    return [item["name"], state, item["key"], *counts, f"{tokens:,}", f"${today.get('usd', 0):.2f}", since]
