"""Claude Code in a Docker container: pipes first, ``docker exec`` when they fail."""

from __future__ import annotations

import os
import platform
import shlex
import stat
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, ClassVar, Unpack

import anyio

from .. import __version__
from ..beneath import create_file, make_directory, open_beneath, opened
from ..channels.base import Channel
from ..channels.direct import DirectChannel
from ..channels.docker_exec import DockerExecChannel
from ..channels.ladder import Facts, Rung, next_rung
from ..channels.named_pipe import NobodyListens
from ..dockerfiles import Dockerfile, Dockerfiles, OnDockerfile
from ..engine.archives import Archives, tar_of
from ..engine.client import Engine
from ..engine.container_spec import CONTAINER_HOME as _HOME
from ..engine.container_spec import ContainerSpec, Mount, user_for
from ..engine.container_tools import ContainerTools
from ..engine.containers import ContainerInfo, Containers
from ..engine.execs import ExecResult, Execs
from ..engine.images import AUTO_IMAGE, Images
from ..engine.labels import LABEL, NONCE
from ..engine.progress import Progress
from ..engine.volumes import Volumes
from ..errors import (
    AgentUnavailable,
    BridgeError,
    ConnectionLost,
    ContainerNotFound,
    ContainerNotRunning,
    ContainerStartError,
    EngineError,
    InvalidInput,
    NameConflict,
)
from ..instance import ClaudeInstance, Kind
from ..login import check_key, check_reachable, login_file
from ..mounts import docker_socket, split_mount
from ..protocol.command_line import ClaudeOptions, interactive_argv, pane_argv
from ..protocol.link import Link
from ..state import Installation
from .bridge import Ending, is_uuid
from .bridged import GRACE, LINGER, BridgedInstance, InstanceOptions
from .connection import Connection
from .registry import agent_archive
from .sessions import LARGEST, open_session, session_path

if TYPE_CHECKING:
    import docker

__all__ = ["DockerContainer"]

#: Where things are in the container.
_PIPES = "/run/cc-bridge"
_STATE = "/var/lib/cc-bridge"
_AGENT = "/opt/cc-bridge/agent.pyz"
_PANE = f"{_HOME}/.cc-bridge/pane"

#: What the main process logs when it has come up, with the agent or without.
_LISTENING = '"event": "listening"'
_NO_PYTHON = '"event": "no_python"'

#: Seconds for a container to come up, and for one that is ending to have ended.
_START_LIMIT = 60.0
_END_LIMIT = 5.0

#: Seconds after which a container that was never started is an orphan.
_STALE = 120.0

#: How often a container may end while it is being connected to.
_CONNECT_TRIES = 3

#: Whether there is a Python that the agent runs on.
_HAS_PYTHON = 'command -v python3 >/dev/null 2>&1 && python3 -IS -c "import sys; sys.exit(sys.version_info < (3, 9))"'

#: The container's main process: the agent, or, where none can run, something that stays.
_MAIN = f"""if {_HAS_PYTHON}; then exec python3 -IS "$@"; fi
echo '{{"event": "no_python"}}' >&2; exec tail -f /dev/null"""

#: Connect to the agent. Exit codes: 3 no agent serves, 127 no Python, 2 the archive is missing.
_FIND_PYTHON = "command -v python3 >/dev/null 2>&1 || exit 127\n"
_ATTACH = _FIND_PYTHON + 'exec python3 -IS "$@"'
_NO_AGENT, _NO_PYTHON_CODES, _NO_ARCHIVE = 3, (126, 127), 2

#: Start the agent beside what runs there; says "ready" on stdout. Exit codes: 4 one serves already, 127 no Python.
_SERVE = f"""{_HAS_PYTHON} || exit 127
log=$1; shift; (: >>"$log") 2>/dev/null || log=/dev/null
exec 3>&1 2>>"$log"; exec python3 -IS "$@" --ready-fd 3"""
_ALREADY_SERVING = 4

#: What the engine says in the place of a command's output where it could make no process.
_NO_PROCESS, _NOT_FOUND = b"OCI runtime", b"not found"

#: An exit code above this is 128 + the number of a signal.
_KILLED = 128

