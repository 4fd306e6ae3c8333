"""Every error that cc-bridge raises on purpose.

::

    BridgeError
    ├── InvalidInput (ValueError)    a prompt, record or option that cannot work; nothing was done
    │   ├── InstanceNotFound         no instance of that name
    │   ├── InstanceDiffers          there is one of that name, with another record; ``differences`` are the fields
    │   ├── InstanceBusy             another program is starting, stopping or removing it
    │   ├── AlreadyDecided           somebody else was first to answer a permission request; ``by`` and ``how``
    │   └── DockerfileNotApproved    a container may have written it; ``path`` and ``text`` are what to look at
    ├── EngineError                  the Docker engine refused or failed
    │   ├── EngineUnavailable        nothing answers at its address
    │   ├── EnginePermissionDenied   it answers, but not to this user
    │   ├── EngineTimeout            no answer in time; what was asked may still happen
    │   ├── NoSpaceLeft              its disk is full
    │   ├── LimitReached             as many containers run as may, or as much was written as is kept
    │   ├── NameConflict             a container of that name is there already, and is another
    │   ├── NetworkConflict          a network is there already and differs, or overlaps
    │   ├── ImageNotFound
    │   ├── ImageBuildError          a step of a Dockerfile failed
    │   ├── ContainerNotFound
    │   ├── ContainerNotRunning
    │   ├── ContainerStartError      created or started, and ended at once
    │   ├── NotASwarm                the engine is no manager of a swarm
    │   ├── SwarmConflict            somebody else has changed the same service or node at the same moment
    │   └── PlacementFailed          Swarm runs the service at no node; ``pending``: it had found none
    ├── ChannelError                 the way to the agent
    │   ├── AgentUnavailable         nobody listens there, and it could not be started
    │   ├── ConnectionLost           it broke; the turn in progress is not lost with it if the agent lives
    │   │   └── LeaseLost            another program, maybe of another machine, drives the instance by now
    │   └── ProtocolError            the peer sent what the protocol does not allow
    ├── TurnNotFound                 no turn of that id is kept
    ├── PositionGone                 what an instance said after that position is not kept
    ├── BudgetExceeded               a budget is spent; ``opens`` is when there is a new one
    └── ClaudeError                  Claude Code itself
        ├── ClaudeNotFound           no such program where it should run
        ├── ClaudeStartError         it ended before it could take a command
        ├── NotLoggedIn              no usable key or login
        ├── RequestRefused           a setting or a question that it refused, or did not answer
        └── TurnError                one turn did not complete; ``text`` is what had arrived
            ├── ApiError             the API refused; ``status`` is the HTTP status
            ├── TurnInterrupted      by interrupt(), or by the end of the process
            └── TurnFailed           any other failure

Each carries ``instance`` (its name, or "") and ``hint`` (what to do about it), and composes its text in
``__str__``; nobody needs to parse messages. Cancellation is never turned into one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

__all__ = [
    "AgentUnavailable",
    "AlreadyDecided",
    "ApiError",
    "BridgeError",
    "BudgetExceeded",
    "ChannelError",
    "ClaudeError",
    "ClaudeNotFound",
    "ClaudeStartError",
    "ConnectionLost",
    "ContainerNotFound",
    "ContainerNotRunning",
    "ContainerStartError",
    "DockerfileNotApproved",
    "EngineError",
    "EnginePermissionDenied",
    "EngineTimeout",
    "EngineUnavailable",
    "ImageBuildError",
    "ImageNotFound",
    "InstanceBusy",
    "InstanceDiffers",
    "InstanceNotFound",
    "InvalidInput",
    "LeaseLost",
    "LimitReached",
    "NameConflict",
    "NetworkConflict",
    "NoSpaceLeft",
    "NotASwarm",
    "NotLoggedIn",
    "PlacementFailed",
    "PositionGone",
    "ProtocolError",
    "RequestRefused",
    "SwarmConflict",
    "TurnError",
    "TurnFailed",
    "TurnInterrupted",
    "TurnNotFound",
]


class BridgeError(Exception):
    """The root: whatever cc-bridge raises on purpose.

    Args:
        what: what happened, without a full stop.
        instance: the name of the instance that it happened to.
        hint: what to do about it; each class has a general one.
    """

    hint = ""

    def __init__(self, what: str, *, instance: str = "", hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.instance = instance
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        where = f"{self.instance}: " if self.instance else ""
        return f"{where}{self.what}" + (f". {self.hint}" if self.hint else "")


class InvalidInput(BridgeError, ValueError):
    """A prompt, record or option that cannot work. Nothing was done."""


class InstanceNotFound(InvalidInput):
    """No instance of that name."""

    hint = "`cc-bridge ps` lists the instances; `cc-bridge up NAME` makes one."


class InstanceDiffers(InvalidInput):
    """There is an instance of that name already, and its record is another. Nothing was done to it.

    Attributes:
        differences: the fields that differ, such as ``memory`` or ``claude.model``.
    """

    def __init__(self, differences: Sequence[str], *, instance: str = "", hint: str | None = None) -> None:
        what = f"there is an instance of this name already, and it differs in {', '.join(differences)}"
        super().__init__(what, instance=instance, hint=hint)
        self.differences = tuple(differences)


class InstanceBusy(InvalidInput):
    """Another program has been starting or ending the instance for too long; or it is to sleep, and is not idle."""

    hint = "Try again when it is done; `cc-bridge ps` shows what became of it."


class AlreadyDecided(InvalidInput):
    """A permission request has been decided already, and that stays.

    Attributes:
        by: who has decided it, as they called themselves; empty: they did not, or nobody had to.
        how: ``allow``, ``deny``, ``session``, ``always``, ``rule``, ``policy``; ``time``: nobody was in time, and it
            was denied; ``moot``: it needs no decision any more.
    """

    hint = "Nothing is to be done."

    def __init__(self, what: str, *, instance: str = "", hint: str | None = None, by: str = "", how: str = "") -> None:
        super().__init__(what, instance=instance, hint=hint)
        self.by = by
        self.how = how


class DockerfileNotApproved(InvalidInput):
    """The workspace's Dockerfile has appeared or changed since a container could write there; it was not built.

    Attributes:
        path: of the Dockerfile.
        text: what is in it.
    """

    def __init__(self, path: Path, text: str, *, instance: str = "") -> None:
        super().__init__(
            f"{path} has appeared or changed since Claude Code could write there, and would be built as root",
            instance=instance,
            hint=f"Read it, and then name it: `--dockerfile {path}`; or take another image: `--image cc-bridge`.",
        )
        self.path = path
        self.text = text


class EngineError(BridgeError):
    """The Docker engine refused or failed."""


class EngineUnavailable(EngineError):
    """Nothing answers at the engine's address."""

    hint = "Is Docker running? Start it, or point DOCKER_HOST at an engine; `cc-bridge doctor` says more."


