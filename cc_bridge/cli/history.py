"""``cc-bridge history``: what was said."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from . import options as o
from .parameters import Option
from .session import print_much, run_async

if TYPE_CHECKING:
    from ..protocol.transcript import Said

__all__ = ["history"]

#: Characters of a tool's input and of its result that are shown.
_LONGEST = 200


def history(
    name: o.Name,
    tail: Annotated[int | None, Option("--tail", "-n", metavar="N", min=1, help="The last N things said.")] = None,
    as_json: o.Json = False,
) -> None:
    """Show an instance's conversation so far, as its transcript has it. Nothing is started.

    With --json a line for each prompt, answer, tool and result, whole.
    """
    from ..instances.conversations import read_conversation
    from .display import Display

    async def main() -> int:
        with Display() as display:
            instance = o.load(name, display)
            show: Callable[[Said], None] = _print_json if as_json else _print
            last: deque[Said] = deque(maxlen=tail)
            try:
                await read_conversation(instance, show if tail is None else last.append)
            finally:
                await instance.release()

            def show_rest() -> None:
                for said in last:
                    show(said)
                sys.stdout.flush()

            await print_much(show_rest)
        return 0

    run_async(main)


def _print_json(said: Said) -> None:

    from .display import print_json

    print_json(said.as_dict(), lines=True)


def _print(said: Said) -> None:
    from .ages import ago
    from .display import short
    from .harmless import harmless, plain

    match said.kind:
        case "prompt":
            text = "\n".join(f"> {line}" for line in harmless(said.text).splitlines())
            heading = f"{plain(ago(said.time))}, turn {plain(said.turn)}"
            print(f"\n{_dim(heading)}\n{_bold(text)}\n")
        case "answer":
            print(f"{harmless(said.text)}\n")
        case "tool":
            print(_dim(plain(f"· {said.text} {short(said.input, _LONGEST)}")))
        case "result":
            text = " ".join(said.text.split())
            text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST} characters more)"
            print(_dim(plain(f"  {'failed: ' if said.is_error else '→ '}{text}")) + "\n")


def _dim(text: str) -> str:
    return _coloured("2", text)


def _bold(text: str) -> str:
    return _coloured("1", text)


def _coloured(code: str, text: str) -> str:
    from .display import has_colours

    return f"\x1b[{code}m{text}\x1b[0m" if has_colours(sys.stdout) else text
