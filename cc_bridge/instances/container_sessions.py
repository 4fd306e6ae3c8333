"""Sessions of Claude Code that lie in a container, found by commands there."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from ..engine.client import Engine
from ..engine.execs import Execs
from ..names import is_uuid
from .sessions import LARGEST

if TYPE_CHECKING:
    from ..engine.archives import Archives

__all__ = ["archives_of", "copy_of_session", "tail_of_session"]

_SESSION = 'ls "${CLAUDE_CONFIG_DIR:-$HOME/.claude}"/projects/*/"$1".jsonl'
_TRANSCRIPT = 'tail -c 1048576 "${CLAUDE_CONFIG_DIR:-$HOME/.claude}"/projects/*/"$1".jsonl'


def archives_of(engine: Engine) -> Archives:
    """Files of the engine's containers; what that takes is loaded when it is asked for."""
    from ..engine.archives import Archives

    return Archives(engine)


async def copy_of_session(execs: Execs, archives: Archives, container: str, session_id: str) -> IO[bytes] | None:
    """A copy of the session's file, to be closed by the caller; None: there is none.

    Args:
        session_id: a UUID.
    """
    found = await execs.run(container, ["sh", "-c", _SESSION, "sh", session_id])
    path = found.stdout.decode("utf-8", "replace").strip()
    if not path.endswith(f"/{session_id}.jsonl") or "\n" in path:
        return None
    return await archives.get_file(container, path, LARGEST)


async def tail_of_session(execs: Execs, container: str, session_id: str) -> list[str] | None:
    """The last lines of its transcript; None: there is none."""
    if not is_uuid(session_id):
        return None
    result = await execs.run(container, ["sh", "-c", _TRANSCRIPT, "sh", session_id])
    return result.stdout.decode("utf-8", "replace").splitlines() if result.exit_code == 0 else None
