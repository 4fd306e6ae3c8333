"""Turns: their order, to whom each line belongs, permissions, interrupts, and how a turn has ended.

Sans-I/O, and time is an argument (seconds of any monotonic clock). Whoever holds a :class:`Conversation`
carries out what :meth:`Conversation.commands` returns, after *every* call; hands
:meth:`Conversation.take_events` to the readers; and calls :meth:`Conversation.handle_timer` when
:meth:`Conversation.next_timer` has come.

One turn is with Claude Code at a time; the others wait in the agent, which has one queue for all hosts, and not in
Claude Code, which merges messages that wait in its own queue into one turn with one result (measured). Where the agent
has no queue (0.1.0, or no agent at all) they wait here.

Whose is a line? In order of trust: the ids in it (``result``, ``system/init``, ``command_lifecycle``: newer
releases), the echo of the user's message by its uuid, and the order in which the agent took the inputs.
A ``result`` that belongs to no turn of ours, such as one left over from an interrupted turn, ends none.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cc_bridge_agent import wire

from .. import events
from ..errors import InvalidInput
from ..events import Event, TurnResult, Verdict
from . import stream_json as sj
from .permissions import answer_id, requests_name
from .transcript import read_turn

__all__ = [
    "MAX_PROMPT",
    "Command",
    "Conversation",
    "DeclareDone",
    "EndProcess",
    "ReadTranscript",
    "SendInput",
    "Withdraw",
    "check_prompt",
]

#: Longest prompt in bytes of UTF-8. The Messages API refuses requests of more than 32 MB, and the
#: largest context windows hold some 5 MB of text.
MAX_PROMPT = 8 * 1024 * 1024

#: Longest text of an answer that is kept to be given again with its result, in characters.
TEXT_LIMIT = 16 * 1024 * 1024

#: Lines of stderr kept to explain why the process ended.
_STDERR_LINES = 20

#: What Claude Code or the agent may name without end, and is remembered: ids (as many as the agent remembers,
#: ``ledger.py``), and kinds of messages that are not understood.
_MOST_IDS = 4096

#: Turns of ours that are with the agent at once: enough that it never waits for us, and others find room, too.
_MOST_AHEAD = 64
_MOST_KINDS = 100

#: Pieces of a text before they are joined.
_MOST_PIECES = 4096

#: Events that a turn's reader has not fetched, and bytes of the messages they were made of, beyond which a turn is
#: crowded.
_MOST_EVENTS = 1000
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SendInput:
    """Pass this message to Claude Code.

    Attributes:
        turn: only while Claude Code has this turn; empty: in any case.
    """

    input_id: str
    message: dict[str, Any]
    turn: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Tell the agent that this input, which waits, is not to be passed on."""

    input_id: str


@dataclass(frozen=True, slots=True)
class DeclareDone:
    """Tell the agent that this input's turn was seen to its end."""

    input_id: str


@dataclass(frozen=True, slots=True)
class ReadTranscript:
    """Read the tail of the session's transcript and call :meth:`Conversation.receive_transcript`."""

    turn_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class EndProcess:
    """Kill Claude Code: it hangs. The next command resumes the session in a new process.

    Attributes:
        turn: unless it has another turn by now.
    """

    reason: str
    turn: str = ""


Command = SendInput | Withdraw | DeclareDone | ReadTranscript | EndProcess


class TurnState(enum.Enum):
    """Where a turn stands."""

    QUEUED = "queued"
    SENT = "sent"
    WAITING = "waiting"
    TAKEN = "taken"
    RUNNING = "running"
    DONE = "done"


class _Step(enum.Enum):
    SEND = "be sent"
    REQUEUE = "go back to the queue"
    WAIT = "wait in the agent"
    TAKE = "be taken"
    BEGIN = "begin"
    FINISH = "finish"


#: The whole life of a turn. What is not in here is a mistake in this module.
TRANSITIONS: dict[TurnState, dict[_Step, TurnState]] = {
    TurnState.QUEUED: {_Step.SEND: TurnState.SENT, _Step.FINISH: TurnState.DONE},
    TurnState.SENT: {
        _Step.REQUEUE: TurnState.QUEUED,
        _Step.WAIT: TurnState.WAITING,
        _Step.TAKE: TurnState.TAKEN,
        _Step.BEGIN: TurnState.RUNNING,
        _Step.FINISH: TurnState.DONE,
    },
    TurnState.WAITING: {
        _Step.REQUEUE: TurnState.QUEUED,
        _Step.TAKE: TurnState.TAKEN,
        _Step.FINISH: TurnState.DONE,
    },
    TurnState.TAKEN: {
        _Step.WAIT: TurnState.WAITING,  # Claude Code has ended without reading it
        _Step.TAKE: TurnState.TAKEN,
        _Step.BEGIN: TurnState.RUNNING,
        _Step.FINISH: TurnState.DONE,
    },
    TurnState.RUNNING: {
        _Step.TAKE: TurnState.RUNNING,
        _Step.BEGIN: TurnState.RUNNING,
        _Step.FINISH: TurnState.DONE,
    },
    TurnState.DONE: {},
}


