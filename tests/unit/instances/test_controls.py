"""What can be set and asked while Claude Code runs; its answers are checked. covers: B9, C16"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from cc_bridge import ClaudeInstance, ClaudeOptions, InvalidInput, Kind, RequestRefused, SlashCommand
from cc_bridge.instances.chosen import Chosen
from cc_bridge.instances.controls import Controls

pytestmark = pytest.mark.anyio


class Answers:
    """A Claude Code that gives this answer; an error is raised."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[Mapping[str, Any]] = []

    async def request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def controls(home: Path, answers: Answers, kind: Kind = "local") -> Controls:
    record = ClaudeInstance.of(name="demo", kind=kind, workspace=home)
    return Controls(answers, Chosen(home), lambda: record)


async def test_a_model_is_set_and_kept_as_it_was_called(tmp_path: Path) -> None:
    answers = Answers({"model": "claude-sonnet-5-5"})
    assert await controls(tmp_path, answers).set_model("sonnet") == "claude-sonnet-5-5"
    assert answers.asked == [{"subtype": "set_model", "model": "sonnet"}]
    assert Chosen(tmp_path).applied(ClaudeOptions()).model == "sonnet"


async def test_no_model_is_claude_code_s_own(tmp_path: Path) -> None:
    answers = Answers({})
    await controls(tmp_path, answers).set_model("sonnet")
    assert await controls(tmp_path, answers).set_model(None) == "", "older releases do not say which that is"
    assert Chosen(tmp_path).applied(ClaudeOptions()).model == ""


class Slow(Answers):
    """One that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__({})
        self.may_answer = anyio.Event()

    async def request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        await super().request(request)
        await self.may_answer.wait()
        return {}


async def test_of_two_that_are_asked_at_once_the_later_one_is_kept(tmp_path: Path) -> None:
    """By two programs: who has asked last has also kept last, however late the answer to the other one comes."""
    slow, quick = Slow(), Answers({})
    async with anyio.create_task_group() as group:
        group.start_soon(controls(tmp_path, slow).set_model, "first")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(controls(tmp_path, quick).set_model, "second")
        await anyio.wait_all_tasks_blocked()
        assert (len(slow.asked), quick.asked) == (1, [])
        slow.may_answer.set()
    assert quick.asked == [{"subtype": "set_model", "model": "second"}]
    assert Chosen(tmp_path).applied(ClaudeOptions()).model == "second"


async def test_the_mode_in_effect_is_the_one_that_is_kept(tmp_path: Path) -> None:
    assert await controls(tmp_path, Answers({"mode": "default"})).set_permission_mode("auto") == "default"
    assert Chosen(tmp_path).applied(ClaudeOptions()).permission_mode == "default"
    assert await controls(tmp_path, Answers({})).set_permission_mode("plan") == "plan"


@pytest.mark.parametrize("answer", ["bypassPermissions", "acceptEdits", "x\0y", "\ud800", "-x", "z" * 3_000_000])
async def test_a_mode_that_nobody_asked_for_is_not_kept(tmp_path: Path, answer: str) -> None:
    with pytest.raises(RequestRefused, match="not what was asked for") as caught:
        await controls(tmp_path, Answers({"mode": answer})).set_permission_mode("plan")
    assert len(str(caught.value)) < 500
    assert Chosen(tmp_path).applied(ClaudeOptions()) == ClaudeOptions()


async def test_what_was_refused_is_not_kept(tmp_path: Path) -> None:
    made = controls(tmp_path, Answers(RequestRefused("no", code="invalid_mode")))
    with pytest.raises(RequestRefused):
        await made.set_model("sonnet")
    with pytest.raises(RequestRefused):
        await made.set_permission_mode("plan")
    assert Chosen(tmp_path).applied(ClaudeOptions()) == ClaudeOptions()


@pytest.mark.parametrize("word", ["", " ", "-x", " opus", "a\nb", "a\x1b[0m", "x" * 201, 7, ["opus"]])
async def test_what_is_no_word_is_not_sent(tmp_path: Path, word: Any) -> None:
    answers = Answers({})
    for call in (controls(tmp_path, answers).set_model, controls(tmp_path, answers).set_permission_mode):
        with pytest.raises(InvalidInput, match=r"is no (model|permission mode)") as caught:
            await call(word)
        assert len(str(caught.value)) < 300
    assert answers.asked == []


async def test_the_commands(tmp_path: Path) -> None:
    answers = Answers({"commands": [{"name": "compact", "description": "d"}]})
    assert await controls(tmp_path, answers).commands() == (SlashCommand("compact", "d"),)
    assert answers.asked == [{"subtype": "initialize"}]


async def test_the_context(tmp_path: Path) -> None:
    answers = Answers({"model": "m", "totalTokens": 1, "maxTokens": 10, "percentage": 10, "categories": []})
    assert (await controls(tmp_path, answers).context_usage()).total_tokens == 1
    await controls(tmp_path, answers).context_usage(exact=True)
    assert [request["detail"] for request in answers.asked] == ["summary", "full"]


async def test_an_answer_that_is_none_is_an_error(tmp_path: Path) -> None:
    made = controls(tmp_path, Answers({"commands": 7}))
    with pytest.raises(RequestRefused, match="initialize is not understood"):
        await made.commands()
    with pytest.raises(RequestRefused, match="get_context_usage is not understood"):
        await made.context_usage()


async def test_in_a_pane_a_person_does_it(tmp_path: Path) -> None:
    answers = Answers({})
    made = controls(tmp_path, answers, "tmux")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: made.set_model("opus"),
        lambda: made.set_permission_mode("plan"),
        made.commands,
        made.context_usage,
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match=r"in a pane .* `cc-bridge attach demo`"):
            await call()
    assert answers.asked == []
