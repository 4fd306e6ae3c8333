"""A process of this machine, behind the same agent and pipes as in a container."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.to_thread

from ..bridge.connection import Connection
from ..bridge.surroundings import Ending, Launch
from ..channels.base import Channel
from ..channels.fifo import Descriptor
from ..channels.named_pipe import NobodyListens
from ..channels.unix_socket import UnixSocketChannel
from ..errors import AgentUnavailable, ChannelError
from ..login import PARTS, check_key
from ..names import is_uuid
from ..protocol.link import Link
from .claude_settings import config_directory
from .find_claude import find_claude
from .outside import agent_words
from .place import GRACE, LINGER, Place, shut_down
from .registry import agent_archive
from .sessions import open_session, session_path

if TYPE_CHECKING:
    from ..shapes import Kind

__all__ = ["ProcessPlace", "find_claude"]

#: Seconds for the agent to listen.
_AGENT_LIMIT = 15.0

#: Agents of instances that go on without us. Kept, so that the ones that end are waited for and leave no zombie.
_left_running: list[subprocess.Popen[bytes]] = []

#: Bytes of a transcript that are looked at.
_TAIL = 1024 * 1024


class ProcessPlace(Place):
    """No container, no engine: Claude Code runs as this user, with this user's files.

    The agent runs in a session of its own, so that the host's terminal and its Ctrl-C do not reach it. It
    outlives the host unless the record is ephemeral.
    """

    kind: ClassVar[Kind] = "local"
    _process: subprocess.Popen[bytes] | None = None

    async def connect(self, greeting: bytes) -> Channel:
        """Connect to the agent by pipes, else by its socket; start it where nobody listens."""
        try:
            return await self.way(greeting)
        except NobodyListens:
            self.log.info("agent_not_running")
        self.record.check_workspace()
        await self._start_agent()
        return await self.way(greeting)

    async def way(self, greeting: bytes) -> Channel:
        """The pipes, else the agent's socket."""
        try:
            return await self.pipes(greeting)
        except NobodyListens as error:
            # It may have pipes that nobody can reach any more: deleted, and made again by a host.
            channel = await UnixSocketChannel.connect(self.home.socket, greeting)
            self.log.warning("fallback", channel="socket", reason=error.what)
            return channel

    async def launch(self, resume: str, *, fork: bool, begins: bool) -> Launch:
        """As everywhere, after finding the program and restoring a kept session."""
        program = find_claude(self.record.claude.program)
        if (self._config / ".credentials.json").exists():
            check_key(self.record.env, self.name)
        if self.record.workspace is not None:
            from ..dockerfiles import Dockerfiles

            dockerfiles = Dockerfiles(self.registry.root)
            dockerfiles.note_writable([self.record.workspace], repository=self.record.repository)
        if begins and resume:
            await anyio.to_thread.run_sync(self._restore_session, resume)
        launch = await super().launch(resume, fork=fork, begins=begins)
        again = tuple(self._with_program([*launch.again], program)) if launch.again else ()
        return launch.replace(argv=self._with_program(launch.argv, program), again=again)

    def _with_program(self, argv: list[str], program: str) -> list[str]:
        """The same words, with Claude Code where it was found on this machine."""
        return [program, *argv[1:]]

    def program(self) -> str:
        """Where it was found on this machine."""
        return find_claude(super().program())

    async def read_transcript(self, session_id: str) -> list[str] | None:
        """Read the tail of the transcript's file."""
        if not is_uuid(session_id):
            return None
        return await anyio.to_thread.run_sync(_tail, self._config, session_id)

    @property
    def _config(self) -> Path:
        """Claude Code's configuration directory."""
        return config_directory({**os.environ, **self.record.env})

    @property
    def _real_config(self) -> Path:
        """The same without links, as managers of dotfiles make them: within it none is followed."""
        return Path(os.path.realpath(self._config))

    async def open_session(self, session_id: str) -> IO[bytes] | None:
        """The session's file in Claude Code's configuration directory."""
        with suppress(OSError), open_session(self._real_config, session_id) as content:
            return os.fdopen(os.dup(content.fileno()), "rb")
        return None

    @property
    def config_outside(self) -> str:
        """The user's own configuration directory, unless the record names another."""
        return str(self._real_config)

    def _restore_session(self, session_id: str) -> None:
        """Have the session to go on with where Claude Code looks for it; one of its own is there already."""
        target = self._config / session_path(session_id, self.cwd)
        if not target.exists() and self.registry.sessions.has(session_id):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            import shutil

            with self.registry.sessions.open(session_id) as content, open(target, "xb") as copy:
                os.fchmod(copy.fileno(), 0o600)
                shutil.copyfileobj(content, copy)

    async def is_running(self) -> bool:
        """The agent answers."""
        return await self.hello() is not None

    @property
    def cwd(self) -> str:
        """The workspace."""
        return str(self.record.workspace)

    async def _start_agent(self) -> None:
        """Start the agent and wait until it listens, which it says on a pipe."""
        self._leave_process()
        ready_read, ready_write = os.pipe()
        os.set_blocking(ready_read, False)
        ready = Descriptor(ready_read)
        argv = [sys.executable, "-I", "-S", str(agent_archive(self.registry.root)), "serve"]
        argv += ["--pipes", str(self.home.pipes), "--socket", self.home.socket]
        argv += ["--state", str(self.home.journal), "--grace", str(GRACE), "--ready-fd", str(ready_write)]
        argv += ["--linger", str(LINGER)] if self.record.ephemeral else []
        argv += agent_words(self.record)
        try:
            with open(self.home.agent_log, "ab") as log:  # noqa: ASYNC230  a small local file
                self._process = subprocess.Popen(  # noqa: ASYNC220  a millisecond; a thread for it costs as much
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=[ready_write],
                    start_new_session=True,
                    cwd="/",
                    # A login goes in with the start of Claude Code, one only and whole.
                    env={name: value for name, value in os.environ.items() if name not in PARTS},
                )
        finally:
            os.close(ready_write)
        try:
            with anyio.fail_after(_AGENT_LIMIT):
                said = await ready.read()
        except TimeoutError:
            said = b""
        finally:
            ready.close()
        # Nothing said: it has ended. Where another host's agent was quicker, that one will do.
        if not said and await self.hello() is None:
            raise AgentUnavailable(f"the agent could not be started: {self._last_log()}", instance=self.name)
        self.log.info("agent_started", pid=self._process.pid)

    def _leave_process(self) -> None:
        """Hold the agent no longer: it goes on, or has ended already."""
        if self._process is not None:
            code = self._process.poll()
            if code is not None and code < 0:
                self._ending = Ending(f"the agent was ended by signal {-code}, and Claude Code with it")
            _left_running.append(self._process)
            self._process = None
        _left_running[:] = [process for process in _left_running if process.poll() is None]

    async def release(self) -> None:
        """Leave the agent to itself."""
        self._leave_process()

    def _last_log(self) -> str:
        with suppress(OSError):
            lines = self.home.agent_log.read_text(errors="replace").splitlines()
            return lines[-1][:500] if lines else "it logged nothing"
        return "it logged nothing"

    async def stop(self) -> None:
        """End the agent, and with it Claude Code."""
        try:
            await shut_down(await Connection.open(Link(), self.way, self.name))
        except ChannelError as error:  # it has ended, unless it is suspended
            if self._process is None and await anyio.to_thread.run_sync(_serves, self.home.socket):
                what = f"its agent was not ended: {error.what}"
                raise AgentUnavailable(
                    what, instance=self.name, hint="Is it suspended, or the machine too busy?"
                ) from error
        if self._process is not None:
            process, self._process = self._process, None
            await anyio.to_thread.run_sync(_reap, process)

    async def remove(self) -> None:
        """The same: nothing of it is anywhere else."""
        await self.stop()

    async def info(self) -> dict[str, Any]:
        """Whether it runs."""
        hello = await self.hello()
        return {"status": "running" if hello else "stopped", "image": None}


def _serves(socket: str) -> bool:
    """An agent serves at this socket: it holds the lock beside it as long as it lives."""
    with suppress(FileNotFoundError), open(f"{socket}.lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(config: Path, session_id: str) -> list[str] | None:
    for path in (config / "projects").glob(f"*/{session_id}.jsonl"):
        with suppress(OSError), open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read(_TAIL).decode("utf-8", "replace").splitlines()
    return None
