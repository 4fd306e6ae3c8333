"""The permission requests of an instance that nobody has decided yet, read and answered beside its conversation.

Nothing is started for it, and whoever attends to the instance is not disturbed: the requests are in the frames that
the agent keeps, and an answer is one more control message. Of two answers the first that the agent writes counts, and
its frames tell everybody which one that was.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from cc_bridge_agent import wire

from ..bridge.connection import Connection, FramesGone, this_program
from ..decisions import Allow, Deny, request_digest
from ..errors import AgentUnavailable, AlreadyDecided, ConnectionLost, InvalidInput
from ..events import PermissionRequest
from ..protocol import stream_json as sj
from ..protocol.commands import control_id
from ..protocol.link import AgentRefused, Link, LinkEvent, Position, Status, Took
from ..protocol.unanswered import UnansweredRequests
from .activity import NOBODY, Way, ask_status
from .place import NoAgentPossible

__all__ = ["PendingRequest", "RequestWatch", "answer_request", "open_requests"]

#: Seconds to read what is open, and for an answer to be taken.
_LIMIT = 10.0

#: Bytes of frames that are read for it.
_MOST_BYTES = 64 * 1024 * 1024

#: Frames that are read where no turn runs: what a background task asks for.
_LATEST = 300

#: Decided requests that are remembered for who answers late.
_MOST_CLOSED = 1000

#: Numbers of control messages that no host reaches by counting.
_FIRST_NUMBER = 10**9


@dataclass(frozen=True)
class PendingRequest:
    """A permission request that nobody has decided. What is in it was written by a model, or in a container.

    Attributes:
        id: the same for everybody who looks, and at a fleet's desk. Another input, tool, turn or instance has another.
        turn: the turn that asks; empty: none, but something in the background.
        waited: seconds for which it had waited at least when it was read: for so long Claude Code had said nothing; 0
            if it came later. None: nobody knows.
    """

    id: str
    instance: str
    turn: str
    request: PermissionRequest
    waited: float | None = None


async def open_requests(way: Way, name: str) -> list[PendingRequest]:
    """What an instance waits for, oldest first; nothing where no agent runs.

    Args:
        way: makes a channel to an agent that runs, and starts none (``BridgedInstance.connect_to_look``).

    Raises:
        AgentUnavailable: there is an agent, and it does not answer in time, or has too much to say.
        InvalidInput: no agent can run there, so nobody can look.
        EngineError: of its container nothing can be learned.
    """
    try:
        async with _in_time(name), RequestWatch.open(way, name) as watch:
            return watch.open_requests
    except NOBODY:
        return []


async def answer_request(way: Way, request: PendingRequest, decision: Allow | Deny) -> None:
    """Decide on a request, in the place of whoever attends to the instance.

    Cancelled, it may have been decided or not; look again.

    Args:
        way: as :func:`open_requests` has it.

    Raises:
        AlreadyDecided: somebody else was first, or nobody needs to decide any more (``how`` is ``moot``).
        AgentUnavailable, InvalidInput, EngineError: as :func:`open_requests`; also where no agent runs.
        ConnectionLost: the agent went away; it may have been decided or not.
    """
    name = request.instance
    try:
        async with _in_time(name), RequestWatch.open(way, name) as watch:
            await watch.answer(request, decision)
    except NOBODY:
        what = "no agent runs, so Claude Code does not wait for an answer any more"
        raise AgentUnavailable(what, instance=name, hint=f"`cc-bridge ps` shows what {name} does.") from None


class RequestWatch:
    """The open requests of one instance, as they come and go. Made by :meth:`open`."""

    def __init__(self, connection: Connection, name: str, status: Status | None, seen: int = 0) -> None:
        self._connection = connection
        self._name = name
        self._unanswered = UnansweredRequests()
        self._turn = status.now.turn if status and status.now else ""
        self._open: dict[str, tuple[sj.Permission, PendingRequest]] = {}  # by Claude Code's own id
        self._closed: dict[str, None] = {}
        self._silent = status.now.silent if status and status.now else None
        self._seen = seen  # the last frame before the status: what was asked later has not waited so long

    @classmethod
    @asynccontextmanager
    async def open(cls, way: Way, name: str) -> AsyncIterator[RequestWatch]:
        """Connect, and read what is open now. Bound the time of it.

        Raises: as :func:`open_requests`, and what ``way`` raises where no agent runs.
        """
        connection, status, seen = await _connect(way, name)
        try:
            watch = cls(connection, name, status, seen)
            await watch._catch_up()
            yield watch
        finally:
            await connection.aclose()

    @property
    def open_requests(self) -> list[PendingRequest]:
        """What is open, oldest first, as far as was received."""
        return [pending for _, pending in self._open.values()]

    @property
    def closed(self) -> frozenset[str]:
        """The ids of those that were open, and were decided or need no decision any more; the newest of them."""
        return frozenset(self._closed)

    async def receive(self) -> None:
        """Wait for what comes next. It need not be about a request.

        Raises:
            ConnectionLost: nothing more will come.
        """
        for event in await self._receive():
            self._note(event)

    async def answer(self, request: PendingRequest, decision: Allow | Deny) -> None:
        """Decide on a request, once. Raises as :func:`answer_request`."""
        if not self._is_open(request):
            raise _moot(self._name)
        message = _message(request.request, decision)
        number = _FIRST_NUMBER + secrets.randbelow(_FIRST_NUMBER)  # two that answer at once have two names
        ours = control_id(number, request.request.request_id)
        try:
            self._connection.link.send_input(ours, message, request.turn)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"the answer is not JSON: {error}", instance=self._name) from None
        try:
            await self._connection.write()
            while True:
                for event in await self._receive():
                    if isinstance(event, AgentRefused) and event.id in ("", ours):
                        raise _moot(self._name)
                    if isinstance(event, Took) and event.id == ours:
                        self._check_first(request, in_time=event.seq > 0)
                        return
                    self._note(event)
        except ConnectionLost as error:
            hint = f"It may have arrived or not: `cc-bridge permissions {self._name}` shows what is open."
            raise ConnectionLost(
                "the agent went away before it had taken the answer", instance=self._name, hint=hint
            ) from error

    def _check_first(self, request: PendingRequest, *, in_time: bool) -> None:
        """Of what the agent told before it took our answer, nothing may have decided the request."""
        if not in_time or not self._is_open(request):
            raise _moot(self._name)

    async def _catch_up(self) -> None:
        size, events = 0, self._connection.early
        while True:
            for event in events:
                self._note(event)
                size += getattr(event, "size", 0)
            if self._connection.link.last_seq >= self._connection.hello.seq:
                return
            if size > _MOST_BYTES:
                raise AgentUnavailable("its turn is too long to be looked through", instance=self._name)
            events = await self._receive()

    async def _receive(self) -> list[LinkEvent]:
        if self._connection.link.closed:
            raise ConnectionLost("the agent said what it must not", instance=self._name)
        return await self._connection.receive() or []

    def _note(self, event: LinkEvent) -> None:
        self._unanswered.receive(event)
        if isinstance(event, Took) and not event.id.startswith(wire.CONTROL):
            self._turn = event.id
        unanswered = self._unanswered.open
        for request_id, (asked, pending) in list(self._open.items()):
            if unanswered.get(request_id) is not asked:  # also what was asked anew, with another input
                del self._open[request_id]
                self._closed[pending.id] = None
        for request_id, asked in unanswered.items():
            if request_id not in self._open and (new := self._pending(asked, getattr(event, "seq", 0))):
                self._open[request_id] = asked, new
        while len(self._closed) > _MOST_CLOSED:
            del self._closed[next(iter(self._closed))]

    def _pending(self, asked: sj.Permission, seq: int) -> PendingRequest | None:
        """None: nobody could be shown what it asks."""
        request = _request_of(asked)
        try:
            digest = request_digest(self._name, self._turn, request)
        except (ValueError, TypeError, RecursionError):
            return None
        waited = self._silent if self._silent is None or seq <= self._seen else 0.0
        return PendingRequest(digest, self._name, self._turn, request, waited)

    def _is_open(self, request: PendingRequest) -> bool:
        return any(pending.id == request.id for pending in self.open_requests)


async def _connect(way: Way, name: str) -> tuple[Connection, Status | None, int]:
    """A connection that begins with the running turn, or with the newest frames where none runs.

    With it the agent's status, and the number of a frame before it.
    """
    try:
        first = await Connection.open(Link(host=this_program(), looks=True), way, name)
    except NoAgentPossible:
        what = "its image has no Python for an agent, so only the program that began a turn sees what it asks"
        raise InvalidInput(what, instance=name, hint="Answer in that program.") from None
    try:
        end, status = first.link.position, await ask_status(first)
    finally:
        await first.aclose()
    if end is None:
        raise AgentUnavailable("it keeps nothing that could be looked at", instance=name)
    turn = status.now.turn if status and status.now else ""
    if turn:
        try:
            return await Connection.open(Link(turn=turn, host=this_program(), looks=True), way, name), status, end.seq
        except FramesGone:
            pass  # the turn has just ended, or its beginning is not kept
    latest = Position(max(0, end.seq - _LATEST), end.journal)
    try:
        return await Connection.open(Link(after=latest, host=this_program(), looks=True), way, name), status, end.seq
    except FramesGone:
        return await Connection.open(Link(after=end, host=this_program(), looks=True), way, name), status, end.seq


@asynccontextmanager
async def _in_time(name: str) -> AsyncIterator[None]:
    try:
        with anyio.fail_after(_LIMIT):
            yield
    except TimeoutError:
        hint = f"`cc-bridge doctor {name}` says more."
        raise AgentUnavailable("its agent does not answer in time", instance=name, hint=hint) from None


def _request_of(asked: sj.Permission) -> PermissionRequest:
    return PermissionRequest(
        asked.request_id,
        asked.tool_name,
        asked.input,
        asked.suggestions,
        asked.tool_use_id,
        asked.agent_id,
        asked.reason,
    )


def _message(request: PermissionRequest, decision: Allow | Deny) -> Mapping[str, Any]:
    if isinstance(decision, Deny):
        return sj.deny(request.request_id, decision.reason)
    given = request.input if decision.input is None else decision.input
    return sj.allow(request.request_id, dict(given), decision.updates)


def _moot(name: str) -> AlreadyDecided:
    what = "the request was decided already, or needs no decision any more"
    hint = f"Nothing was changed; `cc-bridge permissions {name}` shows what is open."
    return AlreadyDecided(what, instance=name, hint=hint, how="moot")
