"""A conversation's files, copied out of a container after each turn, and put into one that lacks them.

For containers whose files may be gone with their machine. What a resumed Claude Code needs is the transcript; with it
come what subagents have said, results of tools that were too large for it, the task list and the history of files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread

from ..beneath import opened, remove_tree
from ..channels.docker_exec import DockerExecChannel
from ..engine.execs import Execs
from ..errors import AgentUnavailable, BridgeError, ContainerNotRunning, InvalidInput
from ..logs import Log
from ..names import is_uuid
from ..protocol.transcript import has_ended
from .container_agent import AGENT
from .copied_files import TRANSCRIPT, CopiedFiles, FileCopy, Index
from .sessions import LARGEST, session_path

__all__ = ["ConversationCopy"]

#: Seconds for a copy, either way.
_LIMIT = 120.0

#: Bytes that may come beside those of the files; of them in memory; and of an answer.
_HEADERS = 8 * 1024 * 1024
_IN_MEMORY = 1024 * 1024
_LONGEST_ANSWER = 4096

#: Runs this one module of the agent's: all of it takes 90 ms longer to load.
_RUN = """import sys
sys.path.insert(0, sys.argv[1])
from cc_bridge_agent import conversation
sys.exit(conversation.run(sys.argv[2]))"""

#: An exit code above this is 128 + the number of a signal: its container has ended.
_KILLED = 128

#: Exit codes of a command that did not say why it failed.
_REASONS = {126: "it has no Python", 127: "it has no Python"}


class ConversationCopy:
    """The copy of one instance's conversation. A container is believed nothing: it fills a bounded directory.

    Copies by several programs at once are for a lease to prevent; where it happens all the same, one copies and the
    others say that they did not.

    Args:
        directory: the copy's own, made when it is needed; one that several machines see will do as well.
        agent: the agent's path in the container.
        config: Claude Code's configuration directory there, where it is not what the container's environment says.
    """

    def __init__(self, directory: Path, log: Log, *, agent: str = AGENT, config: str = "") -> None:
        self._files = CopiedFiles(directory)
        self._log = log
        self._agent = agent
        self._config = config
        self._lock = anyio.Lock()

    async def copy(self, execs: Execs, container: str, session_id: str, cwd: str) -> bool:
        """Copy what is new of a session, within two minutes; who comes meanwhile waits for it.

        All is copied or nothing, also where it is cancelled. The rest of a line that is being written comes next time.

        Args:
            cwd: where its Claude Code started.

        Returns:
            False: there is no session, or it could not be copied; the log says why. What was copied before is there.
        """
        if not is_uuid(session_id):
            return False
        began = anyio.current_time()
        try:
            async with self._lock:
                with anyio.fail_after(_LIMIT):
                    new = await self._copy(execs, container, self._request(session_id, cwd))
        except (OSError, ValueError, RecursionError, anyio.BrokenResourceError, BridgeError) as error:
            reason = error.what if isinstance(error, BridgeError) else str(error) or type(error).__name__
            self._log.warning("conversation_not_copied", session=session_id, container=container, reason=reason[:500])
            return False
        seconds = round(anyio.current_time() - began, 3)
        self._log.debug("conversation_copied", session=session_id, bytes=new, seconds=seconds)
        return True

    async def _copy(self, execs: Execs, container: str, request: dict[str, Any]) -> int:
        session_id = request["session"]
        have = await anyio.to_thread.run_sync(self._files.have, session_id)
        mark = await anyio.to_thread.run_sync(self._files.next_mark)
        channel = await self._open(execs, container, "give")
        async with channel:
            await anyio.to_thread.run_sync(self._files.make)  # only now: what was removed is not made again
            with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._files.directory)) as received:
                await channel.send(_line_of({**request, "have": have, "most": LARGEST, "mark": mark}))
                await channel.send_eof()
                await _receive_all(channel, received)
                if channel.exit_code:
                    raise AgentUnavailable(_why(channel))
                received.seek(0)
                # Not given up once it has begun: a copy that is written is whole.
                return await anyio.to_thread.run_sync(self._files.keep, session_id, mark, received)

    async def restore(self, execs: Execs, container: str, session_id: str, cwd: str, *, forget: str = "") -> bool:
        """Put the copy into a container in which the session is missing, or less of it is. Claude Code must not run.

        What is there is left if it has all of the copy, or goes another way; but for the latter where this copy was
        made there before, and from somewhere else since: then it was left behind there.

        Args:
            forget: the journal of the agent's, which does not run: it is of before, too, and is removed.

        Returns:
            It was put there; False: there was no need, or nothing to put there.

        Raises:
            AgentUnavailable: it could not be; what is there is as it was, or the copy.
            ContainerNotRunning: it has ended meanwhile.
            EngineError: of the kind that fits.
        """
        index = await anyio.to_thread.run_sync(self._files.index)
        if not is_uuid(session_id) or index.session != session_id:
            return False
        try:
            with anyio.fail_after(_LIMIT):
                async with self._lock:
                    channel = await self._open(execs, container, "take")
                    async with channel:
                        restored = await self._put(channel, self._request(session_id, cwd), index, forget)
        except (OSError, ValueError, KeyError, RecursionError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            reason = str(error) or type(error).__name__
            raise AgentUnavailable(f"the conversation cannot be put into {container}: {reason}") from error
        self._log.info("conversation_restored" if restored else "conversation_is_there", session=session_id)
        return restored

    @property
    def session_id(self) -> str:
        """The session that the copy is of; empty: there is none, or it cannot be read."""
        try:
            return self._files.index().session
        except OSError:
            return ""

    async def begin_with(self, session_id: str, transcript: IO[bytes]) -> None:
        """Have the copy be of a session that is kept elsewhere, so that it is restored as any other.

        Raises:
            InvalidInput: it cannot be kept.
        """

        def keep() -> None:
            self._files.make()
            with tempfile.TemporaryFile(dir=self._files.directory) as given:
                given.write(_line_of({"name": TRANSCRIPT, "from": 0, "size": transcript.seek(0, 2)}))
                transcript.seek(0)
                shutil.copyfileobj(transcript, given)
                given.write(_line_of({"end": True}))
                given.seek(0)
                self._files.keep(session_id, self._files.next_mark(), given)

        try:
            await anyio.to_thread.run_sync(keep)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"the session {session_id} cannot be gone on with: {error}") from error

    def remove(self) -> list[str]:
        """Remove the copy with its directory; what could not be removed, and why."""
        try:
            with opened(self._files.directory.parent) as parent:
                return remove_tree(parent, self._files.directory.name)
        except FileNotFoundError:
            return []

    async def open(self, session_id: str) -> IO[bytes] | None:
        """The transcript as it was copied last, to be closed by the caller; None: there is none.

        Raises:
            OSError: it cannot be read.
        """

        def find() -> IO[bytes] | None:
            index = self._files.index()
            return self._files.open(index.files[TRANSCRIPT]) if index.session == session_id else None

        return await anyio.to_thread.run_sync(find)

    async def has(self, session_id: str, turn_id: str) -> bool:
        """The transcript as it was copied last has the turn, to its end."""

        def look() -> bool:
            index = self._files.index()
            if index.session != session_id or TRANSCRIPT not in index.files:
                return False
            prompt = f'"uuid":"{turn_id}"'.encode()  # Claude Code notes it under the id that it was given with
            lines = self._files.lines_after(index.files[TRANSCRIPT], prompt)
            return lines is not None and has_ended(lines)

        try:
            return bool(turn_id) and await anyio.to_thread.run_sync(look)
        except OSError:
            return False

    async def _put(self, channel: DockerExecChannel, request: dict[str, Any], index: Index, forget: str) -> bool:
        ours = index.files[TRANSCRIPT]
        await channel.send(_line_of({**request, "size": ours.size}))
        there = await _answer(channel)
        size = there["size"]
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"it has a transcript of {size!r} bytes")
        same = await anyio.to_thread.run_sync(self._files.digest, ours, size) == there["digest"]
        lacks = size < ours.size if same else _is_left_behind(there["mark"], index)
        end: dict[str, Any] = {"end": True}
        if not same and not lacks:
            self._log.warning("conversation_differs", session=index.session, bytes=size, copied=ours.size)
        if lacks:
            end |= {"mark": [index.copy, index.number], "forget": forget}
            for name, file in sorted(index.files.items(), key=lambda item: item[0] == TRANSCRIPT):
                await self._send_file(channel, name, file)
        await channel.send(_line_of(end))
        if (await _answer(channel)).get("end") is not True:
            raise ValueError("it does not say that it has it")
        return lacks

    async def _send_file(self, channel: DockerExecChannel, name: str, file: FileCopy) -> None:
        await channel.send(_line_of({"name": name, "size": file.size}))
        pieces = self._files.read(file, file.size)
        while (data := await anyio.to_thread.run_sync(next, pieces, b"")) != b"":
            await channel.send(data)

    async def _open(self, execs: Execs, container: str, way: str) -> DockerExecChannel:
        return await DockerExecChannel.open(execs, container, ["python3", "-IS", "-c", _RUN, self._agent, way])

    def _request(self, session_id: str, cwd: str) -> dict[str, Any]:
        project = session_path(session_id, cwd).parts[1]
        return {"session": session_id, "project": project, "config": self._config}


def _is_left_behind(mark: Any, index: Index) -> bool:
    """This copy was made there, and from somewhere else since."""
    match mark:
        case [index.copy, int(number)]:
            return number < index.number
    return False


async def _receive_all(channel: DockerExecChannel, received: IO[bytes]) -> None:
    """Receive to the end, and no more than a session may have."""
    room = LARGEST + _HEADERS
    while True:
        try:
            data = await channel.receive()
        except anyio.EndOfStream:
            return
        room -= len(data)
        if room < 0:
            raise ValueError("it sends without end")
        received.write(data)


async def _answer(channel: DockerExecChannel) -> dict[str, Any]:
    """One line; nothing comes after it before it is answered."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            line += await channel.receive()
        except anyio.EndOfStream:
            if channel.refused or channel.exit_code is None or channel.exit_code > _KILLED:
                raise ContainerNotRunning(_why(channel)) from None
            raise ValueError(_why(channel)) from None
        if len(line) > _LONGEST_ANSWER:
            raise ValueError("it answers with too much")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("it does not answer with an object")
    return answer


def _why(channel: DockerExecChannel) -> str:
    said = (channel.refused or channel.stderr).decode("utf-8", "replace").strip()[-300:]
    return _REASONS.get(channel.exit_code or 0) or said or f"the command ended with exit code {channel.exit_code}"


def _line_of(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
