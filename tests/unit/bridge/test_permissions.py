"""A decision in time, or that none is needed any more. covers: B4, L3"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from cc_bridge.bridge.permissions import Answer, Permissions
from cc_bridge.errors import ConnectionLost
from cc_bridge.events import PermissionRequest
from cc_bridge.instance import Allow, Deny

pytestmark = pytest.mark.anyio

REQUEST = PermissionRequest("r", "Bash", {"command": "ls"})


async def never_moot() -> None:
    await anyio.sleep_forever()


async def never_decided(request: PermissionRequest) -> Any:
    await anyio.sleep_forever()


def deciding(decision: Any) -> Callable[[PermissionRequest], Awaitable[Any]]:
    async def decide(request: PermissionRequest) -> Any:
        assert request is REQUEST
        return decision

    return decide


async def test_where_nobody_decides_it_is_denied_at_once() -> None:
    assert await Permissions(None, 300).ask(REQUEST, never_moot) == Answer(Deny())


@pytest.mark.parametrize("decision", [Allow(), Allow({"command": "pwd"}), Deny("No.")])
async def test_what_was_decided(decision: Any) -> None:
    assert await Permissions(deciding(decision), 300).ask(REQUEST, never_moot) == Answer(decision)


async def test_a_decision_that_does_not_come_in_time_is_a_denial() -> None:
    assert await Permissions(never_decided, 0).ask(REQUEST, never_moot) == Answer(Deny("Nobody has decided in time."))


async def test_a_request_that_is_moot_is_not_waited_for() -> None:
    ended: list[str] = []

    async def decide(request: PermissionRequest) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("decide")

    async def moot() -> None:
        await anyio.lowlevel.checkpoint()

    assert await Permissions(decide, 300).ask(REQUEST, moot) == Answer(None)
    assert ended == ["decide"]


async def test_where_it_cannot_be_answered_the_reader_is_told_why() -> None:
    lost = ConnectionLost("it broke")

    async def broken() -> None:
        raise lost

    assert await Permissions(never_decided, 300).ask(REQUEST, broken) == Answer(None, lost)


async def test_an_error_in_deciding_denies_and_is_told_as_it_is() -> None:
    error = ZeroDivisionError()

    async def failing(request: PermissionRequest) -> Any:
        raise error

    answer = await Permissions(failing, 300).ask(REQUEST, never_moot)
    assert isinstance(answer.decision, Deny)
    assert answer.failure is error


async def test_when_it_is_decided_nobody_looks_any_more_whether_it_is_moot() -> None:
    ended: list[str] = []

    async def looks() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("looks")

    async def decide(request: PermissionRequest) -> Any:
        await anyio.wait_all_tasks_blocked()
        return Allow()

    assert await Permissions(decide, 300).ask(REQUEST, looks) == Answer(Allow())
    assert ended == ["looks"]


async def test_who_asks_can_be_cancelled() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await Permissions(never_decided, 300).ask(REQUEST, never_moot)
    assert scope.cancelled_caught
