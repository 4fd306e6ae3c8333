"""``cc-bridge turns``, ``follow`` and ``interrupt``: what an instance works on, whoever has asked for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import anyio

from ..errors import AgentUnavailable, ChannelError, InvalidInput
from . import options as o
from .parameters import Argument, Option
from .session import exit_code_of, print_much, run_async

if TYPE_CHECKING:
    from ..instances.bridged import BridgedInstance

__all__ = ["follow", "interrupt", "turns"]

#: Characters of a prompt that are shown, and those that are looked at for them: blanks may be left out.
_LONGEST_PROMPT = 60
_LONGEST_LOOKED_AT = 1000

#: Seconds for a decision that is another program's, which has a limit of its own.
_FOR_EVER = 1e9

TurnId = Annotated[
    str, Argument(metavar="TURN", help="The turn's id, as `turns` shows it; by default, the one that runs.")
]


def turns(
    name: o.Name,
    tail: Annotated[int | None, Option("--tail", "-n", metavar="N", min=1, help="The last N.")] = None,
    as_json: o.Json = False,
) -> None:
    """List an instance's turns: what runs, what waits, and what ended and can still be followed. Nothing is started.

    Where it does not run, its prompts are listed as its transcript has them.
    """
    from .display import Display
    from .transcripts import prompts

    async def main() -> int:
        with Display() as display:
            instance, code = o.load(name, display), 0
            state: str | None = "ended"
            try:
                try:
                    known = await instance.turns_without_starting()
                except (ChannelError, InvalidInput) as error:
                    display.note(f"{error.what[0].upper()}{error.what[1:]}.")
                    known, state = None, None
                    code = exit_code_of(error) if isinstance(error, ChannelError) else 0
                else:
                    if known is None:
                        display.note(f"{name} does not run.")
                ids = None if known is None else {turn.id for turn in known}
                said = await prompts(instance, turns=ids, last=tail, longest=None if as_json else _LONGEST_LOOKED_AT)
            finally:
                await instance.release()
            if known is None:
                display.note("These are the prompts of its transcript:")
                rows = [_row({"id": turn, "state": state}, said[turn]) for turn in said]
            else:
                rows = [_row(turn.as_dict(), said.get(turn.id)) for turn in known]
            rows = rows[-tail:] if tail else rows
            await print_much(lambda: _show(rows, as_json=as_json))
        return code

    run_async(main)


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from .ages import ago
    from .display import print_json
    from .tables import print_table

    if as_json:
        print_json(rows)
    elif rows:
        shown = [[r["id"], r["state"] or "-", ago(r["since"]), _beginning(r["prompt"] or "-")] for r in rows]
        print_table(["TURN", "STATE", "SINCE", "PROMPT"], shown)
    sys.stdout.flush()


def _row(turn: dict[str, Any], said: Any) -> dict[str, Any]:
    since = turn.get("since") or (said.time if said else None) or None
    prompt = said.text if said else None
    return {"id": turn["id"], "state": turn["state"], "since": since, "read": turn.get("read"), "prompt": prompt}


def _beginning(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_PROMPT else f"{text[:_LONGEST_PROMPT]}…"


def follow(
    name: o.Name,
    turn: TurnId = "",
    ask: Annotated[
        bool, Option("--ask", help="Be asked for permissions here; else whoever began the turn is.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Show a turn from its beginning to its end, as it comes, whoever began it. Ctrl-C leaves it running."""
    from ..instances.bridged import leave_to_others
    from .asking import Asking
    from .display import Display

    async def main() -> int:
        with Display(as_json) as display:
            asking = Asking(display) if ask else None
            if asking is not None and not asking.is_possible:
                raise InvalidInput("--ask: there is no terminal here")
            display.others_decide = not ask
            instance = o.load(
                name,
                display,
                on_permission=asking.decide if asking else leave_to_others,
                permission_limit=_FOR_EVER,
            )
            try:
                instance.only_looks = True
                turn_id, _ = await _find(instance, turn)
                if not turn_id:
                    raise InvalidInput("no turn runs", instance=name, hint=f"`cc-bridge turns {name}` lists the turns.")
                async with await instance.turn(turn_id) as found:
                    async for event in found:
                        display.event(event)
                found.raise_for_result()
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()
        return 0

    run_async(main)


def interrupt(name: o.Name, turn: TurnId = "", as_json: o.Json = False) -> None:
    """End a turn, whoever began it, and say which; return when it is over. One that waits is withdrawn."""
    from ..instances.bridged import leave_to_others
    from .display import Display, print_json

    async def main() -> int:
        with Display() as display:
            instance = o.load(name, display, on_permission=leave_to_others)
            turn_id: str | None = None
            try:
                instance.only_looks = True
                found, state = await _find(instance, turn)
                if found and state != "ended":
                    turn_id = found
                    async with await instance.turn(turn_id) as running:
                        await running.interrupt()
            finally:
                with anyio.CancelScope(shield=True):
                    await instance.release()
            if as_json:
                print_json({"interrupted": turn_id})
            elif turn_id:
                print(turn_id)
            else:
                display.note("that turn has ended" if turn else "no turn runs")
        return 0

    run_async(main)


async def _find(instance: BridgedInstance, wanted: str) -> tuple[str, str]:
    """The id and the state of the turn that was named, known or not, or of the one that runs; empty: none runs.

    Raises:
        AgentUnavailable: the instance does not run, or does not answer.
        InvalidInput: its agent does not say which turn runs.
    """
    name, known = instance.name, await instance.turns_without_starting()
    if known is None:
        hint = f"`cc-bridge history {name}` shows what was said; `cc-bridge start {name}` starts it."
        raise AgentUnavailable("it does not run, so no turn does", instance=name, hint=hint)
    if not wanted and any(not turn.state for turn in known):
        hint = f"Name it: `cc-bridge turns {name}` lists the turns."
        raise InvalidInput("its agent does not say which turn runs", instance=name, hint=hint)
    if wanted:
        return wanted, next((turn.state for turn in known if turn.id == wanted), "")
    return next(((turn.id, turn.state) for turn in known if turn.state == "running"), ("", ""))
