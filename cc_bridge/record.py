"""The record of an instance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from .errors import InvalidInput
from .kinds import kinds_of, means_something, without_meaningless
from .limits import ApiLimits, Limits, check_sleep, sleep_times
from .mounts import parse_mount
from .permission_rules import PermissionRules
from .protocol.command_line import ClaudeOptions
from .record_fields import CHECKS

if TYPE_CHECKING:
    from .shapes import InstanceFields, Kind

__all__ = ["ClaudeInstance"]


@dataclass(frozen=True, kw_only=True)
class ClaudeInstance:
    """The record of an instance: its configuration, not its state. Make one with :meth:`of`.

    What begins with ``Docker:``, ``Swarm:`` or ``tmux:`` means something for instances of this kind only, and others
    have it at its default.

    Attributes:
        name: lower-case letters, digits, ``_ . -``, at most 63; unique on this machine. :func:`~cc_bridge.name_for`
            makes one of any text.
        kind: ``docker``: in a container; ``local``: a process of this machine; ``tmux``: in a pane of this machine;
            ``swarm``: a service of a Docker Swarm, whose container is at one of its nodes.
        workspace: the directory that Claude Code works in; for Docker, mounted at ``mount_at``. For Swarm, one that
            every node has, such as of a network's file system; None: it is a volume.
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
        image: Docker, Swarm: the image; ``auto``: that of the workspace's Dockerfile, else the default one;
            ``cc-bridge``: the default one. A swarm's nodes have it or can pull it. Required unless
            ``dockerfile`` or ``container`` is given.
        dockerfile: Docker: build this file, with the workspace as its context, instead of using an image.
        container: Docker: an existing container to use, which is then neither created nor removed.
        mount_at: Docker, Swarm: where the workspace is in the container.
        read_only_workspace: Docker, Swarm: it may read the workspace, and not write.
        mounts: Docker, Swarm: more mounts, ``host:container[:ro|rw]``.
        network: Docker, Swarm: ``bridge``, ``host``, ``none`` or a network's name.
        memory: Docker, Swarm: bytes, swap included.
        cpus: Docker, Swarm: processors, also parts of one.
        cpu_shares: Docker: weight where processors are scarce; 1024 is what other containers have.
        pids: Docker, Swarm: processes and threads at once.
        ports: Docker: port in the container to port on this machine (loopback only), 0 for any.
        restart: Docker: ``no``, ``on-failure[:times]``, ``always`` or ``unless-stopped``.
        writable: Docker, Swarm: let it write to its root file system.
        docker_socket: Docker: mount the engine's socket. Whoever has it is root on the engine's machine.
        credentials: Docker: mount this user's Claude Code login, read-only.
        user: Docker, Swarm: user in the container; by default the host's, or 1000:1000 where the host's is root.
        sealed: Docker, Swarm: no network, and no key inside. What it asks of the API goes over the way to its agent to
            a proxy on this machine, which puts the key in; other hosts are reached only where ``allow_hosts`` says so.
        allow_hosts: Docker, Swarm: what a sealed one may reach besides the API, by TLS: ``name``, ``name:port``,
            ``*.name:port`` for names below, a group's name, and ``name:port=ADDRESS_OR_NETWORK`` for one that is at an
            address of a private network.
        key: ``inside``: Claude Code has the key; ``outside``: it has a placeholder, and that proxy the key, as with
            ``sealed``, which includes it.
        key_command: a command of this machine's that prints the key on one line, where the key is outside; it is run by
            the shell, as this user, and again after five minutes or when the API refuses the key. Then the address
            and its headers are ``env``'s, and nothing is taken of this machine's login. Whoever may set it runs it.
        key_file: a file of this machine with the key on one line, read for each request; otherwise the same.
        api_limits: what it may ask of the API where its key is outside.
        constraints: Swarm: what a node must be, such as ``node.labels.disk==ssd``; all of them.
        spread: Swarm: over what instances are spread first, such as ``node.labels.rack``.
        reserve_memory: Swarm: bytes that a node must have free to get it, and that nobody else gets; 0: none.
        reserve_cpus: Swarm: the same of processors.
        most_in_project: Swarm: it runs only while fewer others of its project do, whoever has made them; 0: no limit.
        workspace_volume: Swarm: the volume that is its workspace, which stays when it is removed; by default it has one
            of its own, which goes with it.
        volume_driver: Swarm: what its volumes are made by, at whichever node; by default ``local``, where each node has
            its own.
        volume_options: Swarm: what that driver is told.
        service: Swarm: the service's name, where another installation has made it (``SwarmService.find``).
        tmux: Docker, Swarm: the interactive Claude Code in a tmux pane in the container, which a person may attach to.
        tmux_socket: tmux: the socket of a server of the user's, to open a session there; by default the instance has
            its own.
        pane: tmux: an existing pane, such as ``%3``, whose Claude Code is taken over; ``tmux_socket`` says where.
        relay: Docker, Swarm, tmux: in a pane: read the API's stream on its way, on loopback, for tokens as they come;
            else only finished lines do.
    """

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
    env: dict[str, str] = field(default_factory=dict, repr=False)
    network: str = "bridge"
    memory: int = Limits.memory
    cpus: float = Limits.cpus
    cpu_shares: int = Limits.cpu_shares
    pids: int = Limits.pids
    ports: dict[int, int] = field(default_factory=dict)
    restart: str = "no"
    writable: bool = False
    docker_socket: bool = False
    credentials: bool = False
    user: str = ""
    sealed: bool = False
    allow_hosts: tuple[str, ...] = ()
    key: Literal["inside", "outside"] = "inside"
    key_command: str = ""
    key_file: Path | None = None
    api_limits: ApiLimits = field(default_factory=ApiLimits)
    constraints: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()
    reserve_memory: int = 0
    reserve_cpus: float = 0.0
    most_in_project: int = 0
    workspace_volume: str = ""
    volume_driver: str = ""
    volume_options: dict[str, str] = field(default_factory=dict)
    service: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    project: str = ""
    ephemeral: bool = False
    tmux: bool = False
    tmux_socket: str = ""
    pane: str = ""
    relay: bool = True
    claude: ClaudeOptions = field(default_factory=ClaudeOptions)
    rules: PermissionRules = field(default_factory=PermissionRules)
    resume: str = ""
    fork: bool = False
    sleep_after: float | None = None
    stop_after: float | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, **fields: Unpack[InstanceFields]) -> Self:
        """A validated record of these fields, which the class explains.

        Raises:
            InvalidInput: names the field and what is wrong with it, also where it means nothing for the kind and is not
                at its default.
        """
        return cls.from_json_types(dict(fields))

    @classmethod
    def from_json_types(cls, data: object) -> Self:
        """The same of what :meth:`as_json_types` has made, or of the fields themselves. Raises as :meth:`of`."""
        if not isinstance(data, dict):
            raise InvalidInput("the instance cannot be: the record is no JSON object")
        problems = [f"{name}: there is no such field" for name in data if name not in CHECKS]
        problems += [f"{item.name}: it is needed" for item in fields(cls) if _is_needed(item) and item.name not in data]
        if problems:
            raise _refused(problems, data.get("name", ""))
        return cls(**data)

    @classmethod
    def from_kept(cls, data: object) -> Self:
        """The same of what may be older: what means nothing for its kind is dropped. Releases before this one kept it.

        Raises: as :meth:`of`.
        """
        return cls.from_json_types(without_meaningless(data, data.get("kind")) if isinstance(data, dict) else data)

    def __post_init__(self) -> None:
        problems = []
        for name, check in CHECKS.items():
            try:
                object.__setattr__(self, name, check(getattr(self, name)))
            except ValueError as error:
                problems.append(f"{name}: {error}")
        if problems := problems or list(self._contradictions()):
            raise _refused(problems, self.name)
        if meaningless := list(self._meaningless()):
            only = [f"{name}: only for the kind {kinds_of(name)}, and this is {self.kind!r}" for name in meaningless]
            kinds = " or ".join(dict.fromkeys(map(kinds_of, meaningless)))
            raise _refused(only, self.name, hint=f"Leave it out, or make an instance of the kind {kinds}.")

    def _meaningless(self) -> Iterator[str]:
        """Fields that are set and mean nothing for the kind."""
        for item in fields(self):
            if not means_something(item.name, self.kind) and getattr(self, item.name) != _default_of(item):
                yield item.name

    def _contradictions(self) -> Iterator[str]:
        """Fields that cannot be together."""
        if self.kind == "docker" and not (self.image or self.dockerfile or self.container):
            yield "image: a docker instance needs an image, or the name of an existing container"
        if self.pane and not re.fullmatch(r"%\d+", self.pane):
            yield "pane: a pane's id, such as %3; `tmux list-panes -a -F '#{pane_id}'` shows them"
        if self.ports and (self.network in ("host", "none") or self.network.startswith("container:")):
            yield f"ports: with the network {self.network!r} there are none to publish"
        if self.ephemeral and self.restart != "no":
            yield "restart: an ephemeral instance removes itself when it ends"
        if self.kind == "swarm":
            yield from self._contradictions_of_a_swarm()
        if not self.is_contained and self.claude.skip_permissions:
            yield "claude.skip_permissions: allowed only in a container"
        yield from self._contradictions_of_the_key()
        if self.workspace is None and not self.container and self.kind != "swarm":
            yield "workspace: needed: the directory that Claude Code works in"
        try:
            check_sleep(self.sleep_after, self.stop_after, in_pane=self.in_pane)
        except ValueError as error:
            yield str(error)

    def _contradictions_of_a_swarm(self) -> Iterator[str]:
        if not self.image:
            yield "image: a swarm's instance needs an image, which its nodes have or can pull"
        if self.worktree:
            yield "worktree: it is a directory of this machine, and its nodes have it not"
        if self.workspace is not None and self.workspace_volume:
            yield "workspace and workspace_volume: which of the two is it?"
        if self.volume_options and not self.volume_driver:
            yield "volume_options: only with volume_driver"
        if self.most_in_project and not self.project:
            yield "most_in_project: only with project"

    def _contradictions_of_the_key(self) -> Iterator[str]:
        if self.sealed:
            given = {"container": self.container, "docker_socket": self.docker_socket, "ports": self.ports}
            for name in [name for name, value in given.items() if value]:
                yield f"{name}: not with sealed, which it would undo"
            if self.network not in ("bridge", "none"):
                yield f"network: a sealed instance has none, and {self.network!r} was said"
        elif self.allow_hosts:
            yield "allow_hosts: only with sealed; others reach what their network reaches"
        if self.key_is_outside and self.credentials:
            yield "credentials: the login would be inside, and the key is to be outside"
        if self.key_is_outside and self.container:
            yield "key: outside only of a container that is made, and container names one that is there"
        if not self.key_is_outside and self.api_limits != ApiLimits():
            yield "api_limits: only where the key is outside: who has a key asks past them"
        sources = [name for name in ("key_command", "key_file") if getattr(self, name)]
        if sources and not self.key_is_outside:
            yield f"{sources[0]}: only where the key is outside"
        if len(sources) > 1:
            yield "key_command and key_file: where is the key?"

    def as_json_types(self) -> dict[str, Any]:
        """All fields as JSON types, secrets included: what is kept on this machine."""
        data: dict[str, Any] = json.loads(json.dumps(vars(self), default=_plain))
        return data

    def differences(self, other: ClaudeInstance) -> list[str]:
        """The fields in which two records differ, but for ``created``; those of ``claude`` as ``claude.model``."""
        ours, theirs = self.as_json_types(), other.as_json_types()
        found = [name for name in ours if name not in ("claude", "created") and ours[name] != theirs[name]]
        return found + [f"claude.{name}" for name in ours["claude"] if ours["claude"][name] != theirs["claude"][name]]

    @property
    def in_pane(self) -> bool:
        """The interactive Claude Code, in a terminal that a person may share."""
        return self.kind == "tmux" or self.tmux

    @property
    def is_contained(self) -> bool:
        """It is in a container, which sees only what is mounted in it."""
        return self.kind in ("docker", "swarm")

    @property
    def key_is_outside(self) -> bool:
        """Claude Code has a placeholder in the key's place, and asks the API by the proxy."""
        return self.sealed or self.key == "outside"

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

    def check_directories(self) -> None:
        """The workspace and what is mounted are there. Raises as :meth:`check_workspace` and :meth:`check_mounts`."""
        self.check_workspace()
        self.check_mounts()

    def check_mounts(self) -> None:
        """Make sure that what is to be mounted is there.

        Raises:
            InvalidInput: names what is missing.
        """
        for mount in self.mounts:
            parse_mount(mount, instance=self.name)


def _is_needed(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _default_of(item: Any) -> object:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _refused(problems: list[str], name: object, hint: str | None = None) -> InvalidInput:
    instance = name if isinstance(name, str) else ""
    return InvalidInput(f"the instance cannot be: {'; '.join(problems)}", instance=instance, hint=hint)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return vars(value) if isinstance(value, ClaudeOptions | PermissionRules | ApiLimits) else str(value)
