"""What Claude Code says, and what it means for the turns: they begin, ask, go on, and end.

Above ``delivery``, and below the conversation.
"""

from __future__ import annotations

from collections import Counter, deque

from .. import events
from . import stream_json as sj
from . import verdicts
from .attribution import Attribution
from .commands import EndProcess
from .control_requests import Reply
from .delivery import Delivery, Judgements
from .fields import Raw
from .permission_requests import PermissionRequests
from .streamed_answer import Content
from .transcript import Reading
from .turn_state import Interrupt, TrackedTurn
from .turns import Turns
from .verdicts import Judgement, ProcessEnd

__all__ = ["ClaudeOutput"]

#: Lines of stderr kept to explain why the process ended.
_STDERR_LINES = 20

#: Kinds of messages that are not understood, and are counted.
_MOST_KINDS = 100


class ClaudeOutput:
    """Reads messages, each for the turn that it belongs to, and ends the turns.

    Attributes:
        unknown: how often what kinds of messages were not understood.
        attribution: whose the output is.
        requests: what Claude Code has asked.
    """

    def __init__(self, turns: Turns, delivery: Delivery) -> None:
        self.session_id = ""
        self.claude_version = ""
        self.unknown: Counter[str] = Counter()
        self.attribution = Attribution()
        self.requests = PermissionRequests()
        self.stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._turns = turns
        self._delivery = delivery

    def split_off(self, turns: Turns, delivery: Delivery) -> ClaudeOutput:
        """What reads on, from the next line, for a conversation that goes on by itself."""
        other = ClaudeOutput(turns, delivery)
        other.session_id, other.claude_version = self.session_id, self.claude_version
        other.attribution = self.attribution.copy()
        other.stderr.extend(self.stderr)
        return other

    def process_started(self) -> None:
        """Claude Code is a new process: nothing of the last one's is to be expected."""
        self.stderr.clear()
        self.attribution.reset()

    def receive(self, message: Raw | str, now: float) -> TrackedTurn | None:
        """Read a line. Returns the turn that it belongs to, if that is known here."""
        if isinstance(message, str):
            self._count_unknown("no JSON")
            return None
        match parsed := sj.parse(message):
            case (
                sj.BlockPiece()
                | sj.BlockStart()
                | sj.WholeBlocks()
                | sj.Tools()
                | sj.Retry()
                | sj.Report()
                | sj.Unknown()
            ):
                self._on_content(parsed)
            case sj.Init() | sj.Lifecycle() | sj.Echo():
                self._on_named(parsed, now)
            case sj.Permission() | sj.Cancelled() | sj.UnsupportedRequest():
                self._on_request(parsed)
            case sj.PersonTyped(prompt):
                self._turns.tell_active(events.PersonTurn(prompt))
            case sj.Result():
                self._on_result(parsed, now)
            case sj.ControlReply(request_id, answer, error, code):
                self._delivery.requests.replied(request_id, Reply(answer, error, code))
            case sj.Routine():
                pass
        return self._turns.get(self.attribution.current)

    def drop_request(self, request_id: str) -> None:
        """A permission request is moot."""
        if self.requests.close(request_id):
            for turn in self._turns:
                turn.drop_request(request_id)

    def end(self, turn: TrackedTurn, judgement: Judgement) -> None:
        """End a turn, and tell everybody who knows of it."""
        if turn.with_claude:
            self.requests.close_all()  # one turn runs at a time
        self.attribution.ended(turn.id)
        self._delivery.ended(turn)
        turn.end(judgement, self.session_id)

    def end_all(self, judgements: Judgements) -> bool:
        """End turns. Returns whether there were any."""
        for turn, judgement in judgements:
            self.end(turn, judgement)
        return bool(judgements)

    def end_by_exit(self, turn: TrackedTurn, exited: ProcessEnd) -> None:
        """End a turn with its process, where nothing says that the answer is whole."""
        lines = "\n".join(self.stderr).splitlines()
        last_words = next((line for line in reversed(lines) if line.strip()), "")
        self.end(turn, verdicts.by_exit(exited, interrupted=turn.is_interrupted, last_words=last_words))

    def receive_transcript(self, turn: TrackedTurn, reading: Reading, now: float) -> None:
        """What the transcript says of a turn that was silent, or whose process has ended."""
        if reading.ended:
            if not turn.exited:
                self._delivery.is_ready = False
                self._delivery.outbox.add(EndProcess("its turn had ended and it did not say so", turn.id))
            self.end(turn, verdicts.by_transcript(reading.texts, turn.answer))
        elif turn.exited:
            self.end_by_exit(turn, turn.exited)
        else:
            turn.tell_silence(now, reading.last)

    def _on_named(self, message: sj.Init | sj.Lifecycle | sj.Echo, now: float) -> None:
        """Something is said of a turn as a whole."""
        if isinstance(message, sj.Init):
            self.session_id = message.session_id or self.session_id
            self.claude_version = message.version or self.claude_version
        turn = self._turns.own(self.attribution.begins(message, self._turns.active_ids))
        if turn is None:
            return
        turn.begin(now)
        if turn.interrupt is Interrupt.WANTED:
            self._delivery.send_interrupt(turn)
        if isinstance(message, sj.Init):
            turn.announce(self.session_id, message.model)

    def _on_content(self, message: Content) -> None:
        if isinstance(message, sj.Unknown):
            self._count_unknown(message.kind)
        turn = self._turns.own(self.attribution.current)
        if turn is None:
            return  # another client's, or left over
        said = turn.answer.receive(message)
        turn.events += said.events
        for kind in said.unknown:
            self._count_unknown(kind)

    def _on_request(self, message: sj.Permission | sj.Cancelled | sj.UnsupportedRequest) -> None:
        match message:
            case sj.Permission():
                self._on_permission(message)
            case sj.Cancelled(request_id):
                self.drop_request(request_id)
            case sj.UnsupportedRequest(request_id, subtype):
                self._count_unknown(f"control_request/{subtype[:60]}")
                self._delivery.outbox.add_control(sj.unsupported(request_id, subtype))

    def _on_permission(self, message: sj.Permission) -> None:
        turn = self._turns.own(self.attribution.current)
        if turn is None:
            return  # another client's turn, and its question
        request = events.PermissionRequest(
            message.request_id,
            message.tool_name,
            message.input,
            message.suggestions,
            message.tool_use_id,
            message.agent_id,
            message.reason,
        )
        if turn.is_interrupted:
            self.requests.close(message.request_id)
            self._delivery.outbox.add_control(sj.deny(message.request_id, "The turn is being interrupted."))
        else:
            self.requests.ask(message.request_id)
            turn.events.append(request)

    def _on_result(self, message: sj.Result, now: float) -> None:
        self.session_id = message.session_id or self.session_id
        current = self._turns.own(self.attribution.current)
        ended = self.attribution.result(message.turn_ids, unclaimed_ends=current is None or current.may_lack_echo)
        if not ended:
            self._count_unknown("result of no turn")
            return
        for turn in [turn for turn_id in ended if (turn := self._turns.own(turn_id))]:
            self.end(turn, verdicts.by_result(message, turn.answer))
        others = [turn_id for turn_id, taken in ended.items() if taken and turn_id not in self._turns]
        self._delivery.ended_elsewhere(others)
        self._delivery.send_next(now)

    def _count_unknown(self, kind: str) -> None:
        if len(self.unknown) >= _MOST_KINDS and kind not in self.unknown:
            kind = "other kinds"
        self.unknown[kind] += 1
