"""Options that several verbs share, and the record they make."""

from __future__ import annotations

import enum
import functools
import inspect
import os
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from ..engine.images import AUTO_IMAGE
from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..dockerfiles import OnDockerfile
    from ..instance import ClaudeInstance, OnPermission
    from ..instances.bridged import BridgedInstance
    from ..instances.docker_container import DockerContainer
    from .display import Display


#: Options that mean nothing without a container.
_FOR_CONTAINERS = (
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
    "tmux",
    "user",
    "pids",
    "publish",
    "container",
)

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
)

#: Words of Claude Code's that are cc-bridge's to say, and the option for each; nothing: there is none.
_OURS = {
    "-p": "",
    "--print": "",
    "--input-format": "",
    "--output-format": "",
    "--permission-prompt-tool": "",
    "--replay-user-messages": "",
    "--session-id": "",
    "-c": "--resume",
    "--continue": "--resume",
    "-r": "--resume",
    "--resume": "--resume",
    "--fork-session": "--fork",
    "--dangerously-skip-permissions": "--skip-permissions",
    "--allow-dangerously-skip-permissions": "--skip-permissions",
    "-w": "--worktree",
    "--worktree": "--worktree",
    "--tmux": "--tmux",
}

#: As Claude Code 2.1.329 has them.
_MODES = ("acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan")

#: Options that mean nothing without a pane of this machine's.
_FOR_PANES = ("tmux_socket", "pane")

#: Docker refuses less.
_LEAST_MEMORY = 6 * 1024**2


class On(enum.StrEnum):
    """Where Claude Code is to run."""

    docker = "docker"
    local = "local"
    tmux = "tmux"


def complete_name(incomplete: str) -> list[str]:
    """Instances whose names begin so, for shell completion."""
    from ..instances.registry import Registry

    return [name for name in Registry().names() if name.startswith(incomplete)]


def complete_conversation(incomplete: str) -> list[str]:
    """The same, and sessions that are kept."""
    from ..instances.registry import Registry

    known = [*Registry().names(), *sorted(Registry().sessions.kept())]
    return [item for item in known if item.startswith(incomplete)]


def complete_path(incomplete: str) -> list[str]:
    """Files here, and instances as ``NAME:``."""
    found = [f"{name}:" for name in complete_name(incomplete)] if "/" not in incomplete else []
    if ":" in incomplete:
        return found
    typed = Path(incomplete)
    directory, beginning = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name if incomplete else "")
    prefix = incomplete[: len(incomplete) - len(beginning)]
    try:
        here = sorted(path for path in directory.iterdir() if path.name.startswith(beginning))
    except OSError:
        return found
    hidden = beginning.startswith(".")
    return found + [
        f"{prefix}{path.name}{'/' if path.is_dir() else ''}" for path in here if hidden or path.name[0] != "."
    ]


