"""The Agent SDK's transports against one contract, and mistakes made on purpose, which it finds. covers: B6"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from cc_bridge.sdk import BridgeTransport
from cc_bridge.testing import transport_contract as contract

#: A rule that has seen what it wanted leaves the messages, as the SDK does.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:.*was garbage collected before it had been exhausted:ResourceWarning"),
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program"
    path.write_text(contract.PROGRAM)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
async def test_the_sdks_own_keeps(rule: Any, program: str) -> None:
    async def make(env: Mapping[str, str]) -> Any:
        return SubprocessCLITransport("", ClaudeAgentOptions(cli_path=program, env=dict(env)))

    await rule(make)


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
async def test_the_bridges_keeps(rule: Any, program: str, make_stubbed: Any) -> None:
    instance = await make_stubbed(program=program)

    async def make(env: Mapping[str, str]) -> Any:
        return BridgeTransport(instance, ClaudeAgentOptions(env=dict(env)))

    await rule(make)


class NoEnvironment(BridgeTransport):
    def __init__(self, instance: Any, options: Any) -> None:
        super().__init__(instance, ClaudeAgentOptions())


class TornWrites(BridgeTransport):
    async def write(self, data: str) -> None:
        half = len(data) // 2
        await super().write(data[:half])
        await anyio.lowlevel.checkpoint()
        await super().write(data[half:])


class ReplayedLines(BridgeTransport):
    async def _twice(self) -> AsyncIterator[dict[str, Any]]:
        number = 0
        async for message in super().read_messages():
            yield message
            number += 1
            if number == 100:
                yield message

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        return self._twice()


class LostLines(BridgeTransport):
    async def _some(self) -> AsyncIterator[dict[str, Any]]:
        number = 0
        async for message in super().read_messages():
            number += 1
            if number != 100:
                yield message

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        return self._some()


class EndOfInputIgnored(BridgeTransport):
    async def end_input(self) -> None:
        pass


class EndOfInputAtOnce(BridgeTransport):
    """Not behind what was written, but before all of it."""

    async def write(self, data: str) -> None:
        if json.loads(data).get("n") == 299:
            await super().end_input()
        else:
            await super().write(data)


class NotEnded(BridgeTransport):
    async def close(self) -> None:
        pass


class NoExitCode(BridgeTransport):
    def _check_exit(self, session: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("mistake", "found_by"),
    [
        (NoEnvironment, contract.variables_arrive),
        (TornWrites, contract.writes_of_several_tasks_are_whole),
        (ReplayedLines, contract.each_message_comes_once_and_in_order),
        (LostLines, contract.each_message_comes_once_and_in_order),
        (EndOfInputIgnored, contract.the_end_of_the_input_is_one_and_output_goes_on),
        (EndOfInputAtOnce, contract.each_message_comes_once_and_in_order),
        (NotEnded, contract.closing_ends_the_process),
        (NoExitCode, contract.an_exit_code_is_an_error_after_all_messages),
    ],
    ids=lambda value: value.__name__,
)
async def test_a_mistake_is_found(
    mistake: Any, found_by: Any, program: str, make_stubbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "_LIMIT", 3.0)  # a mistake may show in something that never comes
    instance = await make_stubbed(program=program)
    made: list[BridgeTransport] = []

    async def make(env: Mapping[str, str]) -> Any:
        made.append(mistake(instance, ClaudeAgentOptions(env=dict(env))))
        return made[-1]

    with pytest.raises((AssertionError, TimeoutError, ExceptionGroup)):
        await found_by(make)
    for transport in made:
        await BridgeTransport.close(transport)