#: In an adopted container other users may be: what is in a directory that is not this user's alone is not run.
_IF_PRIVATE = """[ -O "${1%/*}" ] && [ ! -L "${1%/*}" ] || exit 2
"""
_MAKE_PRIVATE = """mkdir -m 700 "${1%/*}" 2>/dev/null
[ -O "${1%/*}" ] && [ ! -L "${1%/*}" ] || { echo "${1%/*} belongs to somebody else" >&2; exit 1; }
"""
_ATTACH_ADOPTED_PANE = 'exec tmux -u -S "/tmp/cc-bridge-$(id -u)/pane/tmux" attach-session'

#: The number of the user that commands have; `id` may be missing.
_USER = 'while read -r key user rest; do [ "$key" != Uid: ] || echo "$user"; done </proc/self/status'

#: Put the archive, which comes on stdin, where it was missing.
_INJECT = 'cat >"$1.$$" && chmod 644 "$1.$$" && mv "$1.$$" "$1"'

_SESSION = 'ls "${CLAUDE_CONFIG_DIR:-$HOME/.claude}"/projects/*/"$1".jsonl'
_TRANSCRIPT = 'tail -c 1048576 "${CLAUDE_CONFIG_DIR:-$HOME/.claude}"/projects/*/"$1".jsonl'


