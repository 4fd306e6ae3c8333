"""Shapes of dictionaries and keyword arguments in the public API, for type checkers and editors."""

# Annotations are evaluated here: as strings, `Required` and `NotRequired` would not count at run time.

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NotRequired, Required, TypedDict

from .limits import ApiLimits
from .permission_rules import PermissionRules
from .protocol.command_line import ClaudeOptions

__all__ = ["InstanceActivity", "InstanceFields", "InstanceInfo", "Kind"]

Kind = Literal["docker", "local", "tmux", "swarm"]


class InstanceFields(TypedDict, total=False):
    """What :meth:`ClaudeInstance.of` takes: the fields of :class:`~cc_bridge.ClaudeInstance`, which explains them."""

    name: Required[str]
    kind: Required[Kind]
    image: str
    dockerfile: str | Path | None
    container: str
    workspace: str | Path | None
    worktree: str
    repository: str | Path | None
    mount_at: str
    read_only_workspace: bool
    mounts: Sequence[str]
    env: Mapping[str, str]
    network: str
    memory: int
    cpus: float
    cpu_shares: int
    pids: int
    ports: Mapping[int, int]
    restart: str
    writable: bool
    docker_socket: bool
    credentials: bool
    user: str
    sealed: bool
    allow_hosts: Sequence[str]
    key: Literal["inside", "outside"]
    key_command: str
    key_file: str | Path | None
    api_limits: ApiLimits
    constraints: Sequence[str]
    spread: Sequence[str]
    reserve_memory: int
    reserve_cpus: float
    most_in_project: int
    workspace_volume: str
    volume_driver: str
    volume_options: Mapping[str, str]
    service: str
    labels: Mapping[str, str]
    project: str
    ephemeral: bool
    tmux: bool
    tmux_socket: str
    pane: str
    relay: bool
    claude: ClaudeOptions
    rules: PermissionRules
    resume: str
    fork: bool
    sleep_after: float | None
    stop_after: float | None
    created: datetime


class InstanceActivity(TypedDict):
    """What an instance does at the moment. Nothing is started to learn it, and no turn is touched.

    Attributes:
        activity: ``idle``; ``asleep``: it was idle, and Claude Code was ended until the next command; ``busy``: it has
            a turn; ``permission``: it has one, and waits for a decision on a tool.
            None: nobody can say: nobody answers, an agent of 0.1.0, no Python for an agent, or a pane without a turn
            from here, in which a person may have one.
        asks: the tool that it waits for a decision on.
        permissions: how many requests wait for a decision, as far as the newest of what it has said tells.
        turn: the id of the turn that it has; None: it has none, or nobody knows.
        turn_since: when it was given that turn.
        waiting: how many commands wait for it.
        connected: the other programs that are connected, as they call themselves.
        last_activity: when Claude Code said something last, or was started; None: it does not run.
        channel: the way to the agent (``pipes``, ``exec``, ``direct`` or ``socket``); None: nobody answers.
    """

    activity: Literal["idle", "asleep", "busy", "permission"] | None
    asks: str | None
    permissions: int
    turn: str | None
    turn_since: str | None
    waiting: int
    connected: list[str]
    last_activity: str | None
    channel: str | None


class InstanceInfo(InstanceActivity):
    """What ``get_info()`` returns: an instance's configuration and state, as JSON types and without secrets.

    What it does at the moment, :class:`InstanceActivity` explains.

    Attributes:
        created: of the record; ISO 8601, as all times here.
        env: the names of the variables, each with ``***``.
        agent, claude: versions, as far as known.
        session_id: Claude Code's session; None: there has been none.
        unknown_messages: how many messages of which kind were not understood.
        status: ``running`` or ``stopped``; of a container, the engine's word, or ``absent``.
        image: of the container; None: it has none.
        tmux_socket: tmux: the socket of the pane's server.
        pane: tmux: the pane's id; None: it is not there.
        attach: tmux: the command by which a person comes to the pane.
        screen: tmux: the lines that the pane shows, without empty ones; None: it is not there.
        container: Docker: its name.
        id: Docker: the engine's. This and what follows: of a container that is there.
        health: as the engine's health check found it; None: there is no check.
        ports: port in the container, and where it is reached on this machine.
        networks: by name, the address there.
        volumes: names of the volumes that are mounted.
        limits: as the engine has them: memory in bytes, processors, processes.
        service, node, task: Swarm: the service's name, the hostname of the node that has it and the id of its task;
            None: none has it.
        exit_code: None: it runs.
        oom_killed: it was killed because its memory limit was reached.
    """

    name: str
    kind: Kind
    workspace: str | None
    created: str
    project: str
    labels: dict[str, str]
    env: dict[str, str]
    agent: str | None
    claude: str | None
    session_id: str | None
    unknown_messages: dict[str, int]
    status: str
    image: str | None
    tmux_socket: NotRequired[str]
    pane: NotRequired[str | None]
    attach: NotRequired[str]
    screen: NotRequired[list[str] | None]
    container: NotRequired[str]
    id: NotRequired[str]
    container_created: NotRequired[str]
    health: NotRequired[str | None]
    ports: NotRequired[dict[str, Any]]
    networks: NotRequired[dict[str, str]]
    volumes: NotRequired[list[str]]
    limits: NotRequired[dict[str, Any]]
    service: NotRequired[str]
    node: NotRequired[str | None]
    task: NotRequired[str | None]
    exit_code: NotRequired[int | None]
    oom_killed: NotRequired[bool]
