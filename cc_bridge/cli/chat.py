"""``cc-bridge chat``: a conversation, line by line."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import anyio
import anyio.to_thread
import typer

from ..errors import BridgeError, InvalidInput, TurnError
from . import options as o
from . import record_options as r
from .parameters import Argument
from .session import run_async

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from ..instance import InstanceInterface
    from .display import Display

__all__ = ["chat"]


@r.takes_options
def chat(
    options: r.Options,
    context: typer.Context,
    name: Annotated[
        str, Argument(metavar="NAME", help="An instance; without it, a new one for this conversation.")
    ] = "",
) -> None:
    """Talk with an instance. Ctrl-C interrupts the answer; at the prompt, Ctrl-C or Ctrl-D leaves."""
    from .asking import Asking
    from .display import Display

    async def main() -> int:
        with Display() as display:
            asking, lines = Asking(display), _Lines(display)
            if name:
                r.refuse_options(context, name)
                instance = o.load(name, display, on_permission=asking.decide)
            else:
                record = await options.record(r.new_name(), display, ephemeral=True)
                instance = o.instance_of(record, display, on_permission=asking.decide)
            display.progress("starting Claude Code")
            try:
                await instance.start()
                display.settle()
                await _talk(instance, display, lines)
            finally:
                with anyio.CancelScope(shield=True):
                    await (instance.release() if name else instance.cleanup())
            return 0

    run_async(main, own_interrupts=True)


async def _talk(instance: InstanceInterface, display: Display, lines: _Lines) -> None:
    """Turn after turn. Ctrl-C interrupts the one that runs; once more, or with none running, it leaves."""
    interrupted = running = False

    async def on_ctrl_c(*, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT) as arrivals:
            task_status.started()
            async for _ in arrivals:
                if interrupted or not running:
                    group.cancel_scope.cancel()
                    return
                interrupted = True
                display.note("interrupting …")
                group.start_soon(instance.interrupt)

    async with anyio.create_task_group() as group:
        await group.start(on_ctrl_c)
        async for text in lines.read():
            interrupted, running = False, True
            if text.strip():
                await _turn(instance, text, display)
            running = False
        group.cancel_scope.cancel()


async def _turn(instance: InstanceInterface, text: str, display: Display) -> None:
    """One turn; its failure is shown, and the conversation goes on."""
    try:
        async with await instance.submit(text) as turn:
            async for event in turn:
                display.event(event)
        turn.raise_for_result()
    except (TurnError, InvalidInput) as error:
        display.note(str(error))
    except BridgeError as error:  # the next command tries again, which is what a person would do
        display.note(f"{error} (the next command tries again)")
    display.end_line()


class _Lines:
    """Reads from the person: with history and editing on a terminal, plain lines from a file or a pipe."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()

    async def read(self) -> AsyncIterator[str]:
        if not self._terminal:
            while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                yield line.rstrip("\n")
            return
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory

        self._display.note("Ctrl-C interrupts an answer; Ctrl-D leaves. Esc and then Enter begins a new line.")
        session: PromptSession[str] = PromptSession(history=InMemoryHistory())
        session.key_bindings = _newline_bindings()
        while True:
            try:
                yield await session.prompt_async("> ", handle_sigint=False)
            except (EOFError, KeyboardInterrupt):
                return


def _newline_bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings
