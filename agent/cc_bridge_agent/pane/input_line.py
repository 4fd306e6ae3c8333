"""How a command gets into the input line, and what stands there: by the editor that Claude Code calls. Sans-I/O.

Ctrl-G has Claude Code call ``$EDITOR`` with a file of what stands in the input line. That the editor is called proves
that the line is there and no dialog; the file gives a person's draft; what it holds afterwards is the new text, exactly
and of any length; and that Claude Code deletes it says when keys are heard again. A paste has none of this: beyond 800
characters or a few lines it reaches the model as an attachment, tabs become blanks, one that begins with ``!`` is a
shell command, and Enter answers whatever dialog has opened meanwhile (measured on 2.1.329).

A draft of a person's is put aside with Ctrl-S, Claude Code's own stash, which comes back when the command was sent.
"""

import enum
from typing import List, NamedTuple, Optional

from .text import essence, to_enter

#: Seconds for the editor to be called, doubled with each try; and for its end to be noticed. Keys are not heard from
#: the first moment on, and a screen that is being drawn may swallow one.
_CALL_LIMIT = 0.5
_CLOSE_LIMIT = 2.0

#: Seconds between the editor's calls for two keys that Claude Code hears together, on a machine that is busy.
_FOLLOW_LIMIT = 2.0
_TRIES = 5
_LOOKS = 3


class Ask(NamedTuple):
    """Press Ctrl-G, and have the editor do this.

    Attributes:
        text: what is to stand in the line; None: leave it as it is.
        replace: also where something stands there.
        press: False: one that was pressed is still to be heard.
        again: the last one has had no answer. Where the editor is at it by now, nothing is to be done, but to call
            :meth:`InputLine.key_heard`: a second key would open it on what it puts there.
        lost: those pressed before, which have had no answer, were not heard and will hardly be.
    """

    text: Optional[str]
    replace: bool
    press: bool = True
    lost: bool = False
    again: bool = False


class Press(NamedTuple):
    """Press a key: ``stash``, ``enter`` or ``escape``."""

    key: str


class Entered(NamedTuple):
    """The text stands in the line, and Enter was pressed."""


class Withdrawn(NamedTuple):
    """The text was taken out again before Enter was pressed."""


class Looked(NamedTuple):
    """What stood in the line; what was to be cleared, no longer does."""

    draft: str


class Blocked(NamedTuple):
    """There is no input line: the editor was not called."""


class _State(enum.Enum):
    IDLE = "nothing is to do"
    CALLED_FOR = "Ctrl-G was pressed"
    CLOSING = "the editor has ended, and Claude Code has yet to notice"


class InputLine:
    """One job at a time; a new one takes the place of the last.

    Attributes:
        effects: what to do, and what has come of the job, in order; the caller takes them out.
        wake_at: when to call :meth:`handle_timer`; None: never.
    """

    def __init__(self) -> None:
        self.effects: List[NamedTuple] = []
        self.wake_at: Optional[float] = None
        self._state = _State.IDLE
        self._text: Optional[str] = None  # to be entered; None: only to be looked at
        self._replaceable: List[str] = []  # texts that may be overwritten: they were put there by us
        self._asked = Ask(None, False)
        self._found = ""
        self._path = ""
        self._put = False
        self._tries = 0
        self._withdrawn = False
        self._lost = False  # keys before the next one
        # What is found for a Ctrl-G from before a Ctrl-S says nothing about what the Ctrl-S has done.
        self._unheard = 0  # Ctrl-Gs that have not had the editor called
        self._before_stash = 0  # of these, pressed before the last Ctrl-S
        self._is_old = False  # what was found, was found before it

    @property
    def busy(self) -> bool:
        """A text is being put in, looked for or withdrawn: nothing else may begin."""
        return self._state is not _State.IDLE

    def enter(self, text: str, replaceable: List[str], now: float) -> None:
        """Put a text into the line and press Enter. ``replaceable``: what may stand there of earlier attempts."""
        self._begin(to_enter(text), [*replaceable, text], now)
        self._ask(Ask(self._text, False), now)

    def look(self, replaceable: List[str], now: float) -> None:
        """Find out what stands in the line, and clear it where that is one of these."""
        self._begin(None, replaceable, now)
        self._ask(Ask(None, False), now)

    def withdraw(self) -> bool:
        """Do not press Enter; False: it was pressed, or there is nothing to enter."""
        if self.busy and self._text is not None:
            self._withdrawn = True
            return True
        return False

    def editor_called(self, put: bool, draft: str, path: str, now: float) -> None:
        """The editor was called and has ended. ``put``: it has written what was asked for."""
        is_old = self._before_stash > 0
        self._heard()
        if self._state is not _State.CALLED_FOR:
            return  # a late answer to a key that was given up
        self._is_old = is_old
        self._state, self._path, self._put, self._found = _State.CLOSING, path, put, draft
        self.wake_at = now + _CLOSE_LIMIT

    def late_key(self, now: float) -> None:
        """The editor was called for a key that had been given up, and has done nothing.

        A Claude Code that was busy hears the keys one after the other now. The last one's call must be the one that
        acts: another after it would open the editor on our text, which makes a paste of a long one, and swallows Enter.
        """
        self._heard()
        if self._state is _State.CALLED_FOR:
            self.wake_at, self._lost = now + _FOLLOW_LIMIT, True

    def key_heard(self) -> None:
        """The last :class:`Ask` has come too late to be needed: no key was pressed for it."""
        self._unheard -= 1

    def forget_keys(self) -> None:
        """Keys that are not heard by now, will not be."""
        self._unheard = self._before_stash = 0

    def _heard(self) -> None:
        self._unheard, self._before_stash = max(0, self._unheard - 1), max(0, self._before_stash - 1)

    def file_deleted(self, path: str, now: float) -> None:
        """Claude Code has read the editor's file: it hears keys again."""
        if self._state is _State.CLOSING and path == self._path:
            self._closed(now)

    def handle_timer(self, now: float) -> None:
        """Call at ``wake_at`` or later (seconds, the clock of ``now``); earlier calls do nothing."""
        if self.wake_at is None or now < self.wake_at:
            return
        if self._state is _State.CLOSING:
            self._closed(now)  # its file may have been deleted before anybody looked
        elif self._state is _State.CALLED_FOR:
            self._tries += not self._lost  # a key that was pressed in vain has been counted
            if self._tries < (_LOOKS if self._text is None else _TRIES):
                self._ask(self._asked._replace(press=True, again=True), now)
            else:
                self._finish(Blocked())

    def _begin(self, text: Optional[str], replaceable: List[str], now: float) -> None:
        self._text, self._replaceable = text, [essence(item) for item in replaceable if essence(item)]
        self._tries, self._withdrawn, self._found = 0, False, ""

    def _ask(self, asked: Ask, now: float) -> None:
        asked, self._lost = asked._replace(lost=self._lost), False
        self._unheard += asked.press
        self._state, self._asked, self.wake_at = _State.CALLED_FOR, asked, now + _CALL_LIMIT * 2**self._tries
        self.effects.append(asked)

    def _closed(self, now: float) -> None:
        draft = self._found
        if self._text is None or self._withdrawn:
            if self._put and not self._withdrawn:
                self._finish(Looked(self._replaceable[0] if self._replaceable else ""))
            elif self._put and self._asked.text:
                self._ask(Ask("", True), now)  # out again
            elif essence(draft) in self._replaceable and not self._put:
                self._ask(Ask("", True), now)
            else:
                self._finish(Withdrawn() if self._withdrawn else Looked(draft))
        elif self._put:
            self.effects.append(Press("enter"))
            self._finish(Entered())
        elif essence(draft) in self._replaceable:
            self._ask(Ask(self._text, True), now)
        elif self._is_old:
            self._ask(Ask(self._text, False, press=not self._unheard), now)
        else:
            self._tries += 1
            if self._tries >= _TRIES:
                self._finish(Blocked())
                return
            self._before_stash = self._unheard
            self.effects.append(Press("stash"))
            self._ask(Ask(self._text, False), now)

    def _finish(self, outcome: NamedTuple) -> None:
        self._state, self.wake_at = _State.IDLE, None
        self.effects.append(outcome)
