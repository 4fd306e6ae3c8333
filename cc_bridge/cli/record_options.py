"""Options of the verbs that make an instance or change one, and the record they make."""

from __future__ import annotations

import enum
import functools
import inspect
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread

from ..engine.image_names import AUTO_IMAGE
from ..errors import InvalidInput
from ..kinds import ONLY_FOR, means_something
from .completion import complete_conversation, complete_mode, complete_pane, complete_template
from .options import load
from .parameters import Option, given
from .sealed_options import AllowHost, ApiLimit, Key, KeyCommand, KeyFile, KeyOption, Sealed, parse_api_limits
from .swarm_options import (
    Constraint,
    ReserveCpus,
    ReserveMemory,
    Spread,
    Swarm,
    VolumeDriver,
    VolumeOption,
    WorkspaceVolume,
    parse_volume_options,
)
from .time_options import SleepAfter, StopAfter
from .words import check_claude_args, parse_env, parse_ports, parse_size, parse_times, parse_tools, read_mcp_config

if TYPE_CHECKING:
    import typer

    from ..record import ClaudeInstance
    from .display import Display


#: Options that only a container that is made can have.
_FOR_NEW_CONTAINERS = (
    "image",
    "dockerfile",
    "mount",
    "read_only",
    "network",
    "memory",
    "cpus",
    "writable",
    "restart",
    "credentials",
    "docker_socket",
    "worktree",
    "user",
    "pids",
    "publish",
    "sealed",
    "allow_host",
)

#: The field of a record that an option says, where it is not called the same.
_FIELDS = {
    "mount": "mounts",
    "publish": "ports",
    "read_only": "read_only_workspace",
    "claude_arg": "extra",
    "allow_host": "allow_hosts",
    "api_limit": "api_limits",
    "constraint": "constraints",
    "volume_option": "volume_options",
}


class On(enum.StrEnum):
    """Where Claude Code is to run."""

    docker = "docker"
    local = "local"
    tmux = "tmux"
    swarm = "swarm"


