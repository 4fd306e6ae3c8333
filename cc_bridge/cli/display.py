"""What a person or a program sees: the answer on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from .. import events
from ..events import Event, as_dict
from .harmless import plain, shown_on

if TYPE_CHECKING:
    from ..engine.progress import Step
    from .tables import Bar

__all__ = ["Display", "has_colours", "print_json", "short"]

_LONGEST = 100


class Display:
    """Shows a turn as it comes. Colours and spinner only on a terminal.

    Args:
        as_json: print events as JSON lines on stdout instead of the text.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.asks = False  # a person is asked about permissions, and needs no notice of them
        self.others_decide = False  # about permissions: the turn is another program's
        self.how_to_allow = "--allowed-tools allows tools"
        self._bar: Bar | None = None
        self._ends_with_newline = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()
        self.end_line()

    @property
    def is_terminal(self) -> bool:
        """Somebody is looking at stdout."""
        return sys.stdout.isatty()

    def progress(self, step: Step | str) -> None:
        """A step of something long: one changing line with a bar on a terminal, a line each elsewhere."""
        from ..engine.progress import Step

        step = Step(step) if isinstance(step, str) else step
        if not sys.stderr.isatty():
            if not step.passing:
                print(plain(step.text), file=sys.stderr, flush=True)
            return
        if self._bar is None:
            from .tables import Bar  # with rich, which takes a while to be imported

            self._bar = Bar()
        self._bar.show(step)

    def settle(self) -> None:
        """The long thing is over."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.settle()
        self.end_line()
        text = plain(text)
        print(f"\x1b[2m{text}\x1b[0m" if has_colours(sys.stderr) else text, file=sys.stderr, flush=True)

    def event(self, event: Event) -> None:
        """An event of a turn."""
        self.settle()
        if self.as_json:
            print_json(as_dict(event), lines=True)
            return
        match event:
            case events.TextDelta(text):
                sys.stdout.write(shown_on(sys.stdout, text))
                sys.stdout.flush()
                self._ends_with_newline = text.endswith("\n")
            case events.Waiting(position) if position > 0:
                self.note(f"· waits for {position} other{'s' if position > 1 else ''}")
            case events.ToolUse(_, name, arguments, parent):
                self.note(f"{'  ' if parent else ''}· {name} {short(arguments)}")
            case events.PermissionRequest(_, name, arguments) if not self.asks:
                waits = f"· waits for a decision on {name} {short(arguments)}"
                denied = f"· was denied {name} {short(arguments)}; {self.how_to_allow.replace('TOOL', name)}"
                self.note(waits if self.others_decide else denied)
            case events.ApiRetry(attempt, most, delay, status, error):
                self.note(f"· API error {status or error}; retry {attempt} of {most} in {delay:.1f} s")
            case events.Silence(seconds, working):
                self.note(f"· nothing for {seconds:.0f} s" + ("; it is working" if working else ""))
            case _ if notice := _notice(event):
                self.note(f"· {notice}")
            case _:
                pass

    def end_line(self) -> None:
        """Finish the answer's last line, on a terminal and elsewhere: tools that read lines expect it."""
        if not self._ends_with_newline:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._ends_with_newline = True


def _notice(event: Event) -> str:
    """What a person should know of something beside the answer; empty: nothing."""
    match event:
        case events.CompactBoundary(_, before, after):
            return f"the conversation was compacted: {before} tokens" + (
                f" became {after}" if after is not None else ""
            )
        case events.RateLimit(status, kind, _, utilization) if status != "allowed":
            used = "" if utilization is None else f", {utilization:.0%} used"
            return f"rate limit {kind or 'of the subscription'}: {status.replace('_', ' ')}{used}"
        case events.TaskNotification(_, status, summary, output_file=file) if file:  # the others are seen by their tool
            return f"in the background {status}: {short(summary)}"
        case events.PermissionDenied(name, reason_type=reason):
            return f"was denied {name}" + (f" ({reason})" if reason else "")
        case events.Informational(content, level) if level != "info":
            return content
        case events.ModelRefusal(content):
            return content
    return ""


def has_colours(stream: TextIO) -> bool:
    """Somebody looks at it, and wants colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"


def print_json(value: Any, *, lines: bool = False) -> None:
    """A JSON document, or one of several on a line each."""
    text = json.dumps(value, ensure_ascii=False, indent=None if lines else 2, default=str)
    print(shown_on(sys.stdout, text), flush=True)


def short(arguments: Any, longest: int = _LONGEST) -> str:
    """A tool's input on one line; what is left out is said."""
    text = json.dumps(arguments, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} characters more)"
