"""What the agent says, told to a conversation. No I/O: time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ..errors import BridgeError, ClaudeNotFound, ClaudeStartError, ConnectionLost, LeaseLost, ProtocolError
from ..logs import Log
from ..protocol.conversation import Conversation
from ..protocol.link import (
    AgentRefused,
    Done,
    ErrorOutput,
    Exited,
    Hello,
    LinkEvent,
    Output,
    Queued,
    Started,
    Took,
    Violated,
    Withdrawn,
)
from .attempts import Attempts
from .surroundings import Ending

__all__ = ["AgentEvents", "AgentPlace", "refusal_error"]

_ENOENT = 2


class AgentPlace(Protocol):
    """What is asked of, and told to, the place of the agent."""

    name: str
    claude_hint: str | None

    def pop_ending(self) -> Ending:
        """Why the previous agent exited, if that is known; cleared by this call."""

    def session_changed(self, session_id: str) -> None:
        """Remember the session to go on with."""


class AgentEvents:
    """Knows from the agent's events whether Claude Code runs, which commands were tried, and which are another's.

    Args:
        follows: the conversation is of a turn that was sent before, maybe long ago.
        claude_runs: as far as is known.
        catches_up: what was before the hello is read before anything is done, and comes to what the hello says.
        on_frame: called after each event has been handled, with the number of its frame; 0: it has none.

    Attributes:
        claude_runs: the same, by now.
        claude_pid: the number of the process that was started last; empty: not while this one listened.
        replays: what comes is of other programs' turns before this one listened, until :meth:`caught_up`.
    """

    def __init__(
        self,
        conversation: Conversation,
        place: AgentPlace,
        log: Log,
        *,
        follows: bool,
        claude_runs: bool = False,
        on_frame: Callable[[int], None] | None = None,
        catches_up: bool = False,
    ) -> None:
        self._conversation = conversation
        self._place = place
        self._log = log
        self._follows = follows
        self._on_frame = on_frame
        self._catches_up = catches_up
        self._attempts = Attempts()
        self._joined: list[str] = []
        self.replays = False
        self.claude_runs = claude_runs
        self.claude_pid = ""

    def greeted(self, hello: Hello, now: float, *, continues: bool) -> None:
        """A connection was made. ``continues``: what follows begins before what the hello says."""
        conversation = self._conversation
        conversation.greeted(hello.queue, resumed=continues, journal=hello.journal)
        if self._follows or not continues or self._catches_up:
            self.claude_runs = hello.state == "running"
        if hello.resumed and not (self._follows or continues):
            self.replays = True
            conversation.turns.replaying = (
                True  # other programs' turns, from the beginning of the first that has not ended
            )
        elif hello.resumed:
            # Whether Claude Code runs, the frames that follow say.
            self._attempts.repeat(conversation.connection_resumed(now))
        elif self.claude_runs:
            conversation.process_ready(hello.open_ids, now)

    def received(self, link_events: Iterable[LinkEvent], now: float, *, caught_up: bool) -> BridgeError | None:
        """The agent has said this.

        Args:
            caught_up: all has come that the agent had when it was connected to.

        Returns:
            What is to be raised when all is handled: the agent broke a rule, or cannot do what it must.
        """
        session_id = self._conversation.session_id
        # All are handled: what else has come must not be lost with a failure. A violation is the last of them.
        failures = []
        for event in link_events:
            if failure := self._handle(event, now):
                failures.append(failure)
            if self._on_frame is not None:
                self._on_frame(getattr(event, "seq", 0))
        if self._follows and caught_up:
            self._conversation.replayed()
        if self._conversation.session_id != session_id and not self._follows:  # what is followed may be long ago
            self._place.session_changed(self._conversation.session_id)
        return failures[-1] if failures else None

    def caught_up(self, now: float) -> None:
        """What was said before was read up to now."""
        has_replayed, self.replays = self.replays, False
        if has_replayed:
            self._conversation.replayed()
        if self.claude_runs and (has_replayed or not self._conversation.delivery.is_ready):
            self._conversation.process_ready((), now)  # it ran on while this program had given it up

    def lost(self, reason: str, now: float, *, error: str) -> None:
        """The connection is gone and will not be resumed. ``error``: for commands that were tried too often."""
        self._conversation.connection_lost(reason, now)
        self._count_tries(error, now)

    def take_joined(self) -> list[str]:
        """Ids of commands that proved to be of turns that run, or ran, already; the conversation has dropped them."""
        joined, self._joined = self._joined, []
        return joined

    def _handle(self, event: LinkEvent, now: float) -> BridgeError | None:
        conversation = self._conversation
        match event:
            case Output(message, size):
                conversation.receive_message(message, now, size)
            case ErrorOutput(text):
                self._log.debug("claude_stderr", text=text[:500])
                conversation.receive_stderr(text)
            case Queued() | Withdrawn() | Took() | Done():
                self._answered(event, now)
            case Started(pid):
                self.claude_runs, self.claude_pid = True, str(pid)
                self._log.info("claude_started", pid=pid)
                conversation.process_started()
                conversation.process_ready((), now)
            case Exited():
                self._exited(event, now)
            case AgentRefused():
                return self._refused(event, now)
            case Violated(reason):
                self._log.error("protocol_error", reason=reason)
                return ProtocolError(reason, instance=self._place.name)
        return None

    def _answered(self, event: Queued | Withdrawn | Took | Done, now: float) -> None:
        """The agent has said what becomes of an input."""
        match event:
            case Queued(input_id):
                self._attempts.accept(input_id)
                self._conversation.accepted(input_id, now)
            case Withdrawn(input_id, late):
                self._conversation.withdrawn(input_id, now, late=late)
            case Took(input_id, again):
                self._took(input_id, now, again=again)
            case Done(input_id):
                self._conversation.declared(input_id)

    def _took(self, input_id: str, now: float, *, again: bool) -> None:
        repeated = self._attempts.take(input_id)
        if again and not repeated and self._conversation.is_sent(input_id):
            self._log.info("turn_joined", turn=input_id)
            self._conversation.withdraw(input_id, now)
            self._joined.append(input_id)
        else:
            self._conversation.took(input_id, now, again=again)

    def _exited(self, exited: Exited, now: float) -> None:
        self.claude_runs = False
        self._log.info("claude_exited", code=exited.code, out_of_memory=exited.out_of_memory, asleep=exited.asleep)
        cause = "its agent was told to end, and has ended Claude Code" if exited.stopped else ""
        ending = Ending(cause, exited.code, exited.out_of_memory)
        if exited.code is None:  # nobody saw it; the place may know why
            ending = self._place.pop_ending()
        self._conversation.process_exited(ending.exit_code, now, out_of_memory=ending.out_of_memory, cause=ending.what)

    def _refused(self, refusal: AgentRefused, now: float) -> BridgeError | None:
        """The agent could not do as asked; the error, where that is one."""
        self._log.warning("agent_refused", code=refusal.code, reason=refusal.message)
        if refusal.code == "not_running":
            self.claude_runs = False
            if self._conversation.inputs_refused(now, refusal.id):
                self._count_tries(refusal.message, now)
            return None
        if refusal.code == "full":
            self._conversation.refused(refusal.id, refusal.message, now)
            return None
        return refusal_error(refusal, self._place.name, self._place.claude_hint)

    def _count_tries(self, reason: str, now: float) -> None:
        """What waits was not taken; after a few tries that failed, it fails with the reason."""
        if self._attempts.fail(self._conversation.queued):
            self._conversation.fail_queued(reason, now)


def refusal_error(refusal: AgentRefused, instance: str, claude_hint: str | None) -> BridgeError:
    """The error for what an agent cannot do."""
    if refusal.code == "start" and refusal.errno == _ENOENT:
        what = f"Claude Code is not there: {refusal.message}"
        return ClaudeNotFound(what, instance=instance, hint=claude_hint)
    if refusal.code == "start":
        return ClaudeStartError(f"Claude Code cannot be started: {refusal.message}", instance=instance)
    if refusal.code == "fence":
        return LeaseLost(f"the agent: {refusal.message}", instance=instance)
    return ConnectionLost(f"the agent: {refusal.message}", instance=instance)
