"""Sessions in a store of the Agent SDK's: which one is gone on with, and its files as Claude Code reads them.

The SDK loads one only for a transport of its own. This is the same by what is public of it: the store's methods, and
the name of a directory's project.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any

import anyio
from claude_agent_sdk import ClaudeAgentOptions, CLIConnectionError, SessionKey, SessionStore, project_key_for_directory

from .instances.bridged import BridgedInstance
from .instances.sessions import LARGEST, session_path
from .names import is_uuid
from .values import Value

__all__ = ["Projects", "StoredSession", "resumes_from_store", "stored_session"]

#: Of a path below a session's directory: no step up, and nothing that a file system has a meaning of its own for.
_SUBPATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")


class Projects(Value):
    """Where transcripts are.

    Attributes:
        directory: on this machine, as the SDK looks for it.
        here: the name of the project's in it, which is the store's key.
        there: the same at the instance.
    """

    directory: str
    here: str
    there: str

    @classmethod
    def of(cls, options: ClaudeAgentOptions, instance: BridgedInstance, cwd: str) -> Projects:
        """Those of Claude Code in ``cwd`` at the instance. The store's key is the directory's on this machine.

        Args:
            cwd: as it is named there.
        """
        config = options.env.get("CLAUDE_CONFIG_DIR") or os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude"
        here = project_key_for_directory(options.cwd or instance.record.workspace)
        there = session_path("", cwd).parts[1] if instance.record.is_contained else here
        return cls(str(Path(config) / "projects"), here, there)

    def mirrored(self, path: str) -> str:
        """A transcript's path there, as the SDK knows it by this machine's directories."""
        _, found, below = path.rpartition("/projects/")
        project, *rest = below.split("/")
        if not found or ".." in (project, *rest):
            return path
        return os.path.join(self.directory, self.here if project == self.there else project, *rest)


class StoredSession(Value):
    """A session from a store.

    Attributes:
        files: by their paths in the project's directory.
    """

    session_id: str
    files: dict[str, bytes]

    def archive(self, project: str) -> bytes:
        """A tar archive of the files, for the directory of all projects."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for path, content in self.files.items():
                header = tarfile.TarInfo(f"{project}/{path}")
                header.size, header.mode, header.mtime = len(content), 0o600, int(time.time())
                tar.addfile(header, io.BytesIO(content))
        return made.getvalue()


def resumes_from_store(options: ClaudeAgentOptions) -> bool:
    """A session of the store's is to be gone on with, if it is there."""
    return options.session_store is not None and bool(options.resume or options.continue_conversation)


async def stored_session(options: ClaudeAgentOptions, project: str) -> StoredSession | None:
    """The session that the options go on with; None: the store has none, and the instance may have it.

    Args:
        project: the store's key.

    Raises:
        CLIConnectionError: the store has failed, or took longer than the options allow, or the session is too large.
    """
    store, limit = options.session_store, options.load_timeout_ms / 1000
    if store is None:
        return None
    asked = _Asked(store, project, limit)
    for session_id in [options.resume] if options.resume else await asked.newest_first():
        if not is_uuid(session_id):
            continue
        entries = await asked.load(session_id)
        is_subagents = bool(entries) and not options.resume and entries[0].get("isSidechain") is True
        if entries and not is_subagents:
            return StoredSession(session_id, await asked.files(session_id, entries))
    return None


class _Asked:
    """A store, each question to which is bounded."""

    def __init__(self, store: SessionStore, project: str, limit: float) -> None:
        self._store = store
        self._project = project
        self._limit = limit

    async def newest_first(self) -> list[str]:
        listed = await self._answer("list_sessions", self._store.list_sessions(self._project))
        return [found["session_id"] for found in sorted(listed, key=lambda found: found["mtime"], reverse=True)]

    async def load(self, session_id: str, subpath: str = "") -> list[dict[str, Any]]:
        key: SessionKey = {"project_key": self._project, "session_id": session_id}
        if subpath:
            key["subpath"] = subpath
        found = await self._answer("load", self._store.load(key)) or []
        return [entry for entry in found if isinstance(entry, dict)]  # an instance's Claude Code has written them

    async def files(self, session_id: str, entries: list[Any]) -> dict[str, bytes]:
        """The session's transcript, and what its subagents have said."""
        files = {f"{session_id}.jsonl": _lines(entries)}
        for subpath in await self._subpaths(session_id):
            if not _SUBPATH.match(subpath):
                continue
            said, about = [], None
            for entry in await self.load(session_id, subpath):
                if entry.get("type") == "agent_metadata":
                    about = {name: value for name, value in entry.items() if name != "type"}
                else:
                    said.append(entry)
            if said:
                files[f"{session_id}/{subpath}.jsonl"] = _lines(said)
            if about is not None:
                files[f"{session_id}/{subpath}.meta.json"] = json.dumps(about).encode()
        if sum(map(len, files.values())) > LARGEST:
            raise CLIConnectionError(f"The session {session_id} in the store is larger than {LARGEST} bytes")
        return files

    async def _subpaths(self, session_id: str) -> list[str]:
        ask = getattr(self._store, "list_subkeys", None)  # a store need not have it
        if ask is None:
            return []
        key = {"project_key": self._project, "session_id": session_id}
        return list(await self._answer("list_subkeys", ask(key), without=[]))

    async def _answer(self, what: str, question: Awaitable[Any], without: Any = None) -> Any:
        try:
            with anyio.fail_after(self._limit):
                return await question
        except NotImplementedError as error:
            if without is not None:
                return without
            raise CLIConnectionError(f"The session store has no {what}()") from error
        except TimeoutError as error:
            raise CLIConnectionError(f"The session store's {what}() took longer than {self._limit:g} s") from error
        except Exception as error:  # the caller's code, and what it may raise nobody can know
            raise CLIConnectionError(f"The session store's {what}() has failed: {error}") from error


def _lines(entries: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)
