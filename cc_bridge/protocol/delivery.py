"""Turns on their way to Claude Code: what is sent when, what the agent answers, and what is said again.

Above ``outbox`` (what is to be carried out) and ``agent_queue`` (what waits in the agent), and below everything that
knows what Claude Code says.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..events import Verdict
from ..names import new_uuid
from . import stream_json as sj
from .agent_queue import AgentQueue
from .commands import DeclareDone, SendInput, Withdraw
from .control_requests import ControlRequests
from .fields import Raw
from .outbox import Outbox
from .prompt import content_of
from .turn_state import Interrupt, TrackedTurn, TurnState, TurnStep
from .turns import Turns
from .verdicts import Judgement

__all__ = ["Delivery", "Judgements"]

_MAY_HAVE_RUN = "the agent that had it is gone, with all that it kept: it may have run there, and was not given again"

_MAY_RUN = "the agent was given it and has not answered: it may have run, or will"

#: Turns that are to end, and how.
Judgements = list[tuple[TrackedTurn, Judgement]]


class Delivery:
    """Sends the turns that wait, as many as the agent has room for, and knows what has become of those that were sent.

    Args:
        turns: where the turns are.
        silence: seconds after which a turn that was sent is looked after.
        interrupt_limit: seconds after which one is that was given up.

    Attributes:
        is_ready: Claude Code runs, and can be written to.
        requests: what this host asks it.
        held_back: what begins something must not be sent: another program drives. Decisions and interrupts may.
    """

    def __init__(self, turns: Turns, silence: float, interrupt_limit: float) -> None:
        self.is_ready = self.held_back = False
        self.outbox = Outbox()
        self.queue = AgentQueue()
        self.requests = ControlRequests()
        self._journal = ""  # of the agent that was greeted last
        self._turns = turns
        self._silence = silence
        self._interrupt_limit = interrupt_limit

    def split_off(self, turns: Turns) -> Delivery:
        """The delivery of a conversation that goes on by itself; nothing is on its way there."""
        other = Delivery(turns, self._silence, self._interrupt_limit)
        other.is_ready = self.is_ready
        other.outbox = Outbox(self.outbox.controls)
        other.queue = self.queue.copy()
        return other

    # What this host wants

    @property
    def _may_send(self) -> bool:
        return self.is_ready and not self.held_back

    @property
    def has_unsent(self) -> bool:
        """Something waits here to be sent, or to be sent again because nobody has answered."""
        return self._turns.unsent or self.requests.wait

    @property
    def is_under_way(self) -> bool:
        """Something that this host has begun has not ended."""
        return self._turns.has_own or self.requests.are_open

    def hold_back(self) -> None:
        """From now on nothing is sent that begins something, also not what was about to be."""
        self.held_back = True
        self.outbox.hold_back()

    def let_go(self, now: float) -> None:
        """Send what was held back."""
        self.held_back = False
        self._send_requests()
        self.send_next(now)

    def send_next(self, now: float) -> None:
        """Send what waits here, if there is room."""
        while self._may_send and self.queue.has_room(self._turns.with_agent) and (turn := self._turns.next_queued):
            turn.send(now, self._silence)
            turn.journal = self._journal
            self.outbox.add(SendInput(turn.id, sj.user_message(content_of(turn.prompt), turn.id)))

    def ask(self, request: Raw) -> str:
        """Ask Claude Code something, as soon as it can be written to; the request's id."""
        request_id = new_uuid()  # no other host's: all of them hear all answers
        self.requests.add(request_id, request)
        self._send_requests()
        return request_id

    def _send_requests(self) -> None:
        """Send the requests that wait, if Claude Code can be written to."""
        for request_id, request in self.requests.take_waiting() if self._may_send else ():
            self.outbox.add_control(sj.control_request(request_id, request))

    def forget(self, turn_id: str, now: float) -> None:
        """A turn that was sent is not this host's."""
        self.outbox.answered(turn_id)
        self.send_next(now)

    def interrupt(self, turn: TrackedTurn, now: float) -> None:
        """A turn that was sent is to end; one that Claude Code has, and has not begun, when it begins."""
        turn.interrupt = Interrupt.WANTED
        turn.wake_at = now + self._interrupt_limit
        if turn.state is TurnState.RUNNING:
            self.send_interrupt(turn)
        elif self.queue.exists and not turn.with_claude:
            self.queue.withdraw(turn.id)
            self.outbox.add(Withdraw(turn.id))

    def send_interrupt(self, turn: TrackedTurn) -> None:
        """Tell Claude Code to end the turn, which has begun."""
        turn.interrupt = Interrupt.SENT
        only_while = turn.id if self.queue.exists else ""
        self.outbox.add_control(sj.interrupt_request(f"{turn.id}-{self.outbox.next_control()}"), only_while)

    def ended(self, turn: TrackedTurn) -> None:
        """A turn is about to end. What waits in the agent stays there, and so is not declared."""
        if turn.state not in (TurnState.QUEUED, TurnState.WAITING):
            self.outbox.add(DeclareDone(turn.id))
        self.outbox.answered(turn.id)

    def ended_elsewhere(self, turn_ids: Iterable[str]) -> None:
        """Turns of others have ended, whose programs may be gone: agents without a queue know no other end of them."""
        if not self.queue.exists:
            self.outbox.add(*[DeclareDone(turn_id) for turn_id in turn_ids])

    # What the agent says

    def greeted(self, queue: Iterable[str] | None, *, resumed: bool, journal: str = "") -> Judgements:
        """The agent has said hello; see :meth:`~cc_bridge.protocol.conversation.Conversation.greeted`."""
        lost = [turn for turn in self._turns if turn.state is TurnState.QUEUED and turn.journal not in ("", journal)]
        self._journal = journal
        self.queue.exists = queue is not None
        if not resumed:
            self.queue.found(queue or ())
        if queue is not None:
            self.outbox.add(*[Withdraw(input_id) for input_id in self.queue.withdrawing])
        # An agent with the same journal knows them by their ids, and runs them once.
        return [(turn, Judgement(Verdict.INTERRUPTED, _MAY_HAVE_RUN)) for turn in lost if journal]

    def process_ready(self, now: float) -> None:
        """Claude Code runs."""
        self.is_ready = True
        self.outbox.declare_again()
        self._send_requests()  # before the turns: they may be for just these
        self.send_next(now)

    def process_exited(self) -> None:
        """Claude Code has ended: what it was told beside the turns is moot."""
        self.is_ready = False
        self.outbox.keep_only(self._turns)
        self.requests.process_exited()

    def accepted(self, input_id: str, now: float, *, first: bool) -> None:
        """An input waits in the agent; ``first``: Claude Code had it, and has not read it."""
        self.outbox.answered(input_id)
        comes_back = first and input_id not in self.queue
        self._turns.move_up(self.queue.join(input_id, first=first))
        if comes_back:
            self._turns.move_back(self.queue.place(input_id)[0])
        turn = self._turns.get(input_id)
        if turn is not None and turn.state in (TurnState.SENT, TurnState.TAKEN):
            turn.wait(*self.queue.place(input_id))
            if not self._turns.replaying:
                turn.tell_position()
        self.send_next(now)

    def took(self, input_id: str, now: float, *, again: bool) -> bool:
        """The agent has passed an input on; False: an answer to a repeat, which says nothing new."""
        self.outbox.answered(input_id)
        turn = self._turns.get(input_id)
        if again and not (turn is not None and turn.is_unanswered):
            return False
        self.queue.answered(input_id)
        self._turns.move_up(self.queue.leave(input_id))
        if turn is not None and turn.with_agent:
            turn.take(now, self._interrupt_limit if turn.is_interrupted else self._silence)
            self.send_next(now)
        return True

    def withdrawn(self, input_id: str, *, late: bool) -> Judgements:
        """An input will not be passed on; see :meth:`~cc_bridge.protocol.conversation.Conversation.withdrawn`."""
        turn = self._turns.get(input_id)
        self.queue.answered(input_id)
        if late and not (turn is not None and turn.is_unanswered):
            return []
        self.outbox.answered(input_id)
        self._turns.move_up(self.queue.leave(input_id))
        if turn is None or turn.state not in (TurnState.SENT, TurnState.WAITING):
            return []
        return [(turn, Judgement(Verdict.INTERRUPTED, "withdrawn while it waited in the queue"))]

    def refused(self, input_id: str, reason: str) -> Judgements:
        """The agent has no room for an input: it is sent again when something has left the queue."""
        self.outbox.answered(input_id)
        turn = self._turns.get(input_id)
        if turn is None or turn.state is not TurnState.SENT:
            return []
        if self.queue.refused():
            turn.journal = ""
            return self._requeue([turn])
        return [(turn, Judgement(Verdict.FAILED, reason))]  # it has no room for this one alone

    def not_running(self, input_id: str) -> tuple[bool, Judgements]:
        """Claude Code did not run: what was sent waits again, whatever it was (``""``) or this one.

        Returns:
            Whether it was sent by this host; and the turns that were given up meanwhile.
        """
        self.is_ready = False
        if input_id:
            self.outbox.answered(input_id)
        else:
            self.outbox.keep_only(())
        self.requests.wait_again(input_id)
        sent = [turn for turn in self._turns if turn.is_unanswered and input_id in ("", turn.id)]
        for turn in sent:
            turn.journal = ""  # the agent has said that it did not take it
        return bool(sent), self._requeue(sent)

    def failed(self, error: str) -> Judgements:
        """Nothing can be sent any more. What was sent and not answered may run."""
        failed, sent = Judgement(Verdict.FAILED, error), Judgement(Verdict.INTERRUPTED, f"{error}; {_MAY_RUN}")
        queued = [turn for turn in self._turns if turn.state is TurnState.QUEUED]
        return [(turn, sent if turn.journal else failed) for turn in queued]

    def lost(self) -> Judgements:
        """The connection broke: what was not passed on waits again."""
        self.is_ready = False
        self.outbox.keep_only(())
        for turn in map(self._turns.get, self.outbox.drop_inputs()):
            if turn is not None:
                turn.journal = ""  # the agent cannot have got it
        self.requests.wait_again()
        self.queue.lose()
        return self._requeue([turn for turn in self._turns if turn.with_agent and not turn.with_claude])

    def resumed(self, now: float) -> list[str]:
        """The connection goes on: what the agent may not have got is said again. Returns the ids of such inputs."""
        self.outbox.declare_again()
        # The time without a connection was no silence of Claude Code's.
        self._turns.put_off(now + min(self._silence, self._interrupt_limit))
        if self.held_back:
            return []
        again = self.outbox.send_again(self.queue.withdrawing)
        self.let_go(now)
        return again

    def _requeue(self, turns: Iterable[TrackedTurn]) -> Judgements:
        """These turns are to be sent anew, in the order of their submission, unless they were given up.

        One that is followed is another's to send.
        """
        given_up: Judgements = []
        for turn in turns:
            if turn.is_interrupted and not turn.followed:
                given_up.append((turn, Judgement(Verdict.INTERRUPTED, "given up before it was passed on")))
            elif not turn.followed:
                turn.step(TurnStep.REQUEUE)
        return given_up
