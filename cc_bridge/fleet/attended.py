"""The bridge of an instance in a fleet: a task of the fleet's reads, whoever waits or does not.

While the instance has something to do, or somebody listens to it, its *attendant* is connected: one connection, which
hears the turns of all programs, and one decoding, whose events go to a feed. Everybody else reads from there. When
nothing is left to do the attendant leaves, and nothing of the instance is held: no task, no descriptor, no timer.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakSet

import anyio

from ..bridge.bridge import Bridge
from ..bridge.driver import Driver
from ..bridge.surroundings import Surroundings
from ..channels.base import Channel
from ..decisions import Decision, OnPermission
from ..errors import (
    AgentUnavailable,
    BridgeError,
    ConnectionLost,
    EngineTimeout,
    EngineUnavailable,
    PlacementFailed,
    PositionGone,
    TurnNotFound,
)
from ..events import Event, PermissionRequest, TurnResult
from ..instances.beside import Beside
from ..logs import Log
from ..protocol.blocks import Prompt
from ..protocol.conversation import Conversation
from ..protocol.remembered import remember
from ..turn import Keep, Turn
from .asking import Asking
from .awake import Seat
from .feed import Feed, FeedPosition
from .feed_turn import FeedTurn
from .hearing import Hearing
from .keeping import Keeping
from .reader import FeedReader
from .states import InstanceState
from .wants import Bell, Wants

__all__ = ["Attended", "Host", "Inhabited"]

#: Seconds for which the attendant stays when nothing is left to do: a conversation often goes on at once.
_LINGER = 5.0

#: Seconds between tries to reach an engine or an agent that has gone away; the last one again and again.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)

_IDLE, _ASLEEP = InstanceState("idle"), InstanceState("asleep")

#: What may be over in a while. Anything else fails the turns that wait.
_TRANSIENT = (EngineUnavailable, EngineTimeout, ConnectionLost, AgentUnavailable)


class Inhabited(Surroundings, Protocol):
    """What an attendant needs of the instance that it is of."""

    async def connect_to_look(self, greeting: bytes) -> Channel:
        """A channel to an agent that runs; nothing is started for it."""

    async def is_running(self) -> bool:
        """An agent answers there."""

    @property
    def before_result(self) -> Callable[[str], Keep] | None:
        """Called with a turn's id when its result is heard: makes what is done then; None: nothing is.

        A whole answer is told afterwards; what that returns, if anything, is why it does not count.
        """

    def let_go(self) -> None:
        """Nothing is done with it for a while: other programs need not wait for this one."""

    @property
    def beside(self) -> Beside:
        """Runs other Claude Codes there, which nobody attends to."""


class Host(Protocol):
    """What an attendant needs of its fleet, for its instance."""

    @property
    def patience(self) -> float:
        """Seconds for which an engine or an agent may be away before the turns that wait for it fail."""

    def start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends, or the fleet does."""

    def check(self) -> None:
        """Raises what forbids another command: a budget is spent."""

    async def decide(self, turn: str, request: PermissionRequest) -> Decision:
        """Decide on a permission request, where the instance has no ``on_permission`` of its own."""

    def turn_ended(self, turn: str, result: TurnResult, process: str) -> None:
        """A turn has ended, with this process of Claude Code's; empty: it is not known which."""

    def does(self, state: InstanceState) -> None:
        """What the instance does now; it may be what it did before."""


