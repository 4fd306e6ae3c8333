"""Claude Code in a service of a Docker Swarm."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Self, Unpack

import anyio

from ..bridge.bridge import Bridge
from ..engine.client import Engine
from ..engine.labels import LABEL
from ..engine.progress import Progress
from ..engine.services import Services
from ..errors import InstanceNotFound
from ..record import ClaudeInstance
from ..shapes import Kind
from ..turn import Keep, Turn
from .bridged import InstanceOptions
from .contained_instance import ContainedInstance
from .container_agent import PANE_ATTACH
from .life import Step
from .outside import stop_outside
from .registry import Registry
from .service_plan import record_in
from .sleep import put_to_sleep
from .swarm_place import SwarmPlace

if TYPE_CHECKING:
    import docker

    from ..engine.container_tools import ContainerTools
    from ..protocol.blocks import Prompt

__all__ = ["SwarmService"]


#: Seconds that Swarm may have no room for it, where somebody attends who can have another one sleep.
_FULL_LIMIT = 3.0


class SwarmService(ContainedInstance):
    """A service of one replica, made on first use, which Swarm places anew when its node has gone.

    Args:
        instance: the record.
        client: a Docker client of a manager's, which stays the caller's to close, or an ``Engine`` that several share;
            without one, the engine that ``DOCKER_HOST`` names or the local one.
        on_progress: called, from a worker thread, with each step of an image's build.
        options: see :class:`~cc_bridge.InstanceOptions`.
    """

    kind: ClassVar[Kind] = "swarm"

    _given = _copied = 0  # turns, and how many of them: the reader of the last may not have come to its result

    def __init__(
        self,
        instance: ClaudeInstance,
        client: docker.DockerClient | Engine | None = None,
        *,
        on_progress: Progress | None = None,
        **options: Unpack[InstanceOptions],
    ) -> None:
        registry = options.get("registry") or Registry()
        self._swarm = SwarmPlace(instance, registry, client, on_progress=on_progress)
        self._submitting = anyio.Lock()
        super().__init__(self._swarm, **options)

    @classmethod
    async def find(
        cls,
        name: str,
        client: docker.DockerClient | Engine | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Unpack[InstanceOptions],
    ) -> Self:
        """The instance of this name, whichever machine has made it; one that this machine knows is as it is kept here.

        Args:
            client: as of the class.
            env: variables of Claude Code's, where this machine does not know it: the swarm is told none.

        Raises:
            InstanceNotFound: there is none, neither here nor in the swarm.
            InvalidInput: its record cannot be read.
            EngineError: the swarm cannot be asked.
        """
        registry = options.get("registry") or Registry()
        if name in registry.names() and registry.load(name).kind == cls.kind:
            return cls(registry.load(name), client, **options)
        engine = client if isinstance(client, Engine) else Engine(client)
        try:
            found = await Services(engine).labelled({f"{LABEL}.instance": name, f"{LABEL}.type": "service"})
        finally:
            if engine is not client:
                await engine.aclose()
        if not found:
            raise InstanceNotFound(f"the swarm has no instance {name!r}")
        if len(found) > 1:
            several = ", ".join(service.name for service in found)
            raise InstanceNotFound(f"the swarm has several instances {name!r}: {several}", hint="Remove all but one.")
        return cls(record_in(found[0].labels, found[0].name, env or {}), client, **options)

    async def submit(self, prompt: Prompt, id: str | None = None) -> Turn:  # noqa: A002
        """See the contract. Who has the turn's result knows that the conversation is copied.

        Where its container has ended before that, the turn ends as interrupted.
        """
        if self._is_attended:  # by who has heard the end of its node, and copies before a result is told
            return await super().submit(prompt, id)
        async with self._submitting:  # in the order of the calls, although one has to wait
            if self._bridge.channel_kind is not None and self._bridge.active is None:
                # Its node may have gone meanwhile. What is given to an agent that has gone cannot be given to the next:
                # nobody knows whether it ran.
                await self._bridge.make_ready()
                if self._copied < self._given:  # who read the last turn went away before its result
                    await self._swarm.copy_conversation()
            self._given += 1
            will_connect = self._bridge.channel_kind is None and self._bridge.active is None
            turn = await super().submit(prompt, id)
            return turn.before_result(self._copy_after(turn.id, will_connect=will_connect))

    def _copy_after(self, turn_id: str, *, will_connect: bool = False) -> Keep:
        """What copies the conversation when a turn has ended.

        Args:
            will_connect: it runs in the container that is connected to next, and not in the one of now.
        """
        before = self._swarm.containers if will_connect else self._swarm.containers - 1
        given = self._given

        async def copy() -> str:
            in_copy = "" if self.record.in_pane else turn_id  # in a pane its message has another id
            why = await self._swarm.copy_conversation(in_copy, ran_there=self._swarm.containers - before <= 1)
            self._copied = max(self._copied, given)
            return why

        return copy

    def conversation_to_go_on_with(self) -> str:
        """See ``BridgedInstance``; also one that another machine's program has copied where this one sees it."""
        return self._swarm.session_to_begin_with

    async def stop_if_idle(self) -> None:
        """As :meth:`stop`, with no turn ended by it: nobody starts Claude Code meanwhile, here or elsewhere.

        Raises:
            InstanceBusy: it is not idle, or another machine's program drives it.
            InvalidInput: nobody can ask it whether it is, as in a pane; or another installation has made it, and its
                copies of the conversation are not seen here.
        """
        async with self._stopped_if_idle("the instance was stopped"):
            pass

    async def sleep(self) -> None:
        """See the contract. What it has reserved, and its place in its project, are given back: it is scaled to 0."""
        self._check_record()
        async with self._taking(Step.SLEEP):
            await put_to_sleep(self._place)
            if self.record.reserve_memory or self.record.reserve_cpus or self.record.most_in_project:
                await stop_outside(self._place)

    async def change_image_if_idle(self, image: str) -> None:
        """As :meth:`stop_if_idle`; what is started the next time has another image, and goes on with the conversation.

        Args:
            image: as the record has it, which is changed.

        Raises: as :meth:`stop_if_idle`, and
            InvalidInput: the image's name cannot be one.
            EngineError: the service cannot be changed.
        """
        async with self._stopped_if_idle("its image is changed"):
            await self._swarm.change_image(image)

    @asynccontextmanager
    async def _stopped_if_idle(self, reason: str) -> AsyncIterator[None]:
        self._check_record()
        self._swarm.check_copies()
        async with self._taking(Step.STOP):
            await put_to_sleep(self._place)
            await self._bridge.aclose(reason)
            await stop_outside(self._place)
            yield

    def use_bridge(self, make_bridge: Callable[..., Bridge]) -> None:
        """See ``BridgedInstance``."""
        super().use_bridge(make_bridge)
        self._is_attended = make_bridge is not Bridge
        self.before_result = self._copy_after if self._is_attended else None
        if self._is_attended:
            self._swarm.full_limit = _FULL_LIMIT

    @property
    def service(self) -> str:
        """The service's name."""
        return self._swarm.service

    async def get_tools(self) -> ContainerTools:
        """What a person does to the container that it has now, by hand."""
        from ..engine.container_tools import ContainerTools

        found = await self._swarm.find()
        return ContainerTools(found.engine, found.id, self.owner)

    @property
    def owner(self) -> tuple[int, int]:
        """Numbers of the container's user and group."""
        return self._swarm.plan.owner

    @property
    def attach_argv(self) -> list[str]:
        """The command, in the container, by which a person comes to its pane; Ctrl-B D leaves it."""
        return PANE_ATTACH