class EnginePermissionDenied(EngineError):
    """The engine's socket is there, but this user may not use it."""

    hint = "Add the user to the group that owns the socket (usually `docker`) and log in again."


class EngineTimeout(EngineError):
    """The engine did not answer in time. What was asked of it may still happen."""

    hint = "`docker ps` shows whether it did; an engine that stays slow needs a restart."


class NoSpaceLeft(EngineError):
    """The engine's disk is full."""

    hint = "`docker system df` shows what takes the room; `cc-bridge prune` removes what cc-bridge no longer needs."


class LimitReached(EngineError):
    """As many containers run as may, or a command has written as much as can be kept."""


class NameConflict(EngineError):
    """A container of that name exists, and is not the one that was meant."""

    hint = "Choose another name, or remove the container that has it."


class NetworkConflict(EngineError):
    """A network exists and is not as asked for, or takes addresses that are in use."""


class ImageBuildError(EngineError):
    """A step of a Dockerfile failed; the message has its last lines."""


class ImageNotFound(EngineError):
    """The image is not local and cannot be pulled."""

    hint = "Check its name; `docker images` lists those that are here."


class ContainerNotFound(EngineError):
    """The container does not exist (any more)."""

    hint = "start() makes a new one."


class ContainerNotRunning(EngineError):
    """The container exists but does not run."""

    hint = "start() starts it."


class ContainerStartError(EngineError):
    """The container could not be started, or ended at once."""


class NotASwarm(EngineError):
    """The engine is no manager of a swarm."""

    hint = "Point DOCKER_HOST at a manager; `docker node ls` there shows its nodes, `docker swarm init` makes a swarm."