def complete_pane(incomplete: str) -> list[str]:
    """The panes of the user's tmux server."""
    import subprocess

    from ..instances.tmux_instance import default_tmux_socket

    argv = ["tmux", "-S", default_tmux_socket(), "list-panes", "-a", "-F", "#{pane_id}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [pane for pane in done.stdout.split() if pane.startswith(incomplete)]


def complete_mode(incomplete: str) -> list[str]:
    """Claude Code's permission modes."""
    return [mode for mode in _MODES if mode.startswith(incomplete)]


Name = Annotated[str, typer.Argument(metavar="NAME", help="The instance.", autocompletion=complete_name)]
Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Instances.", autocompletion=complete_name)]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", min=0.001, help="Interrupt the turn after S seconds; exit 124."),
]
OnOption = Annotated[On, typer.Option("--on", help="Where Claude Code runs.")]
Image = Annotated[
    str,
    typer.Option(
        "--image",
        "--docker-image",
        metavar="I",
        help="Docker image; auto: that of the workspace's Dockerfile, else the default one.",
    ),
]
Docker = Annotated[bool, typer.Option("--docker", help="In a container: the same as --on docker.")]
Dockerfile = Annotated[Path | None, typer.Option("--dockerfile", metavar="FILE", help="Build this, and use it.")]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Docker: it may read the workspace, and not write.")]
Writable = Annotated[bool, typer.Option("--writable", help="Docker: it may write to its root file system.")]
Memory = Annotated[str, typer.Option("--memory", metavar="SIZE", help="Docker: most memory, such as 512m or 2g.")]
Cpus = Annotated[float, typer.Option("--cpus", metavar="N", min=0.01, help="Docker: most processors.")]
Restart = Annotated[str, typer.Option("--restart", metavar="POLICY", help="Docker: as `docker run` has it.")]
Credentials = Annotated[bool, typer.Option("--credentials", help="Docker: give it this user's login, read-only.")]
DockerSocket = Annotated[
    bool, typer.Option("--docker-socket", help="Docker: give it the engine itself, and so root on this machine.")
]
Tmux = Annotated[bool, typer.Option("--tmux", help="Docker: in a pane in the container, which `attach` shows.")]
TmuxSocket = Annotated[
    str, typer.Option("--tmux-socket", metavar="PATH", help="tmux: in this server, and not in one of its own.")
]
Pane = Annotated[
    str,
    typer.Option(
        "--pane", metavar="ID", help="tmux: take over the Claude Code in this pane.", autocompletion=complete_pane
    ),
]
User = Annotated[str, typer.Option("--user", "-u", metavar="USER", help="Docker: as this user, name or UID:GID.")]
Pids = Annotated[int, typer.Option("--pids", metavar="N", min=1, help="Docker: most processes and threads.")]
Publish = Annotated[
    list[str] | None,
    typer.Option(
        "--publish", "-p", metavar="[PORT:]PORT", help="Docker: a port here, on loopback, to one of it. Repeatable."
    ),
]
Container = Annotated[
    str,
    typer.Option(
        "--container", metavar="NAME", help="Docker: in this container, which is there; --workspace is in it."
    ),
]
Relay = Annotated[
    bool, typer.Option("--relay/--no-relay", help="In a pane: tokens as they come, by a relay to the API on loopback.")
]
Workspace = Annotated[Path, typer.Option("--workspace", "-w", metavar="DIR", help="The directory it works in.")]
WorktreeOption = Annotated[
    str,
    typer.Option("--worktree", metavar="BRANCH", help="In a git worktree of this branch, made of HEAD if it is new."),
]
Network = Annotated[str, typer.Option("--network", metavar="MODE", help="Docker network: bridge, host, none, a name.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="K=V", help="A variable; K alone: this shell's. Repeatable."),
]
Mount = Annotated[
    list[str] | None, typer.Option("--mount", metavar="HOST:DIR[:ro]", help="One more mount. Repeatable.")
]
Model = Annotated[str, typer.Option("--model", "-m", metavar="M", help="The model.")]
SystemPrompt = Annotated[str, typer.Option("--system-prompt", metavar="TEXT", help="Instead of Claude Code's own.")]
AppendSystemPrompt = Annotated[
    str, typer.Option("--append-system-prompt", metavar="TEXT", help="After Claude Code's own.")
]
McpConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--mcp-config", metavar="FILE|JSON", help="MCP servers; ${NAME} in it is a variable (--env). Repeatable."
    ),
]
ClaudeArg = Annotated[list[str] | None, typer.Option("--claude-arg", hidden=True)]
DisallowedTools = Annotated[
    str, typer.Option("--disallowed-tools", metavar="LIST", help="Comma-separated, as Claude Code has it.")
]
AllowedTools = Annotated[
    str, typer.Option("--allowed-tools", metavar="LIST", help="Comma-separated, as Claude Code has it.")
]
PermissionMode = Annotated[
    str,
    typer.Option("--permission-mode", metavar="MODE", help="As Claude Code has it.", autocompletion=complete_mode),
]
SkipPermissions = Annotated[bool, typer.Option("--skip-permissions", help="Ask for nothing; only in a container.")]
Resume = Annotated[
    str,
    typer.Option(
        "--resume",
        metavar="ID|NAME",
        help="Go on with this session, or an instance's conversation.",
        autocompletion=complete_conversation,
    ),
]
Fork = Annotated[bool, typer.Option("--fork", help="With --resume: in a copy; the original stays as it is.")]