OnOption = Annotated[On, Option("--on", help="Where Claude Code runs.")]
Image = Annotated[
    str,
    Option(
        "--image",
        "--docker-image",
        metavar="I",
        help="Docker image; auto: that of the workspace's Dockerfile, else the default one.",
    ),
]
Docker = Annotated[bool, Option("--docker", help="In a container: the same as --on docker.")]
Dockerfile = Annotated[Path | None, Option("--dockerfile", metavar="FILE", help="Build this, and use it.")]
ReadOnly = Annotated[bool, Option("--read-only", help="Docker, Swarm: it may read the workspace, and not write.")]
Writable = Annotated[bool, Option("--writable", help="Docker, Swarm: it may write to its root file system.")]
Memory = Annotated[str, Option("--memory", metavar="SIZE", help="Docker, Swarm: most memory, such as 512m or 2g.")]
Cpus = Annotated[float, Option("--cpus", metavar="N", min=0.01, help="Docker, Swarm: most processors.")]
Restart = Annotated[str, Option("--restart", metavar="POLICY", help="Docker: as `docker run` has it.")]
Credentials = Annotated[bool, Option("--credentials", help="Docker: give it this user's login, read-only.")]
DockerSocket = Annotated[
    bool, Option("--docker-socket", help="Docker: give it the engine itself, and so root on this machine.")
]
Tmux = Annotated[bool, Option("--tmux", help="Docker, Swarm: in a pane in the container, which `attach` shows.")]
TmuxSocket = Annotated[
    str, Option("--tmux-socket", metavar="PATH", help="tmux: in this server, and not in one of its own.")
]
Pane = Annotated[
    str,
    Option("--pane", metavar="ID", help="tmux: take over the Claude Code in this pane.", complete=complete_pane),
]
User = Annotated[str, Option("--user", "-u", metavar="USER", help="Docker, Swarm: as this user, name or UID:GID.")]
Pids = Annotated[int, Option("--pids", metavar="N", min=1, help="Docker, Swarm: most processes and threads.")]
Publish = Annotated[
    list[str] | None,
    Option(
        "--publish", "-p", metavar="[PORT:]PORT", help="Docker: a port here, on loopback, to one of it. Repeatable."
    ),
]
Container = Annotated[
    str,
    Option("--container", metavar="NAME", help="Docker: in this container, which is there; --workspace is in it."),
]
Relay = Annotated[
    bool, Option("--relay/--no-relay", help="In a pane: tokens as they come, by a relay to the API on loopback.")
]
Workspace = Annotated[Path, Option("--workspace", "-w", metavar="DIR", help="The directory it works in.")]
WorktreeOption = Annotated[
    str,
    Option("--worktree", metavar="BRANCH", help="In a git worktree of this branch, made of HEAD if it is new."),
]
Network = Annotated[str, Option("--network", metavar="MODE", help="Docker network: bridge, host, none, a name.")]
Env = Annotated[
    list[str] | None,
    Option("--env", "-e", metavar="K=V", help="A variable; K alone: this shell's. Repeatable."),
]
Mount = Annotated[list[str] | None, Option("--mount", metavar="HOST:DIR[:ro]", help="One more mount. Repeatable.")]
Model = Annotated[str, Option("--model", "-m", metavar="M", help="The model.")]
SystemPrompt = Annotated[str, Option("--system-prompt", metavar="TEXT", help="Instead of Claude Code's own.")]
AppendSystemPrompt = Annotated[str, Option("--append-system-prompt", metavar="TEXT", help="After Claude Code's own.")]
McpConfig = Annotated[
    list[str] | None,
    Option("--mcp-config", metavar="FILE|JSON", help="MCP servers; ${NAME} in it is a variable (--env). Repeatable."),
]
ClaudeArg = Annotated[list[str] | None, Option("--claude-arg", hidden=True)]
DisallowedTools = Annotated[
    str, Option("--disallowed-tools", metavar="LIST", help="Comma-separated, as Claude Code has it.")
]
AllowedTools = Annotated[str, Option("--allowed-tools", metavar="LIST", help="Comma-separated, as Claude Code has it.")]
PermissionMode = Annotated[
    str,
    Option("--permission-mode", metavar="MODE", help="As Claude Code has it.", complete=complete_mode),
]
SkipPermissions = Annotated[bool, Option("--skip-permissions", help="Ask for nothing; only in a container.")]
Resume = Annotated[
    str,
    Option(
        "--resume",
        metavar="ID|NAME",
        help="Go on with this session, or an instance's conversation.",
        complete=complete_conversation,
    ),
]
Template = Annotated[
    str,
    Option(
        "--template",
        metavar="NAME",
        help="As cc-bridge.toml has it; other options come before it.",
        complete=complete_template,
    ),
]
Fork = Annotated[bool, Option("--fork", help="With --resume: in a copy; the original stays as it is.")]


