"""The Claude Agent SDK over an instance: Claude Code runs there, everything else of the SDK stays here.

Example::

    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient
    from cc_bridge import DockerContainer
    from cc_bridge.sdk import BridgeTransport

    options = ClaudeAgentOptions(system_prompt="Be brief.", can_use_tool=decide)
    async with DockerContainer(record) as instance:
        async with ClaudeSDKClient(options, transport=BridgeTransport(instance, options)) as client:
            await client.query("What is in this directory?")
            async for message in client.receive_response():
                print(message)

Needs ``pip install 'cc-bridge[sdk]'``.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    CLIConnectionError,
    CLIJSONDecodeError,
    CLINotFoundError,
    ProcessError,
    Transport,
)

from .bridge.raw import RawSession
from .errors import BridgeError, ClaudeNotFound, InvalidInput
from .instances.bridged import BridgedInstance
from .logs import Log
from .sdk_command import Command, command_of
from .sdk_sessions import Projects, resumes_from_store, stored_session

__all__ = ["BridgeTransport"]

#: Bytes of the longest message, where the options do not say; what the wire has for Claude Code's longest line.
_LONGEST_MESSAGE = 64 * 1024 * 1024

#: Characters of what was said last on stderr, for an error.
_MOST_STDERR = 8_000


class BridgeTransport(Transport):
    """Runs the SDK's Claude Code at an instance, as a process of its own beside the instance's.

    For one client or query, which calls everything of it. The connection to the agent may break and be made again in
    the middle of an answer: no message is lost or doubled, and the SDK does not notice.

    Args:
        instance: a container or a local process, no pane. It stays the caller's, who cleans it up.
        options: the same that the client or the query has.

    Raises:
        InvalidInput: an option that cannot be had over an instance, by name; or no such instance.
    """

    def __init__(self, instance: BridgedInstance, options: ClaudeAgentOptions | None = None) -> None:
        if not isinstance(instance, BridgedInstance):
            raise InvalidInput(f"the transport needs an instance of cc-bridge's, not {type(instance).__name__}")
        if instance.record.in_pane:
            raise InvalidInput("the SDK needs a Claude Code that it has alone, and this one is in a pane")
        self._instance = instance
        self._options = options or ClaudeAgentOptions()
        self._command: Command = command_of(self._options, instance.beside.inside, instance.name)
        self._projects = Projects.of(self._options, instance, self._command.cwd or instance.beside.cwd)
        self._log = Log(instance.name, instance.record.kind)
        self._session: RawSession | None = None
        self._closed = False
        self._stderr = _Lines(self._heard)
        self._last_stderr: deque[str] = deque(maxlen=100)

    async def connect(self) -> None:
        """Start Claude Code at the instance, which is started if need be; harmless when repeated.

        Raises:
            CLINotFoundError: there is no Claude Code.
            CLIConnectionError: for any other reason, which is its cause; or the transport was closed.
        """
        if self._closed:
            raise CLIConnectionError("The transport was closed, and is for one client only")
        if self._session is not None:
            return
        try:
            command = await self._command_to_resume() if resumes_from_store(self._options) else self._command
            session = await self._instance.beside.run(command.args, command.env, command.cwd)
            if self._closed:  # by another task, meanwhile
                await session.aclose()
                raise CLIConnectionError("The transport was closed while it connected")
            self._session = session
        except ClaudeNotFound as error:
            raise CLINotFoundError(str(error)) from error
        except BridgeError as error:
            raise CLIConnectionError(f"Failed to start Claude Code: {error}") from error

    async def write(self, data: str) -> None:
        """Write a message and its newline; from any task, whole.

        Raises:
            CLIConnectionError: Claude Code has ended, its input was ended, or it is out of reach.
        """
        session = self._session
        if session is None or self._closed or session.input_ended:
            raise CLIConnectionError("The transport is not ready for writing")
        if session.exited is not None:
            raise CLIConnectionError(f"Cannot write to terminated process (exit code: {session.exited.code})")
        try:
            await session.write(data.encode("utf-8", "surrogatepass"))
        except BridgeError as error:
            raise CLIConnectionError(str(error)) from error

    async def end_input(self) -> None:
        """End Claude Code's stdin behind what was written; its output goes on. Harmless when repeated."""
        if self._session is not None and not self._closed:
            try:
                await self._session.end_input()
            except BridgeError as error:
                self._log.info("input_not_ended", reason=error.what)  # whoever reads is told

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """All messages, across turns, until Claude Code ends.

        Raises, while it is iterated:
            ProcessError: it ended with an exit code other than 0.
            CLIConnectionError: it is out of reach, or ended with its agent.
            CLIJSONDecodeError: a line that begins as a message and is none, or is too long.
        """
        return self._messages()

    async def close(self) -> None:
        """End Claude Code, if need be by force, and forget it; from any task, bounded, harmless when repeated."""
        self._closed = True
        if self._session is not None:
            await self._session.aclose()

    def is_ready(self) -> bool:
        """Something can be written."""
        session = self._session
        return session is not None and not (self._closed or session.input_ended or session.exited or session.failure)

    # Private

    async def _command_to_resume(self) -> Command:
        """Bring the store's session to the instance; without one Claude Code looks there, as over the SDK's own."""
        stored = await stored_session(self._options, self._projects.here)
        if stored is None:
            return self._command
        asked = replace(self._options, resume=stored.session_id, continue_conversation=False)
        command = command_of(asked, self._instance.beside.inside, self._instance.name)
        await self._instance.beside.put_sessions(stored.archive(self._projects.there), command.env, command.cwd)
        return command

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        session = self._session
        if session is None:
            raise CLIConnectionError("Not connected")
        limit = self._options.max_buffer_size or _LONGEST_MESSAGE
        lines: list[bytes] = []
        splitter = _Lines(lines.append)
        try:
            while (came := await session.receive()) is not None:
                if came.stream == "stderr":
                    self._stderr.feed(came.data)
                    continue
                splitter.feed(came.data)
                for line in lines:
                    if (message := self._message(line, limit)) is not None:
                        yield message
                lines.clear()
                _check_size(splitter.pending, limit)
        except BridgeError as error:
            self._stderr.end()
            raise CLIConnectionError(str(error)) from error
        self._stderr.end()
        if self._closed and session.exited is None:
            return
        splitter.end()
        for line in lines:
            if (message := self._last_message(line, limit)) is not None:
                yield message
        self._check_exit(session)

    def _check_exit(self, session: RawSession) -> None:
        code = session.exited.code if session.exited else None
        if session.exited is not None and code is None:
            raise CLIConnectionError("Claude Code ended with its agent, and nobody saw how")
        if code and not self._closed:
            said = "\n".join(self._last_stderr)[-_MOST_STDERR:]
            why = " for want of memory" if session.exited and session.exited.out_of_memory else ""
            raise ProcessError(f"Command failed with exit code {code}{why}", exit_code=code, stderr=said or None)

    def _message(self, line: bytes, limit: int) -> dict[str, Any] | None:
        """A line's message; None: it is none, as some releases say."""
        _check_size(len(line), limit)
        text = line.decode("utf-8", "replace").strip()
        if not text.startswith("{"):
            return None
        try:
            message: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CLIJSONDecodeError(text, error) from error
        if message.get("type") == "transcript_mirror" and isinstance(message.get("filePath"), str):
            return {**message, "filePath": self._projects.mirrored(message["filePath"])}
        return message

    def _last_message(self, line: bytes, limit: int) -> dict[str, Any] | None:
        """Of a line without an end: a message, or what was cut off and says nothing."""
        try:
            return self._message(line, limit)
        except CLIJSONDecodeError:
            return None

    def _heard(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if not text:
            return
        self._last_stderr.append(text[:_MOST_STDERR])
        if self._options.stderr is not None:
            try:
                self._options.stderr(text)
            except Exception as error:  # the caller's function; a fault in it must not cost the conversation
                self._log.warning("stderr_callback_failed", reason=repr(error))


class _Lines:
    """Cuts bytes into lines, and hands each on without its end; one of stderr's may be as long as a message."""

    def __init__(self, on_line: Any) -> None:
        self._on_line = on_line
        self._parts: list[bytes] = []
        self.pending = 0

    def feed(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._on_line(b"".join([*self._parts, line]))
            self._parts, self.pending = [], 0
        if rest:
            self._parts.append(rest)
            self.pending += len(rest)
        if self.pending > _LONGEST_MESSAGE:
            self.end()

    def end(self) -> None:
        if self._parts:
            self._on_line(b"".join(self._parts))
            self._parts, self.pending = [], 0


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        what = f"JSON message exceeded maximum buffer size of {limit} bytes"
        raise CLIJSONDecodeError(what, ValueError(f"Buffer size {size} exceeds limit {limit}"))