@dataclass(frozen=True)
class Options:
    """What ``run``, ``up`` and ``chat`` share; see :func:`takes_options`."""

    on: OnOption = On.docker
    docker: Docker = False
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
    docker_socket: DockerSocket = False
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
    claude_arg: ClaudeArg = None

    async def record(self, name: str, display: Display, *, ephemeral: bool) -> ClaudeInstance:
        """The record of an instance of that name.

        Raises:
            InvalidInput: names the option's field and what is wrong with it.
        """
        from ..instance import ClaudeInstance
        from ..protocol.command_line import ClaudeOptions

        if self.fork and not self.resume:
            raise InvalidInput("--fork needs --resume: what is to be copied?")
        if self.docker and self.on is not On.docker:
            raise InvalidInput(f"--docker and --on {self.on.value}: which of the two?")
        if self.on is not On.docker and (given := self._given_of(_FOR_CONTAINERS)):
            raise InvalidInput(f"{', '.join(given)}: for containers only, and --on {self.on.value} is none")
        if self.on is not On.tmux and (given := self._given_of(_FOR_PANES)):
            raise InvalidInput(f"{', '.join(given)}: only with --on tmux")
        if self.container and (given := self._given_of(_FOR_NEW_CONTAINERS)):
            raise InvalidInput(f"{', '.join(given)}: only for a container that is made, and --container is there")
        extra = check_claude_args(self.claude_arg or ())
        workspace = self.workspace.absolute()
        branch: dict[str, Any] = {}
        resume = await resumed(self.resume, display)
        if self.pane:
            from ..instances.tmux_instance import default_tmux_socket, find_session

            socket = self.tmux_socket or default_tmux_socket()
            workspace, resume = await anyio.to_thread.run_sync(find_session, socket, self.pane)
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
        docker: dict[str, Any] = {
            "image": self.image,
            "dockerfile": self.dockerfile,
            "network": self.network,
            "mounts": tuple(self.mount or ()),
            "read_only_workspace": self.read_only,
            "memory": parse_size(self.memory),
            "cpus": self.cpus,
            "writable": self.writable,
            "restart": self.restart,
            "credentials": self.credentials,
            "docker_socket": self.docker_socket,
            "tmux": self.tmux,
            "user": self.user,
            "pids": self.pids,
            "ports": parse_ports(self.publish or ()),
        }
        place: dict[str, Any] = {"workspace": workspace, **(docker if self.on is On.docker else {})}
        if self.container:
            place = {"container": self.container, "tmux": self.tmux}
            place |= {"mount_at": str(self.workspace)} if self._given_of(["workspace"]) else {}
        return ClaudeInstance.of(
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

    def _given_of(self, words: Sequence[str]) -> list[str]:
        """Which of these options were given."""
        defaults = Options()
        given = [word for word in words if getattr(self, word) != getattr(defaults, word)]
        return [_shown(word) for word in given]


def takes_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the shared options on the command line; it gets them as one argument, ``options``."""
    shared = inspect.signature(Options, eval_str=True).parameters
    own = [item for item in inspect.signature(verb, eval_str=True).parameters.values() if item.name != "options"]

    @functools.wraps(verb)
    def with_options(**given: Any) -> None:
        verb(options=Options(**{name: given.pop(name) for name in shared}), **given)

    parameters = [item.replace(kind=item.KEYWORD_ONLY) for item in [*own, *shared.values()]]
    vars(with_options)["__signature__"] = inspect.Signature(parameters)  # which is what typer reads
    with_options.__annotations__ = {item.name: item.annotation for item in parameters}
    return with_options


def given(context: typer.Context) -> list[str]:
    """The parameters that were given on the command line, but for the instance's name."""
    return [
        parameter
        for parameter in context.params
        if parameter not in ("name", "verbose") and str(context.get_parameter_source(parameter)).endswith("COMMANDLINE")
    ]


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


def _shown(word: str) -> str:
    return "--" if word == "claude_arg" else f"--{word.replace('_', '-')}"


def parse_tools(text: str) -> tuple[str, ...]:
    """The tools of a comma-separated list."""
    return tuple(text.split(",")) if text else ()


def parse_ports(texts: Sequence[str]) -> dict[int, int]:
    """Port in the container to port here, of ``8080:80`` or ``80`` (any port here) each.

    Raises:
        InvalidInput: one is neither.
    """
    ports = {}
    for text in texts:
        found = re.fullmatch(r"(?:127\.0\.0\.1:)?(?:(\d{1,5})?:)?(\d{1,5})", text)
        if not found:
            hint = "Write 8080:80, or 80 for any port here; it is reached from this machine only."
            raise InvalidInput(f"--publish {text!r} is no [PORT:]PORT", hint=hint)
        ports[int(found[2])] = int(found[1] or 0)
    return ports


def read_mcp_config(text: str) -> str:
    """JSON as it is; of a file of this machine, what it says, because Claude Code may run where it is not.

    Raises:
        InvalidInput: it is no JSON object, or the file cannot be read.
    """
    import json

    try:
        config = text if text.lstrip().startswith("{") else Path(text).read_text()
        if isinstance(json.loads(config), dict):
            return config
    except OSError as error:
        raise InvalidInput(f"--mcp-config {text}: {error.strerror}") from None
    except (ValueError, RecursionError):
        pass
    raise InvalidInput(f"--mcp-config {text}: it is no JSON object", hint='Such as {"mcpServers": {…}}.')


def check_claude_args(words: Sequence[str]) -> tuple[str, ...]:
    """What stood after ``--``.

    Raises:
        InvalidInput: one is cc-bridge's to say.
    """
    for word in words:
        option = word.partition("=")[0]
        if option in _OURS:
            hint = f"Use {_OURS[option]} before the --." if _OURS[option] else "cc-bridge says that itself."
            raise InvalidInput(f"{option} cannot be given to Claude Code after --", hint=hint)
    return tuple(words)


def parse_env(assignments: Sequence[str]) -> dict[str, str]:
    """``K=V`` each, or ``K`` for this process's own value.

    Raises:
        InvalidInput: ``K`` alone and not set here.
    """
    env = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            if name not in os.environ:
                raise InvalidInput(f"--env {name}: it is not set here", hint="Set it, or write --env NAME=VALUE.")
            value = os.environ[name]
        env[name] = value
    return env


def parse_size(text: str) -> int:
    """Bytes of ``512m``, ``2g``, ``64k`` or a plain number.

    Raises:
        InvalidInput: it is none of these, or less than Claude Code can start in.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)b?", text.strip().lower())
    if not found:
        raise InvalidInput(f"{text!r} is no amount of memory", hint="Write 512m or 2g.")
    size = int(float(found[1]) * {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}[found[2]])
    if size < _LEAST_MEMORY:
        raise InvalidInput(f"{text!r} is too little memory", hint="Docker's least is 6m; Claude Code wants some 512m.")
    return size


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


def instance_of(
    record: ClaudeInstance, display: Display, on_permission: OnPermission | None = None, permission_limit: float = 300.0
) -> BridgedInstance:
    """The instance for a record, which shows its progress and asks about Dockerfiles."""
    from ..instances import factory

    return factory.instance_of(
        record,
        on_progress=display.progress,
        on_dockerfile=asks_about_dockerfiles(display),
        on_permission=on_permission,
        permission_limit=permission_limit,
    )


def asks_about_dockerfiles(display: Display) -> OnDockerfile | None:
    """Shows a Dockerfile that Claude Code may have written, and asks whether to build it; None: nobody is there."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    async def ask(path: Path, text: str) -> bool:
        display.note(f"{path} has appeared or changed since Claude Code could write there. It says:")
        display.note("")
        for line in text.split("\n"):  # as a builder does: any other character is shown
            display.note(f"    {line}")
        display.note("")
        print("Build it, as root and with network? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        return answer.strip().lower() in ("y", "yes")

    return ask


def load_docker(name: str, display: Display) -> DockerContainer:
    """The same, for verbs that need a container.

    Raises:
        InvalidInput: it has none.
    """
    from ..instances.docker_container import DockerContainer

    instance = load(name, display)
    if not isinstance(instance, DockerContainer):
        raise InvalidInput(f"it is a {instance.record.kind} instance, and has no container", instance=name)
    return instance


def load(
    name: str, display: Display, on_permission: OnPermission | None = None, permission_limit: float = 300.0
) -> BridgedInstance:
    """The instance that is kept under this name.

    Raises:
        InstanceNotFound: there is none.
    """
    from ..instances.registry import Registry

    return instance_of(Registry().load(name), display, on_permission, permission_limit)
