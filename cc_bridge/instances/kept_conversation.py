"""The conversation of an instance that is removed."""

from __future__ import annotations

import anyio.to_thread

from ..errors import BridgeError, InvalidInput
from ..names import is_uuid
from .place import Place
from .sessions import SavedConversation

__all__ = ["keep"]


async def keep(place: Place, session_id: str) -> None:
    """Save it so that a later instance of this name can resume it.

    Args:
        session_id: empty: there is none.

    Raises:
        InvalidInput: it cannot be saved, and would be gone with the place.
    """
    if not is_uuid(session_id):
        return
    sessions, record = place.registry.sessions, place.record
    try:
        content = await place.open_session(session_id)
        if content is None:
            place.log.info("no_conversation", reason="nothing was said")
            return
        with content:
            await anyio.to_thread.run_sync(sessions.keep, session_id, content)
        # What was somebody's before, and goes on in the same session, stays that one's to remove.
        config = "" if session_id == record.resume else place.config_outside
        sessions.remember(place.name, SavedConversation(session_id, record.kind, place.cwd, config))
    except (OSError, BridgeError) as error:
        reason = error.what if isinstance(error, BridgeError) else str(error)
        place.log.warning("conversation_not_kept", session=session_id, reason=reason)
        if place.removes_session:
            raise InvalidInput(
                f"its conversation cannot be kept, and so it was not removed: {reason}",
                instance=place.name,
                hint="`cc-bridge rm --conversation` removes it with its conversation.",
            ) from error
    else:
        place.log.info("conversation_kept", session=session_id)