class Attended(Bridge):
    """One conversation, for a task of the fleet's and any number of readers.

    Args:
        host: whose task reads.
        seat: among the instances that are awake.
        settings: as those of :class:`~cc_bridge.bridge.bridge.Bridge`.

    Attributes:
        feed: what it has said lately.
    """

    def __init__(
        self,
        place: Inhabited,
        log: Log,
        *,
        host: Host,
        seat: Seat,
        session_id: str = "",
        on_permission: OnPermission | None = None,
        permission_limit: float = 300.0,
        silence: float = 30.0,
        interrupt_limit: float = 10.0,
    ) -> None:
        conversation = Conversation(silence=silence, interrupt_limit=interrupt_limit, adopts=True)
        conversation.session_id = session_id
        self.feed = Feed()
        self._keeping = Keeping(self.feed, self._before_result, host.start_soon, self._has_kept, log)
        self._hearing = Hearing(conversation.turns, self.feed, self._on_event, self._keeping.holds)
        driver = Driver(place, log, conversation, adopts=True, observer=self._hearing, patience=host.patience)
        super().__init__(
            place,
            log,
            on_permission=on_permission,
            permission_limit=permission_limit,
            silence=silence,
            interrupt_limit=interrupt_limit,
            driver=driver,
        )
        self._shelf = place
        place.beside.guard = self
        self._host = host
        self._seat = seat
        self._asking = Asking(
            self._permissions if on_permission is not None else None, host.decide, host.start_soon, self._decided
        )
        self.readers: WeakSet[FeedReader] = WeakSet()
        self._listeners = 0
        self._attending = False
        self._lingers = False  # it only listens
        self._runs_itself = False  # when it came to rest, it had a Claude Code of its own
        self._end: BridgeError | None = None
        self._removals: list[BridgeError] = []  # it is being removed, and must not be started again
        self._is_closing = False  # this program has closed the connection
        self._bell = Bell()
        self._sitting: anyio.CancelScope | None = None
        self._satisfying: anyio.CancelScope | None = None
        self._wake: anyio.Event | None = None  # of a pause
        self._wants = Wants()
        self._errors: dict[str, BridgeError] = {}  # why turns could not be sent
        self._joined: dict[str, None] = {}  # turns that had been sent before, and were not heard then

    # For callers

    async def submit(self, prompt: Prompt, turn_id: str | None = None) -> Turn:
        """Queue a command; see ``InstanceInterface.submit``. A turn of this id that is known is read again."""
        if turn_id is not None and self._knows(turn_id):
            return await self.find(turn_id)
        self._check_stays()
        self._host.check()
        index = self.feed.end
        turn = await super().submit(prompt, turn_id)
        self._begin()
        if not self._lingers:
            await self._driver.flush()  # without a turn of the loop for the attendant, who waits for other turns
        if self._lingers or self._driver.needs_claude:
            self._nudge()
        return Turn(FeedTurn(self, FeedReader(self, turn=turn.id, index=index)), turn.id)

    async def find(self, turn_id: str) -> Turn:
        """Find a turn again; see ``InstanceInterface.turn``."""
        return Turn(FeedTurn(self, await self.read_turn(turn_id)), turn_id, found=True)

    async def read_turn(self, turn_id: str, after: FeedPosition | None = None) -> FeedReader:
        """A reader of one turn, from its first event or after a position; to be closed.

        Raises:
            TurnNotFound: it is not kept.
            BridgeError: the instance cannot be reached or started.
        """
        if not self._knows(turn_id):
            await self._want(claude=False)
        from_memory = after is None and self._knows(turn_id)
        reader = FeedReader(self, turn=turn_id, index=self.feed.first if from_memory else None, after=after)
        try:
            await reader.open()
        except PositionGone as error:
            raise TurnNotFound(f"there is no turn {turn_id}: {error.what}", instance=self.instance_name) from None
        return reader

    def _knows(self, turn_id: str) -> bool:
        """What the turn has said is all in memory, or still to come."""
        is_new = turn_id in self._conversation.turns and not self.feed.has(turn_id)
        return is_new or self.feed.is_whole(turn_id)

    async def make_ready(self) -> None:
        """Connect, and start Claude Code if it does not run."""
        await self._want(claude=True)

    async def interrupt_turn(self, turn_id: str) -> None:
        """End the turn and wait until it is over."""
        self._conversation.interrupt(turn_id, anyio.current_time())
        self._heard_all()  # one that was not sent yet has ended with that
        if self._sitting is not None and not self._needs_seat:
            self._sitting.cancel()
        self._nudge()
        await self._pump(lambda: turn_id not in self._conversation.turns)

    async def abandon(self, turn_id: str) -> None:
        """The same; where it cannot be reached any more, it was ended by that."""
        try:
            await self.interrupt_turn(turn_id)
        except BridgeError as error:
            self._log.warning("turn_abandoned", turn=turn_id, reason=str(error))

    async def decide(self, request: PermissionRequest) -> None:
        """Wait for what the instance's own ``on_permission`` decides; its error comes out here.

        What others decide is not waited for: there may be more to be read meanwhile.
        """
        if self._asking.decides_itself:
            await self._pump(lambda: request.request_id not in self._asking)
            if failure := self._asking.pop_failure(request.request_id):
                raise failure

    async def take_up(self) -> None:
        """Go on with the turns that run or wait there."""
        try:
            await self._want(claude=False)
        except BridgeError as error:
            self._log.warning("not_taken_up", reason=str(error))

    def found_awake(self) -> None:
        """Its Claude Code runs, and has nothing to do."""
        self._rest(awake=True)

    async def listen(self, *, start: bool) -> None:
        """Hear what it says from now on, also of other programs' turns; :meth:`unlisten` ends it.

        Args:
            start: its agent is needed; otherwise one that does not run is heard when this program starts it.

        Raises: as ``InstanceInterface.start``.
        """
        self._listeners += 1
        try:
            if start or await self._shelf.is_running():
                await self._want(claude=False)
        except BaseException:  # cancelled, too
            self.unlisten()
            raise

    def unlisten(self) -> None:
        """Nobody needs it any more."""
        self._listeners -= 1
        self._nudge()

    async def aclose(self, reason: str = "the instance was closed") -> None:
        """Give up the connection. Turns that have not ended end as interrupted."""
        position, self._is_closing = self._driver.uplink.position, True
        if self._conversation.active is not None:
            position = None  # it may run on, and ask for something: then it is read again from its first word
        await super().aclose(reason)
        self._driver.uplink.go_on_from(position)  # for who listens: nothing may be missing when it goes on
        self._heard_all()
        self._nudge()
        self._rest(awake=False)

    @contextmanager
    def leaving(self, error: BridgeError) -> Iterator[None]:
        """Within the block it is removed, and from then on nothing is done with it or heard of it: that raises this.

        Where the block fails, it stays.
        """
        self._removals.append(error)  # several may remove it at once
        self._keeping.tell_all()
        self._bell.ring()
        try:
            yield
        except BaseException:  # cancelled, too: what was not removed stays
            self._removals.remove(error)
            if self._end is None:
                self._keeping.keep_what_is_there()  # of a turn that has ended meanwhile
            raise
        self.end(error)

    async def come(self) -> None:
        """Return when a Claude Code may run beside the instance's own: both have the instance's seat.

        Raises:
            BridgeError: nothing more may be spent, or the instance is not the fleet's any more.
        """
        self._check_stays()
        self._host.check()
        if not self._shelf.beside.runs:
            self._runs_itself = self._seat.is_awake  # or it was put to sleep since it rested
        await self._seat.take(lambda ahead: None)

    def gone(self) -> None:
        """One has ended."""
        if self._attending:
            self._seat.rest(awake=self._seat.is_awake)  # what it is, whoever attends says at the end
        elif self._end is None:
            self._rest(awake=self._runs_itself)
            self._shelf.let_go()

    def end(self, error: BridgeError) -> None:
        """It is not the fleet's any more: nothing more will be heard, and nothing is done with it."""
        self._end = error
        self._bell.ring(error)

    @property
    def _leaving(self) -> BridgeError | None:
        return self._removals[-1] if self._removals else None

    def _check_stays(self) -> None:
        if error := self._end or self._leaving:
            raise error

    @property
    def is_busy(self) -> bool:
        """A turn runs or waits, as far as this program knows."""
        return bool(self._conversation.turns)

    @property
    def keeps_awake(self) -> bool:
        """The same, or a Claude Code runs beside its own, and so it must not be ended for others."""
        return self.is_busy or self._shelf.beside.runs

    # For readers

    @property
    def shelf(self) -> Inhabited:
        """Where what was said can be read again."""
        return self._shelf

    async def changed(self) -> None:
        """Wait until something was heard.

        Raises:
            BridgeError: nothing more will be: it could not be reached.
        """
        if self._end is not None:
            raise self._end
        await self._bell.wait()

    def will_say(self, turn_id: str) -> bool:
        """There is more to come of the turn."""
        return turn_id in self._conversation.turns or self.feed.holds(turn_id)

    def was_before(self, turn_id: str) -> bool:
        """The turn ended before this program asked for it: it has to be read again."""
        self._follow_joined()
        return turn_id in self._joined

    async def keep(self, turn_id: str) -> str:
        """Before a whole answer is told that is read again: why it does not count; empty: it does."""
        return await self._keeping.heard_again(turn_id)

    def pop_error(self, turn_id: str) -> BridgeError | None:
        """What has kept the turn from being sent."""
        return self._errors.pop(turn_id, None)

    # The seam with Bridge: who reads, and where turns are that were sent by others

    async def _pump(self, satisfied: Callable[[], bool], patient: bool = True) -> None:
        """Wait until the attendant has heard what is wanted."""
        await self._driver.flush()
        if self._lingers:  # who only listens has given up what is needed to send
            self._nudge()
        while not satisfied():
            self._begin()
            await self.changed()

    def _follow_joined(self) -> None:
        for turn_id in self._driver.take_joined():
            remember(self._joined, turn_id)
            self._bell.ring()

    # The attendant

    def _begin(self) -> None:
        """Have somebody attend to it, if there is anything to do."""
        if not self._attending and self._has_work:
            self._host.start_soon(self._attend)
            self._attending = True

    def _nudge(self) -> None:
        """There is something else to do than to receive."""
        if self._attending:
            self._driver.hurry = True
            self._driver.uplink.set_deadline(-math.inf)
            if self._wake is not None:
                self._wake.set()

    @property
    def _has_work(self) -> bool:
        return bool(self._wants) or bool(self._conversation.turns) or self._conversation.requests.are_open

    async def _want(self, *, claude: bool) -> None:
        self._check_stays()
        if not claude and self._driver.uplink.caught_up:
            return
        want = self._wants.add(claude=claude)
        self._begin()
        self._nudge()
        try:
            await self._wants.wait(want)
        except anyio.get_cancelled_exc_class():
            if self._satisfying is not None and not self._has_work:  # a start that nobody wants any more is undone
                self._satisfying.cancel()
                with anyio.CancelScope(shield=True), suppress(BridgeError):
                    while self._satisfying is not None:
                        await self.changed()
            raise

    async def _attend(self) -> None:
        """The task: until nothing is left to do, and nothing has come for a while."""
        error: BridgeError | None = ConnectionLost("its fleet has ended", instance=self.instance_name)
        try:
            while self._has_work or await self._lingers_on():
                if self._has_work:
                    await self._work()
            error = None
        except Exception as failure:  # a mistake of ours must end neither the fleet nor the waiting of others unheard
            self._log.error("attendant_failed", reason="".join(traceback.format_exception(failure)))
            error = ConnectionLost(f"attending to it has failed: {failure!r}", instance=self.instance_name)
            self._fail(error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._driver.uplink.disconnect()
                await self._driver.rest()
            self._attending = False  # only now: whoever wants something meanwhile must not be attended to twice
            self._asking.pause()
            if error is not None:
                self._wants.end(self._wants.take(), error)
                self._bell.ring(error)
            self._rest(awake=self._driver.claude_runs)
            self._shelf.let_go()
            self.forget_read()
        self._begin()  # something may have come while we were leaving

    def forget_read(self) -> None:
        """Forget what was said, if nobody attends to it and no reader lacks it: the journal has it."""
        if not (self._attending or self._keeping or any(reader.lacks for reader in self.readers)):
            self.feed.forget(self.feed.end - self.feed.first)

    async def _work(self) -> None:
        """One step for who wants something, with as many tries as there is patience for."""
        tries, since = 0, anyio.current_time()
        while self._has_work:
            self._driver.hurry = self._is_closing = False
            try:
                await self._sit()
                self._check_stays()
                if self._wants:
                    await self._satisfy()
                elif self._has_work:
                    await self._driver.advance(lambda: self._driver.hurry or not self._has_work)
                self._heard_all()
                return
            except BridgeError as error:
                self._heard_all()
                if self._has_work and await self._has_made_room(error):
                    continue
                away = anyio.current_time() - since
                if not _is_transient(error) or away > self._host.patience or self._leaving is not None:
                    self._is_closing = self._leaving is not None
                    await self._driver.uplink.disconnect()  # all of it is given up: it begins anew where it stays
                    self._fail(self._leaving or error)
                    return
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
                if self._has_work:
                    if _is_full(error):
                        self._tell_line(0)  # first in line, as far as is known here
                    self._log.warning("unreachable", reason=error.what, again_in=pause)
                    await self._pause(pause)
                tries += 1

    async def _make_ready(self) -> None:
        while True:
            try:
                return await self._driver.make_ready()
            except PlacementFailed as error:
                if not await self._has_made_room(error):
                    raise

    async def _has_made_room(self, error: BridgeError) -> bool:
        """No node of a swarm had room for it, and another one sleeps by now."""
        return _is_full(error) and await self._seat.make_room()

    async def _sit(self) -> None:
        """Have a seat among those that are awake before Claude Code is started; others may have to sleep for it.

        Raises:
            BudgetExceeded: a budget was spent by others while commands stood in line for it.
        """
        while self._needs_seat:
            is_new = not self._seat.is_awake
            with anyio.CancelScope() as self._sitting:
                await self._seat.take(self._tell_line)
            sat, self._sitting = not self._sitting.cancelled_caught, None
            if sat:
                if is_new and self._conversation.queued:
                    self._host.check()
                return

    @property
    def _needs_seat(self) -> bool:
        return bool(self._conversation.turns) or self._wants.claude or self._conversation.requests.wait

    def _tell_line(self, ahead: int) -> None:
        """Turns wait for others to sleep."""
        self._conversation.turns.tell_queued(ahead)
        self._heard_all()

    async def _satisfy(self) -> None:
        """Do what was wanted; an error is whose that wanted it."""
        wants, error = self._wants.take(), None
        try:
            with anyio.CancelScope() as self._satisfying:
                while not await self._place.rest():
                    pass
                if any(want.claude for want in wants):
                    await self._make_ready()
                elif not self._place.exists():  # it may have been removed while we waited
                    raise AgentUnavailable(
                        "it is not there: it was removed, or never started", instance=self.instance_name
                    )
                else:
                    await self._driver.connect()
        except BridgeError as failure:
            error = failure
        finally:
            self._satisfying = None
            self._bell.ring()
        self._wants.end(wants, error)

    async def _lingers_on(self) -> bool:
        """Listen while nothing is to be done; False: nothing has come, and nobody listens."""
        self._rest(awake=self._driver.claude_runs)
        await self._driver.rest()
        if self._has_work:  # it came meanwhile
            return True
        if self._driver.uplink.connection is None:
            return False
        self._driver.hurry, self._lingers = False, True
        until = math.inf if self._listeners else anyio.current_time() + _LINGER
        try:
            heard = await self._driver.listen(until)
        except BridgeError as error:
            self._log.info("agent_left", reason=error.what)
            if self._listeners and not self._is_closing:
                self._bell.ring(error)  # who starts it again is not heard from here
            return self._has_work
        finally:
            self._lingers = False
        self._heard_all()
        return heard or self._has_work or self._driver.hurry or self._listeners > 0

    async def _pause(self, seconds: float) -> None:
        self._wake = wake = anyio.Event()
        with anyio.move_on_after(seconds):
            await wake.wait()
        self._wake = None

    def _fail(self, error: BridgeError) -> None:
        """What waits cannot be sent: end it, and let everybody know why."""
        for turn_id in self._conversation.queued:
            self._errors[turn_id] = error
        self._driver.give_up(str(error))
        self._conversation.fail_queued(str(error), anyio.current_time())
        self._conversation.requests.close(str(error))
        if self._end is not None or self._leaving is not None:
            self._wants.end(self._wants.take(), error)
        self._heard_all()

    # What was heard

    def _on_event(self, turn: str, event: Event) -> None:
        if isinstance(event, PermissionRequest):
            self._asking.heard(turn, event)
        elif isinstance(event, TurnResult):
            self._host.turn_ended(turn, event, self._driver.claude_pid)
            self._keeping.heard(turn, event)

    def _before_result(self) -> Callable[[str], Keep] | None:
        return self._shelf.before_result if self._leaving is None else None

    def _has_kept(self) -> None:
        self._bell.ring()
        self.forget_read()

    def _heard_all(self) -> None:
        """After a step: hand out what it has brought."""
        self._hearing.collect()
        self._bell.ring()
        self._asking.look(self._conversation.is_open, may_begin=self._driver.uplink.caught_up)
        self._tell_state()

    def _rest(self, *, awake: bool) -> None:
        """Nothing is to be done for now; ``awake``: its own Claude Code runs, as far as is known."""
        self._runs_itself = awake
        self._seat.rest(awake=awake or self._shelf.beside.runs)
        self._tell_state()

    def _tell_state(self) -> None:
        turns, seat = self._conversation.turns, self._seat
        if not turns:
            self._host.does(_IDLE if seat.is_awake else _ASLEEP)
            return
        asks = len(self._asking)
        self._host.does(InstanceState("permission" if asks else "busy", turns.next, len(turns) - 1, asks))

    async def _decided(self, request: PermissionRequest, decision: Decision | None) -> None:
        self._answer(request, decision)
        self._bell.ring()
        await self._driver.flush()


def _is_transient(error: BridgeError) -> bool:
    return isinstance(error, _TRANSIENT) or _is_full(error)  # others may have something to do, and then not


def _is_full(error: BridgeError) -> bool:
    return isinstance(error, PlacementFailed) and error.full
