"""The agent in a container, by ``docker exec``: how it is reached, started, put in, and ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath

import anyio

from ..bridge.connection import Connection
from ..channels.base import Channel
from ..channels.docker_exec import DockerExecChannel
from ..channels.ladder import Facts
from ..engine.container_spec import CONTAINER_HOME
from ..engine.execs import Execs
from ..errors import AgentUnavailable, BridgeError, ContainerNotRunning, InvalidInput
from ..logs import Log
from ..protocol.link import Link
from ..record import ClaudeInstance
from .outside import agent_words
from .place import GRACE, shut_down

__all__ = ["AGENT", "LISTENING", "MAIN", "NO_PYTHON", "PANE_ATTACH", "PIPES", "STATE", "AgentInside"]

#: Where things are in the container.
PIPES = "/run/cc-bridge"
STATE = "/var/lib/cc-bridge"
AGENT = "/opt/cc-bridge/agent.pyz"
_PANE = f"{CONTAINER_HOME}/.cc-bridge/pane"

#: The command by which a person comes to the pane in a container that is ours.
PANE_ATTACH = ["tmux", "-u", "-S", f"{_PANE}/tmux", "attach-session"]

#: What the main process logs when it has come up, with the agent or without.
LISTENING = '"event": "listening"'
NO_PYTHON = '"event": "no_python"'

#: Whether there is a Python that the agent runs on.
_HAS_PYTHON = 'command -v python3 >/dev/null 2>&1 && python3 -IS -c "import sys; sys.exit(sys.version_info < (3, 9))"'

#: The container's main process: the agent, or, where none can run, something that stays.
MAIN = f"""if {_HAS_PYTHON}; then exec python3 -IS "$@"; fi
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
_INJECT = """cat >"$1.$$" && chmod 644 "$1.$$" && [ "$(wc -c <"$1.$$")" -eq "$2" ] && mv "$1.$$" "$1" && exit
why=$?; rm -f "$1.$$"; exit $why"""


