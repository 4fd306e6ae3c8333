"""Streams of events: how they end before there is an end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from cc_bridge.service.identities import Identity
from cc_bridge.service.store import Token
from cc_bridge.service.streams import EventStream, Farewell

pytestmark = pytest.mark.anyio


async def for_ever() -> AsyncGenerator[bytes, None]:
    await anyio.sleep_forever()
    yield b""


async def said(farewell: Farewell) -> str:
    """All that a client hears who does not go away."""
    body = ""

    async def send(message: Any) -> None:
        nonlocal body
        body += message.get("body", b"").decode()

    with anyio.fail_after(10):
        await EventStream(for_ever(), farewell)({}, anyio.sleep_forever, send)
    return body


async def test_a_stream_ends_when_its_token_expires() -> None:
    assert "event: bye" in await said(Farewell(anyio.Event(), datetime.now(UTC)))


async def test_a_stream_ends_when_it_is_told_to_however_long_its_token_lasts() -> None:
    told = anyio.Event()
    told.set()
    for ends in (None, datetime.now(UTC) + timedelta(days=400_000)):
        assert "event: bye" in await said(Farewell(told, ends))


async def test_what_is_open_ends_with_the_token_or_with_the_session_that_was_shown() -> None:
    early, late = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    for expires, session, ends in [
        (None, None, None),
        (early, None, early),
        (None, late, late),
        (early, late, early),
        (late, early, early),
    ]:
        who = Identity.of(Token("id", "ann", frozenset({"read"}), expires=expires), session)
        assert (who.expires, who.ends) == (expires, ends)