class _Text:
    """A text that grows by pieces, of which no more than the first TEXT_LIMIT characters are kept.

    Attributes:
        length: of the whole text.
    """

    __slots__ = ("_blocks", "_end", "_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._blocks: list[str] = []
        self._end = ""
        self.length = 0

    def add(self, piece: str) -> None:
        room = TEXT_LIMIT - self.length
        if room > 0:
            self._pieces.append(piece[:room])
            if len(self._pieces) >= _MOST_PIECES:  # each costs 60 bytes, however small it is
                self._blocks.append("".join(self._pieces))
                self._pieces.clear()
        self.length += len(piece)
        self._end = (self._end + piece[-2:])[-2:]

    @property
    def kept(self) -> str:
        return "".join(self._blocks) + "".join(self._pieces)

    @property
    def ends_paragraph(self) -> bool:
        return self._end == "\n\n"

    def rest_of(self, whole: str) -> str | None:
        """What a whole text has beyond this one; None: it does not begin with it."""
        return whole[self.length :] if whole.startswith(self.kept) else None


@dataclass(slots=True)
class _Turn:
    id: str
    text: str
    state: TurnState = TurnState.QUEUED
    events: deque[Event] = field(default_factory=deque)
    weight: int = 0  # bytes of the messages that the events were made of
    followed: bool = False  # sent by another host
    place: int = 0  # in the agent's queue, counted from the first that ever waited there
    ahead: int = 0  # of it, in the agent's queue
    answer: _Text = field(default_factory=_Text)
    block: _Text = field(default_factory=_Text)  # the text block that streams now
    thought: bool = False  # the thinking block has streamed
    synthetic: _Text = field(default_factory=_Text)  # held until the result says what it was
    announced: bool = False
    interrupt: str = ""  # "", "wanted", "sent"
    quiet_since: float = 0.0
    wake_at: float = 0.0
    transcript_last: str = ""
    exited: bool = False
    exit_code: int | None = None
    out_of_memory: bool = False
    cause: str = ""  # of the end, where more is known than an exit code

    def step(self, step: _Step) -> None:
        try:
            self.state = TRANSITIONS[self.state][step]
        except KeyError:
            raise RuntimeError(f"turn {self.id}: a {self.state.value} turn cannot {step.value}") from None

    @property
    def active(self) -> bool:
        return self.state in (TurnState.SENT, TurnState.TAKEN, TurnState.RUNNING)

    @property
    def with_claude(self) -> bool:
        return self.state in (TurnState.TAKEN, TurnState.RUNNING)

    @property
    def ticks(self) -> bool:
        """Something is to be done for it when time has come."""
        return self.active or (self.state is TurnState.WAITING and bool(self.interrupt))


def check_prompt(text: str) -> None:
    """Refuse a prompt that cannot arrive as it is.

    Raises:
        InvalidInput: says what is wrong, and where. Nothing was sent.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"a prompt must be text, not {type(text).__name__}")
    if not text.strip():
        raise InvalidInput("the prompt is empty")
    if (position := text.find("\0")) != -1:
        raise InvalidInput(f"the prompt has a NUL character at position {position}")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        what = f"the prompt has half a surrogate pair ({text[error.start]!a}) at position {error.start}"
        raise InvalidInput(what, hint="Decode the text with its real encoding first.") from None
    if size > MAX_PROMPT:
        raise InvalidInput(
            f"the prompt has {size} bytes; the limit is {MAX_PROMPT}",
            hint="Put the material into a file in the workspace and refer to it.",
        )


class Conversation:
    """The turns of one Claude Code session.

    Args:
        silence: seconds without a line from a running turn after which its transcript is looked at.
        interrupt_limit: seconds that an interrupted turn has to end; then the process is killed.
    """

    def __init__(self, *, silence: float = 30.0, interrupt_limit: float = 10.0) -> None:
        self.session_id = ""
        self.claude_version = ""
        self.unknown: Counter[str] = Counter()
        self._silence = silence
        self._interrupt_limit = interrupt_limit
        self._turns: dict[str, _Turn] = {}
        self._queue: deque[str] = deque()
        self._order: dict[str, None] = {}  # ids as the agent took them, ours and others', until their result
        self._claimed: dict[str, None] = {}  # ids of the turns that the output since the last result belongs to
        self._current = ""
        self._commands: list[Command] = []
        self._untaken: dict[str, SendInput] = {}  # given out, and not yet answered by the agent
        self._undeclared: dict[str, None] = {}  # turns of whose end the agent has not confirmed to know
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._ready = False
        self._controls = 0
        self._replaying = False
        self._agent_queues = False
        self._withdrawing: dict[str, None] = {}  # ids given up, of which the agent has not said what became
        self._is_full = False  # the agent's queue is
        self._line: dict[str, int] = {}  # ids that wait in the agent, and their places
        self._places = 0
        self._open_requests: dict[str, str] = {}  # permission requests that wait, and how a control input names them

    # What callers want

    def submit(self, turn_id: str, text: str, now: float) -> None:
        """Queue a command. ``turn_id`` is a UUID, and new.

        Raises:
            InvalidInput: see :func:`check_prompt`; or the id is known already.
        """
        check_prompt(text)
        if turn_id in self._turns:
            raise InvalidInput(f"there is a turn with the id {turn_id} already")
        self._turns[turn_id] = _Turn(turn_id, text)
        self._queue.append(turn_id)
        self._send_next(now)

    def follow(self, turn_id: str, now: float) -> None:
        """Listen to a turn that another host has sent, or an earlier life of this one; it is read from its beginning.

        Permission requests are held back until :meth:`replayed`, because they may have been decided.
        """
        self._replaying = True
        self._turns[turn_id] = _Turn(turn_id, "", TurnState.SENT, followed=True, wake_at=now + self._silence)

    def replayed(self) -> None:
        """What comes from here on is new."""
        if self._replaying:
            for turn in self._turns.values():
                if turn.state is TurnState.WAITING:
                    turn.events.append(events.Waiting(turn.ahead + 1))
        self._replaying = False

    def withdraw(self, turn_id: str, now: float) -> None:
        """Forget a turn that was sent and that somebody else has sent before."""
        del self._turns[turn_id]
        self._untaken.pop(turn_id, None)
        self._send_next(now)

    def interrupt(self, turn_id: str, now: float) -> None:
        """End a turn. It is over when :meth:`is_done` says so, which is when its output has been drained.

        One that waits here ends at once, one that waits in the agent when the agent has withdrawn it; neither costs
        the turn that runs anything. One that Claude Code has not begun is interrupted when it begins, because an
        earlier request would be ignored.
        """
        turn = self._turns.get(turn_id)
        if turn is None or turn.state is TurnState.DONE or turn.interrupt:
            return
        if turn.state is TurnState.QUEUED:
            self._queue.remove(turn_id)
            self._finish(turn, Verdict.INTERRUPTED, now, error="interrupted while it waited in the queue")
            return
        turn.interrupt = "wanted"
        turn.wake_at = now + self._interrupt_limit
        if turn.state is TurnState.RUNNING:
            self._send_interrupt(turn)
        elif self._agent_queues and not turn.with_claude:
            self._withdraw(turn_id)

    def is_open(self, request_id: str) -> bool:
        """The permission request waits for a decision."""
        return request_id in self._open_requests

    def allow(self, request_id: str, tool_input: sj.Raw, updates: tuple[Any, ...] = ()) -> None:
        """Grant a permission request, possibly with a changed input."""
        self._open_requests.pop(request_id, None)
        self._control(sj.allow(request_id, tool_input, updates))

    def deny(self, request_id: str, reason: str) -> None:
        """Refuse a permission request; the model reads the reason."""
        self._open_requests.pop(request_id, None)
        self._control(sj.deny(request_id, reason))

    # What callers get

    def take_events(self, turn_id: str) -> list[Event]:
        """The turn's events since the last call. After the result, the turn is forgotten."""
        turn = self._turns.get(turn_id)
        if turn is None:
            return []
        taken = list(turn.events)[: self._takeable(turn)]
        for _ in taken:
            turn.events.popleft()
        if not turn.events:
            turn.weight = 0
        if turn.state is TurnState.DONE:
            del self._turns[turn_id]
        return taken

    def is_done(self, turn_id: str) -> bool:
        """The turn has ended, or is unknown."""
        turn = self._turns.get(turn_id)
        return turn is None or turn.state is TurnState.DONE

    def backlog(self, turn_id: str) -> int:
        """Events of the turn that nobody has taken yet."""
        turn = self._turns.get(turn_id)
        return self._takeable(turn) if turn is not None else 0

    @property
    def crowded(self) -> list[str]:
        """Turns whose readers are far behind: no more should be received before they have fetched what there is."""
        return [
            turn.id
            for turn in self._turns.values()
            if turn.state is not TurnState.DONE  # which gets no more of them
            and (self._takeable(turn) > _MOST_EVENTS or (turn.weight > _MOST_BYTES and self._takeable(turn)))
        ]

    def can_be_split_off(self, turn_id: str) -> bool:
        """Nobody waits for what becomes of it but its reader: no permission is asked for, no end is under way."""
        turn = self._turns[turn_id]
        return not (turn.interrupt or turn.exited or (turn.with_claude and self._open_requests))

    def split_off(self, turn_id: str, now: float) -> Conversation:
        """A conversation of one turn's own, which goes on with the next line as this one does; here it is forgotten."""
        other = Conversation(silence=self._silence, interrupt_limit=self._interrupt_limit)
        turn = other._turns[turn_id] = self._turns.pop(turn_id)
        turn.followed = True
        turn.quiet_since, turn.wake_at = now, now + self._silence
        other.session_id, other.claude_version = self.session_id, self.claude_version
        other._order, other._claimed, other._current = dict(self._order), dict(self._claimed), self._current
        other._agent_queues, other._line, other._places = self._agent_queues, dict(self._line), self._places
        other._ready, other._controls = self._ready, self._controls
        other._stderr.extend(self._stderr)
        return other

    def is_sent(self, turn_id: str) -> bool:
        """The turn was sent by this conversation, and the agent has not answered yet."""
        turn = self._turns.get(turn_id)
        return turn is not None and turn.state is TurnState.SENT and not turn.followed

    def is_queued(self, turn_id: str) -> bool:
        """The turn waits here; nobody else knows of it."""
        return turn_id in self._queue

    @property
    def active(self) -> str | None:
        """The turn that is with Claude Code, or else the next that will be."""
        return next(
            (turn.id for turn in self._turns.values() if turn.with_claude),
            next((turn.id for turn in self._turns.values() if turn.active), None),
        )

    @property
    def agent_queues(self) -> bool:
        """The agent has a queue of turns."""
        return self._agent_queues

    @property
    def waits_in_agent(self) -> bool:
        """A turn of ours waits in the agent's queue, now, and not only in what is read again."""
        return not self._replaying and any(turn.state is TurnState.WAITING for turn in self._turns.values())

    @property
    def can_go_on(self) -> bool:
        """There is a turn that the agent knows of, and whose frames can be taken up again."""
        return any(turn.active or turn.state is TurnState.WAITING for turn in self._turns.values())

    @property
    def queued(self) -> tuple[str, ...]:
        """The turns that wait to be sent."""
        return tuple(self._queue)

    @property
    def between_turns(self) -> bool:
        """None of ours is with Claude Code, and one is about to be sent: the moment to change the channel."""
        about_to = any(isinstance(command, SendInput) and command.input_id in self._turns for command in self._commands)
        return about_to and not any(turn.with_claude for turn in self._turns.values())

    @property
    def settling(self) -> bool:
        """The process has ended and a turn of it has yet to be judged."""
        return any(turn.active and turn.exited for turn in self._turns.values())

    @property
    def stderr(self) -> str:
        """The last lines that Claude Code wrote to stderr."""
        return "\n".join(self._stderr)

    def commands(self) -> list[Command]:
        """What to carry out now, in order."""
        commands, self._commands = self._commands, []
        self._untaken.update({item.input_id: item for item in commands if isinstance(item, SendInput)})
        self._undeclared.update({item.input_id: None for item in commands if isinstance(item, DeclareDone)})
        for unanswered in (self._untaken, self._undeclared):  # an agent that never answers must not fill the memory
            while len(unanswered) > _MOST_IDS:
                del unanswered[next(iter(unanswered))]
        return commands

    def put_back(self, commands: Iterable[Command]) -> None:
        """What could not be carried out, and still is to be."""
        self._commands[:0] = commands

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`; None: never."""
        return min((turn.wake_at for turn in self._turns.values() if turn.ticks), default=None)

    # What happens on the link

    def greeted(self, queue: Iterable[str] | None, *, resumed: bool = False) -> None:
        """The agent has said hello. ``queue``: inputs that wait there; None: it has no queue.

        Args:
            resumed: what follows begins before what the hello says: the queue is known from there.
        """
        self._agent_queues = queue is not None
        if not resumed:
            self._line.clear()
            for input_id in queue or ():
                self._join_line(input_id)
        if self._agent_queues:
            self._commands += [Withdraw(input_id) for input_id in self._withdrawing]

    def accepted(self, input_id: str, now: float) -> None:
        """The agent will pass an input on when the turns before it have ended, or once more to the next Claude Code."""
        self._untaken.pop(input_id, None)
        turn = self._turns.get(input_id)
        self._join_line(input_id, first=input_id in self._order)
        self._order.pop(input_id, None)
        if turn is not None and turn.state in (TurnState.SENT, TurnState.TAKEN):
            turn.step(_Step.WAIT)
            turn.place = self._line[input_id]
            turn.ahead = sum(place < turn.place for place in self._line.values())
            if not self._replaying:
                turn.events.append(events.Waiting(turn.ahead + 1))
        self._send_next(now)

    def withdrawn(self, input_id: str, now: float, *, late: bool = False) -> None:
        """An input that waited is not passed on, whoever has wanted that. ``late``: it did not wait, or not any more.

        One that the agent has not accepted by then was lost with a connection, and is not sent again.
        """
        turn = self._turns.get(input_id)
        self._withdrawing.pop(input_id, None)
        self._is_full = False
        if late and (turn is None or turn.state is not TurnState.SENT or turn.followed):
            return
        self._untaken.pop(input_id, None)
        self._leave_line(input_id)
        if turn is not None and turn.state in (TurnState.SENT, TurnState.WAITING):
            self._finish(turn, Verdict.INTERRUPTED, now, error="withdrawn while it waited in the queue")
        self._send_next(now)

    def refused(self, input_id: str, reason: str, now: float) -> None:
        """The agent's queue is full: the input is sent again when something has left it."""
        self._untaken.pop(input_id, None)
        turn = self._turns.get(input_id)
        if turn is not None and turn.state is TurnState.SENT:
            if self._line:
                self._is_full = True
                self._requeue(now, turn)
            else:  # it has no room for this one alone
                self._finish(turn, Verdict.FAILED, now, error=reason)
                self._send_next(now)

    def process_ready(self, open_ids: Iterable[str], now: float) -> None:
        """Claude Code runs and can be written to. ``open_ids``: taken earlier, by whomever, and not done."""
        self._ready = True
        self._declare_again()
        self._order.clear()
        for turn_id in open_ids:
            if turn_id not in self._turns:
                _remember(self._order, turn_id)
        self._send_next(now)

    def process_started(self) -> None:
        """Claude Code is a new process: nothing of the last one's is to be expected."""
        self._stderr.clear()
        self._order.clear()
        self._claimed.clear()
        self._current = ""

    def took(self, input_id: str, now: float, *, again: bool = False) -> None:
        """The agent has passed an input on. ``again``: it answers a repeat; frames before it have said what is so."""
        self._untaken.pop(input_id, None)
        if again and not self.is_sent(input_id):
            return
        self._withdrawing.pop(input_id, None)
        self._is_full = False
        self._leave_line(input_id)
        turn = self._turns.get(input_id)
        if turn is not None and (turn.active or turn.state is TurnState.WAITING):
            if turn.state is TurnState.WAITING:
                turn.wake_at = now + (self._interrupt_limit if turn.interrupt else self._silence)
            turn.step(_Step.TAKE)
            turn.quiet_since = now
            self._send_next(now)
        if not input_id.startswith(wire.CONTROL):
            _remember(self._order, input_id)
        elif self._replaying:
            self._drop_decided(input_id)

    def receive_message(self, message: sj.Raw | str, now: float, size: int = 0) -> None:
        """A line of Claude Code's output, of so many bytes."""
        if isinstance(message, str):
            self._count_unknown("no JSON")
            return
        parsed = sj.parse(message)
        if isinstance(parsed, sj.Unknown):
            self._count_unknown(parsed.kind)
        self._HANDLERS[type(parsed)](self, parsed, now)
        turn = self._turns.get(self._current)
        if turn is not None:
            turn.weight += size
            turn.quiet_since = now
            if not turn.interrupt:
                turn.wake_at = now + self._silence

    def receive_stderr(self, text: str) -> None:
        """A line of Claude Code's stderr."""
        self._stderr.append(text[:2000])

    def process_exited(self, code: int | None, now: float, *, out_of_memory: bool = False, cause: str = "") -> None:
        """Claude Code has ended; all its output has been received.

        A turn that the agent has not taken yet waits for its answer, which will be a refusal.

        Args:
            code: None: nobody saw how.
            cause: what is known otherwise, for a person.
        """
        self._ready = False
        self._untaken = {name: item for name, item in self._untaken.items() if name in self._turns}
        for turn in [turn for turn in self._turns.values() if turn.active and turn.state is not TurnState.SENT]:
            turn.exited, turn.exit_code, turn.out_of_memory, turn.cause = True, code, out_of_memory, cause
            if turn.state is TurnState.RUNNING and self.session_id:
                turn.wake_at = now + self._interrupt_limit  # for a transcript that cannot be read
                self._commands.append(ReadTranscript(turn.id, self.session_id))
            else:
                self._finish_dead(turn, now)

    def connection_resumed(self, now: float) -> list[str]:
        """The connection broke and goes on without a gap: what the agent may not have got is sent again.

        Returns:
            The ids of these inputs, which may prove to be accepted already.
        """
        self._declare_again()
        for turn in self._turns.values():
            if turn.ticks:  # the time without a connection was no silence of Claude Code's
                turn.wake_at = max(turn.wake_at, now + min(self._silence, self._interrupt_limit))
        again = [item for item in self._untaken.values() if item.input_id not in self._withdrawing]
        self._commands[:0] = again
        self._untaken.clear()
        return [item.input_id for item in again]

    def declared(self, turn_id: str) -> None:
        """The agent knows that this turn was seen to its end."""
        self._undeclared.pop(turn_id, None)

    def inputs_refused(self, now: float, input_id: str = "") -> bool:
        """Claude Code was not running: what was sent and not taken waits again; False: that was known.

        Args:
            input_id: the one that was refused; empty (0.1.0): none of those that were sent was taken.
        """
        self._ready = False
        if input_id:
            self._untaken.pop(input_id, None)
        else:
            self._untaken.clear()
        sent = [turn for turn in self._turns.values() if turn.state is TurnState.SENT]
        return self._requeue(now, *[turn for turn in sent if input_id in ("", turn.id)])

    def _requeue(self, now: float, *turns: _Turn) -> bool:
        """These turns are to be sent anew, in the order of their submission, unless they were given up.

        One that is followed is another's to send.
        """
        again = [turn for turn in turns if not turn.followed]
        for turn in again:
            if turn.interrupt:
                self._finish(turn, Verdict.INTERRUPTED, now, error="given up before it was passed on")
            else:
                turn.step(_Step.REQUEUE)
        self._queue = deque(turn.id for turn in self._turns.values() if turn.state is TurnState.QUEUED)
        return bool(again)

    def connection_lost(self, reason: str, now: float) -> None:
        """The connection broke. What was not passed on waits again; what was cannot be followed further."""
        self._ready = False
        self._untaken.clear()
        self._line.clear()
        waits = (TurnState.SENT, TurnState.WAITING)
        self._requeue(now, *[turn for turn in self._turns.values() if turn.state in waits])
        for turn in [turn for turn in self._turns.values() if turn.active or turn.state is TurnState.WAITING]:
            self._finish(turn, Verdict.INTERRUPTED, now, error=reason)
        self._claimed.clear()
        self._order.clear()
        self._current = ""

    def close(self, reason: str, now: float) -> None:
        """Nobody listens any more. What waits in the agent will still be answered, under its id."""
        for turn in [turn for turn in self._turns.values() if turn.state is TurnState.WAITING]:
            self._finish(turn, Verdict.INTERRUPTED, now, error=f"{reason}; it still waits, and will be answered")
        self.connection_lost(reason, now)
        self.fail_queued(reason, now)

    def fail_queued(self, error: str, now: float) -> None:
        """Nothing can be sent any more: end the waiting turns, too."""
        for turn_id in list(self._queue):
            self._finish(self._turns[turn_id], Verdict.FAILED, now, error=error)
        self._queue.clear()

    def receive_transcript(self, turn_id: str, lines: Iterable[str] | None, now: float) -> None:
        """The answer to :class:`ReadTranscript`; None: it could not be read."""
        turn = self._turns.get(turn_id)
        if turn is None or not turn.active:
            return
        reading = read_turn(lines or (), turn_id)
        if reading.ended:
            self._recover(turn, reading.texts, now)
        elif turn.exited:
            self._finish_dead(turn, now)
        else:
            working = reading.last != turn.transcript_last
            turn.transcript_last = reading.last
            turn.events.append(events.Silence(round(now - turn.quiet_since, 3), working))

    def handle_timer(self, now: float) -> None:
        """Time has come: look after turns that are silent, and end what does not end."""
        for turn in [turn for turn in self._turns.values() if turn.ticks and turn.wake_at <= now]:
            if turn.exited:
                self._finish_dead(turn, now)
            elif turn.interrupt and self._agent_queues and not turn.with_claude:
                self._finish(turn, Verdict.INTERRUPTED, now, error="given up; the agent does not answer")
            elif turn.interrupt:
                self._commands.append(EndProcess("an interrupted turn did not end", turn.id))
                turn.wake_at = now + self._interrupt_limit
            else:
                turn.wake_at = now + self._silence
                self._commands.append(ReadTranscript(turn.id, self.session_id))

    # Whose is what

    def _own(self, turn_id: str) -> _Turn | None:
        turn = self._turns.get(turn_id)
        return turn if turn is not None and turn.active else None

    def _begin(self, turn_id: str, now: float) -> None:
        """The output from here on belongs to this turn, ours or not."""
        self._current = turn_id
        turn = self._own(turn_id)
        if turn is None:
            return
        turn.step(_Step.BEGIN)
        turn.quiet_since = now
        if turn.interrupt == "wanted":
            self._send_interrupt(turn)

    def _claim(self, turn_id: str, now: float) -> None:
        """This turn is certainly answered by the output since the last result."""
        _remember(self._claimed, turn_id)
        if not (self._own(self._current) and self._current in self._claimed):
            self._begin(turn_id, now)

    def _count_unknown(self, kind: str) -> None:
        if len(self.unknown) >= _MOST_KINDS and kind not in self.unknown:
            kind = "other kinds"
        self.unknown[kind] += 1

    def _answered(self, result: sj.Result) -> list[str]:
        """The ids of the turns that a result ends."""
        if result.turn_ids:
            return list(result.turn_ids)
        if self._claimed:
            return list(self._claimed)
        turn = self._own(self._current)
        # Older releases do not echo slash commands; everything else is echoed before its result.
        if turn is not None and (turn.followed or turn.text.lstrip().startswith("/")):
            return [turn.id]
        return [] if turn is not None or not self._current else [self._current]

    # Handlers, one a type of message

    def _on_init(self, message: sj.Init, now: float) -> None:
        self.session_id = message.session_id or self.session_id
        self.claude_version = message.version or self.claude_version
        if message.turn_ids:
            owner = next((i for i in message.turn_ids if self._own(i)), message.turn_ids[0])
        else:
            owner = next(iter(self._order), "")
        self._begin(owner, now)
        turn = self._own(owner)
        if turn is not None and not turn.announced:
            turn.announced = True
            turn.events.append(events.TurnStarted(self.session_id, message.model))

    def _on_lifecycle(self, message: sj.Lifecycle, now: float) -> None:
        if message.state == "held" and self._own(message.turn_id):
            self._begin(message.turn_id, now)  # it can be interrupted from here on
        elif message.state == "started" and message.turn_id:
            # Not begun yet: an interrupt before system/init would be ignored by older releases.
            self._current = message.turn_id
            _remember(self._claimed, message.turn_id)

    def _on_echo(self, message: sj.Echo, now: float) -> None:
        if message.turn_id:
            self._claim(message.turn_id, now)

    def _on_block_start(self, message: sj.BlockStart, now: float) -> None:
        turn = self._own(self._current)
        if turn is not None:
            turn.block = _Text()
            turn.thought = False
            if message.kind == "text":
                self._part_paragraphs(turn)

    def _on_block_piece(self, message: sj.BlockPiece, now: float) -> None:
        turn = self._own(self._current)
        if turn is None:
            return  # another client's, or left over
        if message.kind == "text":
            turn.block.add(message.text)
            self._add_text(turn, message.text)
        else:
            turn.thought = True
            turn.events.append(events.ThinkingDelta(message.text))

    def _on_whole_blocks(self, message: sj.WholeBlocks, now: float) -> None:
        turn = self._own(self._current)
        if turn is None:
            return
        for block in message.blocks:
            kind = block.get("type")
            if kind == "text" and isinstance(text := block.get("text"), str):
                self._on_whole_text(turn, text, message.synthetic)
            elif kind == "thinking":
                if not turn.thought and isinstance(text := block.get("thinking"), str) and text:
                    turn.events.append(events.ThinkingDelta(text))
            elif kind == "tool_use":
                turn.events.append(_tool_use(block))
            else:
                self._count_unknown(f"block {str(kind)[:60]}")
                turn.events.append(events.UnknownMessage(block))

    def _on_whole_text(self, turn: _Turn, text: str, synthetic: bool) -> None:
        """A text block as a whole: say what its pieces have not said."""
        if synthetic:
            if turn.synthetic.length:
                turn.synthetic.add("\n\n")
            turn.synthetic.add(text)
            return
        streamed, turn.block = turn.block, _Text()
        rest = streamed.rest_of(text)
        if not streamed.length:
            self._part_paragraphs(turn)
        if rest is None:
            self._count_unknown("text unlike its pieces")
        else:
            self._add_text(turn, rest)

    def _on_tools(self, message: sj.Tools, now: float) -> None:
        turn = self._own(self._current)
        if turn is None:
            return
        for result in message.results:
            tool_use_id = result.get("tool_use_id")
            name = tool_use_id if isinstance(tool_use_id, str) else ""
            turn.events.append(events.ToolResult(name, result.get("content"), bool(result.get("is_error"))))

    def _on_retry(self, message: sj.Retry, now: float) -> None:
        turn = self._own(self._current)
        if turn is not None:
            turn.events.append(
                events.ApiRetry(message.attempt, message.max_retries, message.delay, message.status, message.error)
            )

    def _on_permission(self, message: sj.Permission, now: float) -> None:
        turn = self._own(self._current)
        if turn is None:
            return  # another client's turn, and its question
        if turn.interrupt:
            self.deny(message.request_id, "The turn is being interrupted.")
        else:
            self._open_requests[message.request_id] = requests_name(message.request_id)
            turn.events.append(
                events.PermissionRequest(message.request_id, message.tool_name, message.input, message.suggestions)
            )

    def _on_cancelled(self, message: sj.Cancelled, now: float) -> None:
        self._drop_request(message.request_id)

    def _on_person(self, message: sj.PersonTyped, now: float) -> None:
        for turn in self._turns.values():
            if turn.active:
                turn.events.append(events.PersonTurn(message.prompt))

    def _on_unsupported(self, message: sj.UnsupportedRequest, now: float) -> None:
        self._count_unknown(f"control_request/{message.subtype[:60]}")
        self._control(sj.unsupported(message.request_id, message.subtype))

    def _on_unknown(self, message: sj.Unknown, now: float) -> None:
        turn = self._own(self._current)
        if turn is not None:
            turn.events.append(events.UnknownMessage(message.message))

    def _ignore(self, message: object, now: float) -> None:
        pass

    def _on_result(self, message: sj.Result, now: float) -> None:
        self.session_id = message.session_id or self.session_id
        answered = self._answered(message)
        own = [turn for turn_id in answered if (turn := self._own(turn_id))]
        if not answered:
            self._count_unknown("result of no turn")
            return
        for turn in own:
            self._end_by_result(turn, message, now)
        for turn_id in answered:
            self._claimed.pop(turn_id, None)
            known = turn_id in self._order
            self._order.pop(turn_id, None)
            if known and turn_id not in self._turns and not self._agent_queues:
                self._commands.append(DeclareDone(turn_id))  # its program may be gone; 0.1.0 knows no other end of it
        if self._current in answered:
            self._current = ""
        self._send_next(now)

    _HANDLERS: ClassVar[dict[type, Callable[[Conversation, Any, float], None]]] = {
        sj.Init: _on_init,
        sj.Lifecycle: _on_lifecycle,
        sj.Echo: _on_echo,
        sj.BlockStart: _on_block_start,
        sj.BlockPiece: _on_block_piece,
        sj.WholeBlocks: _on_whole_blocks,
        sj.Tools: _on_tools,
        sj.Retry: _on_retry,
        sj.Permission: _on_permission,
        sj.Cancelled: _on_cancelled,
        sj.PersonTyped: _on_person,
        sj.UnsupportedRequest: _on_unsupported,
        sj.ControlReply: _ignore,
        sj.Routine: _ignore,
        sj.Unknown: _on_unknown,
        sj.Result: _on_result,
    }

    # How a turn ends

    def _end_by_result(self, turn: _Turn, result: sj.Result, now: float) -> None:
        if result.is_error:
            interrupted = result.subtype == "error_during_execution" and not result.api_status
            verdict = Verdict.INTERRUPTED if interrupted else Verdict.FAILED
            error = result.text or turn.synthetic.kept or ("interrupted" if interrupted else result.subtype)
        else:
            verdict, error = Verdict.COMPLETED, ""
            if turn.synthetic.length:
                self._part_paragraphs(turn)
                self._add_text(turn, turn.synthetic.kept)
            if not turn.answer.length:  # a local command may answer in its result only
                self._add_text(turn, result.text)
        self._finish(turn, verdict, now, error=error, result=result)

    def _recover(self, turn: _Turn, texts: tuple[str, ...], now: float) -> None:
        """The transcript has the end that the output lacks."""
        joined = _Text()
        for text in texts:
            if joined.length and not joined.ends_paragraph:
                joined.add("\n\n")
            joined.add(text)
        whole = joined.kept
        rest = turn.answer.rest_of(whole)
        if rest == "":
            verdict = Verdict.COMPLETED_AFTER_HANG
        else:
            verdict = Verdict.RECOVERED
            self._add_text(turn, f"\n\n{whole}" if rest is None else rest)
        if not turn.exited:
            self._ready = False
            self._commands.append(EndProcess("its turn had ended and it did not say so", turn.id))
        self._finish(turn, verdict, now)

    def _finish_dead(self, turn: _Turn, now: float) -> None:
        """The process has ended and nothing says that the answer is whole."""
        code = turn.exit_code
        last = f": {self.stderr.splitlines()[-1]}" if self._stderr else ""
        if turn.out_of_memory:
            verdict, error = Verdict.INTERRUPTED, turn.cause or "Claude Code was killed: out of memory"
        elif code is None or turn.cause:
            verdict, error = Verdict.INTERRUPTED, turn.cause or f"Claude Code ended with its agent{last}"
        elif code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            verdict, error = Verdict.INTERRUPTED, f"Claude Code was ended by signal {number}{last}"
        else:
            verdict = Verdict.INTERRUPTED if turn.interrupt else Verdict.FAILED
            error = f"Claude Code ended with exit code {code}{last}"
        self._finish(turn, verdict, now, error=error)

    def _finish(
        self, turn: _Turn, verdict: Verdict, now: float, *, error: str = "", result: sj.Result | None = None
    ) -> None:
        if turn.state not in (TurnState.QUEUED, TurnState.WAITING):
            self._commands.append(DeclareDone(turn.id))
        if turn.with_claude:
            self._open_requests.clear()  # one turn runs at a time
        self._untaken.pop(turn.id, None)
        turn.step(_Step.FINISH)
        self._order.pop(turn.id, None)
        if self._current == turn.id:
            self._current = ""
        facts: dict[str, Any] = {}
        if result is not None:
            facts = {
                "api_status": result.api_status,
                "num_turns": result.num_turns,
                "duration": result.duration,
                "cost_usd": result.cost_usd,
                "usage": result.usage,
            }
        turn.events.append(
            TurnResult(
                verdict,
                turn.answer.kept,
                self.session_id,
                error,
                exit_code=turn.exit_code,
                out_of_memory=turn.out_of_memory,
                truncated=turn.answer.length > TEXT_LIMIT,
                **facts,
            )
        )

    # Small steps

    def _add_text(self, turn: _Turn, text: str) -> None:
        if text:
            turn.answer.add(text)
            turn.events.append(events.TextDelta(text))

    def _part_paragraphs(self, turn: _Turn) -> None:
        if turn.answer.length and not turn.answer.ends_paragraph:
            self._add_text(turn, "\n\n")

    def _takeable(self, turn: _Turn) -> int:
        """How many of its events may be handed out: none from a permission request that may be decided already."""
        if self._replaying and turn.state is not TurnState.DONE:
            for number, event in enumerate(turn.events):
                if isinstance(event, events.PermissionRequest):
                    return number
        return len(turn.events)

    def _drop_decided(self, control_id: str) -> None:
        """Somebody has answered, before we listened."""
        name = control_id.split("-", 2)[-1]
        if request_id := next((of for of, safe in self._open_requests.items() if safe == name), ""):
            self._drop_request(request_id)

    def _drop_request(self, request_id: str) -> None:
        """A permission request is moot; its event goes, unless it was taken already."""
        if self._open_requests.pop(request_id, None) is None:
            return
        for turn in self._turns.values():
            for event in turn.events:
                if isinstance(event, events.PermissionRequest) and event.request_id == request_id:
                    turn.events.remove(event)
                    break

    def _declare_again(self) -> None:
        self._commands += [DeclareDone(turn_id) for turn_id in self._undeclared]
        self._undeclared.clear()

    def _join_line(self, input_id: str, *, first: bool = False) -> None:
        if input_id not in self._line:
            self._places += 1
            self._line[input_id] = min(self._line.values(), default=1) - 1 if first else self._places
            if len(self._line) > _MOST_IDS:
                self._leave_line(next(iter(self._line)))

    def _leave_line(self, input_id: str) -> None:
        place = self._line.pop(input_id, None)
        if place is None:
            return
        for turn in self._turns.values():
            if turn.state is TurnState.WAITING and turn.place > place:
                turn.ahead -= 1
                turn.events.append(events.Waiting(turn.ahead + 1))

    def _send_next(self, now: float) -> None:
        while self._ready and self._queue and self._may_send():
            turn = self._turns[self._queue.popleft()]
            turn.step(_Step.SEND)
            turn.quiet_since = now
            turn.wake_at = now + self._silence
            self._commands.append(SendInput(turn.id, sj.user_message(turn.text, turn.id)))

    def _withdraw(self, turn_id: str) -> None:
        _remember(self._withdrawing, turn_id)
        self._commands.append(Withdraw(turn_id))

    def _may_send(self) -> bool:
        if self._is_full:
            return False
        ahead = sum(turn.active or turn.state is TurnState.WAITING for turn in self._turns.values())
        return ahead < (_MOST_AHEAD if self._agent_queues else 1)

    def _send_interrupt(self, turn: _Turn) -> None:
        turn.interrupt = "sent"
        self._controls += 1
        turn_id = turn.id if self._agent_queues else ""
        self._control(sj.interrupt_request(f"{turn.id}-{self._controls}"), turn_id)

    def _control(self, message: dict[str, Any], turn_id: str = "") -> None:
        self._controls += 1
        name = message.get("request_id") or message["response"]["request_id"]
        self._commands.append(SendInput(answer_id(self._controls, name), message, turn_id))


def _tool_use(block: sj.Raw) -> events.ToolUse:
    tool_use_id, name, arguments = block.get("id"), block.get("name"), block.get("input")
    return events.ToolUse(
        tool_use_id if isinstance(tool_use_id, str) else "",
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, dict) else {},
    )


def _remember(ids: dict[str, None], new: str) -> None:
    """Add an id at the end, unless it is there, or is none; the oldest one goes where there are too many."""
    if new not in ids and wire.ID.match(new):
        ids[new] = None
        if len(ids) > _MOST_IDS:
            del ids[next(iter(ids))]
