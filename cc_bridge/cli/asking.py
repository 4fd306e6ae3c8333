"""Permissions: a person at this terminal is asked, or nobody is."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from ..events import PermissionRequest
    from ..instance import Decision
    from .display import Display

__all__ = ["Asking"]

#: Characters of a tool's input that a person is shown before they allow it.
_LONGEST_ASKED = 4000


class Asking:
    """Asks the person at this terminal, where there is one.

    Attributes:
        is_possible: stdin and stdout are a terminal.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self.is_possible = display.asks = sys.stdin.isatty() and sys.stdout.isatty() and not display.as_json

    async def decide(self, request: PermissionRequest) -> Decision:
        """Show the request, and ask; without a terminal, deny it.

        Ctrl-D denies. Ctrl-C is what it is at any other time: it ends the verb, or interrupts the turn.
        """
        from ..instance import Allow, Deny

        if not self.is_possible:
            return Deny("Nobody is there to ask.")
        from prompt_toolkit import PromptSession

        from .display import short

        self._display.note(f"· wants to use {request.tool_name} {short(request.input, _LONGEST_ASKED)}")
        try:
            answer = await PromptSession[str]().prompt_async(
                "  allow once (y), always (a), or why not? ", handle_sigint=False
            )
        except EOFError:
            answer = ""
        except KeyboardInterrupt:  # a key to the prompt: at any other time the terminal would have sent the signal
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
            raise AssertionError from None
        match answer.strip().lower():
            case "y" | "yes":
                return Allow()
            case "a" | "always":
                return Allow(updates=request.suggestions)
            case _:
                return Deny(answer.strip() or "The user has not allowed this.")
