"""The same names for threads. covers: C16"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import Allow, ClaudeOptions, Deny, InvalidInput, PermissionRequest, ToolResult, TurnResult, blocking
from cc_bridge.blocking import BlockingInstance
from tests.conftest import STUB


@pytest.fixture
def instance(make_record: Callable[..., Any], tmp_path: Path) -> Iterator[BlockingInstance]:
    (tmp_path / "home").mkdir()
    record = make_record(env={"HOME": str(tmp_path / "home")}, claude=ClaudeOptions(program=str(STUB)))
    with blocking.LocalProcess(record) as made:
        yield made


def test_every_name(instance: BlockingInstance) -> None:
    assert "".join(instance.send_command("plain")) == "Hello, you."
    assert isinstance(list(instance.stream("plain"))[-1], TurnResult)
    assert instance.send_command_and_wait("plain", 30) == (True, "Hello, you.")
    assert instance.is_running()
    assert instance.get_info()["channel"] == "pipes"
    instance.interrupt()
    instance.restart()
    instance.stop()
    assert not instance.is_running()
    with pytest.raises(InvalidInput):
        instance.send_command_and_wait("")


def test_turns(instance: BlockingInstance) -> None:
    with instance.submit("plain") as turn:
        assert isinstance(list(turn)[-1], TurnResult)
    turn.raise_for_result()
    assert [found.id for found in instance.turns()] == [turn.id]
    assert instance.turn(turn.id).result().text == "Hello, you."
    with instance.submit("sleeps-on-sigint") as waiting:
        next(waiting)
    assert [found.read for found in instance.turns()] == [True, True]


def test_many_threads_at_once(instance: BlockingInstance) -> None:
    texts = [f"repeats {number}" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(instance.send_command_and_wait, texts))
    assert answers == [(True, text) for text in texts]


def test_leaving_an_iterator_early_interrupts(instance: BlockingInstance) -> None:
    answer = instance.send_command("interrupted-bare")
    assert next(answer) == "So far"
    answer.close()
    assert instance.send_command_and_wait("plain") == (True, "Hello, you.")


def test_no_thread_stays(make_record: Callable[..., Any], tmp_path: Path) -> None:
    before = set(threading.enumerate())
    (tmp_path / "home").mkdir()
    record = make_record(env={"HOME": str(tmp_path / "home")}, claude=ClaudeOptions(program=str(STUB)))
    made = blocking.LocalProcess(record)
    made.start()
    made.cleanup()
    made.cleanup()
    portals = [thread for thread in set(threading.enumerate()) - before if "portal" in thread.name]
    assert portals == []


def test_a_plain_function_decides_on_permissions(
    make_record: Callable[..., Any], claude: str, claude_env: dict[str, str]
) -> None:
    """It may block: it runs in a thread, while the event loop goes on. covers: B4"""
    asked: list[threading.Thread] = []

    def decide(request: PermissionRequest) -> Allow | Deny:
        asked.append(threading.current_thread())
        assert instance.is_running(), "the event loop serves others meanwhile"
        return Allow() if len(asked) == 1 else Deny("No.")

    prompt = '[[tool Bash {"command": "touch made-by-a-tool", "description": "x"}]] [[say Done.]]'
    with blocking.LocalProcess(make_record(env=claude_env), on_permission=decide) as instance:
        for fails in (False, True):
            events = list(instance.stream(prompt))
            assert [event.is_error for event in events if isinstance(event, ToolResult)] == [fails]
    assert len(asked) == 2
    assert threading.main_thread() not in asked
