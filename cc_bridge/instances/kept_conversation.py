"""The conversation of an instance that is removed."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from ..errors import BridgeError, InvalidInput
from ..names import is_uuid
from .outside import leave_outside
from .place import Place
from .sessions import SavedConversation, forget_session

__all__ = ["keep", "take_away"]


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


async def take_away(place: Place, session_id: str, *, conversation: bool) -> None:
    """Remove an instance's place and its directory; its conversation is kept, unless it is to go, or ephemeral."""
    sessions, record = place.registry.sessions, place.record
    keeps = not conversation and not record.ephemeral
    goes_too = keeps and not await place.keeps_session()
    if goes_too:
        await place.stop()
        await keep(place, session_id)
    await place.remove()
    await leave_outside(place)
    if conversation:
        sessions.forget(place.name)
    elif keeps and not goes_too:
        await keep(place, session_id)
    config = place.config_outside
    if not keeps and config and is_uuid(session_id) and session_id != record.resume:
        await anyio.to_thread.run_sync(forget_session, Path(config), session_id)
    await anyio.to_thread.run_sync(place.home.remove)
    place.log.info("removed")
