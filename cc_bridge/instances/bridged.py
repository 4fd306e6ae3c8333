"""An instance: a record, a place, and a bridge."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, TypedDict

import anyio
import anyio.to_thread

from ..bridge.bridge import Bridge
from ..bridge.permissions import leave_to_others
from ..bridge.surroundings import Ending, Launch
from ..channels.base import Channel
from ..cluster.lease import ended_under, started_under
from ..errors import AgentUnavailable, ChannelError, EngineError, InstanceDiffers, InvalidInput
from ..events import ContextUsage, SlashCommand
from ..instance import InstanceInterface, OnPermission
from ..names import is_uuid
from ..turn import Keep, Turn, TurnInfo
from .activity import NOBODY, has_ended, look, look_quietly, nothing
from .beside import Beside
from .chosen import Chosen
from .controls import Controls
from .info import describe
from .kept_conversation import take_away
from .kept_record import KeptRecord
from .life import Step
from .outside import attended, connected, stop_outside
from .place import GRACE, Place
from .registry import Registry
from .sessions import export_session, session_to_begin_with
from .sleep import put_to_sleep
from .steps import Steps, exclusive
from .typed import typed

if TYPE_CHECKING:
    from ..protocol.blocks import Prompt
    from ..shapes import InstanceActivity, InstanceInfo, Kind
    from .worktrees import Worktree

__all__ = ["BridgedInstance", "CommonOptions", "InstanceOptions", "leave_to_others"]

#: Seconds for another program that starts the instance: as long as an image may take to be built; and for one that
#: does anything with it before this one ends it.
_OTHERS_START = 1800.0
_OTHERS_END = 60.0

#: In a line of a transcript: somebody has said something.
_SAID = re.compile(r'"type": ?"(?:user|assistant)"')


class CommonOptions(TypedDict, total=False):
    """What every instance takes besides its record, in :mod:`cc_bridge.blocking`, too.

    Attributes:
        registry: where instances are kept; by default the user's own.
        permission_limit: seconds for ``on_permission`` to decide; then the request is denied. By default 300.
        silence: seconds without a line from a running turn after which it is looked after. By default 30.
        interrupt_limit: seconds for an interrupted turn to end, before the process is killed. By default 10.
    """

    registry: Registry | None
    permission_limit: float
    silence: float
    interrupt_limit: float


class InstanceOptions(CommonOptions, total=False):
    """The same for instances whose methods are coroutines.

    Attributes:
        on_permission: decides on permission requests; without it they are denied.
    """

    on_permission: OnPermission | None


class BridgedInstance(InstanceInterface):
    """An instance: a record, its place with an agent, and a bridge, which has one conversation with it.

    Args:
        place: where it lives; it has the record, and the registry in which it is kept.
        options: see :class:`InstanceOptions`.

    Attributes:
        only_looks: whatever does not run is not started by this object: place, agent, or Claude Code.
        before_result: what a fleet does between hearing a turn's result and telling it: see ``Inhabited``.
    """

    #: The kind of record that this class runs.
    kind: ClassVar[Kind]

    def __init__(
        self,
        place: Place,
        *,
        registry: Registry | None = None,
        on_permission: OnPermission | None = None,
        permission_limit: float = 300.0,
        silence: float = 30.0,
        interrupt_limit: float = 10.0,
    ) -> None:
        self.record, self.name = place.record, place.name
        self.claude_hint, self.lease = place.claude_hint, place.lease
        self.before_result: Callable[[str], Keep] | None = None
        self._place, self._registry = place, registry or place.registry
        self._home, self._log = place.home, place.log
        self._kept = KeptRecord(place.home)
        self._first_launch, self._has_launched = True, False
        self.only_looks = self._found_nobody = False
        self._steps = Steps(self.name)
        self.beside = Beside(self, place)  # runs other Claude Codes there
        times = {"permission_limit": permission_limit, "silence": silence, "interrupt_limit": interrupt_limit}
        self._settings: dict[str, Any] = {"on_permission": on_permission, **times}
        self.use_bridge(Bridge)

    def use_bridge(self, make_bridge: Callable[..., Bridge]) -> None:
        """Have another one, such as a fleet's, before anything is done with the instance."""
        self._bridge = make_bridge(self, self._log, session_id=self._home.session_id, **self._settings)
        self._controls = Controls(self._bridge, Chosen(self._home.path), lambda: self.record)

    # The contract

    async def submit(self, prompt: Prompt, id: str | None = None) -> Turn:  # noqa: A002
        """Queue a command; in a pane, also refuse what cannot be typed there (InvalidInput)."""
        await attended(self._place)
        return await self._bridge.submit(typed(prompt) if self.record.in_pane else prompt, id)

    async def turn(self, id: str) -> Turn:  # noqa: A002
        """Find a turn again, over a connection of its own where another process began it."""
        return await self._bridge.find(id)

    async def turns(self) -> list[TurnInfo]:
        """The turns that the agent's journal still has, oldest first."""
        return await self._bridge.turns()

    async def interrupt(self) -> None:
        """End the running turn, whoever began it; return when it is over."""
        await self._bridge.interrupt()

    async def set_model(self, model: str | None) -> str:
        """Change the model now, and for the next start."""
        return await self._controls.set_model(model)

    async def set_permission_mode(self, mode: str) -> str:
        """Change the permission mode now, and for the next start."""
        return await self._controls.set_permission_mode(mode)

    async def commands(self) -> tuple[SlashCommand, ...]:
        """The slash commands that Claude Code lists."""
        return await self._controls.commands()

    async def context_usage(self, *, exact: bool = False) -> ContextUsage:
        """What the context is full of, as Claude Code says."""
        return await self._controls.context_usage(exact=exact)

    async def start(self) -> None:
        """Check what it needs, forget conversations that are too old, and connect; the agent starts on the way.

        A first start that fails or is given up leaves nothing, so that the record can be corrected.
        """
        self._check_record()
        async with self._steps.giving_way():
            await self._place.check()
            await anyio.to_thread.run_sync(self._registry.sweep)
            await self._bridge.make_ready()

    # Its life

    async def rest(self) -> bool:
        """See ``Place``."""
        return await self._steps.rest()

    @asynccontextmanager
    async def starting(self, abandon: Callable[[], Awaitable[None]], *, drives: bool = False) -> AsyncIterator[None]:
        """See ``Place``. A first start that fails or is given up is undone, whoever wanted it."""
        alone = exclusive(self._home.changing, _OTHERS_START, self.name, self._home.make)
        async with self._steps.take(Step.START), started_under(self.lease if drives else None), alone:
            try:
                yield
            except BaseException:  # cancelled, too: a start that was given up has failed
                if self._place.is_new:
                    with anyio.CancelScope(shield=True):
                        await abandon()
                        await self._undo_start()
                raise
            if self._has_launched or self.beside.has_run:
                self._place.is_new = False  # from now on the record stays

    @asynccontextmanager
    async def _taking(self, step: Step) -> AsyncIterator[None]:
        """The instance ends within: no start is under way, here or in another program, and none begins."""
        # What is to be removed is made before: another program may begin to make it at this moment.
        make = self._home.make if step is Step.REMOVE else None
        async with self._steps.take(step), _alone_to_end(self._place, make):
            yield

    async def _undo_start(self) -> None:
        """Remove what a first start has made, unless another program uses it by now."""
        self._kept.let_go()
        with self._home.claimed() as unused:
            pass  # not held on to: a task of this program that wanted it would wait for us, and we for it
        if unused and not self._home.session_id:  # or another program has talked to it meanwhile
            await self._remove_quietly(self._take_away)
        self._place.is_new, self._first_launch, self._has_launched = False, True, False

    async def stop(self) -> None:
        """Interrupt what runs, close the connection, and end the agent with Claude Code."""
        self._check_record()
        await self._bridge.interrupt_quietly(GRACE)
        async with self._taking(Step.STOP):
            await self._bridge.aclose("the instance was stopped")
            await stop_outside(self._place)
        self._log.info("stopped")

    async def sleep(self) -> None:
        """Ask the agent to end Claude Code if it is idle, over a connection of its own."""
        self._check_record()
        async with self._taking(Step.SLEEP):
            await put_to_sleep(self._place)

    async def cleanup(self) -> None:
        """Close the connection; remove an ephemeral instance, or leave it to end by itself where that fails."""
        try:
            if self.record.ephemeral:
                await self._remove_quietly(self.remove)
        finally:
            await self.release()

    async def _remove_quietly(self, remove: Callable[[], Awaitable[None]]) -> None:
        """Remove it, as far as that is possible; the rest is logged."""
        try:
            await remove()
        except InstanceDiffers:
            pass  # the name is another's, and nothing is there of this one
        except EngineError as error:  # a container that cannot be reached removes itself when its host has gone
            self._log.warning("not_removed", reason=error.what)
            if self.record.ephemeral:  # else the record is what names the container
                with suppress(InvalidInput):
                    await anyio.to_thread.run_sync(self._home.remove)
        except (ChannelError, InvalidInput) as error:
            self._log.warning("not_removed", reason=error.what)

    async def release(self) -> None:
        """Give back what this object holds; the instance goes on, also an ephemeral one of another program's."""
        # Also where the caller is cancelled: nobody else can give it back.
        with anyio.CancelScope(shield=True):
            async with self._steps.take(Step.RELEASE):
                await self._bridge.aclose()
                await self._bridge.rest()
                try:
                    await self._place.release()
                finally:
                    self._kept.let_go()

    async def remove(self, *, conversation: bool = False) -> None:
        """Remove it with its place and its directory; its conversation is kept, unless told otherwise or ephemeral."""
        async with self._taking(Step.REMOVE):
            self._check_record()
            await self._bridge.aclose("the instance was removed")
            await self._take_away(conversation=conversation)

    async def _take_away(self, *, conversation: bool = False) -> None:
        await take_away(self._place, self._bridge.session_id, conversation=conversation)

    def worktree(self) -> Worktree | None:
        """The git worktree that was made for the instance."""
        return self._place.worktree()

    async def export_conversation(self, path: Path) -> str:
        """Write the conversation into a file, which ``Sessions.import_file`` takes; its session's id.

        Raises:
            InvalidInput: there is no conversation yet, or the file cannot be written.
            EngineError: it cannot be had from the container.
        """
        session_id, content = await self.open_conversation()
        about = {"instance": self.name, "claude": self._bridge.claude_version or ""}
        with content:
            await anyio.to_thread.run_sync(export_session, session_id, content, about, path)
        return session_id

    async def keep_conversation(self) -> str:
        """Keep a copy of the conversation as it is now, for any instance with ``resume``; its session's id.

        Raises: as :meth:`export_conversation`.
        """
        session_id, content = await self.open_conversation()
        with content:
            await anyio.to_thread.run_sync(self._registry.sessions.keep, session_id, content)
        return session_id

    async def open_conversation(self) -> tuple[str, IO[bytes]]:
        """The conversation's session, and its transcript, which is to be closed. Nothing is started for it.

        Raises: as :meth:`export_conversation`.
        """
        self._check_record()
        session_id = self._bridge.session_id
        content = await self._place.open_session(session_id) if is_uuid(session_id) else None
        if content is None:
            raise InvalidInput("it has had no conversation yet", instance=self.name)
        return session_id, content

    def conversation_to_go_on_with(self) -> str:
        """The session that it begins with: the one asked for, or that of its name's last instance; "": none."""
        return session_to_begin_with(self.record, self._registry.sessions, self._place.cwd)

    @property
    def agent_log(self) -> Path:
        """Where the agent of a local process logs."""
        return self._home.agent_log

    async def get_activity(self) -> InstanceActivity:
        """What it does at the moment, as far as somebody answers within seconds. Nothing is started for it."""
        sight = await look_quietly(self._place.way_to_look, self.name)
        return sight.describe(in_pane=self.record.in_pane) if sight else nothing()

    async def has_ended(self, limit: float = 0.0) -> bool:
        """Whether Claude Code does not run, or ends within ``limit`` seconds. Nothing is started for it."""
        return await has_ended(self._place.way_to_look, self.name, limit)

    async def until_agent_ends(self) -> None:
        """See ``Place``. Nothing is started for it."""
        await self._place.until_agent_ends()

    async def turns_without_starting(self) -> list[TurnInfo] | None:
        """As :meth:`turns`, in the same time; None: no agent runs.

        Raises:
            AgentUnavailable, EngineError: there is an agent, and it does not answer; nothing can be learned of it.
            InvalidInput: there is none, because none can run there.
        """
        sight = await look(self._place.way_to_look, self.name)
        return sight.turns(self.name) if sight else None

    async def get_info(self) -> InstanceInfo:
        """The record, the state, the channel and the session, in JSON types; secrets are masked."""
        self._check_record()
        sight = await look_quietly(self._place.way_to_look, self.name)
        return describe(self.record, sight, self._bridge, await self._place.info())

    async def is_running(self) -> bool:
        """Its place runs, and an agent there answers."""
        self._check_record()
        return await self._place.is_running()

    # For the bridge

    def exists(self) -> bool:
        """Its directory is there: nobody has removed the instance. For who only looks, also what runs there."""
        return self._home.exists() and not self._found_nobody

    def pop_ending(self) -> Ending:
        """See ``Place``."""
        return self._place.pop_ending()

    async def connect(self, greeting: bytes) -> Channel:
        """See ``Place``; its directory is made before."""
        if self.only_looks:
            self._check_record()
            try:
                return await self._place.way_to_look(greeting)
            except NOBODY:
                self._found_nobody = True  # and does not start it, so there is nothing to try again
                raise
        self._prepare_home()
        return await connected(self._place, greeting)

    async def connect_to_look(self, greeting: bytes) -> Channel:
        """A channel to an agent that runs; nothing is started for it.

        Raises:
            ChannelError, EngineError: there is none, or it cannot be reached.
        """
        return await self._place.way_to_look(greeting)

    def let_go(self) -> None:
        """Nothing is done with it for a while. An ephemeral one is held as long as somebody may use it again."""
        if not self.record.ephemeral and not self.beside.runs:
            self._kept.let_go()

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """See ``Place``."""
        return await self._place.connect_better(current, greeting)

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """See ``Place``."""
        return await self._place.read_transcript(session_id)

    async def launch(self, session_id: str) -> Launch:
        """How to start Claude Code, resuming the session if its transcript is still there.

        Raises:
            AgentUnavailable: it is not to be started.
        """
        if self.only_looks:
            hint = f"`cc-bridge start {self.name}` starts it."
            raise AgentUnavailable("its Claude Code does not run", instance=self.name, hint=hint)
        begins, resume, fork = self._first_launch and not session_id, session_id, False
        if begins:
            resume, fork = self.conversation_to_go_on_with(), self.record.fork
        elif resume and not self.record.in_pane and not can_be_resumed(await self.read_transcript(resume)):
            self._log.warning("session_gone", session=resume)
            resume = ""
        launch = await self._place.launch(resume, fork=fork, begins=begins)
        self._first_launch, self._has_launched = False, True
        return launch

    def session_changed(self, session_id: str) -> None:
        """Save the session's id; one that is no UUID is ignored."""
        if is_uuid(session_id):
            self._home.remember_session(session_id)

    # Its directory

    def _prepare_home(self) -> None:
        """Have the instance's directory, with its pipes and its record."""
        record, is_new = self._kept.take(self.record)
        self.record = self._place.record = record
        if is_new:  # also where another program has removed it: it begins with what is kept of it
            self._place.is_new, self._first_launch, self._has_launched = True, True, False
            self._bridge.forget_session()

    def _check_record(self) -> None:
        """Make sure that the instance of this name, if there is one, is this one; take over what was changed in it."""
        self.record = self._place.record = self._kept.check(self.record) or self.record


def can_be_resumed(transcript: list[str] | None) -> bool:
    """There is a conversation to go on with.

    A Claude Code that was killed at once leaves a file without one, and refuses ever after to resume it.
    """
    return any(_SAID.search(line) for line in transcript or ())


@asynccontextmanager
async def _alone_to_end(place: Place, make: Callable[[], None] | None) -> AsyncIterator[None]:
    """Within the block nobody else does anything with it, here or at another machine."""
    alone = exclusive(place.home.changing, _OTHERS_END, place.name, make)
    async with ended_under(place.lease, _OTHERS_END), alone:
        yield