class DockerContainer(BridgedInstance):
    """A container of its own, made on first use and hardened; or an existing one (``record.container``).

    Args:
        instance: the record.
        client: a Docker client to use, which stays the caller's to close; without one, the engine that
            ``DOCKER_HOST`` names or the local one.
        on_progress: called, from a worker thread, with each step of an image's pull or build.
        on_dockerfile: asked whether to build a Dockerfile that a container may have written; without it, that is an
            error.
        options: see :class:`~cc_bridge.InstanceOptions`.
    """

    kind: ClassVar[Kind] = "docker"

    claude_hint = (
        "Its image has none: `cc-bridge image template` prints Dockerfiles that install it, `--image cc-bridge` has it."
    )

    def __init__(
        self,
        instance: ClaudeInstance,
        client: docker.DockerClient | None = None,
        *,
        on_progress: Progress | None = None,
        on_dockerfile: OnDockerfile | None = None,
        **options: Unpack[InstanceOptions],
    ) -> None:
        super().__init__(instance, **options)
        self._engine = Engine(client)
        self._containers = Containers(self._engine)
        self._execs = Execs(self._engine)
        self._images = Images(self._engine)
        self._archives = Archives(self._engine)
        self._on_progress = on_progress
        self._on_dockerfile = on_dockerfile
        self._dockerfiles = Dockerfiles(self._registry.root)
        self._adopted = bool(instance.container)
        self._agent = agent_archive(self._registry.root)
        self._agent_inside = _AGENT  # in an adopted container another, which is found on the way there
        self._knows_place_inside = False
        self._volumes = Volumes(self._engine)
        self._python_missing = False
        self._install = Installation.at(self._registry.root).id_for(self.name)

    @property
    def container(self) -> str:
        """The container's name."""
        return self.record.container or f"cc-bridge-{self.name}-{self._install}"

    @property
    def tools(self) -> ContainerTools:
        """What a person does to the container by hand: commands with a terminal, logs, files, what it uses."""
        return ContainerTools(self._engine, self.container, self._owner())

    @property
    def attach_argv(self) -> list[str]:
        """The command, in the container, by which a person comes to its pane; Ctrl-B D leaves it."""
        if self._adopted:
            return ["sh", "-c", _ATTACH_ADOPTED_PANE]
        return ["tmux", "-u", "-S", f"{_PANE}/tmux", "attach-session"]

    @property
    def _private_inside(self) -> str:
        """In an adopted container: the directory of its user's alone, in which we keep what we need."""
        return str(PurePosixPath(self._agent_inside).parent)

    def _argv(self, options: ClaudeOptions, resume: str, fork: bool) -> list[str]:
        if not self.record.tmux:
            return super()._argv(options, resume, fork)
        if self._python_missing:
            raise InvalidInput(
                "a pane needs Python in the container", instance=self.name, hint="Its image has none; or leave tmux."
            )
        return pane_argv(
            ["python3", "-IS", self._agent_inside],
            f"{self._private_inside}/pane" if self._adopted else _PANE,
            interactive_argv(options, resume=resume, fork=fork),
            name=self.name,
            relay=self.record.relay,
        )

    async def exec(self, argv: list[str], *, user: str = "", limit: float = 60.0) -> ExecResult:
        """Run a command in the container, for debugging; its output is buffered.

        Raises:
            ContainerNotFound, ContainerNotRunning, EngineError: as they say.
        """
        await self._own_container()
        return await self._execs.run(self.container, argv, user=user, limit=limit)

    async def is_running(self) -> bool:
        """The container runs and is not paused, and an agent in it answers where it has one."""
        try:
            info = await self._containers.inspect(self.container)
        except ContainerNotFound:
            return False
        if not info.running:
            return False
        if self._python_missing or await self._hello() is not None:
            return True
        await self._find_place_inside()
        argv = ["sh", "-c", self._attach_script, "sh", self._agent_inside, "health"]
        health = await self._execs.run(self.container, argv, limit=15)
        if self._adopted and health.exit_code == _NO_ARCHIVE:  # an agent of another version may answer all the same
            await self._inject()
            health = await self._execs.run(self.container, argv, limit=15)
        # Without Python there is no agent to ask: the bridge itself stands in for it.
        return health.exit_code in (0, *_NO_PYTHON_CODES)

    # The way to the agent

    async def connect(self, greeting: bytes) -> Channel:
        """Start the container if need be, and take the best way to the agent (channels/ladder.py)."""
        self._prepare_home()
        if await self._is_remote():
            self._agent_inside = f"{_STATE}/{self._agent.name}"
        for _ in range(_CONNECT_TRIES):
            try:
                await self._ensure_running()
            except NameConflict as error:
                self._log.info("made_by_another_program", reason=error.what)
                await anyio.sleep(0.2)  # back-off: its container may not be shown yet, or be on its way out
                continue
            try:
                return await self._descend_ladder(greeting)
            except (ContainerNotRunning, ContainerNotFound) as error:
                # It was ending while we looked; the engine says so only when it has ended.
                self._log.warning("container_ended", reason=error.what)
                if not await self._containers.wait(self.container, "not-running", _END_LIMIT):
                    raise
        raise AgentUnavailable(f"the container {self.container} ends again and again", instance=self.name)

    async def _is_remote(self) -> bool:
        """Its engine may be on another machine: this one's directories are not there, and volumes take their place."""
        await self._engine.client()
        return not self._adopted and not self._engine.is_local

    async def _descend_ladder(self, greeting: bytes) -> Channel:
        """Down the ladder of channels/ladder.py, in a container that runs."""
        facts = Facts(await self._engine.shares_kernel() and self._has_pipes, python_missing=self._python_missing)
        problem = "it is on another kernel" if self._has_pipes else "no pipes are mounted in it"
        while True:
            rung = next_rung(facts)
            try:
                match rung:
                    case Rung.PIPES:
                        return await self._pipes(greeting)
                    case Rung.ATTACH:
                        channel = await self._attach(greeting, facts)
                        if channel is not None:
                            self._log.warning("fallback", channel="exec", reason=problem)
                            return channel
                    case Rung.START_AGENT:
                        await self._start_agent(facts)
                    case Rung.DIRECT:
                        self._log.warning("fallback", channel="direct", reason="no Python in the container")
                        return DirectChannel(self._execs, self.container, greeting)
                    case Rung.GIVE_UP:
                        raise AgentUnavailable(
                            f"the agent in the container {self.container} cannot be reached: {problem}",
                            instance=self.name,
                            hint=self._hint_at_log("may say why"),
                        )
            except AgentUnavailable as error:
                if rung is not Rung.PIPES:
                    raise
                facts.pipes_failed = True
                problem = error.what
                log = self._log.info if isinstance(error, NobodyListens) else self._log.warning
                log("pipes_unusable", reason=problem)

    async def connect_better(self, current: str, greeting: bytes) -> Channel | None:
        """Pipes, where exec is in use and they work by now."""
        if current != "exec" or not self._has_pipes or not await self._engine.shares_kernel():
            return None
        try:
            channel = await self._pipes(greeting)
        except AgentUnavailable:
            return None
        self._log.info("pipes_usable_again")
        return channel

    @property
    def _has_pipes(self) -> bool:
        return not self._adopted and platform.system() == "Linux"

    async def _way_to_look(self, greeting: bytes) -> Channel:
        if self._has_pipes:
            with suppress(AgentUnavailable):
                return await self._pipes(greeting)
        running = (await self._own_container()).running
        channel = await self._attach(greeting, Facts()) if running else None
        if channel is None:
            raise AgentUnavailable(f"no agent answers in the container {self.container}", instance=self.name)
        return channel

    async def _attach(self, greeting: bytes, facts: Facts) -> Channel | None:
        """An attached exec that an agent has answered; None: the facts say why not."""
        await self._find_place_inside()
        argv = ["sh", "-c", self._attach_script, "sh", self._agent_inside, "attach"]
        channel = await DockerExecChannel.open(self._execs, self.container, argv)
        try:
            answer = await channel.exchange(greeting)
        except BaseException:  # cancelled, too: nobody else has the channel
            await channel.aclose()
            raise
        if answer.startswith(b"{"):
            return channel
        await channel.aclose()
        _check_refusal(channel, answered=False)
        if channel.exit_code in _NO_PYTHON_CODES:
            facts.python_missing = self._python_missing = True
        elif channel.exit_code in (_NO_AGENT, _NO_ARCHIVE):
            facts.attach_failed = True
        else:
            said = channel.stderr.decode("utf-8", "replace").strip()[-500:]
            raise AgentUnavailable(f"attaching to the agent failed: {said or 'it said nothing'}", instance=self.name)
        return None

    async def _start_agent(self, facts: Facts) -> None:
        """Start the agent by exec in a container that runs without it."""
        self._log.warning("agent_not_running", container=self.container)
        if self._adopted or not self._engine.is_local:
            await self._inject()
        log = f"{self._private_inside}/agent.log" if self._adopted else "/tmp/cc-bridge-agent.log"
        argv = ["sh", "-c", _SERVE, "sh", log, self._agent_inside, "serve", "--grace", str(GRACE)]
        pipes = ["--pipes", _PIPES] if self._engine.is_local else []
        channel = await DockerExecChannel.open(
            self._execs, self.container, argv if self._adopted else [*argv, "--state", _STATE, *pipes]
        )
        async with channel:
            ready = await channel.exchange(b"")
        _check_refusal(channel, answered=bool(ready))
        if channel.exit_code in _NO_PYTHON_CODES:
            facts.python_missing = self._python_missing = True
            return
        if ready != b"ready\n" and channel.exit_code != _ALREADY_SERVING:
            raise AgentUnavailable(
                f"the agent could not be started in {self.container} (exit code {channel.exit_code})",
                instance=self.name,
                hint=f"`docker exec {self.container} cat {log}` may say why.",
            )
        facts.agent_started = True
        facts.pipes_failed = facts.attach_failed = False
        self._log.info("agent_started", by="exec")

    async def _inject(self) -> None:
        script = _MAKE_PRIVATE + _INJECT if self._adopted else _INJECT
        argv = ["sh", "-c", script, "sh", self._agent_inside]
        channel = await DockerExecChannel.open(self._execs, self.container, argv)
        async with channel:
            await channel.send(self._agent.read_bytes())
            await channel.send_eof()
            await channel.exchange(b"")
        if channel.exit_code:
            said = channel.stderr.decode("utf-8", "replace").strip()[-300:]
            raise AgentUnavailable(f"the agent cannot be put into {self.container}: {said}", instance=self.name)

    @property
    def _attach_script(self) -> str:
        return _FIND_PYTHON + _IF_PRIVATE + _ATTACH if self._adopted else _ATTACH

    async def _find_place_inside(self) -> None:
        """Learn which user an adopted container's commands have: what we need there is in a directory of its own.

        Raises:
            AgentUnavailable: it does not say.
        """
        if not self._adopted or self._knows_place_inside:
            return
        said = (await self._execs.run(self.container, ["sh", "-c", _USER])).stdout.strip()
        if said.startswith(_NO_PROCESS) and _NOT_FOUND not in said:
            raise ContainerNotRunning(said.decode("utf-8", "replace")[:500])
        if not said.isdigit():
            raise AgentUnavailable(f"{self.container} does not say which user its commands have", instance=self.name)
        self._agent_inside = f"/tmp/cc-bridge-{int(said)}/{self._agent.name}"
        self._knows_place_inside = True

    # The container

    async def _ensure_running(self) -> None:
        """Create, start or unpause the container as needed; log what was done."""
        try:
            info = await self._own_container()
        except ContainerNotFound as error:
            if self._adopted:
                raise ContainerNotFound(error.what, instance=self.name, hint="Is its name right?") from None
            if self._bridge.channel_kind is None:
                self._ending = Ending("the container was removed")
            await self._create()
            await self._start_container()
            return
        if self._adopted and self._engine.is_local:
            mounts = [volume.rsplit(":", 2) for volume in info.volumes if volume.startswith("/")]
            self._dockerfiles.note_writable([Path(source) for source, _, mode in mounts if mode == "rw"])
        elif self._engine.is_local:
            self._note_writable()  # what 0.1.0 has made was not noted
        if info.status == "paused":
            self._log.warning("container_paused", container=self.container)
            await self._containers.unpause(self.container)
        elif info.status == "created" and not self._adopted:  # a program that made it was killed before it started it
            await self._fill()
            await self._start_container()
        elif not info.running and self.record.ephemeral and not self._adopted:
            self._ending = _ending(info)
            await self._containers.wait(self.container, "removed", _END_LIMIT)  # which it does by itself
            await self._create()
            await self._start_container()
        elif not info.running:
            self._ending = _ending(info)
            orderly = info.exit_code == 0 and not info.oom_killed
            (self._log.info if orderly else self._log.warning)(
                "container_not_running",
                container=self.container,
                status=info.status,
                exit_code=info.exit_code,
                oom_killed=info.oom_killed,
            )
            await self._start_container()

    async def _own_container(self) -> ContainerInfo:
        """The container.

        Raises:
            EngineError: there is one of its name that this installation has not made.
        """
        info = await self._containers.inspect(self.container)
        if not self._adopted and info.labels.get(f"{LABEL}.install") != self._install:
            raise EngineError(
                f"a container named {self.container} exists and is not of this installation",
                instance=self.name,
                hint="Choose another name for the instance, or remove that container.",
            )
        return info

    async def _create(self) -> None:
        record = self.record
        await self._check_needs()
        if session_id := self._session_to_restore():
            self._registry.sessions.open(session_id).close()  # one that is not there is told before anything is made
        remote = await self._is_remote()
        image = await self._images.ensure(
            record.image,
            self._agent,
            self._on_progress,
            workspace=record.workspace,
            dockerfile=await self._dockerfile(remote=remote),
        )
        if not remote:
            self._note_writable()
        if remote:
            for volume in self._volume_names():
                if await self._volumes.ensure(volume, self._labels()):
                    await self._volumes.set_owner(volume, image, *self._owner(), self._labels())
        try:
            await self._containers.create(self._spec(image, remote=remote))
        except EngineError as error:
            if "bind source path does not exist" not in error.what:
                raise
            hint = "Workspaces and mounts are directories of the engine's machine."
            raise InvalidInput(error.what, instance=self.name, hint=hint) from error
        await self._fill()
        self._log.info("container_created", container=self.container, image=image)
        await self._sweep()

    async def _dockerfile(self, *, remote: bool) -> Dockerfile | None:
        """What is to be built for the container; None: nothing, its image has a name.

        Raises:
            DockerfileNotApproved: a container may have written it.
        """
        record = self.record
        if record.dockerfile is not None:
            return await self._dockerfiles.named(record.dockerfile, self._home.path / "dockerfile", self._on_dockerfile)
        if record.image != AUTO_IMAGE or record.workspace is None or remote:
            return None
        return await self._dockerfiles.of(record.workspace, self._on_dockerfile, repository=record.repository)

    def _note_writable(self) -> None:
        """What Dockerfiles are, from here on, in directories that the container can write to."""
        record = self.record
        found = [] if record.workspace is None or record.read_only_workspace else [record.workspace]
        found += [Path(source) for source, _, read_only in map(split_mount, record.mounts) if not read_only]
        self._dockerfiles.note_writable(found, repository=record.repository)

    async def _sweep(self) -> None:
        """Remove containers of ephemeral instances whose programs were killed before they started them.

        Those that were started remove themselves.
        """
        install = Installation.at(self._registry.root).id  # never that of 0.1.0, which others may have
        labels = {f"{LABEL}.install": install, f"{LABEL}.type": "ephemeral"}
        known = self._registry.names()
        for item in await self._containers.labelled(labels):
            instance = item.labels.get(f"{LABEL}.instance")
            if item.status == "created" and instance not in known and time.time() - item.created > _STALE:
                self._log.warning("orphan_removed", container=item.name)
                await self._containers.remove(item.id)

    def _volume_names(self) -> tuple[str, str]:
        """The home and the agent's state, where the engine is on another machine."""
        return f"{self.container}-home", f"{self.container}-state"

    async def _fill(self) -> None:
        """Put into a new container, before it starts, what it needs of this machine."""
        if await self._is_remote():
            await self._archives.put_files(self.container, _STATE, {self._agent.name: self._agent.read_bytes()})
        await self._restore_session()

    async def _restore_session(self) -> None:
        """Give a new container, before it starts, the session to go on with, owned by its user."""
        session_id = self._session_to_restore()
        if not session_id:
            return
        uid, gid = self._owner()
        path = PurePosixPath(".claude") / session_path(session_id, self._claude_cwd())
        with self._registry.sessions.open(session_id) as session, tar_of(path, session, uid, gid) as archive:
            await self._archives.put(self.container, _HOME, archive)

    def _session_to_restore(self) -> str:
        return "" if self._bridge.session_id else self.conversation_to_go_on_with()

    def _owner(self) -> tuple[int, int]:
        """Numbers of the container's user; where only its name is known, those of the first ordinary user."""
        user, _, group = self._user()[0].partition(":")
        uid = int(user) if user.isdigit() else 1000
        return uid, int(group) if group.isdigit() else uid

    async def _start_container(self) -> None:
        awaited = () if self._adopted else (_LISTENING, _NO_PYTHON)
        mounted = self._repository_identities()
        try:
            said = await self._containers.start(self.container, awaited, _START_LIMIT)
        except ContainerStartError as error:
            hint = error.hint or self._hint_at_log("has the rest")
            raise ContainerStartError(error.what, instance=self.name, hint=hint) from error
        await self._check_repository(mounted)
        self._python_missing = said == _NO_PYTHON
        self._log.info("container_started", container=self.container)

    def _hint_at_log(self, what: str) -> str:
        # After a first start that failed the container is removed, and its log with it.
        return "" if self._is_first_start else f"`docker logs {self.container}` {what}."

    def _repository_identities(self) -> dict[Path, tuple[int, int]]:
        """What of a worktree's repository the container is to write to: device and number of each directory.

        Raises:
            InvalidInput: one of them is no directory, but a link for example.
        """
        tree = self.worktree()
        found = {}
        for path, read_only in tree.mounts() if tree and self._engine.is_local else ():
            if not read_only:
                with opened(path) as directory:
                    status = os.fstat(directory)
                found[path] = (status.st_dev, status.st_ino)
        return found

    async def _check_repository(self, wanted: dict[Path, tuple[int, int]]) -> None:
        """Make sure that it got these, and not what a container beside it has put in their place meanwhile.

        Claude Code does not run yet, and the agent is ours.

        Raises:
            EngineError: it got something else, and was killed.
        """
        if not wanted:
            return
        pid = (await self._containers.inspect(self.container)).pid
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                got = {path: _identity(root, path) for path in wanted}
            finally:
                os.close(root)
        except PermissionError:
            self._log.info("mounts_not_looked_at", reason="its processes are another user's")
            return
        except OSError:
            got = {}
        if got != wanted:
            await self._containers.kill(self.container)
            what = "something else was mounted in the place of its repository, and it was ended"
            raise EngineError(what, instance=self.name, hint="Another container that can write there may have done it.")

    def _own_mounts(self, *, remote: bool) -> list[Mount]:
        """What the agent and Claude Code need for themselves."""
        if remote:
            home_volume, state_volume = self._volume_names()
            return [Mount(home_volume, _HOME), Mount(state_volume, _STATE)]
        home, journal = self._home.claude_home, self._home.journal
        with opened(self._home.path) as own:
            for directory in (home, journal):
                make_directory(own, directory.name, 0o777)  # the container's user may have any number; `own` is private
        return [
            Mount(str(self._home.pipes), _PIPES, read_only=True),
            Mount(str(journal), _STATE),
            Mount(str(home), _HOME),
            Mount(str(self._agent), _AGENT, read_only=True),
        ]

    def _labels(self) -> dict[str, str]:
        return {
            f"{LABEL}.instance": self.name,
            f"{LABEL}.install": self._install,
            f"{LABEL}.project": self.record.project,
            f"{LABEL}.type": "ephemeral" if self.record.ephemeral else "persistent",
            f"{LABEL}.version": __version__,
            f"{LABEL}.created": self.record.created.isoformat(),
        }

    def _spec(self, image: str, *, remote: bool = False) -> ContainerSpec:
        record = self.record
        user, uid = self._user()
        mounts = [
            *self._own_mounts(remote=remote),
            *(Mount(*split_mount(mount)) for mount in record.mounts),
        ]
        if record.workspace is not None:
            mounts.append(Mount(str(record.workspace.resolve()), record.mount_at, record.read_only_workspace))
            if not remote:
                self._warn_of_unwritable(uid)
        tree = self.worktree()
        mounts += [Mount(str(path), str(path), read_only) for path, read_only in (tree.mounts() if tree else ())]
        groups = []
        if record.docker_socket:
            path, group = docker_socket()
            mounts.append(Mount(path, path))
            groups.append(group)
            self._log.warning("docker_socket_given", risk="whoever has it is root on the engine's machine")
        if record.credentials:
            mounts.append(self._login_mount())
        command = ["sh", "-c", _MAIN, "sh", self._agent_inside, "serve", "--state", _STATE, "--grace", str(GRACE)]
        command += [] if remote else ["--pipes", _PIPES]
        return ContainerSpec(
            name=self.container,
            image=image,
            command=[*command, "--linger", str(LINGER)] if record.ephemeral else command,
            user=user,
            labels={**record.labels, **self._labels()},
            # The user's variables stay out of here: `docker inspect` shows it. They go in with Claude Code's start.
            environment={
                "HOME": _HOME,
                "TERM": "xterm-256color",
                **({"PROJECT_ID": record.project} if record.project else {}),
            },
            mounts=mounts,
            workdir=record.mount_at if record.workspace is not None else _HOME,
            network=record.network,
            memory=record.memory,
            cpus=record.cpus,
            cpu_shares=record.cpu_shares,
            pids=record.pids,
            ports=record.ports,
            read_only=not record.writable,
            groups=groups,
            restart=record.restart,
            auto_remove=record.ephemeral,
        )

    def _login_mount(self) -> Mount:
        """This user's login, read-only, where Claude Code looks for it in the container."""
        source = login_file()
        try:
            # Made by ourselves: the engine would make the directory root's.
            with opened(self._home.claude_home) as home:
                make_directory(home, ".claude", 0o777)
                with opened(".claude", home) as directory, suppress(FileExistsError):
                    create_file(directory, ".credentials.json", b"")
        except OSError as error:
            raise planted(self._home.claude_home / ".claude", error, self.name) from error
        return Mount(str(source), f"{_HOME}/.claude/.credentials.json", read_only=True)

    def _user(self) -> tuple[str, int | None]:
        """The user in the container, as the engine wants it, and its number if known."""
        if self.record.user:
            number = self.record.user.partition(":")[0]
            return self.record.user, int(number) if number.isdigit() else None
        uid, gid = user_for(self.record.workspace)
        return f"{uid}:{gid}", uid

    def _warn_of_unwritable(self, uid: int | None) -> None:
        """A wrong owner is no error, because reading may be all that is wanted, but it must not be a riddle."""
        record = self.record
        if record.workspace is None or record.read_only_workspace or uid is None:
            return
        found = record.workspace.stat()
        writable = found.st_mode & (stat.S_IWUSR if found.st_uid == uid else stat.S_IWOTH)
        if not writable:
            fix = f"chown -R {uid} {shlex.quote(str(record.workspace))}"
            self._log.warning(
                "workspace_not_writable", workspace=str(record.workspace), user=uid, owner=found.st_uid, remedy=fix
            )

    async def _stop_place(self) -> None:
        if self._adopted:
            await self._end_agent()
        else:
            with suppress(ContainerNotFound):
                await self._own_container()
                await self._containers.stop(self.container, GRACE + 5)

    async def _remove_place(self) -> None:
        if self._adopted:
            await self._end_agent()
        else:
            with suppress(ContainerNotFound):
                await self._own_container()
                await self._containers.remove(self.container)
            if not self._engine.is_local:
                for volume in self._volume_names():
                    await self._volumes.remove_unused(volume)

    def _claude_env(self) -> dict[str, str]:
        env = super()._claude_env()
        if not self._adopted and self.record.network != "host" and not self.record.network.startswith("container:"):
            check_reachable(env, self.name)
        if self.record.credentials:
            check_key(self.record.env, self.name)
        if self.record.worktree and "GIT_CONFIG_COUNT" not in env:
            # It would rewrite what of the repository can only be read (`Worktree.mounts`).
            env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "gc.auto", "GIT_CONFIG_VALUE_0": "0"}
        return env

    async def _check_needs(self) -> None:
        self._claude_env()
        if not await self._is_remote():
            self.record.check_workspace()
            self.record.check_mounts()
        if self.record.credentials:
            login_file()
        if self.record.docker_socket:
            docker_socket()

    async def _session_goes_with_place(self) -> bool:
        return await self._is_remote()

    async def _open_session(self, session_id: str) -> IO[bytes] | None:
        if await self._is_remote():
            path = f"{_HOME}/.claude/{session_path(session_id, self._claude_cwd())}"
            with suppress(ContainerNotFound):
                return await self._archives.get_file(self.container, path, LARGEST)
            return None
        if not self._adopted:
            with suppress(OSError), open_session(self._home.claude_home / ".claude", session_id) as content:
                return os.fdopen(os.dup(content.fileno()), "rb")
            return None
        found = await self._execs.run(self.container, ["sh", "-c", _SESSION, "sh", session_id])
        path = found.stdout.decode("utf-8", "replace").strip()
        if not path.endswith(f"/{session_id}.jsonl") or "\n" in path:
            return None
        return await self._archives.get_file(self.container, path, LARGEST)

    async def _end_agent(self) -> None:
        """End the agent in a container that is not ours to stop."""
        link = Link()
        link.greet()
        try:
            greeting, facts = link.data_to_send(), Facts()
            channel = await self._attach(greeting, facts)
            if channel is None and not facts.python_missing:  # it may be one of another version, with another archive
                await self._inject()
                channel = await self._attach(greeting, Facts())
            if channel is not None:
                await self._shut_down(await Connection.welcome(link, channel, self.name))
        except BridgeError as error:
            self._log.info("agent_not_ended", reason=str(error))

    async def _release(self) -> None:
        await self._engine.aclose()

    # What only this kind knows

    def _claude_cwd(self) -> str:
        return self.record.mount_at if self.record.workspace is not None or self._adopted else _HOME

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """Read the transcript's tail by a command in the container."""
        if not is_uuid(session_id):
            return None
        try:
            result = await self._execs.run(self.container, ["sh", "-c", _TRANSCRIPT, "sh", session_id])
        except (ContainerNotRunning, ContainerNotFound) as error:
            raise ConnectionLost(error.what, instance=self.name) from error
        return result.stdout.decode("utf-8", "replace").splitlines() if result.exit_code == 0 else None

    async def _place_info(self) -> dict[str, Any]:
        info: ContainerInfo | None
        try:
            info = await self._containers.inspect(self.container)
        except ContainerNotFound:
            info = None
        place: dict[str, Any] = {"container": self.container, "status": info.status if info else "absent"}
        if info is None:
            return {**place, "image": self.record.image}
        return {
            **place,
            "id": info.id,
            "image": info.image,
            "container_created": info.created,
            "health": info.health or None,
            "ports": dict(info.ports),
            "networks": dict(info.networks),
            "volumes": list(info.volumes),
            "labels": {name: value for name, value in info.labels.items() if value and name != NONCE},
            "limits": dict(info.limits),
            "exit_code": None if info.running else info.exit_code,
            "oom_killed": info.oom_killed,
        }


