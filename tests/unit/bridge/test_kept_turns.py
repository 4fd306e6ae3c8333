"""Which turns an agent keeps. covers: B1"""

from __future__ import annotations

import anyio
import pytest

from cc_bridge.bridge import kept_turns as module
from cc_bridge.bridge.connection import Connection
from cc_bridge.bridge.kept_turns import ask_for_turns
from cc_bridge.errors import AgentUnavailable, ConnectionLost
from cc_bridge.protocol.link import Link
from cc_bridge.turn import TurnInfo

from .scripted_channel import HELLO, Dials, Scripted

pytestmark = pytest.mark.anyio


async def asked(*received: object) -> tuple[Connection, Scripted]:
    channel = Scripted(HELLO, *received)
    return await Connection.open(Link(), Dials(channel).connect, "demo"), channel


async def test_what_is_kept_is_what_the_agent_says_whatever_comes_before() -> None:
    turns = [{"id": "a", "read": True}, {"id": "b", "read": False}]
    connection, channel = await asked({"seq": 1, "out": {}}, {"status": {}, "turns": turns})
    assert await ask_for_turns(connection, "demo") == [TurnInfo("a", read=True), TurnInfo("b", read=False)]
    assert channel.sent == [b'{"status":true}\n']
    assert channel.closed == 0


async def test_an_answer_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STATUS_LIMIT", 0)
    connection, _ = await asked()
    with pytest.raises(AgentUnavailable, match="demo: the agent does not say what it keeps"):
        await ask_for_turns(connection, "demo")


async def test_a_connection_lost_meanwhile() -> None:
    connection, channel = await asked(anyio.EndOfStream)
    with pytest.raises(ConnectionLost, match="demo"):
        await ask_for_turns(connection, "demo")
    channel.fails = anyio.BrokenResourceError
    with pytest.raises(ConnectionLost, match="demo"):
        await ask_for_turns(connection, "demo")