@dataclass(frozen=True)
class Options:
    """What ``run``, ``up`` and ``chat`` share; see :func:`takes_options`.

    Attributes:
        said: which of them were given: also one that says its default comes before what is configured. Empty: all
            that differ from their default.
    """

    on: OnOption = On.docker
    docker: Docker = False
    swarm: Swarm = False
    image: Image = AUTO_IMAGE
    dockerfile: Dockerfile = None
    workspace: Workspace = Path()
    worktree: WorktreeOption = ""
    read_only: ReadOnly = False
    network: Network = "bridge"
    memory: Memory = "2g"
    cpus: Cpus = 2.0
    pids: Pids = 512
    user: User = ""
    publish: Publish = None
    container: Container = ""
    writable: Writable = False
    restart: Restart = "no"
    credentials: Credentials = False
    sealed: Sealed = False
    allow_host: AllowHost = None
    key: KeyOption = Key.inside
    key_command: KeyCommand = ""
    key_file: KeyFile = None
    api_limit: ApiLimit = None
    docker_socket: DockerSocket = False
    constraint: Constraint = None
    spread: Spread = None
    reserve_memory: ReserveMemory = ""
    reserve_cpus: ReserveCpus = 0.0
    workspace_volume: WorkspaceVolume = ""
    volume_driver: VolumeDriver = ""
    volume_option: VolumeOption = None
    tmux: Tmux = False
    tmux_socket: TmuxSocket = ""
    pane: Pane = ""
    relay: Relay = True
    env: Env = None
    mount: Mount = None
    model: Model = ""
    system_prompt: SystemPrompt = ""
    append_system_prompt: AppendSystemPrompt = ""
    allowed_tools: AllowedTools = ""
    disallowed_tools: DisallowedTools = ""
    mcp_config: McpConfig = None
    permission_mode: PermissionMode = ""
    skip_permissions: SkipPermissions = False
    resume: Resume = ""
    fork: Fork = False
    sleep_after: SleepAfter = ""
    stop_after: StopAfter = ""
    template: Template = ""
    claude_arg: ClaudeArg = None
    said: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        differing = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        object.__setattr__(self, "said", self.said.union(differing))

    async def record(self, name: str, display: Display, *, ephemeral: bool) -> ClaudeInstance:
        """The record of an instance of that name.

        Raises:
            InvalidInput: names the option's field and what is wrong with it.
        """
        from .configuration import configured_fields

        if self.swarm:
            if self.docker or self.on not in (On.docker, On.swarm):
                raise InvalidInput(f"--swarm and {'--docker' if self.docker else f'--on {self.on.value}'}: which?")
            on_swarm = replace(self, swarm=False, on=On.swarm, said=(self.said - {"swarm"}) | {"on"})
            return await on_swarm.record(name, display, ephemeral=ephemeral)
        configured = configured_fields(self.template)
        if "kind" in configured and not self.said & {"docker", "on"}:
            return await replace(self, on=On(configured["kind"]))._record(name, display, configured, ephemeral)
        return await self._record(name, display, configured, ephemeral)

    async def _record(self, name: str, display: Display, configured: dict[str, Any], ephemeral: bool) -> ClaudeInstance:
        from ..protocol.command_line import ClaudeOptions
        from ..record import ClaudeInstance
        from .configuration import current_directory, with_configured

        if self.fork and not self.resume:
            raise InvalidInput("--fork needs --resume: what is to be copied?")
        if self.docker and self.on is not On.docker:
            raise InvalidInput(f"--docker and --on {self.on.value}: which of the two?")
        if meaningless := [word for word in sorted(self.said) if not means_something(_field(word), self.on.value)]:
            only = (f"{_shown(word)}: only with --on {' or '.join(ONLY_FOR[_field(word)])}" for word in meaningless)
            raise InvalidInput("; ".join(only))
        if self.container and (given := [word for word in _FOR_NEW_CONTAINERS if word in self.said]):
            what = f"{', '.join(map(_shown, given))}: only for a container that is made, and --container is there"
            raise InvalidInput(what)
        extra = check_claude_args(self.claude_arg or ())
        workspace = self.workspace if self.workspace.is_absolute() else current_directory() / self.workspace
        branch: dict[str, Any] = {}
        resume = await resumed(self.resume, display)
        if self.pane:
            from ..instances.pane_place import ask_tmux, default_tmux_socket, find_session

            socket = self.tmux_socket or default_tmux_socket()
            workspace, resume = await ask_tmux(socket, find_session, socket, self.pane)
            display.note(
                f"the Claude Code in {self.pane} is started anew, so that it tells what happens; it goes on with"
            )
            display.note(f"its conversation {resume} in {workspace}")
        if self.worktree:
            from ..instances.worktrees import add_worktree
            from ..state import state_root

            made = await anyio.to_thread.run_sync(add_worktree, workspace, self.worktree, state_root() / "worktrees")
            display.note(f"working in {made.path}, on the branch {made.branch}")
            workspace = made.path
            branch = {"worktree": made.branch, "repository": made.repository}
        contained: dict[str, Any] = {
            "image": self.image,
            "network": self.network,
            "mounts": tuple(self.mount or ()),
            "read_only_workspace": self.read_only,
            "memory": parse_size(self.memory),
            "cpus": self.cpus,
            "writable": self.writable,
            "sealed": self.sealed,
            "allow_hosts": tuple(self.allow_host or ()),
            "tmux": self.tmux,
            "user": self.user,
            "pids": self.pids,
        }
        place: dict[str, Any] = {"workspace": workspace}
        if self.on is On.docker:
            place |= contained | {
                "dockerfile": self.dockerfile,
                "restart": self.restart,
                "credentials": self.credentials,
                "docker_socket": self.docker_socket,
                "ports": parse_ports(self.publish or ()),
            }
        if self.on is On.swarm:  # its nodes do not have this machine's current directory
            place = (place if "workspace" in self.said else {}) | contained | self._swarm_fields()
        if self.container:
            place = {"container": self.container, "tmux": self.tmux}
            place |= {"mount_at": str(self.workspace)} if self.workspace != Path() else {}
        place |= parse_times(sleep_after=self.sleep_after, stop_after=self.stop_after)
        # What a pane or a worktree says of the directory was asked for, too.
        said = set(map(_field, self.said)) | ({"workspace"} if self.pane or self.worktree else set())
        found: dict[str, Any] = dict(
            name=name,
            kind=self.on.value,
            **branch,
            env=parse_env(self.env or ()),
            ephemeral=ephemeral,
            resume=resume,
            tmux_socket=self.tmux_socket,
            pane=self.pane,
            relay=self.relay,
            fork=self.fork,
            key=self.key.value,
            key_command=self.key_command,
            key_file=self.key_file,
            api_limits=parse_api_limits(self.api_limit or ()),
            claude=ClaudeOptions(
                model=self.model,
                system_prompt=self.system_prompt,
                append_system_prompt=self.append_system_prompt,
                allowed_tools=parse_tools(self.allowed_tools),
                disallowed_tools=parse_tools(self.disallowed_tools),
                mcp_config=tuple(map(read_mcp_config, self.mcp_config or ())),
                extra=extra,
                permission_mode=self.permission_mode,
                skip_permissions=self.skip_permissions,
            ),
            **place,
        )
        return ClaudeInstance.of(**with_configured(found, configured, said | place.keys() & {"mount_at"}))

    def _swarm_fields(self) -> dict[str, Any]:
        return {
            "constraints": tuple(self.constraint or ()),
            "spread": tuple(self.spread or ()),
            "reserve_memory": parse_size(self.reserve_memory) if self.reserve_memory else 0,
            "reserve_cpus": self.reserve_cpus,
            "workspace_volume": self.workspace_volume,
            "volume_driver": self.volume_driver,
            "volume_options": parse_volume_options(self.volume_option or ()),
        }


