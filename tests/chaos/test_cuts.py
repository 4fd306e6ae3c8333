"""The connection is cut after every byte of a turn, each way: the reader notices nothing but time. covers: B1, C13"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from .rig import cut_connections

pytestmark = pytest.mark.anyio

#: Far more than any connection carries here.
NEVER = 10**9

#: Bytes of a turn with its hello: more each way than there are.
RECEIVED, SENT = 1400, 350


#: A part has every fourth byte: together all of them, and several processes may share the work.
PARTS = [("received", number, 4) for number in range(4)] + [("sent", 0, 1)]


@pytest.mark.long
@pytest.mark.parametrize(("way", "first", "step"), PARTS)
async def test_cut_after_every_byte(make_stubbed: Any, way: str, first: int, step: int) -> None:
    instance = await make_stubbed()
    await instance.start()
    budgets: list[tuple[int, int]] = []

    def budget() -> tuple[int, int] | None:
        return budgets.pop() if budgets else None

    made = cut_connections(instance, budget)
    for after in range(first, RECEIVED if way == "received" else SENT, step):
        budgets[:] = [(after, NEVER) if way == "received" else (NEVER, after)]
        await instance._bridge.aclose("for a connection that will be cut")
        with anyio.fail_after(30):
            async with await instance.submit("plain") as turn:
                result = await turn.result()
        assert (result.ok, result.text) == (True, "Hello, you."), f"cut after {after} bytes {way}: {result.error}"
    cuts = sum(channel.cut for channel in made)
    assert await instance.send_command_and_wait("plain") == (True, "Hello, you.")
    assert all(turn.read for turn in await instance.turns()), "the end of a turn that was read was not told"
    assert 0 < cuts < len(made), "some bytes came after the last cut"
