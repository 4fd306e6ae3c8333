"""Claude Code's known troubles, each played by a stub, and what a caller gets. covers: B14, C5, C15"""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from cc_bridge import (
    InstanceInterface,
    TextDelta,
    TurnInterrupted,
    TurnResult,
    Verdict,
)
from cc_bridge.errors import ClaudeNotFound, ClaudeStartError, TurnFailed
from cc_bridge.events import Event, Silence, TurnStarted, UnknownMessage

pytestmark = pytest.mark.anyio


async def play(instance: InstanceInterface, scene: str) -> tuple[TurnResult, list[Event]]:
    """Send the scene's name; the result, and all events."""
    with anyio.fail_after(30):
        async with aclosing(instance.stream(scene)) as stream:
            found = [event async for event in stream]
    result = found[-1]
    assert isinstance(result, TurnResult)
    assert "".join(event.text for event in found if isinstance(event, TextDelta)) == result.text
    return result, found


async def interrupted_after_first_text(instance: InstanceInterface, scene: str) -> TurnResult:
    """Send the scene's name, and interrupt when its first text has come."""
    async with await instance.submit(scene) as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                break
        await instance.interrupt()
        return await turn.result()


async def test_plain_answer(make_stubbed: Any) -> None:
    result, found = await play(await make_stubbed(), "plain")
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "Hello, you.")
    assert isinstance(found[0], TurnStarted)


async def test_result_never_comes(make_stubbed: Any) -> None:
    instance = await make_stubbed(silence=0.3)
    result, _ = await play(instance, "no-result")
    assert (result.verdict, result.text) == (Verdict.COMPLETED_AFTER_HANG, "All of it.")
    result, _ = await play(instance, "plain")  # in a new process, whose start may be such a silence, too
    assert (result.ok, result.text) == (True, "Hello, you.")


async def test_output_stops_and_the_transcript_goes_on(make_stubbed: Any) -> None:
    result, _ = await play(await make_stubbed(silence=0.3), "output-stops")
    assert (result.verdict, result.text) == (Verdict.RECOVERED, "The first half and the second.")


async def test_silence_while_it_works_is_reported_and_not_cut(make_stubbed: Any) -> None:
    result, found = await play(await make_stubbed(silence=0.25), "works-silently")
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "Done at last.")
    assert any(isinstance(event, Silence) and event.working for event in found)


@pytest.mark.parametrize("scene", ["left-over", "left-over-anonymous"])
async def test_left_over_result_ends_no_turn(make_stubbed: Any, scene: str) -> None:
    result, _ = await play(await make_stubbed(), scene)
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "Hello, you.")


async def test_empty_result_after_resume_ends_no_turn(make_stubbed: Any) -> None:
    instance = await make_stubbed(env={"STUB_EMPTY_RESULT_AFTER_RESUME": "1"})
    await play(instance, "plain")
    await instance.restart()
    result, _ = await play(instance, "plain")
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "Hello, you.")


async def test_interrupt_is_held_until_the_turn_begins(make_stubbed: Any) -> None:
    instance = await make_stubbed()
    async with await instance.submit("late-init") as turn, anyio.create_task_group() as group:
        await instance.start()
        group.start_soon(instance.interrupt)
        result = await turn.result()
    assert result.verdict is Verdict.INTERRUPTED
    result, _ = await play(instance, "plain")
    assert result.text == "Hello, you."


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        ("interrupted-bare", "So far"),
        ("drains-slowly", "one " + "\n\n".join(["", *(f"{number} " for number in range(100))])),
    ],
)
async def test_interrupt_returns_when_the_turn_is_drained(make_stubbed: Any, scene: str, text: str) -> None:
    instance = await make_stubbed()
    result = await interrupted_after_first_text(instance, scene)
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, text)
    result, _ = await play(instance, "plain")
    assert result.text == "Hello, you."


async def test_a_turn_deaf_to_interrupts_is_killed(make_stubbed: Any) -> None:
    instance = await make_stubbed(interrupt_limit=0.3)
    result = await interrupted_after_first_text(instance, "ignores-interrupt")
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "Deaf")
    result, _ = await play(instance, "plain")
    assert result.text == "Hello, you."


async def test_empty_answer(make_stubbed: Any) -> None:
    assert await (await make_stubbed()).send_command_and_wait("empty") == (True, "")


