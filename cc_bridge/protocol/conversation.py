"""Turns: their order, to whom each line belongs, permissions, interrupts, and how a turn has ended.

Sans-I/O, and time is an argument (seconds of any monotonic clock). Whoever holds a :class:`Conversation`
carries out what :meth:`Conversation.commands` returns, after *every* call; hands
:meth:`Conversation.take_events` to the readers; and calls :meth:`Conversation.handle_timer` when
:meth:`Conversation.next_timer` has come.

One turn is with Claude Code at a time; the others wait in the agent, which has one queue for all hosts, and not in
Claude Code, which merges messages that wait in its own queue into one turn with one result (measured). Where the agent
has no queue (0.1.0, or no agent at all) they wait here.

What is known is kept by three owners, each above the one before and none knowing who holds it: ``turns`` (the turns and
their readers), ``delivery`` (how they get to Claude Code), ``claude_output`` (what it says, and how they end).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cc_bridge_agent import wire

from ..errors import InvalidInput
from ..events import Event, Verdict
from . import stream_json as sj
from .claude_output import ClaudeOutput
from .commands import Command, EndProcess, ReadTranscript
from .control_requests import ControlRequests
from .delivery import Delivery
from .fields import Raw
from .prompt import check_prompt
from .transcript import read_turn
from .turn_state import TrackedTurn, TurnState
from .turns import Turns
from .verdicts import Judgement, ProcessEnd

if TYPE_CHECKING:
    from .blocks import Prompt

__all__ = ["Conversation"]


class Conversation:
    """The turns of one Claude Code session.

    Args:
        silence: seconds without a line from a running turn after which its transcript is looked at.
        interrupt_limit: seconds that an interrupted turn has to end; then the process is killed.
        adopts: turns that other programs send are listened to, too.
    """

    def __init__(self, *, silence: float = 30.0, interrupt_limit: float = 10.0, adopts: bool = False) -> None:
        self._silence = silence
        self._interrupt_limit = interrupt_limit
        self._adopts = adopts
        self._turns = Turns()
        self.delivery = Delivery(self._turns, silence, interrupt_limit)  # for who says when it may send
        self._output = ClaudeOutput(self._turns, self.delivery)

    # What is known of Claude Code

    @property
    def session_id(self) -> str:
        """The session that is resumed, or was named last."""
        return self._output.session_id

    @session_id.setter
    def session_id(self, session_id: str) -> None:
        self._output.session_id = session_id

    @property
    def claude_version(self) -> str:
        """Claude Code's version, once it has said it."""
        return self._output.claude_version

    @property
    def unknown(self) -> Counter[str]:
        """How often what kinds of messages were not understood."""
        return self._output.unknown

    # What callers want

    def submit(self, turn_id: str, prompt: Prompt, now: float) -> None:
        """Queue a command. ``turn_id`` is a UUID, and new.

        Raises:
            InvalidInput: see :func:`~cc_bridge.protocol.prompt.check_prompt`; or the id is known already.
        """
        check_prompt(prompt)
        if turn_id in self._turns:
            raise InvalidInput(f"there is a turn with the id {turn_id} already")
        self._turns.add(TrackedTurn(turn_id, prompt))
        self.delivery.send_next(now)

    def follow(self, turn_id: str, now: float) -> None:
        """Listen to a turn that another host has sent, or an earlier life of this one; it is read from its beginning.

        Permission requests are held back until :meth:`replayed`, because they may have been decided.
        """
        self._turns.replaying = True
        self._turns.follow(turn_id, now + self._silence)

    def replayed(self) -> None:
        """What comes from here on is new."""
        self._turns.replayed()

    def withdraw(self, turn_id: str, now: float) -> None:
        """Forget a turn that was sent and that somebody else has sent before."""
        self._turns.remove(turn_id)
        self.delivery.forget(turn_id, now)

    def interrupt(self, turn_id: str, now: float) -> None:
        """End a turn. It is over when :meth:`is_done` says so, which is when its output has been drained.

        One that waits here ends at once, one that waits in the agent when the agent has withdrawn it; neither costs
        the turn that runs anything. One that Claude Code has not begun is interrupted when it begins, because an
        earlier request would be ignored.
        """
        turn = self._turns.get(turn_id)
        if turn is None or turn.is_done or turn.is_interrupted:
            return
        if turn.state is TurnState.QUEUED:
            self._output.end(turn, Judgement(Verdict.INTERRUPTED, "interrupted while it waited in the queue"))
        else:
            self.delivery.interrupt(turn, now)

    def ask(self, request: Raw) -> str:
        """Ask Claude Code something, as soon as it can be written to. The id by which :attr:`requests` knows it."""
        return self.delivery.ask(request)

    @property
    def requests(self) -> ControlRequests:
        """What this host has asked Claude Code."""
        return self.delivery.requests

    def is_open(self, request_id: str) -> bool:
        """The permission request waits for a decision."""
        return request_id in self._output.requests

    def allow(self, request_id: str, tool_input: Raw, updates: tuple[Any, ...] = ()) -> None:
        """Grant a permission request, possibly with a changed input."""
        self._output.requests.close(request_id)
        self.delivery.outbox.add_control(sj.allow(request_id, tool_input, updates))

    def deny(self, request_id: str, reason: str) -> None:
        """Refuse a permission request; the model reads the reason."""
        self._output.requests.close(request_id)
        self.delivery.outbox.add_control(sj.deny(request_id, reason))

    # What callers get

    def take_events(self, turn_id: str) -> list[Event]:
        """The turn's events since the last call. After the result, the turn is forgotten."""
        return self._turns.fetch(turn_id)

    @property
    def turns(self) -> Turns:
        """All turns, for who reads them for everybody."""
        return self._turns

    def is_done(self, turn_id: str) -> bool:
        """The turn has ended, or is unknown."""
        return self._turns.state(turn_id) in (None, TurnState.DONE)

    def backlog(self, turn_id: str) -> int:
        """Events of the turn that nobody has taken yet."""
        return self._turns.backlog(turn_id)

    @property
    def crowded(self) -> list[str]:
        """Turns whose readers are far behind: no more should be received before they have fetched what there is."""
        return self._turns.crowded

    def can_be_split_off(self, turn_id: str) -> bool:
        """Nobody waits for what becomes of it but its reader: no permission is asked for, no end is under way."""
        turn = self._turns.get(turn_id)
        if turn is None or turn.is_interrupted or turn.exited:
            return False
        return not (turn.with_claude and self._output.requests)

    def split_off(self, turn_id: str, now: float) -> Conversation:
        """A conversation of one turn's own, which goes on with the next line as this one does; here it is forgotten."""
        other = Conversation(silence=self._silence, interrupt_limit=self._interrupt_limit)
        turn = self._turns.remove(turn_id)
        turn.followed = True
        turn.quiet_since, turn.wake_at = now, now + self._silence
        other._turns.add(turn)
        other.delivery = self.delivery.split_off(other._turns)
        other._output = self._output.split_off(other._turns, other.delivery)
        return other

    def is_sent(self, turn_id: str) -> bool:
        """The turn was sent by this conversation, and the agent has not answered yet."""
        turn = self._turns.get(turn_id)
        return turn is not None and turn.is_unanswered

    def is_queued(self, turn_id: str) -> bool:
        """The turn waits here; nobody else knows of it."""
        return self._turns.state(turn_id) is TurnState.QUEUED

    @property
    def active(self) -> str | None:
        """The turn that is with Claude Code, or else the next that will be."""
        return self._turns.next

    @property
    def agent_queues(self) -> bool:
        """The agent has a queue of turns."""
        return self.delivery.queue.exists

    @property
    def waits_in_agent(self) -> bool:
        """A turn of ours waits in the agent's queue, now, and not only in what is read again."""
        return not self._turns.replaying and any(turn.waits for turn in self._turns)

    @property
    def can_go_on(self) -> bool:
        """There is a turn that the agent knows of, and whose frames can be taken up again."""
        return any(turn.with_agent for turn in self._turns)

    @property
    def queued(self) -> tuple[str, ...]:
        """The turns that wait to be sent."""
        return self._turns.queued

    @property
    def between_turns(self) -> bool:
        """None of ours is with Claude Code, and one is about to be sent: the moment to change the channel."""
        about_to = any(input_id in self._turns for input_id in self.delivery.outbox.inputs)
        return about_to and not any(turn.with_claude for turn in self._turns)

    @property
    def settling(self) -> bool:
        """The process has ended and a turn of it has yet to be judged."""
        return any(turn.active and turn.exited for turn in self._turns)

    @property
    def stderr(self) -> str:
        """The last lines that Claude Code wrote to stderr."""
        return "\n".join(self._output.stderr)

    def commands(self) -> list[Command]:
        """What to carry out now, in order."""
        return self.delivery.outbox.take()

    def put_back(self, commands: Iterable[Command]) -> None:
        """What could not be carried out, and still is to be."""
        self.delivery.outbox.put_back(commands)

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`; None: never."""
        return self._turns.next_timer()

    # What happens on the link

    def greeted(self, queue: Iterable[str] | None, *, resumed: bool = False, journal: str = "") -> None:
        """The agent has said hello. ``queue``: inputs that wait there; None: it has no queue.

        Args:
            resumed: what follows begins before what the hello says: the queue is known from there.
            journal: names what the agent keeps. Turns that were given to another one end, because they may have run.
        """
        self._output.end_all(self.delivery.greeted(queue, resumed=resumed, journal=journal))

    def accepted(self, input_id: str, now: float) -> None:
        """The agent will pass an input on when the turns before it have ended, or once more to the next Claude Code."""
        self._adopt(input_id, now)
        self.delivery.accepted(input_id, now, first=self._output.attribution.waits(input_id))

    def withdrawn(self, input_id: str, now: float, *, late: bool = False) -> None:
        """An input that waited is not passed on, whoever has wanted that. ``late``: it did not wait, or not any more.

        One that the agent has not accepted by then was lost with a connection, and is not sent again.
        """
        if self._output.end_all(self.delivery.withdrawn(input_id, late=late)) or not late:
            self.delivery.send_next(now)

    def refused(self, input_id: str, reason: str, now: float) -> None:
        """The agent's queue is full: the input is sent again when something has left it."""
        if self._output.end_all(self.delivery.refused(input_id, reason)):
            self.delivery.send_next(now)

    def process_ready(self, open_ids: Iterable[str], now: float) -> None:
        """Claude Code runs and can be written to. ``open_ids``: taken earlier, by whomever, and not done."""
        self._output.attribution.found_open(turn_id for turn_id in open_ids if turn_id not in self._turns)
        self.delivery.process_ready(now)

    def process_started(self) -> None:
        """Claude Code is a new process: nothing of the last one's is to be expected."""
        self._output.process_started()

    def took(self, input_id: str, now: float, *, again: bool = False) -> None:
        """The agent has passed an input on. ``again``: it answers a repeat; frames before it have said what is so."""
        if not again:
            self._adopt(input_id, now)
        if not self.delivery.took(input_id, now, again=again):
            return
        if not input_id.startswith(wire.CONTROL):
            self._output.attribution.took(input_id)
        elif self._turns.replaying or self._adopts:  # another program has decided, maybe before we listened
            self._output.drop_request(self._output.requests.answered_by(input_id))

    def _adopt(self, input_id: str, now: float) -> None:
        if self._adopts and not input_id.startswith(wire.CONTROL):
            self._turns.follow(input_id, now + self._silence)

    def receive_message(self, message: Raw | str, now: float, size: int = 0) -> None:
        """A line of Claude Code's output, of so many bytes."""
        if turn := self._output.receive(message, now):
            turn.heard(now, self._silence, size)

    def receive_stderr(self, text: str) -> None:
        """A line of Claude Code's stderr."""
        self._output.stderr.append(text[:2000])

    def process_exited(self, code: int | None, now: float, *, out_of_memory: bool = False, cause: str = "") -> None:
        """Claude Code has ended; all its output has been received.

        A turn that the agent has not taken yet waits for its answer, which will be a refusal.

        Args:
            code: None: nobody saw how.
            cause: what is known otherwise, for a person.
        """
        self.delivery.process_exited()
        for turn in [turn for turn in self._turns if turn.with_claude]:
            turn.exited = ProcessEnd(code, out_of_memory, cause)
            if turn.state is TurnState.RUNNING and self.session_id:
                turn.wake_at = now + self._interrupt_limit  # for a transcript that cannot be read
                self.delivery.outbox.add(ReadTranscript(turn.id, self.session_id))
            else:
                self._output.end_by_exit(turn, turn.exited)

    def connection_resumed(self, now: float) -> list[str]:
        """The connection broke and goes on without a gap: what the agent may not have got is sent again.

        Returns: the ids of these inputs, which may prove to be accepted already.
        """
        return self.delivery.resumed(now)

    def declared(self, turn_id: str) -> None:
        """The agent knows that this turn was seen to its end."""
        self.delivery.outbox.declared(turn_id)

    def inputs_refused(self, now: float, input_id: str = "") -> bool:
        """Claude Code was not running: what was sent and not taken waits again; False: that was known.

        Args:
            input_id: the one that was refused; empty (0.1.0): none of those that were sent was taken.
        """
        was_sent, given_up = self.delivery.not_running(input_id)
        self._output.end_all(given_up)
        return was_sent

    def connection_lost(self, reason: str, now: float) -> None:
        """The connection broke. What was not passed on waits again; what was cannot be followed further."""
        self._output.end_all(self.delivery.lost())
        cut_off = Judgement(Verdict.INTERRUPTED, reason)
        self._output.end_all([(turn, cut_off) for turn in self._turns if turn.with_agent])
        self._output.attribution.reset()

    def close(self, reason: str, now: float) -> None:
        """Nobody listens any more. What waits in the agent will still be answered, under its id."""
        waits = Judgement(Verdict.INTERRUPTED, f"{reason}; it still waits, and will be answered")
        self._output.end_all([(turn, waits) for turn in self._turns if turn.waits])
        self.connection_lost(reason, now)
        self.requests.close(reason)
        self.fail_queued(reason, now)

    def fail_queued(self, error: str, now: float) -> None:
        """Nothing can be sent any more: end the waiting turns, too."""
        self._output.end_all(self.delivery.failed(error))

    def receive_transcript(self, turn_id: str, lines: Iterable[str] | None, now: float) -> None:
        """The answer to :class:`~cc_bridge.protocol.commands.ReadTranscript`; None: it could not be read."""
        if turn := self._turns.own(turn_id):
            self._output.receive_transcript(turn, read_turn(lines or (), turn_id), now)

    def handle_timer(self, now: float) -> None:
        """Time has come: look after turns that are silent, and end what does not end."""
        for turn in self._turns.due(now):
            if turn.exited:
                self._output.end_by_exit(turn, turn.exited)
            elif turn.is_interrupted and self.delivery.queue.exists and not turn.with_claude:
                self._output.end(turn, Judgement(Verdict.INTERRUPTED, "given up; the agent does not answer"))
            elif turn.is_interrupted:
                self.delivery.outbox.add(EndProcess("an interrupted turn did not end", turn.id))
                turn.wake_at = now + self._interrupt_limit
            else:
                turn.wake_at = now + self._silence
                self.delivery.outbox.add(ReadTranscript(turn.id, self.session_id))
