"""How a verb runs: signals, errors to exit codes, logs to stderr."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import anyio
import anyio.to_thread

from ..errors import BridgeError, ChannelError, ClaudeError, EngineError, EngineUnavailable, InvalidInput, TurnError
from ..logs import configure_when_needed
from .harmless import plain
from .without_tls import import_anyio

__all__ = ["TIMED_OUT", "exit_code_of", "held_signals", "print_much", "report", "run_async", "set_verbose"]

TIMED_OUT = 124

#: Seconds for what has been said to be taken, when a signal ends the program.
_FLUSH_LIMIT = 1.0

#: The first that fits.
_EXIT_CODES: tuple[tuple[type[BridgeError], int], ...] = (
    (InvalidInput, 2),
    (EngineError, 3),
    (TurnError, 1),
    (ClaudeError, 4),
    (ChannelError, 5),
    (BridgeError, 1),
)


def exit_code_of(error: BridgeError) -> int:
    """The documented exit code for an error."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


def set_verbose(verbose: bool) -> None:
    """Send the library's log to stderr: all of it, or what a person should know."""

    def configure() -> None:
        import structlog

        structlog.configure(processors=[_readable], logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    configure_when_needed(logging.DEBUG if verbose else logging.WARNING, configure)


def _readable(_logger: object, method: str, record: MutableMapping[str, Any]) -> str:
    """A log record as a sentence: ``cc-bridge: demo: container started (container=…)``; an engine call as a command."""
    import structlog

    if method == "debug":
        if record["event"] != "engine_call":
            raise structlog.DropEvent  # it may have something of a conversation
        return plain(f"+ {record['command']}")
    event, name = str(record.pop("event")).replace("_", " "), record.pop("instance", "")
    record.pop("kind", None)
    facts = ", ".join(f"{key}={value}" for key, value in record.items())
    return plain(f"cc-bridge: {name + ': ' if name else ''}{event}" + (f" ({facts})" if facts else ""))


def run_async(
    main: Callable[[], Awaitable[int]],
    *,
    own_interrupts: bool = False,
    ends_at_once: bool = False,
    on_watching: Callable[[], None] | None = None,
) -> None:
    """Run a verb to its exit code.

    The first Ctrl-C, SIGTERM or SIGHUP cancels it, so that turns are interrupted and containers removed; the second
    ends the process at once, and what is left then ends or removes itself.

    Args:
        own_interrupts: the verb deals with Ctrl-C itself.
        ends_at_once: a thread may still be reading stdin, and is not waited for.
        on_watching: is called when signals cancel the verb, and end the process no more.
    """
    import_anyio()
    received: list[int] = []
    watched = [signal.SIGTERM, signal.SIGHUP] + ([] if own_interrupts else [signal.SIGINT])
    try:
        code = anyio.run(_until_signalled, main, watched, received, on_watching)
    except BaseException as error:
        cause = _cause(error)
        if isinstance(cause, BridgeError):
            sys.exit(report(cause))
        if not isinstance(cause, BrokenPipeError):
            raise
        # The reader of stdout has gone (`cc-bridge run … | head -1`): not an error worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    if received:
        code = 128 + received[0]
        _leave(code)
    if ends_at_once:
        _leave(code)
    sys.exit(code)


async def _until_signalled(
    main: Callable[[], Awaitable[int]],
    watched: Sequence[signal.Signals],
    received: list[int],
    on_watching: Callable[[], None] | None,
) -> int:
    """Run to an exit code; the first of these signals is noted in ``received`` and cancels, the second ends at once."""
    code = 1
    async with anyio.create_task_group() as group:

        async def watch(*, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
            with anyio.open_signal_receiver(*watched) as arrivals:
                task_status.started()
                async for number in arrivals:
                    if received:
                        os._exit(128 + number)
                    received.append(number)
                    group.cancel_scope.cancel()

        await group.start(watch)
        if on_watching is not None:
            on_watching()
        code = await main()
        group.cancel_scope.cancel()
    return code


@contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Within the block what would end the process waits, until what the block is given is called, or to its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield let_go
    finally:
        let_go()


async def print_much(show: Callable[[], None]) -> None:
    """Print in a thread, so that a signal ends the verb also where nobody reads what it prints."""
    await anyio.to_thread.run_sync(show, abandon_on_cancel=True)


def _leave(code: int) -> NoReturn:
    """End without waiting for worker threads: one may still be reading a build or a pull that was given up."""
    # Nor for ever for who does not read what is said: a pager, or who has suspended it.
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(_FLUSH_LIMIT)
    os._exit(code)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def report(error: BridgeError) -> int:
    """Say what went wrong; the exit code for it."""
    print(f"cc-bridge: {plain(str(error))}", file=sys.stderr)
    if isinstance(error, EngineUnavailable):
        print("cc-bridge: without Docker, `--on local` runs Claude Code in a process of this machine.", file=sys.stderr)
    return exit_code_of(error)


def _cause(error: BaseException) -> BaseException:
    """What a task group has wrapped, where it is one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