async def test_unknown_types_are_kept_and_counted(make_stubbed: Any) -> None:
    instance = await make_stubbed()
    result, found = await play(instance, "strange")
    assert (result.verdict, result.text) == (Verdict.COMPLETED, "Fine.")
    kept = [event.message for event in found if isinstance(event, UnknownMessage)]
    assert {"type": "hologram", "shape": "cube"} in kept
    assert {"type": "hologram_block", "depth": 3} in kept
    counted = (await instance.get_info())["unknown_messages"]
    assert counted["hologram"] == counted["system/brand_new"] == counted["block hologram_block"] == 1
    assert counted["no JSON"] == 2


async def test_characters_cut_in_pieces(make_stubbed: Any) -> None:
    assert await (await make_stubbed()).send_command_and_wait("split-utf8") == (True, "é漢字🙂\u2028x" * 50)


@pytest.mark.parametrize("size", [2_000_000, 20_000_000])
async def test_long_lines(make_stubbed: Any, size: int) -> None:
    ok, text = await (await make_stubbed()).send_command_and_wait(f"long-line {size}")
    assert ok
    assert len(text) == size


@pytest.mark.parametrize(
    "text", ["repeats\r\nwith\n\nblank lines\r", "repeats \u2028\u2029\u0085\x0b\x1b[31m", "repeats " + "é🙂" * 100_000]
)
async def test_a_prompt_arrives_as_it_was(make_stubbed: Any, text: str) -> None:
    assert await (await make_stubbed()).send_command_and_wait(text) == (True, text)


@pytest.mark.parametrize(("scene", "code"), [("exits 3", 3), ("exits 0", 0)])
async def test_process_ends_in_mid_turn(make_stubbed: Any, scene: str, code: int) -> None:
    instance = await make_stubbed()
    result, _ = await play(instance, scene)
    assert (result.verdict, result.text, result.exit_code) == (Verdict.FAILED, "Before the end", code)
    assert "something broke" in result.error
    with pytest.raises(TurnFailed, match="something broke") as caught:
        [piece async for piece in instance.send_command(scene)]
    assert caught.value.text == "Before the end"


async def test_process_killed_in_mid_turn_and_the_next_command_resumes(make_stubbed: Any) -> None:
    instance = await make_stubbed()
    await play(instance, "plain")
    session = (await instance.get_info())["session_id"]
    with pytest.raises(TurnInterrupted, match="signal 9") as caught:
        [piece async for piece in instance.send_command("killed")]
    assert (caught.value.text, caught.value.session_id) == ("Before the kill", session)
    result, _ = await play(instance, "environment")
    assert json.loads(result.text)["argv"][-2:] == ["--permission-prompt-tool", "stdio"] or session in result.text
    assert result.session_id == session


async def test_process_killed_when_all_was_said(make_stubbed: Any) -> None:
    result, _ = await play(await make_stubbed(), "killed-after-answer")
    assert (result.verdict, result.text) == (Verdict.COMPLETED_AFTER_HANG, "All said.")


async def test_one_login_is_passed_and_not_two(make_stubbed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "one")
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "two")
    result, _ = await play(await make_stubbed(), "environment")
    assert json.loads(result.text)["names"] == ["ANTHROPIC_API_KEY"]


async def test_output_without_an_end_is_refused(make_stubbed: Any) -> None:
    instance = await make_stubbed()
    result, _ = await play(instance, "floods 70")
    assert result.verdict is Verdict.INTERRUPTED
    assert "refused the output" in result.error
    result, _ = await play(instance, "plain")
    assert result.text == "Hello, you."


async def test_claude_ends_at_once(make_stubbed: Any) -> None:
    instance = await make_stubbed(env={"STUB_REFUSES": "Error: a reason"})
    with pytest.raises(ClaudeStartError, match="a reason"):
        [piece async for piece in instance.send_command("plain")]
    assert await instance.send_command_and_wait("plain") == (
        False,
        "Claude Code ended with exit code 1: Error: a reason",
    )


async def test_claude_is_missing(make_stubbed: Any) -> None:
    instance = await make_stubbed(program="/nowhere/claude")
    with pytest.raises(ClaudeNotFound, match="/nowhere/claude"):
        await instance.start()


async def test_stop_interrupts_a_running_turn_in_order(make_stubbed: Any) -> None:
    """covers: C8"""
    instance = await make_stubbed()
    async with await instance.submit("sleeps-on-sigint") as turn:
        async for event in turn:
            if isinstance(event, TextDelta):
                break
        await instance.stop()
        result = await turn.result()
    assert (result.verdict, result.text) == (Verdict.INTERRUPTED, "Working")
    assert not await instance.is_running()
