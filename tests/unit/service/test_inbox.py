"""Commands whose fate the database does not tell. covers: B13"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from cc_bridge.events import TurnResult, TurnStarted, Verdict
from cc_bridge.fleet import FeedPosition, Heard
from cc_bridge.service.inbox import Inbox
from cc_bridge.service.store import Store, StoreUnavailable
from cc_bridge.service.store.commands import Command, Commands

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Fleet:
    """Answers each command at once, and notes it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.created = datetime(2026, 1, 1, tzinfo=UTC)
        self.accounts = SimpleNamespace(check=lambda *_: None, total=lambda **_: SimpleNamespace(cost_usd=0.0))

    def open(self, name: str) -> Any:
        async def submit(prompt: str, id: str) -> None:  # noqa: A002
            self.asked.append(prompt)

        return SimpleNamespace(record=SimpleNamespace(name=name, project="", created=self.created), submit=submit)

    async def feed(self, name: str, turn: str) -> AsyncIterator[Heard]:
        yield Heard(FeedPosition("j", 1, 0), turn, TurnStarted("s", "m"))
        yield Heard(FeedPosition("j", 2, 0), turn, TurnResult(Verdict.COMPLETED, "done"))


class LosesTheAnswer:
    """Stores the next command, and then says that nobody knows."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.loses = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._commands, name)

    async def add(self, command: Command, **more: Any) -> Any:
        stored = await self._commands.add(command, **more)
        if self.loses:
            self.loses = False
            raise StoreUnavailable("the connection broke")
        return stored


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path / 'service.db'}") as found:
        yield found


async def test_a_command_that_was_stored_unheard_is_answered_when_its_key_comes_again(store: Store) -> None:
    fleet, commands = Fleet(), LosesTheAnswer(store.commands)
    async with anyio.create_task_group() as group:
        inbox = Inbox(commands, fleet, starter(group))  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable):
            await inbox.accept("desk", "hello", owner="me", key="k")
        command, is_new = await inbox.accept("desk", "hello", owner="me", key="k")
        with anyio.fail_after(10):
            await inbox.until_ended(command)
    assert not is_new
    assert fleet.asked == ["hello"]
    ended = await store.commands.get(command.id)
    assert ended
    assert ended.result["text"] == "done"


async def test_a_command_without_a_key_that_was_stored_unheard_is_taken_back(store: Store) -> None:
    """Its client was told that it is not accepted, and may send it again."""
    fleet, commands = Fleet(), LosesTheAnswer(store.commands)
    async with anyio.create_task_group() as group:
        inbox = Inbox(commands, fleet, starter(group))  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable):
            await inbox.accept("desk", "hello", owner="me")
    assert await store.commands.open() == []
    assert fleet.asked == []


async def test_a_command_of_an_instance_that_is_gone_is_not_asked_of_another_of_its_name(store: Store) -> None:
    fleet = Fleet()

    before = Inbox(store.commands, fleet, lambda task: None)  # type: ignore[arg-type]
    command, _ = await before.accept("desk", "rm -rf old", owner="me")
    fleet.created += timedelta(hours=1)
    async with anyio.create_task_group() as group:
        await Inbox(store.commands, fleet, starter(group)).begin()  # type: ignore[arg-type]
    ended = await store.commands.get(command.id)
    assert ended
    assert (ended.state, ended.result["ok"]) == ("ended", False)
    assert "another one" in ended.result["error"]
    assert fleet.asked == []


def starter(group: Any) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    return group.start_soon  # type: ignore[no-any-return]
