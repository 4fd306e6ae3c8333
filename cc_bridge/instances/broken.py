"""Removing an instance whose record cannot be read: nobody knows what kind it is, or where its Claude Code runs."""

from __future__ import annotations

from contextlib import suppress

import anyio.to_thread

from ..bridge.connection import Connection
from ..channels.base import Channel
from ..channels.named_pipe import NamedPipeChannel, NobodyListens
from ..channels.unix_socket import UnixSocketChannel
from ..errors import ChannelError
from ..names import is_uuid
from ..protocol.link import Link
from .place import shut_down
from .registry import Home, Registry
from .sessions import Sessions, open_session
from .steps import exclusive

__all__ = ["remove_broken"]

#: Seconds for another program that does anything with it.
_OTHERS = 60.0


async def remove_broken(registry: Registry, name: str, *, conversation: bool) -> str:
    """Remove an instance by its directory alone. Its agent is ended, where it listens on this machine.

    Args:
        conversation: also what is kept of its conversation. Else a conversation in its directory is kept, as far as
            that can be.

    Returns:
        The id of its session, if that still is somewhere; empty: it is not, or was never known.

    Raises:
        InvalidInput: names what could not be removed.
        InstanceBusy: another program starts or ends it.
    """
    home = registry.home(name)
    async with exclusive(home.changing, _OTHERS, name):
        with suppress(ChannelError):
            await shut_down(await Connection.open(Link(), lambda greeting: _way(home, greeting), name))
        session_id = home.session_id
        if not is_uuid(session_id):
            session_id = ""
        stays = await anyio.to_thread.run_sync(_keep, home, registry.sessions, session_id, conversation)
        if conversation:
            registry.sessions.forget(name)
        await anyio.to_thread.run_sync(home.remove)
    return session_id if stays else ""


async def _way(home: Home, greeting: bytes) -> Channel:
    try:
        return await NamedPipeChannel.connect(str(home.pipes), greeting)
    except NobodyListens:
        return await UnixSocketChannel.connect(home.socket, greeting)


def _keep(home: Home, sessions: Sessions, session_id: str, forget: bool) -> bool:
    """Keep a session that would be removed with the directory; whether it still is somewhere after that."""
    for config in (home.claude_home / ".claude", home.config) if session_id else ():
        with suppress(OSError), open_session(config, session_id) as content:
            if not forget:
                sessions.keep(session_id, content)
            return not forget
    return bool(session_id)
