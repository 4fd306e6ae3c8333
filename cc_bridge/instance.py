"""An instance: its record, and the contract that every kind of instance keeps."""

from __future__ import annotations

import abc
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .decisions import Allow, Decision, Deny, OnPermission, decision_of
from .errors import InvalidInput
from .events import ContextUsage, Event, SlashCommand, TextDelta, TurnResult
from .limits import Limits, check_sleep, sleep_times
from .mounts import parse_mount, split_mount
from .names import NAME
from .permission_rules import PermissionRules
from .protocol.blocks import Prompt
from .protocol.command_line import ClaudeOptions
from .shapes import InstanceFields, InstanceInfo, Kind
from .turn import Turn, TurnInfo

__all__ = ["Allow", "ClaudeInstance", "Decision", "Deny", "InstanceInterface", "Kind", "OnPermission", "decision_of"]

_LAST_PORT = 65535
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ClaudeInstance(BaseModel):
    """The record of an instance: its configuration, not its state. Make one with :meth:`of`.

    Attributes:
        name: lower-case letters, digits, ``_ . -``, at most 63; unique on this machine. :func:`~cc_bridge.name_for`
            makes one of any text.
        kind: ``docker``: in a container; ``local``: a process of this machine; ``tmux``: in a pane of this machine.
        workspace: the directory that Claude Code works in; for Docker, mounted at ``mount_at``.
        worktree: the branch of which ``workspace`` is a git worktree that was made for the instance.
        repository: where git keeps that branch; Docker: mounted at the same path, because a worktree names it.
        env: variables of Claude Code's. All are secrets: they enter with its start, and are listed by name only.
        claude: Claude Code's own options.
        rules: what it may do without asking, what somebody is asked for, and what is denied; a fleet applies them. The
            kept record may have more, such as those that were answered "always": they stay.
        resume: the id of a Claude Code session to go on with.
        fork: go on in a copy of that session; the original stays as it is.
        ephemeral: leaves nothing behind: removed by ``cleanup()``, and by itself when its host has gone.
        project, labels: the user's own, shown in listings.
        sleep_after: seconds idle after which Claude Code is ended until the next command. None: 600, or 0 in a pane.
        stop_after: seconds asleep, with no program connected, to the end of its container or agent. None: 86,400.
        created: when the record was made; UTC.
        image: Docker: the image; ``auto``: that of the workspace's Dockerfile, else the default one; ``cc-bridge``: the
            default one. Required unless ``dockerfile`` or ``container`` is given.
        dockerfile: Docker: build this file, with the workspace as its context, instead of using an image.
        container: Docker: an existing container to use, which is then neither created nor removed.
        mount_at: Docker: where the workspace is in the container.
        read_only_workspace: Docker: it may read the workspace, and not write.
        mounts: Docker: more mounts, ``host:container[:ro|rw]``.
        network: Docker: ``bridge``, ``host``, ``none`` or a network's name.
        memory: Docker: bytes, swap included.
        cpus: Docker: processors, also parts of one.
        cpu_shares: Docker: weight where processors are scarce; 1024 is what other containers have.
        pids: Docker: processes and threads at once.
        ports: Docker: port in the container to port on this machine (loopback only), 0 for any.
        restart: Docker: ``no``, ``on-failure[:times]``, ``always`` or ``unless-stopped``.
        writable: Docker: let it write to its root file system.
        docker_socket: Docker: mount the engine's socket. Whoever has it is root on the engine's machine.
        credentials: Docker: mount this user's Claude Code login, read-only.
        user: Docker: user in the container; by default the host's, or 1000:1000 where the host's is root.
        tmux: Docker: the interactive Claude Code in a tmux pane in the container, which a person may attach to.
        tmux_socket: tmux: the socket of a server of the user's, to open a session there; by default the instance has
            its own.
        pane: tmux: an existing pane, such as ``%3``, whose Claude Code is taken over; ``tmux_socket`` says where.
        relay: in a pane: read the API's stream on its way, on loopback, for tokens as they come; else only finished
            lines do.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    name: str
    kind: Kind
    image: str = ""
    dockerfile: Path | None = None
    container: str = ""
    workspace: Path | None = None
    worktree: str = ""
    repository: Path | None = None
    mount_at: str = "/workspace"
    read_only_workspace: bool = False
    mounts: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    network: str = "bridge"
    memory: int = Limits.memory
    cpus: float = Limits.cpus
    cpu_shares: int = Limits.cpu_shares
    pids: int = Limits.pids
    ports: dict[int, int] = Field(default_factory=dict)
    restart: str = "no"
    writable: bool = False
    docker_socket: bool = False
    credentials: bool = False
    user: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    project: str = ""
    ephemeral: bool = False
    tmux: bool = False
    tmux_socket: str = ""
    pane: str = ""
    relay: bool = True
    claude: ClaudeOptions = ClaudeOptions()
    rules: PermissionRules = PermissionRules()
    resume: str = ""
    fork: bool = False
    sleep_after: float | None = None
    stop_after: float | None = None
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, **fields: Unpack[InstanceFields]) -> Self:
        """A validated record of these fields, which the class explains.

        Raises:
            InvalidInput: names the field and what is wrong with it.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            problems = "; ".join(f"{_field(item)}: {_reason(item)}" for item in error.errors())
            raise InvalidInput(f"the instance cannot be: {problems}", instance=str(fields.get("name", ""))) from None

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError("1 to 63 lower-case letters, digits, '_', '.', '-', beginning with a letter or digit")
        return value

    @field_validator("env")
    @classmethod
    def _check_env(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _VARIABLE.match(name):
                raise ValueError(f"{name!r} is not a name for an environment variable")
            if "\0" in value[name]:
                raise ValueError(f"the value of {name} has a NUL character")
        return value

    @field_validator("workspace", "dockerfile", "repository")
    @classmethod
    def _make_absolute(cls, value: Path | None) -> Path | None:
        """Relative to where the record was made: the agent and later programs run elsewhere."""
        return None if value is None else value.expanduser().absolute()

    @field_validator("ports")
    @classmethod
    def _check_ports(cls, value: dict[int, int]) -> dict[int, int]:
        if not all(0 < inside <= _LAST_PORT and 0 <= outside <= _LAST_PORT for inside, outside in value.items()):
            raise ValueError(f"a port is a number from 1 to {_LAST_PORT}")
        return value

    @field_validator("restart")
    @classmethod
    def _check_restart(cls, value: str) -> str:
        if not re.fullmatch(r"no|always|unless-stopped|on-failure(:\d+)?", value):
            raise ValueError("one of no, on-failure[:times], always, unless-stopped")
        return value

    @field_validator("mounts")
    @classmethod
    def _check_mounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for mount in value:
            split_mount(mount)
        return value

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.kind == "docker" and not (self.image or self.dockerfile or self.container):
            raise ValueError("image: a docker instance needs an image, or the name of an existing container")
        if self.tmux and self.kind != "docker":
            raise ValueError("tmux: for containers; `kind` is 'tmux' for a pane of this machine's")
        if (self.tmux_socket or self.pane) and self.kind != "tmux":
            raise ValueError("tmux_socket: for instances of kind 'tmux' only")
        if self.pane and not re.fullmatch(r"%\d+", self.pane):
            raise ValueError("pane: a pane's id, such as %3; `tmux list-panes -a -F '#{pane_id}'` shows them")
        if self.ports and (self.network in ("host", "none") or self.network.startswith("container:")):
            raise ValueError(f"ports: with the network {self.network!r} there are none to publish")
        if self.ephemeral and self.restart != "no":
            raise ValueError("restart: an ephemeral instance removes itself when it ends")
        if self.kind != "docker" and self.claude.skip_permissions:
            raise ValueError("claude.skip_permissions: allowed only in a container")
        if self.workspace is None and not self.container:
            raise ValueError("workspace: needed: the directory that Claude Code works in")
        check_sleep(self.sleep_after, self.stop_after, in_pane=self.in_pane)
        return self

    def differences(self, other: ClaudeInstance) -> list[str]:
        """The fields in which two records differ, but for ``created``; those of ``claude`` as ``claude.model``."""
        ours, theirs = (record.model_dump(mode="json", exclude={"created"}) for record in (self, other))
        found = [name for name in ours if name != "claude" and ours[name] != theirs[name]]
        return found + [f"claude.{name}" for name in ours["claude"] if ours["claude"][name] != theirs["claude"][name]]

    @property
    def in_pane(self) -> bool:
        """The interactive Claude Code, in a terminal that a person may share."""
        return self.kind == "tmux" or self.tmux

    @property
    def sleep_times(self) -> tuple[float, float]:
        """``sleep_after`` and ``stop_after`` as they count, 0 for never."""
        return sleep_times(self.sleep_after, self.stop_after, in_pane=self.in_pane)

    def check_workspace(self) -> None:
        """Make sure that the workspace is there.

        Raises:
            InvalidInput: it is missing, or is no directory.
        """
        if self.workspace is not None and not self.workspace.is_dir():
            what = "is not a directory" if self.workspace.exists() else "does not exist"
            raise InvalidInput(f"the workspace {self.workspace} {what}", instance=self.name, hint="Create it first.")

    def check_mounts(self) -> None:
        """Make sure that what is to be mounted is there.

        Raises:
            InvalidInput: names what is missing.
        """
        for mount in self.mounts:
            parse_mount(mount, instance=self.name)


class InstanceInterface(abc.ABC):
    """Claude Code, wherever it runs. ``cc_bridge.testing.instance_contract`` checks an implementation.

    Methods may be called from many tasks of one event loop; :mod:`cc_bridge.blocking` serves threads.
    Commands that come while one runs wait, and run in the order in which they came.

    ``async with`` starts the instance, and on the way out cleans it up: an ephemeral one is removed, any
    other goes on running.
    """

    record: ClaudeInstance

    @abc.abstractmethod
    async def submit(self, prompt: Prompt, id: str | None = None) -> Turn:  # noqa: A002  the word that fits
        """Queue a command, which runs once, however often it is submitted.

        Args:
            prompt: text, or content blocks: :class:`~cc_bridge.Text`, :class:`~cc_bridge.Image`,
                :class:`~cc_bridge.Document`. A pane takes text only.
            id: a UUID for the turn. Where a command with this id was sent before, by this process or any
                other, the turn is that one, from its beginning, and nothing is sent.

        Raises:
            InvalidInput: it cannot be a prompt, or ``id`` is no UUID. Nothing was sent.
        """

    @abc.abstractmethod
    async def turn(self, id: str) -> Turn:  # noqa: A002
        """Find a turn again, running or ended: all its events, from the first. Leaving it early does not end it.

        A turn is kept until it was read to its end and more recent ones have taken its place (docs/reliability.md).

        Raises:
            TurnNotFound: no command with this id was accepted, or it is not kept any more.
            BridgeError: the instance cannot be reached or started.
        """

    @abc.abstractmethod
    async def turns(self) -> list[TurnInfo]:
        """The turns that :meth:`turn` finds, oldest first.

        Raises:
            BridgeError: the instance cannot be reached or started.
        """

    @abc.abstractmethod
    async def interrupt(self) -> None:
        """End the running turn, and return when it is over. Does nothing when none runs."""

    @abc.abstractmethod
    async def set_model(self, model: str | None) -> str:
        """Let another model answer from the next request on, also in the middle of a turn, and after a restart.

        Args:
            model: a name or an alias, such as ``sonnet``; None: Claude Code's own default.

        Returns:
            The model's whole name.

        Raises:
            InvalidInput: that is no name; or it is a pane.
            RequestRefused: Claude Code does not take it, or did not answer.
            BridgeError: the instance cannot be reached or started.
        """

    @abc.abstractmethod
    async def set_permission_mode(self, mode: str) -> str:
        """Ask for permissions in another way from now on, and after a restart.

        Args:
            mode: ``default``, ``acceptEdits``, ``plan``, ``dontAsk``, ``auto``; ``bypassPermissions`` only where Claude
                Code was started with ``skip_permissions``.

        Returns:
            The mode in effect.

        Raises: as :meth:`set_model`.
        """

    @abc.abstractmethod
    async def commands(self) -> Sequence[SlashCommand]:
        """The slash commands that a prompt may begin with.

        Raises: as :meth:`set_model`.
        """

    @abc.abstractmethod
    async def context_usage(self, *, exact: bool = False) -> ContextUsage:
        """What the model's context is full of.

        Args:
            exact: have the API count the tokens of each part, instead of estimating them.

        Raises: as :meth:`set_model`; a release that does not know the question refuses it.
        """

    @abc.abstractmethod
    async def start(self) -> None:
        """Make it run, so that the next command finds it ready. Harmless when repeated.

        A first start that fails or is cancelled leaves nothing; another leaves the instance as it is.
        """

    @abc.abstractmethod
    async def stop(self) -> None:
        """Interrupt what runs and end the processes within the grace time. The conversation is kept."""

    @abc.abstractmethod
    async def sleep(self) -> None:
        """End Claude Code now if it is idle; the next command, or :meth:`wake`, resumes the conversation.

        Raises:
            InstanceBusy, InvalidInput: it is not, or is in a pane, or no agent can run there; they say why.
        """

    async def wake(self) -> None:
        """Start it ahead of a command, because a person has begun to type. As :meth:`start`; harmless when awake."""
        await self.start()

    @abc.abstractmethod
    async def release(self) -> None:
        """Give back what this object holds; the instance goes on, its turns and those that wait, too."""

    @abc.abstractmethod
    async def cleanup(self) -> None:
        """Give back what this object holds; for an ephemeral instance, remove it. Harmless when repeated."""

    @abc.abstractmethod
    async def remove(self, *, conversation: bool = False) -> None:
        """Stop, and remove everything that belongs to the instance.

        Args:
            conversation: the conversation too. Otherwise it is kept for 30 days: the next instance of this
                name goes on with it, and any other with ``resume``.
        """

    @abc.abstractmethod
    async def is_running(self) -> bool:
        """Its container or process runs *and* the agent answers."""

    @abc.abstractmethod
    async def get_info(self) -> InstanceInfo:
        """Its configuration and state as JSON types, without secrets."""

    async def restart(self) -> None:
        """Stop and start; the conversation goes on."""
        await self.stop()
        await self.start()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Event, None]:
        """Send a command and yield its events; the last is a :class:`~cc_bridge.events.TurnResult`.

        Leaving the iterator early, or cancelling its consumer, interrupts the turn and waits until it is
        over (at most some ten seconds), so that the next command finds Claude Code idle.

        Raises:
            InvalidInput: it cannot be a prompt.
            BridgeError: the instance cannot be reached or started.
        """
        async with await self.submit(prompt) as turn:
            async for event in turn:
                yield event

    async def send_command(self, prompt: Prompt) -> AsyncGenerator[str, None]:
        """Send a command and yield the answer's text as it streams. Early leaving: see :meth:`stream`.

        Raises:
            TurnError: the turn did not complete; what had arrived was yielded before.
            BridgeError: as :meth:`stream`.
        """
        turn = await self.submit(prompt)
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    yield event.text
            turn.raise_for_result()

    async def send_command_and_wait(self, prompt: Prompt, timeout: float | None = 600.0) -> tuple[bool, str]:
        """Send a command and wait for the whole answer.

        Args:
            timeout: seconds; then the turn is interrupted, so that it costs nothing more. None: no limit.

        Returns:
            Whether the answer is whole, and the text; where it failed without any, what went wrong.

        Raises:
            InvalidInput: it cannot be a prompt.
            BridgeError: the instance cannot be reached or started.
        """
        said: list[str] = []
        result: TurnResult | None = None
        with anyio.move_on_after(timeout):
            async with aclosing(self.stream(prompt)) as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        said.append(event.text)
                    elif isinstance(event, TurnResult):
                        result = event
        if result is None:
            return False, "".join(said)
        return result.ok, "".join(said) or ("" if result.ok else result.error)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:  # cancelled, too: nobody else would clean up, because __aexit__ is not called
            with anyio.CancelScope(shield=True):
                await self.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.cleanup()


def _field(item: Any) -> str:
    return ".".join(str(part) for part in item["loc"]) or "record"


def _reason(item: Any) -> str:
    return str(item["msg"]).removeprefix("Value error, ")
