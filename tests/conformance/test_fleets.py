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
    @pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.thorough)])
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
