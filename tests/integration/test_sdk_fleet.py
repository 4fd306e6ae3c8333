"""The Agent SDK over instances of a fleet, whose seats its Claude Codes have. covers: B6, P4"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, CLIConnectionError, ResultMessage

from cc_bridge import BudgetExceeded, Waiting
from cc_bridge.fleet import Budget, Fleet
from cc_bridge.sdk import BridgeTransport
from cc_bridge.testing import ScriptedModel

pytestmark = pytest.mark.anyio

LIMIT = 90.0
OPTIONS = ClaudeAgentOptions()


async def turn(client: ClaudeSDKClient, prompt: str) -> str | None:
    await client.query(prompt)
    results = [message.result async for message in client.receive_response() if isinstance(message, ResultMessage)]
    return results[-1]


@pytest.fixture
def fields(claude: str, scripted_model: ScriptedModel, tmp_path: Path) -> dict[str, Any]:
    home = tmp_path / "claude-home"
    home.mkdir()
    return {"env": scripted_model.claude_env(home)}


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet(most_awake=1) as fleet:
        yield fleet


async def test_an_open_client_keeps_its_instance_awake_and_stands_in_line_as_commands_do(
    fleet: Fleet, make_record: Any, fields: dict[str, Any]
) -> None:
    mine, other = (fleet.adopt(make_record(**fields)) for _ in range(2))
    waits, answered = anyio.Event(), anyio.Event()

    async def ask() -> None:
        async for event in other.stream("[[say of the other]]"):
            if isinstance(event, Waiting):
                waits.set()
        answered.set()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            async with ClaudeSDKClient(OPTIONS, BridgeTransport(mine, OPTIONS)) as client:
                assert await turn(client, "[[say one]]") == "one"
                assert fleet.awake == 1
                group.start_soon(ask)
                await waits.wait()
                assert await turn(client, "[[say two]]") == "two"
                assert await mine.send_command_and_wait("[[say its own]]", LIMIT) == (True, "its own")
                assert await turn(client, "[[say three]]") == "three"
                assert not answered.is_set()
            await answered.wait()
        assert (await mine.get_activity())["activity"] == "asleep"
        async with ClaudeSDKClient(OPTIONS, BridgeTransport(mine, OPTIONS)) as client:
            assert await turn(client, "[[say again]]") == "again"
            assert fleet.awake == 1
    for instance in (mine, other):
        await fleet.remove(instance.name, conversation=True)


async def test_a_spent_budget_starts_nothing(make_record: Any, fields: dict[str, Any]) -> None:
    async with Fleet(budgets=[Budget(tokens=1, instance="*")]) as fleet:
        instance = fleet.adopt(make_record(**fields))
        await instance.send_command_and_wait("[[say spent]]", LIMIT)
        with pytest.raises(CLIConnectionError) as raised:
            await BridgeTransport(instance, OPTIONS).connect()
    assert isinstance(raised.value.__cause__, BudgetExceeded)
