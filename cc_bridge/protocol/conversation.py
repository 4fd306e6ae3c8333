"""Turns: their order, to whom each line belongs, permissions, interrupts, and how a turn has ended.

Sans-I/O, and time is an argument (seconds of any monotonic clock). Whoever holds a :class:`Conversation`
carries out what :meth:`Conversation.commands` returns, after *every* call; hands
:meth:`Conversation.take_events` to the readers; and calls :meth:`Conversation.handle_timer` when
:meth:`Conversation.next_timer` has come.

One turn is with Claude Code at a time; the others wait in the agent, which has one queue for all hosts, and not in
Claude Code, which merges messages that wait in its own queue into one turn with one result (measured). Where the agent
has no queue (0.1.0, or no agent at all) they wait here.

Each piece of state has an owner in a module of its own, which is told what happens and knows nothing of the others:
``turns`` and ``turn_state``, ``attribution`` (whose is a line), ``agent_queue``, ``permission_requests``, ``outbox``.
What a message says is read by ``answer``, and how a turn ends is decided in ``verdicts``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from cc_bridge_agent import wire

from .. import events
from ..errors import InvalidInput
from ..events import Event, Verdict
from . import stream_json as sj
from . import verdicts
from .agent_queue import AgentQueue
from .answer import Content
from .attribution import Attribution
from .commands import Command, DeclareDone, EndProcess, ReadTranscript, SendInput, Withdraw
from .outbox import Outbox
from .permission_requests import PermissionRequests
from .prompt import check_prompt
from .transcript import read_turn
from .turn_state import Interrupt, Step, Turn, TurnState
from .turns import Turns
from .verdicts import Ending, Exit

__all__ = ["Conversation"]

#: Lines of stderr kept to explain why the process ended.
_STDERR_LINES = 20

#: Kinds of messages that are not understood, and are counted.
_MOST_KINDS = 100


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
        self._turns = Turns()
        self._attribution = Attribution()
        self._agent_queue = AgentQueue()
        self._requests = PermissionRequests()
        self._outbox = Outbox()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._ready = False

    # What callers want

    def submit(self, turn_id: str, text: str, now: float) -> None:
        """Queue a command. ``turn_id`` is a UUID, and new.

        Raises:
            InvalidInput: see :func:`~cc_bridge.protocol.prompt.check_prompt`; or the id is known already.
        """
        check_prompt(text)
        if turn_id in self._turns:
            raise InvalidInput(f"there is a turn with the id {turn_id} already")
        self._turns.add(Turn(turn_id, text))
        self._send_next(now)

    def follow(self, turn_id: str, now: float) -> None:
        """Listen to a turn that another host has sent, or an earlier life of this one; it is read from its beginning.

        Permission requests are held back until :meth:`replayed`, because they may have been decided.
        """
        self._turns.replaying = True
        self._turns.add(Turn(turn_id, "", TurnState.SENT, followed=True, wake_at=now + self._silence))

    def replayed(self) -> None:
        """What comes from here on is new."""
        self._turns.replayed()

    def withdraw(self, turn_id: str, now: float) -> None:
        """Forget a turn that was sent and that somebody else has sent before."""
        self._turns.remove(turn_id)
        self._outbox.answered(turn_id)
        self._send_next(now)

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
            self._finish(turn, Ending(Verdict.INTERRUPTED, "interrupted while it waited in the queue"))
            return
        turn.interrupt = Interrupt.WANTED
        turn.wake_at = now + self._interrupt_limit
        if turn.state is TurnState.RUNNING:
            self._send_interrupt(turn)
        elif self._agent_queue.exists and not turn.with_claude:
            self._agent_queue.withdraw(turn_id)
            self._outbox.add(Withdraw(turn_id))

    def is_open(self, request_id: str) -> bool:
        """The permission request waits for a decision."""
        return request_id in self._requests

    def allow(self, request_id: str, tool_input: sj.Raw, updates: tuple[Any, ...] = ()) -> None:
        """Grant a permission request, possibly with a changed input."""
        self._requests.close(request_id)
        self._outbox.add_control(sj.allow(request_id, tool_input, updates))

    def deny(self, request_id: str, reason: str) -> None:
        """Refuse a permission request; the model reads the reason."""
        self._requests.close(request_id)
        self._outbox.add_control(sj.deny(request_id, reason))

    # What callers get

    def take_events(self, turn_id: str) -> list[Event]:
        """The turn's events since the last call. After the result, the turn is forgotten."""
        return self._turns.fetch(turn_id)

    def is_done(self, turn_id: str) -> bool:
        """The turn has ended, or is unknown."""
        turn = self._turns.get(turn_id)
        return turn is None or turn.is_done

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
        return not (turn.with_claude and self._requests)

    def split_off(self, turn_id: str, now: float) -> Conversation:
        """A conversation of one turn's own, which goes on with the next line as this one does; here it is forgotten."""
        other = Conversation(silence=self._silence, interrupt_limit=self._interrupt_limit)
        turn = self._turns.remove(turn_id)
        turn.followed = True
        turn.quiet_since, turn.wake_at = now, now + self._silence
        other._turns.add(turn)
        other.session_id, other.claude_version = self.session_id, self.claude_version
        other._attribution, other._agent_queue = self._attribution.copy(), self._agent_queue.copy()
        other._outbox = Outbox(self._outbox.controls)
        other._ready = self._ready
        other._stderr.extend(self._stderr)
        return other

    def is_sent(self, turn_id: str) -> bool:
        """The turn was sent by this conversation, and the agent has not answered yet."""
        turn = self._turns.get(turn_id)
        return turn is not None and turn.is_unanswered

    def is_queued(self, turn_id: str) -> bool:
        """The turn waits here; nobody else knows of it."""
        turn = self._turns.get(turn_id)
        return turn is not None and turn.state is TurnState.QUEUED

    @property
    def active(self) -> str | None:
        """The turn that is with Claude Code, or else the next that will be."""
        return self._turns.next

    @property
    def agent_queues(self) -> bool:
        """The agent has a queue of turns."""
        return self._agent_queue.exists

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
        about_to = any(input_id in self._turns for input_id in self._outbox.inputs)
        return about_to and not any(turn.with_claude for turn in self._turns)

    @property
    def settling(self) -> bool:
        """The process has ended and a turn of it has yet to be judged."""
        return any(turn.active and turn.exited for turn in self._turns)

    @property
    def stderr(self) -> str:
        """The last lines that Claude Code wrote to stderr."""
        return "\n".join(self._stderr)

    def commands(self) -> list[Command]:
        """What to carry out now, in order."""
        return self._outbox.take()

    def put_back(self, commands: Iterable[Command]) -> None:
        """What could not be carried out, and still is to be."""
        self._outbox.put_back(commands)

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`; None: never."""
        return self._turns.next_timer()

    # What happens on the link

    def greeted(self, queue: Iterable[str] | None, *, resumed: bool = False) -> None:
        """The agent has said hello. ``queue``: inputs that wait there; None: it has no queue.

        Args:
            resumed: what follows begins before what the hello says: the queue is known from there.
        """
        self._agent_queue.exists = queue is not None
        if not resumed:
            self._agent_queue.found(queue or ())
        if queue is not None:
            self._outbox.add(*[Withdraw(input_id) for input_id in self._agent_queue.withdrawing])

    def accepted(self, input_id: str, now: float) -> None:
        """The agent will pass an input on when the turns before it have ended, or once more to the next Claude Code."""
        self._outbox.answered(input_id)
        self._turns.move_up(self._agent_queue.join(input_id, first=self._attribution.waits(input_id)))
        turn = self._turns.get(input_id)
        if turn is not None and turn.state in (TurnState.SENT, TurnState.TAKEN):
            turn.wait(*self._agent_queue.place(input_id))
            if not self._turns.replaying:
                turn.tell_position()
        self._send_next(now)

    def withdrawn(self, input_id: str, now: float, *, late: bool = False) -> None:
        """An input that waited is not passed on, whoever has wanted that. ``late``: it did not wait, or not any more.

        One that the agent has not accepted by then was lost with a connection, and is not sent again.
        """
        turn = self._turns.get(input_id)
        self._agent_queue.answered(input_id)
        if late and not (turn is not None and turn.is_unanswered):
            return
        self._outbox.answered(input_id)
        self._turns.move_up(self._agent_queue.leave(input_id))
        if turn is not None and turn.state in (TurnState.SENT, TurnState.WAITING):
            self._finish(turn, Ending(Verdict.INTERRUPTED, "withdrawn while it waited in the queue"))
        self._send_next(now)

    def refused(self, input_id: str, reason: str, now: float) -> None:
        """The agent's queue is full: the input is sent again when something has left it."""
        self._outbox.answered(input_id)
        turn = self._turns.get(input_id)
        if turn is None or turn.state is not TurnState.SENT:
            return
        if self._agent_queue.refused():
            self._requeue([turn])
        else:  # it has no room for this one alone
            self._finish(turn, Ending(Verdict.FAILED, reason))
            self._send_next(now)

    def process_ready(self, open_ids: Iterable[str], now: float) -> None:
        """Claude Code runs and can be written to. ``open_ids``: taken earlier, by whomever, and not done."""
        self._ready = True
        self._outbox.declare_again()
        self._attribution.found_open(turn_id for turn_id in open_ids if turn_id not in self._turns)
        self._send_next(now)

    def process_started(self) -> None:
        """Claude Code is a new process: nothing of the last one's is to be expected."""
        self._stderr.clear()
        self._attribution.reset()

    def took(self, input_id: str, now: float, *, again: bool = False) -> None:
        """The agent has passed an input on. ``again``: it answers a repeat; frames before it have said what is so."""
        self._outbox.answered(input_id)
        if again and not self.is_sent(input_id):
            return
        self._agent_queue.answered(input_id)
        self._turns.move_up(self._agent_queue.leave(input_id))
        turn = self._turns.get(input_id)
        if turn is not None and turn.with_agent:
            turn.take(now, self._interrupt_limit if turn.is_interrupted else self._silence)
            self._send_next(now)
        if not input_id.startswith(wire.CONTROL):
            self._attribution.took(input_id)
        elif self._turns.replaying:  # somebody has decided, before we listened
            self._drop_request(self._requests.answered_by(input_id))

    def receive_message(self, message: sj.Raw | str, now: float, size: int = 0) -> None:
        """A line of Claude Code's output, of so many bytes."""
        if isinstance(message, str):
            self._count_unknown("no JSON")
            return
        parsed = sj.parse(message)
        if isinstance(parsed, sj.Unknown):
            self._count_unknown(parsed.kind)
        self._HANDLERS[type(parsed)](self, parsed, now)
        if (turn := self._turns.get(self._attribution.current)) is not None:
            turn.heard(now, self._silence, size)

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
        self._outbox.keep_only(self._turns)
        for turn in [turn for turn in self._turns if turn.with_claude]:
            turn.exited = Exit(code, out_of_memory, cause)
            if turn.state is TurnState.RUNNING and self.session_id:
                turn.wake_at = now + self._interrupt_limit  # for a transcript that cannot be read
                self._outbox.add(ReadTranscript(turn.id, self.session_id))
            else:
                self._finish_dead(turn, turn.exited)

    def connection_resumed(self, now: float) -> list[str]:
        """The connection broke and goes on without a gap: what the agent may not have got is sent again.

        Returns:
            The ids of these inputs, which may prove to be accepted already.
        """
        self._outbox.declare_again()
        # The time without a connection was no silence of Claude Code's.
        self._turns.put_off(now + min(self._silence, self._interrupt_limit))
        return self._outbox.send_again(self._agent_queue.withdrawing)

    def declared(self, turn_id: str) -> None:
        """The agent knows that this turn was seen to its end."""
        self._outbox.declared(turn_id)

    def inputs_refused(self, now: float, input_id: str = "") -> bool:
        """Claude Code was not running: what was sent and not taken waits again; False: that was known.

        Args:
            input_id: the one that was refused; empty (0.1.0): none of those that were sent was taken.
        """
        self._ready = False
        if input_id:
            self._outbox.answered(input_id)
        else:
            self._outbox.keep_only(())
        return self._requeue(
            [turn for turn in self._turns if turn.state is TurnState.SENT and input_id in ("", turn.id)]
        )

    def connection_lost(self, reason: str, now: float) -> None:
        """The connection broke. What was not passed on waits again; what was cannot be followed further."""
        self._ready = False
        self._outbox.keep_only(())
        self._agent_queue.lose()
        self._requeue([turn for turn in self._turns if turn.with_agent and not turn.with_claude])
        for turn in self._turns:
            if turn.with_agent:
                self._finish(turn, Ending(Verdict.INTERRUPTED, reason))
        self._attribution.reset()

    def close(self, reason: str, now: float) -> None:
        """Nobody listens any more. What waits in the agent will still be answered, under its id."""
        for turn in self._turns:
            if turn.waits:
                self._finish(turn, Ending(Verdict.INTERRUPTED, f"{reason}; it still waits, and will be answered"))
        self.connection_lost(reason, now)
        self.fail_queued(reason, now)

    def fail_queued(self, error: str, now: float) -> None:
        """Nothing can be sent any more: end the waiting turns, too."""
        for turn in self._turns:
            if turn.state is TurnState.QUEUED:
                self._finish(turn, Ending(Verdict.FAILED, error))

    def receive_transcript(self, turn_id: str, lines: Iterable[str] | None, now: float) -> None:
        """The answer to :class:`~cc_bridge.protocol.commands.ReadTranscript`; None: it could not be read."""
        turn = self._turns.own(turn_id)
        if turn is None:
            return
        reading = read_turn(lines or (), turn_id)
        if reading.ended:
            if not turn.exited:
                self._ready = False
                self._outbox.add(EndProcess("its turn had ended and it did not say so", turn.id))
            self._finish(turn, verdicts.by_transcript(reading.texts, turn.answer))
        elif turn.exited:
            self._finish_dead(turn, turn.exited)
        else:
            turn.tell_silence(now, reading.last)

    def handle_timer(self, now: float) -> None:
        """Time has come: look after turns that are silent, and end what does not end."""
        for turn in self._turns.due(now):
            if turn.exited:
                self._finish_dead(turn, turn.exited)
            elif turn.is_interrupted and self._agent_queue.exists and not turn.with_claude:
                self._finish(turn, Ending(Verdict.INTERRUPTED, "given up; the agent does not answer"))
            elif turn.is_interrupted:
                self._outbox.add(EndProcess("an interrupted turn did not end", turn.id))
                turn.wake_at = now + self._interrupt_limit
            else:
                turn.wake_at = now + self._silence
                self._outbox.add(ReadTranscript(turn.id, self.session_id))

    # Handlers, one a type of message; the messages that are content are the turn's own

    def _on_init(self, message: sj.Init, now: float) -> None:
        self.session_id = message.session_id or self.session_id
        self.claude_version = message.version or self.claude_version
        turn = self._turns.own(self._attribution.initialized(message.turn_ids, self._turns.active_ids))
        if turn is not None:
            self._begin(turn, now)
            if not turn.announced:
                turn.announced = True
                turn.events.append(events.TurnStarted(self.session_id, message.model))

    def _on_lifecycle(self, message: sj.Lifecycle, now: float) -> None:
        turn = self._turns.own(message.turn_id)
        if message.state == "held" and turn is not None:
            self._attribution.begin(turn.id)
            self._begin(turn, now)  # it can be interrupted from here on
        elif message.state == "started" and message.turn_id:
            # Not begun yet: an interrupt before system/init would be ignored by older releases.
            self._attribution.started(message.turn_id)

    def _on_echo(self, message: sj.Echo, now: float) -> None:
        if message.turn_id and self._attribution.echoed(message.turn_id, self._turns.active_ids):
            turn = self._turns.own(message.turn_id)
            if turn is not None:
                self._begin(turn, now)

    def _on_content(self, message: Content, now: float) -> None:
        turn = self._turns.own(self._attribution.current)
        if turn is not None:  # or else another client's, or left over
            said = turn.answer.receive(message)
            turn.events += said.events
            for kind in said.unknown:
                self._count_unknown(kind)

    def _on_permission(self, message: sj.Permission, now: float) -> None:
        turn = self._turns.own(self._attribution.current)
        if turn is None:
            return  # another client's turn, and its question
        if turn.is_interrupted:
            self.deny(message.request_id, "The turn is being interrupted.")
        else:
            self._requests.ask(message.request_id)
            turn.events.append(
                events.PermissionRequest(message.request_id, message.tool_name, message.input, message.suggestions)
            )

    def _on_cancelled(self, message: sj.Cancelled, now: float) -> None:
        self._drop_request(message.request_id)

    def _on_person(self, message: sj.PersonTyped, now: float) -> None:
        for turn in self._turns:
            if turn.active:
                turn.events.append(events.PersonTurn(message.prompt))

    def _on_unsupported(self, message: sj.UnsupportedRequest, now: float) -> None:
        self._count_unknown(f"control_request/{message.subtype[:60]}")
        self._outbox.add_control(sj.unsupported(message.request_id, message.subtype))

    def _ignore(self, message: object, now: float) -> None:
        pass

    def _on_result(self, message: sj.Result, now: float) -> None:
        self.session_id = message.session_id or self.session_id
        current = self._turns.own(self._attribution.current)
        ended = self._attribution.result(message.turn_ids, unclaimed_ends=current is None or current.may_lack_echo)
        if not ended:
            self._count_unknown("result of no turn")
            return
        for turn in [turn for turn_id in ended if (turn := self._turns.own(turn_id))]:
            self._finish(turn, verdicts.by_result(message, turn.answer))
        if not self._agent_queue.exists:  # 0.1.0 knows no other end of a turn whose program may be gone
            others = [turn_id for turn_id, taken in ended.items() if taken and turn_id not in self._turns]
            self._outbox.add(*[DeclareDone(turn_id) for turn_id in others])
        self._send_next(now)

    _HANDLERS: ClassVar[dict[type, Callable[[Conversation, Any, float], None]]] = {
        sj.Init: _on_init,
        sj.Lifecycle: _on_lifecycle,
        sj.Echo: _on_echo,
        sj.BlockStart: _on_content,
        sj.BlockPiece: _on_content,
        sj.WholeBlocks: _on_content,
        sj.Tools: _on_content,
        sj.Retry: _on_content,
        sj.Permission: _on_permission,
        sj.Cancelled: _on_cancelled,
        sj.PersonTyped: _on_person,
        sj.UnsupportedRequest: _on_unsupported,
        sj.ControlReply: _ignore,
        sj.Routine: _ignore,
        sj.Unknown: _on_content,
        sj.Result: _on_result,
    }

    # Small steps

    def _begin(self, turn: Turn, now: float) -> None:
        turn.begin(now)
        if turn.interrupt is Interrupt.WANTED:
            self._send_interrupt(turn)

    def _requeue(self, turns: Iterable[Turn]) -> bool:
        """These turns are to be sent anew, in the order of their submission, unless they were given up.

        One that is followed is another's to send.
        """
        again = [turn for turn in turns if not turn.followed]
        for turn in again:
            if turn.is_interrupted:
                self._finish(turn, Ending(Verdict.INTERRUPTED, "given up before it was passed on"))
            else:
                turn.step(Step.REQUEUE)
        return bool(again)

    def _finish_dead(self, turn: Turn, exited: Exit) -> None:
        last_words = self.stderr.splitlines()[-1] if self._stderr else ""
        self._finish(turn, verdicts.by_exit(exited, interrupted=turn.is_interrupted, last_words=last_words))

    def _finish(self, turn: Turn, ending: Ending) -> None:
        if turn.state not in (TurnState.QUEUED, TurnState.WAITING):
            self._outbox.add(DeclareDone(turn.id))
        if turn.with_claude:
            self._requests.close_all()  # one turn runs at a time
        self._outbox.answered(turn.id)
        self._attribution.ended(turn.id)
        turn.end(ending, self.session_id)

    def _count_unknown(self, kind: str) -> None:
        if len(self.unknown) >= _MOST_KINDS and kind not in self.unknown:
            kind = "other kinds"
        self.unknown[kind] += 1

    def _drop_request(self, request_id: str) -> None:
        if self._requests.close(request_id):
            for turn in self._turns:
                turn.drop_request(request_id)

    def _send_next(self, now: float) -> None:
        while self._ready and self._agent_queue.has_room(self._turns.with_agent):
            turn = self._turns.get(next(iter(self._turns.queued), ""))
            if turn is None:
                return
            turn.send(now, self._silence)
            self._outbox.add(SendInput(turn.id, sj.user_message(turn.text, turn.id)))

    def _send_interrupt(self, turn: Turn) -> None:
        turn.interrupt = Interrupt.SENT
        self._outbox.controls += 1
        only_while = turn.id if self._agent_queue.exists else ""
        self._outbox.add_control(sj.interrupt_request(f"{turn.id}-{self._outbox.controls}"), only_while)