class AgentInside:
    """The agent in one container, which is ours or an adopted one.

    Args:
        container: its name.
        record: the instance's.
        archive: finds the agent on this machine, when it is needed.

    Attributes:
        path: of the agent's archive in the container; of an adopted one it is found on the way there.
        python_missing: no agent can run there.
        remote: its engine is on another machine.
        was_started: by this object.
    """

    def __init__(
        self, execs: Execs, container: str, record: ClaudeInstance, archive: Callable[[], Path], log: Log
    ) -> None:
        self._execs = execs
        self._container = container
        self._record = record
        self._instance = record.name
        self._find_archive = archive
        self._log = log
        self._adopted = bool(record.container)  # other users may be in it, and nothing of ours is mounted
        self.path = AGENT
        self.python_missing = False
        self.remote = False
        self.was_started = False
        self._knows_place = False

    @cached_property
    def _archive(self) -> Path:
        return self._find_archive()

    @property
    def pane(self) -> str:
        """The directory of the instance's pane, in the container."""
        return f"{self._private}/pane" if self._adopted else _PANE

    @property
    def attach_argv(self) -> list[str]:
        """The command, in the container, by which a person comes to its pane; Ctrl-B D leaves it."""
        if self._adopted:
            return ["sh", "-c", _ATTACH_ADOPTED_PANE]
        return PANE_ATTACH

    @property
    def _private(self) -> str:
        """In an adopted container: the directory of its user's alone, in which we keep what we need."""
        return str(PurePosixPath(self.path).parent)

    def be_remote(self) -> None:
        """The container is another machine's: the agent is where the volume is, and not mounted."""
        self.remote = True
        self.path = f"{STATE}/{self._archive.name}"

    async def answers(self) -> bool:
        """An agent answers, or none can run there and the bridge stands in for it."""
        if self.python_missing:
            return True
        await self._find_place()
        argv = ["sh", "-c", self._attach_script, "sh", self.path, "health"]
        health = await self._execs.run(self._container, argv, limit=15)
        if self._adopted and health.exit_code == _NO_ARCHIVE:  # an agent of another version may answer all the same
            await self._inject()
            health = await self._execs.run(self._container, argv, limit=15)
        return health.exit_code in (0, *_NO_PYTHON_CODES)

    async def attach(self, greeting: bytes, facts: Facts) -> Channel | None:
        """An attached exec that an agent has answered; None: the facts say why not."""
        await self._find_place()
        argv = ["sh", "-c", self._attach_script, "sh", self.path, "attach"]
        channel = await DockerExecChannel.open(self._execs, self._container, argv)
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
            facts.python_missing = self.python_missing = True
        elif channel.exit_code in (_NO_AGENT, _NO_ARCHIVE):
            facts.attach_failed = True
        else:
            said = channel.stderr.decode("utf-8", "replace").strip()[-500:]
            raise AgentUnavailable(
                f"attaching to the agent failed: {said or 'it said nothing'}", instance=self._instance
            )
        return None

    async def start(self, facts: Facts) -> None:
        """Start the agent by exec in a container that runs without it."""
        self._log.warning("agent_not_running", container=self._container)
        if self._adopted or self.remote:
            await self._inject()
        log = f"{self._private}/agent.log" if self._adopted else "/tmp/cc-bridge-agent.log"
        argv = ["sh", "-c", _SERVE, "sh", log, self.path, "serve", "--grace", str(GRACE), *agent_words(self._record)]
        pipes = [] if self.remote else ["--pipes", PIPES]
        channel = await DockerExecChannel.open(
            self._execs, self._container, argv if self._adopted else [*argv, "--state", STATE, *pipes]
        )
        async with channel:
            ready = await channel.exchange(b"")
        _check_refusal(channel, answered=bool(ready))
        if channel.exit_code in _NO_PYTHON_CODES:
            facts.python_missing = self.python_missing = True
            return
        if ready != b"ready\n" and channel.exit_code != _ALREADY_SERVING:
            raise AgentUnavailable(
                f"the agent could not be started in {self._container} (exit code {channel.exit_code})",
                instance=self._instance,
                hint=f"`docker exec {self._container} cat {log}` may say why.",
            )
        facts.agent_started = self.was_started = True
        facts.pipes_failed = facts.attach_failed = False
        self._log.info("agent_started", by="exec")

    def none(self, greeting: bytes) -> Channel:
        """The way where no agent can run: Claude Code itself, by exec.

        Raises:
            InvalidInput: its key is outside, and so there has to be an agent.
        """
        if self._record.key_is_outside:
            what = "its key is outside, and its image has no Python for the agent, by which it asks"
            raise InvalidInput(what, instance=self._instance, hint="Use an image with Python 3.9 or newer.")
        from ..channels.direct import DirectChannel

        self._log.warning("fallback", channel="direct", reason="no Python in the container")
        return DirectChannel(self._execs, self._container, greeting)

    async def _inject(self) -> None:
        script = _MAKE_PRIVATE + _INJECT if self._adopted else _INJECT
        archive = self._archive.read_bytes()
        argv = ["sh", "-c", script, "sh", self.path, str(len(archive))]
        channel = await DockerExecChannel.open(self._execs, self._container, argv)
        async with channel:
            with suppress(anyio.BrokenResourceError):  # it has ended; its exit code says why
                await channel.send(archive)
            with suppress(OSError):
                await channel.send_eof()
            await channel.exchange(b"")
        if channel.exit_code:
            said = channel.stderr.decode("utf-8", "replace").strip()[-300:]
            raise AgentUnavailable(f"the agent cannot be put into {self._container}: {said}", instance=self._instance)

    async def end(self) -> None:
        """End the agent in a container that is not ours to stop."""
        link = Link()
        link.greet()
        try:
            greeting, facts = link.data_to_send(), Facts()
            channel = await self.attach(greeting, facts)
            if channel is None and not facts.python_missing:  # it may be one of another version, with another archive
                await self._inject()
                channel = await self.attach(greeting, Facts())
            if channel is not None:
                await shut_down(await Connection.welcome(link, channel, self._instance))
        except BridgeError as error:
            self._log.info("agent_not_ended", reason=str(error))

    @property
    def _attach_script(self) -> str:
        return _FIND_PYTHON + _IF_PRIVATE + _ATTACH if self._adopted else _ATTACH

    async def _find_place(self) -> None:
        """Learn which user an adopted container's commands have: what we need there is in a directory of its own.

        Raises:
            AgentUnavailable: it does not say.
        """
        if not self._adopted or self._knows_place:
            return
        said = (await self._execs.run(self._container, ["sh", "-c", _USER])).stdout.strip()
        if said.startswith(_NO_PROCESS) and _NOT_FOUND not in said:
            raise ContainerNotRunning(said.decode("utf-8", "replace")[:500])
        if not said.isdigit():
            raise AgentUnavailable(
                f"{self._container} does not say which user its commands have", instance=self._instance
            )
        self.path = f"/tmp/cc-bridge-{int(said)}/{self._archive.name}"
        self._knows_place = True


def _check_refusal(channel: DockerExecChannel, answered: bool) -> None:
    """Tell a container that is ending from a command that failed: the engine makes no process, or kills it."""
    if channel.refused:
        raise ContainerNotRunning(channel.refused.decode("utf-8", "replace").strip()[:500])
    if not answered and (channel.exit_code is None or channel.exit_code > _KILLED):
        raise ContainerNotRunning(f"a command in it was ended with exit code {channel.exit_code}")
