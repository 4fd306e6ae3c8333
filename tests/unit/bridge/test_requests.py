"""What Claude Code is asked beside the turns: answered, refused, lost or late, and in a time. covers: B9, C16"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from cc_bridge import RequestRefused
from cc_bridge.bridge import bridge as module
from cc_bridge.errors import AgentUnavailable

from .test_bridge_turns import Agent, bridge, result_of

pytestmark = pytest.mark.anyio


class Asked(Agent):
    """Its Claude Code answers what it is asked with the question, or as the question says."""

    asked: list[str]

    def _claude(self, message: dict[str, Any]) -> None:
        subtype = message.get("request", {}).get("subtype")
        if subtype in (None, "interrupt"):
            super()._claude(message)
            return
        self.asked = [*getattr(self, "asked", []), subtype]
        head = {"request_id": message["request_id"]}
        if subtype == "refused":
            self.out(
                type="control_response", response={**head, "subtype": "error", "error": "no", "error_code": "never"}
            )
        elif subtype == "deadly":
            self.end(1)
        elif subtype == "cut once" and self.asked.count(subtype) == 1:
            self.cut()
        elif subtype != "unheard":
            self.out(type="control_response", response={**head, "subtype": "success", "response": {"got": subtype}})


async def ask(made: Any, subtype: str) -> Mapping[str, Any]:
    with anyio.fail_after(20):
        answer: Mapping[str, Any] = await made.request({"subtype": subtype})
        return answer


async def test_it_is_started_for_a_question_which_is_answered() -> None:
    agent = Asked()
    made = bridge(agent)
    assert await ask(made, "first") == {"got": "first"}
    assert await ask(made, "second") == {"got": "second"}
    assert len([frame for frame in agent.heard if "start" in frame]) == 1
    assert (await result_of(made, "hello")).text == "you said hello"


async def test_while_a_turn_is_read_by_another_task() -> None:
    agent = Asked()
    made = bridge(agent)
    async with await made.submit("wait") as turn:
        await anext(turn)
        async with anyio.create_task_group() as group:
            texts: list[str] = []

            async def read() -> None:
                texts.append((await turn.result()).text)

            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            assert await ask(made, "meanwhile") == {"got": "meanwhile"}
            agent.answer("late")
    assert texts == ["late"]


async def test_several_at_once_get_each_their_own_answer() -> None:
    made = bridge(Asked())
    answers: dict[str, Mapping[str, Any]] = {}

    async def one(name: str) -> None:
        answers[name] = await ask(made, name)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(one, f"question {number}")
    assert answers == {name: {"got": name} for name in answers}
    assert len(answers) == 5


async def test_a_refusal_has_its_reason_and_code() -> None:
    made = bridge(Asked())
    with pytest.raises(RequestRefused, match="demo: refused failed: no") as caught:
        await ask(made, "refused")
    assert (caught.value.code, caught.value.instance) == ("never", "demo")


async def test_when_claude_code_ends_it_is_not_waited_for() -> None:
    made = bridge(Asked())
    with pytest.raises(RequestRefused, match="ended before it answered"):
        await ask(made, "deadly")
    assert await ask(made, "next") == {"got": "next"}, "another one is started for it"


async def test_an_answer_that_does_not_come_is_an_error_and_what_comes_later_is_nobodys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ANSWER_LIMIT", 0.05)
    made = bridge(Asked())
    with pytest.raises(RequestRefused, match=r"unheard failed: .* within 0.05 s"):
        await ask(made, "unheard")
    monkeypatch.undo()
    assert await ask(made, "next") == {"got": "next"}
    assert (await result_of(made, "hello")).text == "you said hello"


async def test_over_a_connection_that_breaks_it_is_asked_again() -> None:
    agent = Asked()
    made = bridge(agent)
    assert await ask(made, "first") == {"got": "first"}
    assert await ask(made, "cut once") == {"got": "cut once"}
    assert agent.asked == ["first", "cut once", "cut once"]


async def test_who_cannot_connect_is_told() -> None:
    agent = Asked()
    agent.unavailable = 1
    made = bridge(agent)
    with pytest.raises(AgentUnavailable):
        await ask(made, "first")
    assert await ask(made, "second") == {"got": "second"}


async def test_closing_ends_what_is_waited_for() -> None:
    made = bridge(Asked())
    await ask(made, "first")

    async def close() -> None:
        await anyio.wait_all_tasks_blocked()
        await made.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with pytest.raises(RequestRefused, match="the instance was closed"):
            await ask(made, "unheard")


async def test_one_that_is_cancelled_is_forgotten() -> None:
    agent = Asked()
    made = bridge(agent)
    await ask(made, "first")
    with anyio.move_on_after(0.05):
        await ask(made, "unheard")
    assert made._conversation.requests.take_waiting() == []
    assert await ask(made, "next") == {"got": "next"}
