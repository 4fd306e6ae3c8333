"""The contract of :class:`~cc_bridge.InstanceInterface` as a test suite, for every implementation.

It is one class, because a kind of instance subclasses all of it, and no rule may be left out.

Subclass it in a test module, with fixtures ``make_instance`` (a coroutine function that takes the options of the
class under test and returns an instance whose Claude Code talks to ``scripted_model``, with a login unless
``login=False``; with ``again=instance``, a second object for the same instance, as another program would have
it; with ``sleep_after=S``, one that sleeps after so many seconds) and ``scripted_model``::

    class TestLocalProcess(InstanceContract):
        @pytest.fixture
        async def make_instance(self, scripted_model, tmp_path): ...
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import anyio
import pytest

from ..errors import (
    ApiError,
    ChannelError,
    InstanceBusy,
    InstanceNotFound,
    InvalidInput,
    NotLoggedIn,
    RequestRefused,
    TurnNotFound,
)
from ..events import (
    ApiRetry,
    PermissionRequest,
    TextDelta,
    ToolResult,
    ToolUse,
    TurnResult,
    TurnStarted,
    Verdict,
    Waiting,
)
from ..instance import Allow, Decision, Deny, InstanceInterface
from ..protocol.blocks import Block, Document, Image, Text
from ..shapes import InstanceInfo
from ..turn import Turn
from .scripted_model import ScriptedModel

__all__ = ["InstanceContract", "run_out_of_time"]

MakeInstance = Callable[..., Awaitable[InstanceInterface]]

#: Seconds within which anything here must be over, or it hangs.
_LIMIT = 60.0

#: An image of one pixel.
_PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgAAACAAAB4iG8MwAAAABJRU5ErkJggg==")

_TOUCH = json.dumps({"command": "touch made-by-a-tool", "description": "make a file"})


async def run_out_of_time(instance: InstanceInterface, prompt: str, said: str) -> None:
    """A command that says something and then hangs fails, with what was said in time.

    How much that is says how quick the machine is; so the limit grows until it is all.
    """
    for limit in (2.0, 8.0, 30.0):
        ok, text = await instance.send_command_and_wait(prompt, limit)
        assert not ok
        assert said.startswith(text)
        if text == said:
            return
    raise AssertionError(f"only {text!r} was said within {limit:g} s")


@pytest.mark.anyio
class InstanceContract:
    """What a caller may rely on, wherever Claude Code runs.

    Attributes:
        sleeps: it does so when idle; False where a person may look at it.
        pauses: seconds after which a start is ended that goes on.
        meanwhile: seconds of a turn in which another program comes: more than that takes.
    """

    sleeps = True
    pauses: tuple[float, ...] = (0.0, 0.2)
    meanwhile = 0.5

    # Answers

    async def test_text_comes_in_pieces_and_in_order_or_whole(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with aclosing(instance.send_command("[[say one two three]]")) as answer:
            assert [piece async for piece in answer] == ["one", " two", " three"]
        assert await instance.send_command_and_wait("[[say all of it]]", _LIMIT) == (True, "all of it")

    async def test_text_comes_while_the_answer_is_still_being_made(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        instance = await make_instance()
        with anyio.fail_after(_LIMIT):
            async with aclosing(instance.send_command("[[say first]] [[hang]]")) as answer:
                assert await anext(answer) == "first"

    async def test_events_begin_with_the_start_and_end_with_the_result(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with aclosing(instance.stream("[[say hello]]")) as stream:
            events = [event async for event in stream]
        assert isinstance(events[0], TurnStarted)
        assert isinstance(events[-1], TurnResult)
        assert (events[-1].verdict, events[-1].text) == (Verdict.COMPLETED, "hello")
        assert events[-1].session_id == events[0].session_id

    async def test_the_conversation_goes_on(self, make_instance: MakeInstance, scripted_model: ScriptedModel) -> None:
        instance = await make_instance()
        for text in ("first question", "second question"):
            await instance.send_command_and_wait(text, _LIMIT)
        assert "first question" in json.dumps(scripted_model.requests[-1].body["messages"])

    async def test_multi_byte_and_multi_line(self, make_instance: MakeInstance, scripted_model: ScriptedModel) -> None:
        instance = await make_instance()
        text = "é漢字🙂 \u2028 \u0085 one\n\ntwo\tthree"
        ok, answer = await instance.send_command_and_wait(text, _LIMIT)
        assert ok
        assert answer.split() == ["You", "said:", *text.split()]

    async def test_a_megabyte_each_way(self, make_instance: MakeInstance, scripted_model: ScriptedModel) -> None:
        instance = await make_instance()
        prompt = "[[blob 1000000]]" + "p" * 1_000_000
        ok, answer = await instance.send_command_and_wait(prompt, _LIMIT)
        assert ok, answer[-1000:]
        assert len(answer) == 1_000_000
        assert scripted_model.prompts[prompt] == 1

    async def test_commands_at_once_are_answered_in_order_and_whole(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        instance = await make_instance()
        await instance.start()
        answers: dict[int, tuple[bool, str]] = {}
        submitted: list[int] = []

        async def ask(number: int) -> None:
            submitted.append(number)
            answers[number] = await instance.send_command_and_wait(f"[[repeat 20 {number},]]", _LIMIT)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(ask, number)
        assert answers == {number: (True, f"{number}," * 20) for number in range(10)}
        sent = [request.prompt for request in scripted_model.requests]
        assert submitted == [int(prompt.split()[2].rstrip(",]")) for prompt in sent]
        assert len(sent) == 10

    async def test_turns_may_be_read_in_any_order_or_not_at_all(self, make_instance: MakeInstance) -> None:
        """covers: C8, L3."""
        instance = await make_instance()
        long, never, last = [
            await instance.submit(prompt) for prompt in ("[[repeat 3000 a]]", "[[repeat 3000 b]]", "[[say c]]")
        ]
        with anyio.fail_after(_LIMIT):
            assert (await last.result()).text == "c"
            assert (await long.result()).text == "a" * 3000
            assert await instance.send_command_and_wait("[[say d]]") == (True, "d")
        await never.aclose()

    # More than text

    async def test_a_prompt_of_content_blocks(self, make_instance: MakeInstance, scripted_model: ScriptedModel) -> None:
        """Where nothing but text can be entered, the others are refused before anything is sent. covers: B9."""
        instance = await make_instance()
        blocks: list[Block] = [Text("[[say seen]]"), Image(_PNG), Document(b"some text", "notes.txt")]
        if instance.record.in_pane:
            with pytest.raises(InvalidInput, match="text only, and no Image"):
                await instance.send_command_and_wait(blocks, _LIMIT)
            assert scripted_model.requests == []
            blocks = blocks[:1]
        assert await instance.send_command_and_wait(blocks, _LIMIT) == (True, "seen")
        messages = [message["content"] for message in scripted_model.requests[-1].body["messages"]]
        sent = {block["type"] for content in messages if isinstance(content, list) for block in content}
        assert instance.record.in_pane or {"text", "image", "document"} <= sent
        assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")

    # What can be set and asked

    async def test_another_model_answers_from_now_on_and_after_a_restart(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: B9."""
        instance = await make_instance()
        if instance.record.in_pane:
            with pytest.raises(InvalidInput, match="in a pane"):
                await instance.set_model("claude-haiku-4-5")
            return
        with anyio.fail_after(_LIMIT):
            assert await instance.set_model("claude-haiku-4-5") == "claude-haiku-4-5"
            for _ in range(2):
                assert await instance.send_command_and_wait("[[say hello]]", _LIMIT) == (True, "hello")
                assert scripted_model.requests[-1].body["model"] == "claude-haiku-4-5"
                await instance.restart()

    async def test_the_permission_mode_changes_while_a_turn_runs(self, make_instance: MakeInstance) -> None:
        """covers: B9."""
        instance = await make_instance()
        if instance.record.in_pane:
            with pytest.raises(InvalidInput, match="in a pane"):
                await instance.set_permission_mode("acceptEdits")
            return
        with anyio.fail_after(_LIMIT):
            async with await instance.submit(f"[[say a]] [[delay 1]] [[tool Bash {_TOUCH}]] [[say b]]") as turn:
                await _until_text(turn)
                assert await instance.set_permission_mode("acceptEdits") == "acceptEdits"
                events = [event async for event in turn]
        assert [event.is_error for event in events if isinstance(event, ToolResult)] == [False], "nobody was asked"

    async def test_what_claude_code_refuses_is_said_and_changes_nothing(self, make_instance: MakeInstance) -> None:
        """covers: B9, C16."""
        instance = await make_instance()
        with pytest.raises((RequestRefused, InvalidInput), match=r"set_permission_mode|in a pane"):
            await instance.set_permission_mode("nonsense")
        for nothing in ("", "-x", "a\nb"):
            with pytest.raises(InvalidInput):
                await instance.set_model(nothing)
        assert await instance.send_command_and_wait("[[say fine]]", _LIMIT) == (True, "fine")

    async def test_the_commands_and_the_context(self, make_instance: MakeInstance) -> None:
        """covers: B9."""
        instance = await make_instance()
        if instance.record.in_pane:
            for ask in (instance.commands, instance.context_usage):
                with pytest.raises(InvalidInput, match="in a pane"):
                    await ask()
            return
        with anyio.fail_after(_LIMIT):
            commands = {command.name: command for command in await instance.commands()}
            assert commands["compact"].description
            usage = await instance.context_usage()
            assert 0 < usage.total_tokens < usage.max_tokens
            assert sum(part.tokens for part in usage.categories if part.kind == "used") > 0

    # Several programs at once

    async def test_programs_commands_are_answered_each_by_its_own(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: C2, C8, C16."""
        first = await make_instance()
        programs = [first, await make_instance(again=first), await make_instance(again=first)]
        await first.start()
        answers: dict[str, tuple[bool, str]] = {}

        async def ask(program: InstanceInterface, word: str) -> None:
            prompt = f'[[say {word}-]] [[tool Bash {{"command": "sleep 0.2"}}]] [[say {word}]]'
            answers[word] = await program.send_command_and_wait(prompt, _LIMIT)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(ask, programs[number % 3], f"w{number}")
        assert answers == {f"w{number}": (True, f"w{number}-\n\nw{number}") for number in range(6)}
        assert len(scripted_model.requests) == 12, "each command is asked of the model by itself"

    async def test_giving_up_what_waits_costs_no_other_program_anything(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: C8, C16."""
        first = await make_instance()
        other = await make_instance(again=first)
        running = await first.submit(f"[[say a]] [[delay {self.meanwhile}]] [[say b]]")
        await _until_text(running)
        with anyio.fail_after(_LIMIT):
            async with await other.submit("[[say never]]") as waiting:
                assert await anext(waiting) == Waiting(1)
            assert await other.send_command_and_wait("[[say later]]", 0.001) == (False, "")
            result = await running.result()
        assert (result.verdict, result.text) == (Verdict.COMPLETED, "ab")
        assert await other.send_command_and_wait("[[say c]]", _LIMIT) == (True, "c")
        assert [request.prompt for request in scripted_model.requests][1:] == ["[[say c]]"]

    async def test_what_waits_outlives_its_program(self, make_instance: MakeInstance) -> None:
        """covers: B1, C8, C16."""
        first = await make_instance()
        other = await make_instance(again=first)
        running = await first.submit(f"[[say a]] [[delay {self.meanwhile}]] [[say b]]")
        await _until_text(running)
        waiting = await other.submit("[[say c]]")
        with anyio.fail_after(_LIMIT):
            assert await anext(waiting) == Waiting(1)
            await other.release()
            found = await first.turn(waiting.id)
            assert (await running.result()).text == "ab"
            assert (await found.result()).text == "c"

    # Turns by their ids

    async def test_a_turn_is_found_again_from_its_first_token(self, make_instance: MakeInstance) -> None:
        """covers: B1."""
        instance = await make_instance()
        other = await make_instance(again=instance)
        turn = await instance.submit("[[repeat 20 piece,]] [[delay 0.3]] [[repeat 20 piece,]]")
        await _until_text(turn)
        found = await other.turn(turn.id)  # while it runs
        with anyio.fail_after(_LIMIT):
            results = [await found.result(), await turn.result()]
            results.append(await (await other.turn(turn.id)).result())  # when it has ended
        assert [result.text for result in results] == ["piece," * 40] * 3
        assert {result.verdict for result in results} == {Verdict.COMPLETED}

    async def test_leaving_a_turn_that_was_found_does_not_end_it(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        other = await make_instance(again=instance)
        turn = await instance.submit("[[say a]] [[delay 0.3]] [[say b]]")
        await _until_text(turn)
        async with await other.turn(turn.id) as found:
            await anext(found)
        assert (await turn.result()).text == "ab"

    async def test_a_turn_that_was_found_can_be_interrupted(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        other = await make_instance(again=instance)
        turn = await instance.submit("[[say a]] [[hang]]")
        await _until_text(turn)
        found = await other.turn(turn.id)
        with anyio.fail_after(_LIMIT):
            await found.interrupt()
            results = [await found.result(), await turn.result()]
        assert [(result.verdict, result.text) for result in results] == [(Verdict.INTERRUPTED, "a")] * 2

    async def test_a_command_runs_once_however_often_it_is_submitted(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: B1, C16."""
        instance = await make_instance()
        other = await make_instance(again=instance)
        turn_id, prompt = str(uuid.uuid4()), "[[say a]] [[delay 0.3]] [[say b]]"
        first = await instance.submit(prompt, id=turn_id)
        await _until_text(first)
        with anyio.fail_after(_LIMIT):
            for again in (other, other, instance):
                assert (await (await again.submit(prompt, id=turn_id)).result()).text == "ab"
                if again is other:
                    assert await other.send_command_and_wait("[[say next]]") == (True, "next")
                    assert first.id == turn_id
                    await first.result()
        assert scripted_model.prompts[prompt] == 1

    async def test_turns_are_listed(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        other = await make_instance(again=instance)
        await instance.send_command_and_wait("[[say read]]", _LIMIT)
        turn = await instance.submit("[[say a]] [[hang]]")
        await _until_text(turn)
        first, second = await other.turns()
        assert (first.read, second.read, second.id) == (True, False, turn.id)
        async with turn:
            pass
        assert (await (await other.turn(first.id)).result()).text == "read"

    async def test_a_turn_that_nobody_knows(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        await instance.send_command_and_wait("[[say hello]]", _LIMIT)
        unknown = str(uuid.uuid4())
        with pytest.raises(TurnNotFound, match=unknown):
            await instance.turn(unknown)
        with pytest.raises(InvalidInput, match="must be a UUID"):
            await instance.submit("hello", id="no uuid")

    # Ends that come early

    async def test_out_of_time(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        await instance.start()
        await run_out_of_time(instance, "[[say so far]] [[hang]]", "so far")
        assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")

    async def test_leaving_early_interrupts(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with aclosing(instance.send_command("[[say a b c]] [[hang]]")) as answer:
            async for _ in answer:
                break
        assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")

    async def test_a_cancelled_consumer_interrupts(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        started = anyio.Event()

        async def consume() -> None:
            async with aclosing(instance.send_command("[[say a]] [[hang]]")) as answer:
                async for _ in answer:
                    started.set()

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await started.wait()
            group.cancel_scope.cancel()
        assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")

    async def test_a_cancelled_command_in_the_queue_is_not_sent(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        instance = await make_instance()
        async with aclosing(instance.send_command("[[say a]] [[delay 0.5]] [[say b]]")) as answer:
            assert await anext(answer) == "a"
            with anyio.move_on_after(0.05):
                await instance.send_command_and_wait("never mind", _LIMIT)
            assert [piece async for piece in answer] == ["b"]
        assert scripted_model.prompts["never mind"] == 0

    async def test_interrupt_ends_the_turn_and_returns_when_it_is_over(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with await instance.submit("[[say so far]] [[hang]]") as turn:
            async for event in turn:
                if isinstance(event, TextDelta) and event.text == " far":
                    break
            await instance.interrupt()
            result = await turn.result()
        assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "so far")
        assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")

    async def test_interrupt_while_others_wait(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        answers: dict[str, tuple[bool, str]] = {}
        begun = anyio.Event()

        async def ask(text: str) -> None:
            async with await instance.submit(text) as turn:
                async for event in turn:
                    if isinstance(event, TextDelta):
                        begun.set()
                    if isinstance(event, TurnResult):
                        answers[text] = (event.ok, event.text)

        with anyio.fail_after(_LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, "[[say begun]] [[hang]]")
                await begun.wait()
                group.start_soon(ask, "[[say second]]")
                await anyio.wait_all_tasks_blocked()
                await instance.interrupt()
        assert answers == {"[[say begun]] [[hang]]": (False, "begun"), "[[say second]]": (True, "second")}

    async def test_permission_is_decided_while_others_wait(self, make_instance: MakeInstance) -> None:
        async def decide(_: PermissionRequest) -> Decision:
            await anyio.wait_all_tasks_blocked()
            return Allow()

        instance = await make_instance(on_permission=decide)
        answers: dict[str, tuple[bool, str]] = {}

        async def ask(text: str) -> None:
            answers[text] = await instance.send_command_and_wait(text, _LIMIT)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, f"[[tool Bash {_TOUCH}]] [[say first]]")
            await anyio.wait_all_tasks_blocked()
            group.start_soon(ask, "[[say second]]")
        assert sorted(answers.values()) == [(True, "first"), (True, "second")]

    async def test_interrupt_of_nothing(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        await instance.interrupt()
        await instance.start()
        await instance.interrupt()
        assert await instance.send_command_and_wait("[[say fine]]", _LIMIT) == (True, "fine")

    # Tools and permissions

    async def test_tools_are_events(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        prompt = '[[say Looking.]] [[tool Bash {"command": "echo from the tool", "description": "say"}]] [[say Done.]]'
        async with aclosing(instance.stream(prompt)) as stream:
            events = [event async for event in stream]
        assert [event.name for event in events if isinstance(event, ToolUse)] == ["Bash"]
        results = [event for event in events if isinstance(event, ToolResult)]
        assert "from the tool" in str(results[0].content)
        assert isinstance(events[-1], TurnResult)
        assert events[-1].text == "Looking.\n\nDone."

    async def test_permission_is_denied_unless_somebody_decides(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with aclosing(instance.stream(f"[[tool Bash {_TOUCH}]] [[say Done.]]")) as stream:
            events = [event async for event in stream]
        asked = [event for event in events if isinstance(event, PermissionRequest)]
        assert [request.tool_name for request in asked] == ["Bash"]
        assert [event.is_error for event in events if isinstance(event, ToolResult)] == [True]

    async def test_a_permission_request_is_seen_before_it_is_decided(self, make_instance: MakeInstance) -> None:
        order: list[str] = []

        async def decide(_: PermissionRequest) -> Decision:
            order.append("decided")
            return Allow()

        instance = await make_instance(on_permission=decide)
        async with aclosing(instance.stream(f"[[tool Bash {_TOUCH}]] [[say Done.]]")) as stream:
            async for event in stream:
                order += ["seen"] if isinstance(event, PermissionRequest) else []
        assert order == ["seen", "decided"]

    async def test_an_error_in_on_permission_is_its_readers_and_denies(self, make_instance: MakeInstance) -> None:
        async def decide(_: PermissionRequest) -> Decision:
            raise ZeroDivisionError

        instance = await make_instance(on_permission=decide)
        with anyio.fail_after(_LIMIT):
            async with await instance.submit(f"[[tool Bash {_TOUCH}]] [[say Done.]]") as turn:
                with pytest.raises(ZeroDivisionError):
                    async for _ in turn:
                        pass
                events = [event async for event in turn]
        assert [event.is_error for event in events if isinstance(event, ToolResult)] == [True]
        assert isinstance(events[-1], TurnResult)
        assert await instance.send_command_and_wait("[[say fine]]", _LIMIT) == (True, "fine")

    @pytest.mark.parametrize(("decision", "fails"), [(Allow(), False), (Deny("Not today."), True)])
    async def test_permission_as_decided(self, make_instance: MakeInstance, decision: Decision, fails: bool) -> None:
        async def decide(request: PermissionRequest) -> Decision:
            assert request.tool_name == "Bash"
            assert request.input["command"] == "touch made-by-a-tool"
            return decision

        instance = await make_instance(on_permission=decide)
        async with aclosing(instance.stream(f"[[tool Bash {_TOUCH}]] [[say Done.]]")) as stream:
            events = [event async for event in stream]
        results = [event for event in events if isinstance(event, ToolResult)]
        assert [result.is_error for result in results] == [fails]
        assert not fails or "Not today." in str(results[0].content)

    # Refusals and failures

    @pytest.mark.parametrize(
        ("prompt", "complaint"),
        [
            ("", "empty"),
            (" \n\t", "empty"),
            ("a\0b", "NUL character at position 1"),
            ("ab\ud800", "surrogate"),
            ("x" * (8 * 1024 * 1024 + 1), "the limit is"),
        ],
        ids=["empty", "blank", "nul", "surrogate", "oversized"],
    )
    async def test_a_prompt_that_cannot_be_sent(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel, prompt: str, complaint: str
    ) -> None:
        instance = await make_instance()
        with pytest.raises(InvalidInput, match=complaint):
            await instance.send_command_and_wait(prompt, _LIMIT)
        assert scripted_model.requests == []

    async def test_api_error(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        with pytest.raises(ApiError) as caught:
            async with aclosing(instance.send_command("[[error 400]]")) as answer:
                [piece async for piece in answer]
        assert caught.value.status == 400
        ok, text = await instance.send_command_and_wait("[[error 400]] again", _LIMIT)
        assert not ok
        assert "400" in text
        assert await instance.send_command_and_wait("[[say next]]", _LIMIT) == (True, "next")

    async def test_api_retries_are_shown_while_they_last(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with aclosing(instance.stream("[[error 529 x1]] [[say at last]]")) as stream:
            events = [event async for event in stream]
        retries = [event for event in events if isinstance(event, ApiRetry)]
        assert [(retry.attempt, retry.status) for retry in retries] == [(1, 529)]
        assert isinstance(events[-1], TurnResult)
        assert events[-1].text == "at last"

    async def test_not_logged_in(self, make_instance: MakeInstance) -> None:
        instance = await make_instance(login=False)
        with pytest.raises(NotLoggedIn):
            async with aclosing(instance.send_command("hello")) as answer:
                [piece async for piece in answer]

    # Life

    async def test_running_or_not(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        assert not await instance.is_running()
        await instance.start()
        await instance.start()
        assert await instance.is_running()
        await instance.stop()
        await instance.stop()
        assert not await instance.is_running()

    async def test_stopped_and_started_the_conversation_goes_on(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        instance = await make_instance()
        await instance.send_command_and_wait("before the restart", _LIMIT)
        session = (await instance.get_info())["session_id"]
        await instance.restart()
        await instance.send_command_and_wait("after it", _LIMIT)
        assert (await instance.get_info())["session_id"] == session
        assert "before the restart" in json.dumps(scripted_model.requests[-1].body["messages"])

    async def test_a_command_starts_what_was_stopped(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        await instance.start()
        await instance.stop()
        assert await instance.send_command_and_wait("[[say back]]", _LIMIT) == (True, "back")

    async def test_cleanup_is_idempotent_and_leaves_nothing_running(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with instance:
            await instance.send_command_and_wait("[[say hello]]", _LIMIT)
        await instance.cleanup()
        assert not await instance.is_running()

    async def test_cleanup_in_mid_turn(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        async with aclosing(instance.send_command("[[say a]] [[hang]]")) as answer:
            assert await anext(answer) == "a"
            await instance.cleanup()
        assert not await instance.is_running()

    @pytest.mark.parametrize("end", ["stop", "remove"])
    @pytest.mark.parametrize("whose", ["its own", "another program's"])
    async def test_an_end_is_an_end_also_of_what_is_being_started(
        self, make_instance: MakeInstance, end: str, whose: str
    ) -> None:
        """Whatever a start has come to, nothing runs afterwards, and the next start works. covers: L1, L3."""
        for pause in self.pauses:
            instance = await make_instance()
            other = instance if whose == "its own" else await make_instance(again=instance)

            async def begin(begun: anyio.Event, instance: InstanceInterface = instance) -> None:
                begun.set()
                with suppress(ChannelError, InstanceNotFound):
                    await instance.start()

            with anyio.fail_after(_LIMIT):
                async with anyio.create_task_group() as group:
                    begun = anyio.Event()
                    group.start_soon(begin, begun)
                    await begun.wait()
                    await anyio.sleep(pause)
                    await getattr(other, end)()
                    if whose == "its own":
                        assert not await instance.is_running()
                if whose != "its own":  # who comes first is open between programs, but not that both have their way
                    await getattr(other, end)()
            assert not await instance.is_running()
            assert not await other.is_running()
            assert await instance.send_command_and_wait("[[say back]]", _LIMIT) == (True, "back")
            await instance.cleanup()

    # Sleep

    async def test_it_sleeps_by_itself_and_remembers_when_it_wakes(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: B7."""
        if not self.sleeps:
            return
        instance = await make_instance(sleep_after=0.3)
        assert await instance.send_command_and_wait("first question", _LIMIT) == (True, "You said: first question")
        before = await _asleep(instance)
        assert before["session_id"]
        await instance.wake()
        assert (await instance.get_info())["activity"] in ("idle", "asleep")  # which it may be again by now
        assert await instance.send_command_and_wait("second question", _LIMIT) == (True, "You said: second question")
        assert "first question" in json.dumps(scripted_model.requests[-1].body["messages"])
        assert (await instance.get_info())["session_id"] == before["session_id"]

    async def test_it_is_put_to_sleep_and_every_program_finds_it_again(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: B7, C16."""
        if not self.sleeps:
            return
        instance = await make_instance()
        other = await make_instance(again=instance)
        await instance.sleep()  # nothing runs, and nothing is started
        assert not await instance.is_running()
        await instance.send_command_and_wait("[[say first]]", _LIMIT)
        await other.send_command_and_wait("[[say second]]", _LIMIT)
        for _ in range(2):
            await instance.sleep()
            assert (await other.get_info())["activity"] == "asleep"
        assert await other.send_command_and_wait("[[say third]]", _LIMIT) == (True, "third")
        assert await instance.send_command_and_wait("[[say fourth]]", _LIMIT) == (True, "fourth")
        assert "[[say first]]" in json.dumps(scripted_model.requests[-1].body["messages"])

    async def test_it_does_not_sleep_in_a_turn(self, make_instance: MakeInstance) -> None:
        """covers: B7."""
        if not self.sleeps:
            return
        instance = await make_instance(sleep_after=0.2)
        async with await instance.submit("[[say a]] [[delay 1]] [[say b]]") as turn:
            await _until_text(turn)
            with pytest.raises(InstanceBusy, match="it has a turn"):
                await instance.sleep()
            result = await turn.result()
        assert (result.verdict, result.text) == (Verdict.COMPLETED, "ab")

    async def test_it_does_not_sleep_while_a_permission_waits(self, make_instance: MakeInstance) -> None:
        """covers: B7, C9."""
        if not self.sleeps:
            return
        refusals: list[str] = []

        async def decide(_: PermissionRequest) -> Decision:
            with pytest.raises(InstanceBusy) as caught:
                await other.sleep()
            refusals.append(caught.value.what)
            await anyio.sleep(1.5)  # longer than it needs to fall asleep: less than a second counts as one
            return Allow()

        instance = await make_instance(on_permission=decide, sleep_after=0.2)
        other = await make_instance(again=instance)
        answer = await instance.send_command_and_wait(f"[[tool Bash {_TOUCH}]] [[say Done.]]", _LIMIT)
        assert answer == (True, "Done.")
        assert refusals == ["it is not idle: it has a turn"]

    async def test_it_does_not_sleep_while_it_works_in_the_background(self, make_instance: MakeInstance) -> None:
        """covers: B7."""
        if not self.sleeps:
            return

        async def decide(_: PermissionRequest) -> Decision:
            return Allow()

        instance = await make_instance(on_permission=decide, sleep_after=0.2)
        shell = json.dumps({"command": "sleep 600", "run_in_background": True, "description": "wait"})
        answer = await instance.send_command_and_wait(f"[[tool Bash {shell}]] [[say Begun.]]", _LIMIT)
        assert answer == (True, "Begun.")
        why = ""
        with anyio.fail_after(_LIMIT):
            while "in the background" not in why:  # before that, what was said has to be passed on
                with pytest.raises(InstanceBusy) as caught:
                    await instance.sleep()
                why = caught.value.what
        await anyio.sleep(1.5)  # longer than it would need to fall asleep: less than a second counts as one
        assert (await instance.get_info())["activity"] == "idle"

    async def test_commands_and_sleep_at_once_lose_nothing(
        self, make_instance: MakeInstance, scripted_model: ScriptedModel
    ) -> None:
        """covers: B7, C16."""
        if not self.sleeps:
            return
        instance = await make_instance()
        other = await make_instance(again=instance)
        await instance.start()

        async def put_to_sleep() -> None:
            with suppress(InstanceBusy):
                await other.sleep()

        with anyio.fail_after(_LIMIT):
            for number in range(4):
                async with anyio.create_task_group() as group:
                    group.start_soon(put_to_sleep)
                    await anyio.sleep(number / 33)
                    prompt = f"[[say w{number}]]"
                    assert await instance.send_command_and_wait(prompt, _LIMIT) == (True, f"w{number}")
                assert scripted_model.prompts[prompt] == 1

    async def test_where_a_person_may_look_it_does_not_sleep(self, make_instance: MakeInstance) -> None:
        """covers: B7."""
        if self.sleeps:
            return
        instance = await make_instance()
        assert await instance.send_command_and_wait("[[say hello]]", _LIMIT) == (True, "hello")
        with pytest.raises(InvalidInput, match="pane"):
            await instance.sleep()
        with pytest.raises(InvalidInput, match="pane"):
            await make_instance(sleep_after=0.2)

    async def test_info_is_json_and_has_no_secret(self, make_instance: MakeInstance) -> None:
        instance = await make_instance()
        await instance.send_command_and_wait("[[say hello]]", _LIMIT)
        info = await instance.get_info()
        text = json.dumps(info)
        assert InstanceInfo.__required_keys__ <= set(info) <= set(InstanceInfo.__annotations__)
        assert info["name"] == instance.record.name
        assert info["status"] == "running"
        assert info["channel"] in ("pipes", "exec", "direct", "socket")
        assert info["session_id"]
        assert info["claude"]
        assert info["activity"] in ("idle", None), "None: there is no agent to say it"
        assert (info["turn"], info["waiting"]) == (None, 0)
        secrets = [value for key, value in instance.record.env.items() if "KEY" in key]
        assert secrets
        assert not any(secret in text for secret in secrets)


async def _until_text(turn: Turn) -> None:
    """Read up to the first piece of the answer."""
    async for event in turn:
        if isinstance(event, TextDelta):
            return


async def _asleep(instance: InstanceInterface) -> InstanceInfo:
    """What it says of itself when it has gone to sleep."""
    with anyio.fail_after(_LIMIT):
        while (info := await instance.get_info())["activity"] != "asleep":  # noqa: ASYNC110  nobody tells who only looks
            await anyio.sleep(0.1)
    return info