def _identity(root: int, path: Path) -> tuple[int, int]:
    """Device and number of a directory as a container has it."""
    fd = open_beneath(root, path.parts[1:], os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


def planted(path: Path, error: OSError, instance: str = "") -> InvalidInput:
    """The error for something in a directory of a container's that stands where a directory should be."""
    what = f"{path} cannot be used: {error.strerror}"
    return InvalidInput(what, instance=instance, hint="Something in the container may have put it there; remove it.")


def _ending(info: ContainerInfo) -> Ending:
    """What is known of a container that does not run."""
    code = info.exit_code
    if info.oom_killed:
        what = "the container ran out of memory"
    elif code is not None and code > _KILLED:
        what = f"the container was ended by signal {code - _KILLED}"
    else:
        what = "the container was stopped" if code == 0 else f"the container ended with exit code {code}"
    return Ending(what, code, info.oom_killed)


def _check_refusal(channel: DockerExecChannel, answered: bool) -> None:
    """Tell a container that is ending from a command that failed: the engine makes no process, or kills it."""
    if channel.refused:
        raise ContainerNotRunning(channel.refused.decode("utf-8", "replace").strip()[:500])
    if not answered and (channel.exit_code is None or channel.exit_code > _KILLED):
        raise ContainerNotRunning(f"a command in it was ended with exit code {channel.exit_code}")
