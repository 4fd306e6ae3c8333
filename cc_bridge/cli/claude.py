"""A program in Claude Code's place: the same words, streams, signals and exit code, and it runs in an instance.

Its own entry, without typer and where the agent listens without an event loop: what starts a ``claude`` waits for it
each time. stdin, stdout and stderr are copied as bytes, with back-pressure both ways.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from ..errors import BridgeError, ConnectionLost, InvalidInput
from ..instances.outline import Outline
from ..login import PARTS
from ..state import state_root
from .parameters import Argument

if TYPE_CHECKING:
    from ..bridge.piped import PipedSession
    from ..protocol.raw import RawStreams
    from ..record import ClaudeInstance
    from .claude_terminal import Terminal

__all__ = ["OF_TERMINALS", "SIGNALS", "claude", "run"]

#: Words whose values are paths. Of these some take several.
_PATHS = ("--append-system-prompt-file", "--plugin-dir", "--settings", "--system-prompt-file")
_LISTS_OF_PATHS = ("--add-dir", "--mcp-config")

#: Variables of the caller's that are meant for Claude Code; the others stay here, and a login goes as a whole.
_PASSED = ("CLAUDE_CODE_", "CLAUDE_AGENT_SDK_")
_NOT_PASSED = {*PARTS, "CLAUDE_CODE_SSE_PORT"}  # the latter is a port of this machine's

#: With one of these it does not talk to a terminal.
_NOT_INTERACTIVE = {"-p", "--print", "-v", "--version", "-h", "--help"}

#: What is passed on, and as what.
SIGNALS = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGHUP: "TERM"}

#: What is heard at a terminal: another size, and that this program is to stop, as Ctrl-Z does elsewhere.
OF_TERMINALS = (signal.SIGWINCH, signal.SIGTSTP)

#: What a program must know of its terminal.
_ABOUT_TERMINALS = ("COLORTERM", "TERM", "TERM_PROGRAM")


#: Signals that may have come and were not read.
_ARRIVED = 4096


def run(words: Sequence[str], *, is_verb: bool = False) -> NoReturn:
    """Run it to its end.

    Args:
        words: ``--instance NAME`` and ``--``, which may both be left out, and Claude Code's.
        is_verb: what stands before ``--`` are options of ``up``, too.
    """
    try:
        code = _main(*_split(words, is_verb=is_verb))
    except BridgeError as error:
        from .session import report

        code = report(error)
    except KeyboardInterrupt:  # before anything of Claude Code's was there to be told
        code = -signal.SIGINT
    sys.stdout.flush()
    if code < 0:  # whoever waits for this program is told the same signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code)  # a reader of stdin may still wait


def claude(
    words: Annotated[
        list[str],
        Argument(metavar="[--instance NAME | OPTIONS OF up] -- ARGS…", help="Claude Code's own arguments."),
    ],
) -> None:
    """Be `claude` for another program: Claude Code runs in an instance, with these streams, signals and exit code.

    Without a name the instance is the one whose workspace has this directory; with options, one is made where it has
    none.
    """
    run(words, is_verb=True)


def _split(words: Sequence[str], *, is_verb: bool) -> tuple[str, list[str], list[str]]:
    """The instance's name, the options of one that is to be made, and Claude Code's words."""
    left = list(words)
    name = os.environ.get("CC_BRIDGE_INSTANCE", "")
    if left[:1] == ["--instance"] and len(left) > 1:
        name, left = left[1], left[2:]
    elif left and left[0].startswith("--instance="):
        name, left = left[0].partition("=")[2], left[1:]
    if is_verb and "--" in left:
        at = left.index("--")
        options, left = left[:at], left[at + 1 :]
    else:
        options, left = [], left[1:] if left[:1] == ["--"] else left
    return name, options or _options_of_environment(), left


def _options_of_environment() -> list[str]:
    text = os.environ.get("CC_BRIDGE_UP", "")
    if not text:
        return []
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"CC_BRIDGE_UP is not written as for a shell: {error}") from None


def _main(name: str, options: list[str], words: list[str]) -> int:
    """Its exit code, negative for a signal."""
    here = os.getcwd()
    outline = Outline.load(name) if name else Outline.nearest(here)
    record = None
    if outline is None:
        record = _record(name, here, options)
        outline = Outline.of(record.as_json_types(), state_root() / "instances" / record.name)
    cwd = outline.inside(here)
    if cwd is None:
        what = f"{here} is neither in its workspace nor in its mounts"
        raise InvalidInput(what, instance=outline.name, hint="Go to a directory that is.")
    args, env = _translated(words, outline), _variables()
    if not os.isatty(0) or not os.isatty(1) or _NOT_INTERACTIVE.intersection(words):
        return _started(outline, record, args, env, cwd, None)
    from .claude_terminal import Terminal

    env |= {name: os.environ[name] for name in _ABOUT_TERMINALS if name in os.environ}
    with Terminal() as terminal:
        return _started(outline, record, args, env, cwd, terminal)


def _started(
    outline: Outline,
    record: ClaudeInstance | None,
    args: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    terminal: Terminal | None,
) -> int:
    piped = _connected(outline, args, env, cwd, terminal) if record is None else None
    if piped is not None:
        return _copied(outline.name, piped, terminal)
    from . import claude_copying

    return claude_copying.run(record or outline.name, args, env, cwd, terminal)


def _record(name: str, here: str, options: list[str]) -> ClaudeInstance:
    """The record of an instance that is to be made, because there is none.

    Raises:
        InvalidInput: nobody has said what it should be like, or there is one that cannot be read.
    """
    from ..instances.registry import Registry
    from .claude_making import record_for

    if name and name in Registry().names():
        Registry().load(name)  # tells why it cannot be read
    made = record_for(name, Path(here), options)
    if made is None and name:
        Registry().load(name)
    if made is None:
        hint = "`cc-bridge up` makes one, and options before `--` do, or CC_BRIDGE_UP, or the template `claude`."
        raise InvalidInput(f"no instance has {here} in its workspace", hint=hint)
    return made


def _connected(
    outline: Outline, args: Sequence[str], env: Mapping[str, str], cwd: str, terminal: Terminal | None
) -> PipedSession | None:
    """Connected to an agent that listens, with what it is to start; None: it takes more than that."""
    if outline.in_pane or outline.container:
        return None
    from ..bridge.piped import PipedSession
    from ..protocol.raw import Start

    program = outline.program
    if not outline.is_container:
        from ..instances.find_claude import find_claude

        program = find_claude(program)
    start = Start.of([program, *args], outline.claude_env(env), cwd, tty=terminal.size if terminal else None)
    piped = PipedSession.connect(str(outline.directory / "pipes"), start)
    if piped is not None and outline.key_is_outside:
        from ..instances.outside import login_outside
        from ..instances.way_out import attend_blocking

        try:
            attend_blocking(state_root(), outline.name, login_outside(outline))
        except BaseException:  # Ctrl-C, too: nobody else has the connection
            piped.close()
            raise
    return piped


def _copied(name: str, piped: PipedSession, terminal: Terminal | None) -> int:
    """Copy until it has ended; its exit code, negative for a signal."""
    from ..bridge.piped import Stopped

    arrivals, arrived = os.pipe()
    for end in (arrivals, arrived):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
    for number in (*SIGNALS, *(OF_TERMINALS if terminal else ())):
        signal.signal(number, lambda *_: None)
    try:
        stopped = piped.copy(arrivals, lambda arrived, streams: _pass_on(arrived, streams, terminal))
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until they are watched again
    finally:
        signal.set_wakeup_fd(before)
    if stopped is not Stopped.OVER:
        from . import claude_copying

        with suppress(BlockingIOError):  # what has come, and was not passed on
            _pass_on(os.read(arrivals, _ARRIVED), piped.streams, terminal)

        return claude_copying.go_on(name, piped, terminal, unread=stopped is Stopped.UNREAD)
    exited, refused = piped.streams.exited, piped.streams.refused
    if refused is not None:
        from ..bridge.agent_events import refusal_error
        from ..instances.factory import open as open_instance

        raise refusal_error(refused, name, open_instance(name).claude_hint)
    if exited is None or exited.code is None:
        raise ConnectionLost("Claude Code ended with its agent, and nobody saw how", instance=name)
    return exited.code


def _pass_on(arrived: bytes, streams: RawStreams, terminal: Terminal | None) -> None:
    for number in arrived:
        if number in SIGNALS:
            streams.signal(SIGNALS[signal.Signals(number)])
        elif terminal is not None and number in OF_TERMINALS:
            if number == signal.SIGTSTP:
                terminal.suspend()
            streams.resize(*terminal.size)


def _variables() -> dict[str, str]:
    names = [name for name in os.environ if name.startswith(_PASSED) and name not in _NOT_PASSED]
    return {name: os.environ[name] for name in names}


def _translated(words: Sequence[str], outline: Outline) -> list[str]:
    """Claude Code's words, with the paths as they are named at the instance."""
    made: list[str] = []
    option, several = "", False
    for word in words:
        name, equals, value = word.partition("=")
        if option and not (several and word.startswith("-")):
            made.append(_path(option, word, outline))
            option = option if several else ""
        elif name in (*_PATHS, *_LISTS_OF_PATHS) and equals:
            made.append(f"{name}={_path(name, value, outline)}")
            option = ""
        else:
            made.append(word)
            option, several = (word, word in _LISTS_OF_PATHS) if word in (*_PATHS, *_LISTS_OF_PATHS) else ("", False)
    return made


def _path(option: str, value: str, outline: Outline) -> str:
    if not os.path.isabs(value):
        return value  # JSON, or of the directory in which it starts
    path = outline.inside(value)
    if path is None:
        raise InvalidInput(f"{option}: {value} is neither in its workspace nor in its mounts", instance=outline.name)
    return path


if __name__ == "__main__":
    run(sys.argv[1:])