def takes_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the shared options on the command line; it gets them as one argument, ``options``.

    Who calls the verb says with ``said`` which of its parameters were given.
    """
    shared = dict(inspect.signature(Options, eval_str=True).parameters)
    del shared["said"]
    own = [item for item in inspect.signature(verb, eval_str=True).parameters.values() if item.name != "options"]

    @functools.wraps(verb)
    def with_options(*, said: Iterable[str] = (), **given: Any) -> None:
        words = {name: given.pop(name) for name in shared}
        verb(options=Options(**words, said=frozenset(said) & shared.keys()), **given)

    parameters = [item.replace(kind=item.KEYWORD_ONLY) for item in [*own, *shared.values()]]
    vars(with_options)["takes_said"] = True
    vars(with_options)["__signature__"] = inspect.Signature(parameters)  # which is what typer reads
    with_options.__annotations__ = {item.name: item.annotation for item in parameters}
    return with_options


def with_template(options: Options, template: str) -> Options:
    """The same by a template, which what was said comes before."""
    return replace(options, template=template)


def refuse_options(context: typer.Context, name: str) -> None:
    """For an instance that is there: it keeps its options.

    Raises:
        InvalidInput: some were given.
        InstanceNotFound: and there is none of this name.
    """
    from ..instances.registry import Registry

    if words := given(context):
        Registry().load(name)
        shown = ", ".join(map(_shown, words))
        raise InvalidInput(
            f"an instance keeps the options it was made with ({shown} given)",
            instance=name,
            hint=f"Without options it is taken as it is; `cc-bridge update {name}` changes what can be changed, "
            f"`cc-bridge rm {name}` makes room for a new one.",
        )


def _field(word: str) -> str:
    """The field of a record that an option says."""
    return _FIELDS.get(word, word)


def _shown(word: str) -> str:
    return "--" if word == "claude_arg" else f"--{word.replace('_', '-')}"


async def resumed(what: str, display: Display) -> str:
    """The session to go on with, for its id or the name of the instance that has it.

    Raises:
        InvalidInput: that instance has had no conversation.
    """
    from ..instances.registry import Registry

    if not what or what not in Registry().names():
        return what
    instance = load(what, display)
    try:
        return await instance.keep_conversation()
    finally:
        await instance.release()


def new_name() -> str:
    """A name for an instance that nobody has named."""
    return f"run-{uuid.uuid4().hex[:8]}"
