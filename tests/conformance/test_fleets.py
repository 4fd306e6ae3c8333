"""The fleet contract over the real one: local processes with the real Claude Code. covers: B1, B4, B21, B23, P4"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from cc_bridge import ClaudeInstance, LocalProcess
from cc_bridge.fleet import Fleet
from cc_bridge.testing.fleet_contract import FleetContract


class TestFleet(FleetContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def make_fleet(self) -> Callable[..., Fleet]:
        return Fleet

    @pytest.fixture
    async def make_record(
        self, make_record: Callable[..., ClaudeInstance], claude: str, claude_env: dict[str, str]
    ) -> AsyncIterator[Callable[..., ClaudeInstance]]:
        made: list[ClaudeInstance] = []

        def make(**fields: Any) -> ClaudeInstance:
            made.append(make_record(**{"env": claude_env, "ephemeral": False, **fields}))
            return made[-1]

        yield make
        with anyio.CancelScope(shield=True):
            for record in made:
                await LocalProcess(record).remove(conversation=True)

    @pytest.mark.xfail(strict=True, reason="a Waiting is told when the number of others changes from 0")
    async def test_the_first_in_line_is_told_so(self, make_fleet: Any, make_record: Any) -> None:
        await super().test_the_first_in_line_is_told_so(make_fleet, make_record)

    @pytest.mark.xfail(strict=True, reason="the Waiting in the feed hides that the turn has ended before")
    async def test_an_answer_is_read_again_by_who_waits_for_a_seat(self, make_fleet: Any, make_record: Any) -> None:
        await super().test_an_answer_is_read_again_by_who_waits_for_a_seat(make_fleet, make_record)

    @pytest.mark.xfail(strict=True, reason="the seat is kept, and nobody can put to sleep what is not there")
    async def test_who_is_removed_leaves_its_seat(self, make_fleet: Any, make_record: Any) -> None:
        await super().test_who_is_removed_leaves_its_seat(make_fleet, make_record)
