"""A conversation over whatever way to the agent there is, for any number of tasks.

There is no task of its own. Whoever waits for something reads for everybody: one waiter at a time holds
the turnstile, receives, and hands out what has come. So nothing outlives a caller, nothing runs while
nobody waits, and a slow reader is back-pressure down to Claude Code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import BridgeError, InvalidInput, RequestRefused
from ..events import Event, PermissionRequest, TurnResult
from ..instance import Allow, Decision, OnPermission
from ..logs import Log
from ..names import is_uuid, new_uuid
from ..protocol.conversation import Conversation
from ..protocol.link import Link
from ..turn import Turn, TurnInfo
from .connection import Connection, this_program
from .driver import Driver
from .followers import Follower, Followers
from .kept_turns import ask_for_turns
from .permissions import Answer, Permissions, leave_to_others
from .surroundings import Surroundings

if TYPE_CHECKING:
    from ..protocol.blocks import Prompt

__all__ = ["Bridge"]

#: Seconds for Claude Code to answer a request; it does within milliseconds, in the middle of a turn, too.
_ANSWER_LIMIT = 30.0


class Bridge:
    """One conversation with Claude Code.

    Args:
        follow: the id of a turn that was sent before: only listened to, from its beginning.
        on_permission: decides on permission requests; without it they are denied.
        permission_limit: seconds for it to decide; then the request is denied.
        silence, interrupt_limit: see :class:`~cc_bridge.protocol.conversation.Conversation`.
        driver: of the turn that is followed, where it goes on from somewhere else than its beginning.
    """

    def __init__(
        self,
        place: Surroundings,
        log: Log,
        *,
        follow: str = "",
        session_id: str = "",
        on_permission: OnPermission | None = None,
        permission_limit: float = 300.0,
        silence: float = 30.0,
        interrupt_limit: float = 10.0,
        driver: Driver | None = None,
    ) -> None:
        self._place = place
        self._log = log
        self._follow = follow
        self._settings: dict[str, Any] = {
            "on_permission": on_permission,
            "permission_limit": permission_limit,
            "silence": silence,
            "interrupt_limit": interrupt_limit,
        }
        if driver is None:
            conversation = Conversation(silence=silence, interrupt_limit=interrupt_limit)
            conversation.session_id = session_id
            if follow:
                conversation.follow(follow, anyio.current_time())
            only_looks = bool(follow) and on_permission is leave_to_others
            driver = Driver(place, log, conversation, follow=follow, only_looks=only_looks)
        self._driver = driver
        self._conversation = driver.conversation
        self._permissions = Permissions(on_permission, permission_limit)
        self._followers = Followers()
        # Taking one that is free must not cost a turn of the loop for each event; reading lets the others run.
        self._turnstile = anyio.Lock(fast_acquire=True)
        self._drained = anyio.Event()

    @property
    def instance_name(self) -> str:
        """For error messages."""
        return self._place.name

    @property
    def channel_kind(self) -> str | None:
        """Of the channel in use; None: not connected."""
        return self._driver.uplink.channel_kind

    @property
    def session_id(self) -> str:
        """Claude Code's session, as far as known."""
        return self._conversation.session_id

    def forget_session(self) -> None:
        """The next Claude Code begins with what the place says."""
        self._driver.conversation.session_id = ""

    @property
    def agent_version(self) -> str | None:
        """What the agent said in its hello."""
        return self._driver.uplink.agent_version

    @property
    def claude_version(self) -> str | None:
        """What Claude Code said at the start of its last turn."""
        return self._conversation.claude_version or None

    @property
    def unknown_messages(self) -> Mapping[str, int]:
        """How many messages of which kind were not understood."""
        return dict(self._conversation.unknown)

    @property
    def active(self) -> str | None:
        """The turn that is with Claude Code, or else the next that will be."""
        return self._conversation.active

    @property
    def can_go_on(self) -> bool:
        """There is a turn that the agent knows of, and whose frames can be taken up again."""
        return self._conversation.can_go_on

    def is_asked(self, request_id: str) -> bool:
        """The permission request is of this conversation, and waits for a decision."""
        return self._conversation.is_open(request_id)

    # For callers

    async def submit(self, prompt: Prompt, turn_id: str | None = None) -> Turn:
        """Queue a command; see ``InstanceInterface.submit``."""
        turn_id = turn_id or new_uuid()
        if not is_uuid(turn_id):
            raise InvalidInput(
                f"a turn's id must be a UUID, in lower case, not {turn_id!r}",
                instance=self.instance_name,
                hint="uuid.uuid5() makes one of any text.",
            )
        if self._reader(turn_id) is not None:
            raise InvalidInput(f"there is a turn with the id {turn_id} already", instance=self.instance_name)
        self._conversation.submit(turn_id, prompt, anyio.current_time())
        return Turn(self, turn_id)

    async def find(self, turn_id: str) -> Turn:
        """Find a turn again; see ``InstanceInterface.turn``."""
        if self._conversation.is_queued(turn_id):
            return Turn(self, turn_id, found=True)
        follower = self._follower(turn_id)
        self._followers.add(follower)
        try:
            await follower.make_ready()
        except BaseException:  # cancelled, too: nobody else has its connection
            await follower.leave()
            raise
        return Turn(follower, turn_id, found=True)

    async def turns(self) -> list[TurnInfo]:
        """What can be found; see ``InstanceInterface.turns``."""
        async with self._place.starting(self._driver.abandon):
            connection = await Connection.open(Link(host=this_program()), self._place.connect, self._place.name)
        try:
            kept = await ask_for_turns(connection, self._place.name)
            return kept + [TurnInfo(turn_id, read=False) for turn_id in self._conversation.queued]
        finally:
            await connection.aclose()

    async def wait_for_events(self, turn_id: str) -> list[Event]:
        """At least one event of the turn; none only where the turn is unknown."""
        conversation = self._conversation
        taken = conversation.take_events(turn_id)
        if not taken:
            await self._pump(lambda: conversation.backlog(turn_id) > 0 or conversation.is_done(turn_id))
            taken = conversation.take_events(turn_id)
        self._drained.set()
        if not taken and (reader := self._reader(turn_id)):
            taken = await reader.wait_for_events(turn_id)
        if any(isinstance(event, TurnResult) for event in taken):
            self._followers.pop(turn_id)
            if self._follow:
                await self._driver.flush()  # that it was read to its end: otherwise it is kept for who has not read it
                await self.leave()
        return taken

    async def leave(self) -> None:
        """Listen no longer to the turn that is followed; it goes on. One of this program's own is not left so."""
        if self._follow:
            await self.aclose("the reader has left")

    async def interrupt_turn(self, turn_id: str) -> None:
        """End the turn and wait until it is over; its reader gets the result."""
        if reader := self._reader(turn_id):
            await reader.interrupt_turn(turn_id)
            return
        conversation = self._conversation
        conversation.interrupt(turn_id, anyio.current_time())
        await self._pump(lambda: conversation.is_done(turn_id), patient=False)
        self._drained.set()

    async def abandon(self, turn_id: str) -> None:
        """Interrupt the turn, wait until it is over, and forget it."""
        if reader := self._reader(turn_id):
            self._followers.pop(turn_id)
            await reader.abandon(turn_id)
            await reader.leave()
            return
        conversation = self._conversation
        conversation.interrupt(turn_id, anyio.current_time())
        try:
            await self._pump(lambda: conversation.is_done(turn_id), patient=False)
        except BridgeError as error:  # it cannot be reached any more, so neither can the turn
            self._log.warning("turn_abandoned", turn=turn_id, reason=str(error))
            self._driver.give_up(str(error))
            conversation.interrupt(turn_id, anyio.current_time())
        conversation.take_events(turn_id)
        self._drained.set()

    async def interrupt(self) -> None:
        """Interrupt the running turn and wait until it is over; its reader gets the result."""
        self._follow_joined()
        turn_id = self._followers.active or self._conversation.active
        if turn_id is not None:
            await self.interrupt_turn(turn_id)

    async def interrupt_quietly(self, limit: float) -> None:
        """The same before Claude Code ends, at once: within ``limit`` seconds and over the connection there is.

        An agent with a queue does so itself when it is told to end, and begins no other turn before it has ended.
        """
        conversation = self._conversation
        if self._driver.uplink.connection is None or conversation.active is None or conversation.agent_queues:
            return
        with anyio.move_on_after(limit):
            try:
                await self.interrupt()
            except BridgeError as error:
                self._log.warning("not_interrupted", reason=str(error))

    async def decide(self, request: PermissionRequest) -> None:
        """Have a permission request decided, in time; an error in ``on_permission`` denies it. Repeatable."""
        self._follow_joined()
        if reader := self._followers.asked(request):
            await reader.decide(request)
            return
        conversation, request_id = self._conversation, request.request_id
        answer = Answer(None)
        if conversation.is_open(request_id):
            answer = await self._permissions.ask(
                request, lambda: self._pump(lambda: not conversation.is_open(request_id))
            )
        self._answer(request, answer.decision)
        await self._driver.flush()
        if answer.failure is not None:
            raise answer.failure

    def _answer(self, request: PermissionRequest, decision: Decision | None) -> None:
        """Tell Claude Code; None: it was decided elsewhere, or is moot."""
        if isinstance(decision, Allow):
            given = request.input if decision.input is None else decision.input
            self._conversation.allow(request.request_id, given, decision.updates)
        elif decision is not None:
            self._conversation.deny(request.request_id, decision.reason)
        allowed = None if decision is None else isinstance(decision, Allow)
        self._log.info("permission_decided", tool=request.tool_name, allowed=allowed)

    async def request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask Claude Code something, which is started if it does not run; its answer.

        Raises:
            RequestRefused: it refused, ended, or did not answer in time.
            BridgeError: it cannot be reached or started.
        """
        if self._driver.has_to_start:
            await self.make_ready()
        requests, request_id = self._conversation.requests, self._conversation.ask(request)
        try:
            with anyio.move_on_after(_ANSWER_LIMIT):
                await self._pump(lambda: requests.is_over(request_id), patient=False)
        finally:
            reply = requests.take(request_id)
        if reply is None or reply.answer is None:
            late = f"Claude Code has not answered within {_ANSWER_LIMIT:g} s"
            why = late if reply is None else reply.error or "Claude Code did not say why"
            what = f"{request['subtype']} failed: {why}"
            raise RequestRefused(what, instance=self.instance_name, code=reply.code if reply is not None else "")
        return reply.answer

    async def make_ready(self) -> None:
        """Connect, and start Claude Code if it does not run."""
        async with self._turnstile:
            while not await self._place.rest():
                pass
            await self._driver.make_ready()
            await self._driver.rest()

    async def aclose(self, reason: str = "the instance was closed") -> None:
        """Give up the connection. Turns that have not ended end as interrupted."""
        with anyio.CancelScope(shield=True):
            await self._driver.uplink.disconnect()
            self._follow_joined()  # whoever reads one later must find it closed
            await self._followers.aclose(reason)
        self._driver.close(reason)

    async def rest(self) -> None:
        """Let programs of other machines drive, if nothing of this one's is under way."""
        await self._driver.rest()

    # The pump

    async def _pump(self, satisfied: Callable[[], bool], patient: bool = True) -> None:
        """Read for everybody until ``satisfied``. ``patient``: wait while another reader is far behind."""
        if self._turnstile.locked():
            await self._driver.flush()  # whoever has it may be waiting for just what we want to be said
        while not satisfied():
            async with self._turnstile:
                if satisfied():
                    break
                if not (patient and self._conversation.crowded) or self._set_aside():
                    await self._driver.advance(satisfied)
                    continue
            if self._drained.is_set():
                self._drained = anyio.Event()
            await self._drained.wait()
        await self._driver.rest()

    def _set_aside(self) -> bool:
        """Have whoever is far behind read over a connection of its own, so that nobody waits for it.

        Returns: False where the other end keeps nothing to be read from.
        """
        if self._driver.uplink.position is None:
            return False
        conversation = self._conversation
        for turn_id in [turn_id for turn_id in conversation.crowded if conversation.can_be_split_off(turn_id)]:
            self._log.info("turn_set_aside", turn=turn_id)
            self._followers.read(turn_id, self._follower(turn_id, self._driver.split_off(turn_id)))
        return not conversation.crowded

    # Turns that are read over another connection

    def _follower(self, turn_id: str, driver: Driver | None = None) -> Bridge:
        return Bridge(
            self._place, self._log, session_id=self.session_id, follow=turn_id, driver=driver, **self._settings
        )

    def _follow_joined(self) -> None:
        """An id that was given with a command may prove to be of a turn that runs, or ran: listen to that one."""
        for turn_id in self._driver.take_joined():
            self._followers.read(turn_id, self._follower(turn_id))

    def _reader(self, turn_id: str) -> Follower | None:
        self._follow_joined()
        return self._followers.reader(turn_id)