class SwarmConflict(EngineError):
    """Somebody else has changed the same service or node at the same moment. Nothing was done."""

    hint = "Look at it again, and repeat the change."


class PlacementFailed(EngineError):
    """Swarm runs the service at no node; the message has Swarm's own reason.

    Attributes:
        pending: it had found no node for it yet.
        full: no node has free what the service reserves, as yet.
    """

    hint = "`docker service ps --no-trunc` and `docker node ls` at a manager show what Swarm sees."

    def __init__(
        self, what: str, *, instance: str = "", hint: str | None = None, pending: bool = False, full: bool = False
    ) -> None:
        super().__init__(what, instance=instance, hint=hint)
        self.pending, self.full = pending, full


class ChannelError(BridgeError):
    """The way to the agent failed."""


class AgentUnavailable(ChannelError):
    """Nobody listens there, and the agent could not be started."""


class ConnectionLost(ChannelError):
    """The connection to the agent broke. The next command connects again."""


class LeaseLost(ConnectionLost):
    """Another program has taken the lease of the instance, because this one did not renew it in time.

    The next command waits until the lease is free, and takes it. One that was sent and not answered is sent again under
    its id, and done once.
    """

    hint = "It was suspended, or the place of the lease was out of reach, for longer than a lease lasts."


class ProtocolError(ChannelError):
    """The peer sent what the protocol does not allow. The connection is closed; the next command opens a new one."""

    hint = "If it happens again, the agent and cc-bridge may be of different versions: restart the instance."


class TurnNotFound(BridgeError):
    """No turn of that id was sent to the instance, or it is not kept any more."""


class PositionGone(BridgeError):
    """What an instance said after this position is not kept any more, or nobody has ever kept it."""


class BudgetExceeded(BridgeError):
    """What an instance or its project may cost is spent. Nothing was sent.

    Attributes:
        budget: US dollars that may be spent.
        spent: US dollars that were.
        opens: when the next day's budget begins; UTC. None: it has no days, and must be raised.
    """

    def __init__(
        self,
        what: str,
        *,
        instance: str = "",
        hint: str | None = None,
        budget: float = 0.0,
        spent: float = 0.0,
        opens: datetime | None = None,
    ) -> None:
        super().__init__(what, instance=instance, hint=hint)
        self.budget = budget
        self.spent = spent
        self.opens = opens


class ClaudeError(BridgeError):
    """Claude Code itself failed."""


class ClaudeNotFound(ClaudeError):
    """There is no ``claude`` where it should run."""

    hint = (
        "Install Claude Code there: `npm install -g @anthropic-ai/claude-code`, or `pip install 'cc-bridge[claude]'`."
    )


class ClaudeStartError(ClaudeError):
    """Claude Code ended before it could take a command."""


class RequestRefused(ClaudeError):
    """Claude Code was asked for something, such as another model, and refused, or did not answer.

    Attributes:
        code: its own word for why, such as ``invalid_mode``; empty: it has none.
    """

    def __init__(self, what: str, *, instance: str = "", hint: str | None = None, code: str = "") -> None:
        super().__init__(what, instance=instance, hint=hint)
        self.code = code


class NotLoggedIn(ClaudeError):
    """Claude Code has no usable key or login."""

    hint = (
        "Set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN (one of them) for the instance, or run `claude` and /login."
    )


class TurnError(ClaudeError):
    """A turn that did not complete.

    Args:
        text: the part of the answer that had arrived.
        session_id: Claude Code's session, which the next command goes on with.
    """

    def __init__(
        self, what: str, *, instance: str = "", hint: str | None = None, text: str = "", session_id: str = ""
    ) -> None:
        super().__init__(what, instance=instance, hint=hint)
        self.text = text
        self.session_id = session_id


class ApiError(TurnError):
    """The API refused the request; ``status`` is the HTTP status."""

    status: int | None = None


class TurnInterrupted(TurnError):
    """The turn was ended before it was complete, by a caller or by the end of the process.

    Attributes:
        exit_code: of the process or its container, where that has ended (negative: the signal) and somebody saw it.
        out_of_memory: it was killed because its memory limit was reached.
    """

    hint = "The next command goes on with the conversation."

    exit_code: int | None = None
    out_of_memory: bool = False


class TurnFailed(TurnError):
    """The turn failed for another reason, which the message says."""
