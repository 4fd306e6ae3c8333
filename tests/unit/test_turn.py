"""A command on its way: its events, its end as an error, and what leaving it does."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from cc_bridge.errors import (
    ApiError,
    ClaudeError,
    ClaudeStartError,
    NotLoggedIn,
    TurnError,
    TurnFailed,
    TurnInterrupted,
)
from cc_bridge.events import Event, PermissionRequest, TextDelta, TurnResult, TurnStarted, Verdict
from cc_bridge.turn import Turn

from .scripted_source import ScriptedSource

pytestmark = pytest.mark.anyio

STARTED = TurnStarted("session", "model")
REQUEST = PermissionRequest("r1", "Bash", {"command": "ls"})
DONE = TurnResult(Verdict.COMPLETED, "ab", "session")


async def ended_with(result: TurnResult) -> Turn:
    turn = Turn(ScriptedSource([result]), "t1")
    await turn.result()
    return turn


# Events


async def test_events_come_in_order_and_the_result_is_the_last() -> None:
    events: list[Event] = [STARTED, TextDelta("a"), TextDelta("b"), DONE]
    source = ScriptedSource(events[:1], events[1:3], events[3:])
    turn = Turn(source, "t1")
    assert [event async for event in turn] == events
    assert await anext(turn, None) is None, "nothing follows the result"
    assert source.asked == [("wait_for_events", "t1")] * 3, "after the result the source is not asked again"


async def test_nothing_follows_the_result_even_if_the_source_says_more() -> None:
    turn = Turn(ScriptedSource([DONE], [TextDelta("late")]), "t1")
    assert [event async for event in turn] == [DONE]


async def test_the_result_waits_for_what_is_to_be_done_before_it_and_nothing_else_does() -> None:
    done: list[str] = []

    async def keep() -> str:
        await anyio.lowlevel.checkpoint()
        done.append("done")
        return ""

    turn = Turn(ScriptedSource([TextDelta("a"), DONE]), "t1").before_result(keep)
    assert (await anext(turn), done) == (TextDelta("a"), [])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(turn)
    assert not done
    assert (await anext(turn), done) == (DONE, ["done"])
    assert await anext(turn, None) is None
    assert done == ["done"]


async def test_a_whole_answer_does_not_count_where_that_says_so() -> None:
    async def keep() -> str:
        return "it was not kept"

    turn = Turn(ScriptedSource([TextDelta("a"), DONE]), "t1").before_result(keep)
    told = DONE.replace(verdict=Verdict.INTERRUPTED, error="it was not kept")
    assert [event async for event in turn] == [TextDelta("a"), told]
    with pytest.raises(TurnInterrupted, match="it was not kept"):
        turn.raise_for_result()


async def test_what_is_no_whole_answer_is_told_at_once_and_kept_all_the_same() -> None:
    done: list[str] = []

    async def keep() -> str:
        done.append("done")
        return "it was not kept"

    failed = TurnResult(Verdict.FAILED, "a", error="mine")
    turn = Turn(ScriptedSource([failed]), "t1").before_result(keep)
    assert (await anext(turn), done) == (failed, [])
    assert (await turn.result(), done) == (failed, ["done"])


async def test_a_turn_that_was_left_has_no_more_and_reading_it_ends() -> None:
    """covers: L3: the event loop would spin, and could not even be cancelled."""
    turn = Turn(ScriptedSource([STARTED], [TextDelta("a")]), "t1")
    assert await anext(turn) == STARTED
    await turn.aclose()
    assert [event async for event in turn] == []
    with pytest.raises(TurnInterrupted, match="demo: the turn was left"):
        await turn.result()


async def test_a_turn_that_another_task_has_left_ends_for_who_reads_it() -> None:
    """covers: L3: its source does not know it any more, and says nothing."""
    turn = Turn(ScriptedSource([STARTED, TextDelta("a")], []), "t1")
    with pytest.raises(TurnInterrupted) as caught:
        await turn.result()
    assert caught.value.text == "a"


async def test_a_cancelled_wait_has_taken_nothing() -> None:
    source = ScriptedSource()
    turn = Turn(source, "t1")
    async with anyio.create_task_group() as group:
        group.start_soon(anext, turn)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    source.batches.append([TextDelta("a"), DONE])
    assert [event async for event in turn] == [TextDelta("a"), DONE]


# Permissions


async def test_a_permission_request_is_seen_before_it_is_decided() -> None:
    """covers: B4"""
    source = ScriptedSource([TextDelta("a"), REQUEST, DONE])
    turn = Turn(source, "t1")
    assert await anext(turn) == TextDelta("a")
    assert await anext(turn) == REQUEST
    assert ("decide", "r1") not in source.asked, "whoever reads may show it before it is asked for"
    assert await anext(turn) == DONE
    assert source.asked.count(("decide", "r1")) == 1


async def test_a_decision_that_was_cancelled_is_asked_for_again() -> None:
    source = ScriptedSource([REQUEST, DONE])
    source.undecided = anyio.Event()
    turn = Turn(source, "t1")
    assert await anext(turn) == REQUEST
    async with anyio.create_task_group() as group:
        group.start_soon(anext, turn)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    source.undecided.set()
    assert [event async for event in turn] == [DONE]
    assert source.asked.count(("decide", "r1")) == 2


# The result


async def test_the_result_of_a_turn_that_is_not_read_otherwise() -> None:
    turn = Turn(ScriptedSource([STARTED, TextDelta("a")], [TextDelta("b"), DONE]), "t1")
    assert await turn.result() == DONE
    assert await turn.result() == DONE, "it can be asked for again"


async def test_a_long_answer_is_whole_although_the_source_keeps_only_its_beginning() -> None:
    cut = DONE.replace(text="ab", truncated=True)
    turn = Turn(ScriptedSource([TextDelta("ab"), TextDelta("cd"), cut]), "t1")
    result = await turn.result()
    assert (result.text, result.truncated) == ("abcd", False)


async def test_a_long_answer_of_which_a_part_was_read_stays_marked_as_cut() -> None:
    """What was read before is the reader's; a text without its beginning would be no answer."""
    cut = DONE.replace(text="abc", truncated=True)
    turn = Turn(ScriptedSource([TextDelta("abc"), TextDelta("d"), cut]), "t1")
    await anext(turn)
    assert await turn.result() == cut


@pytest.mark.parametrize("text", ["a", "abc"])
async def test_a_text_that_is_not_cut_is_as_the_source_gives_it(text: str) -> None:
    """It may differ from what was streamed, where the turn was read from the transcript."""
    recovered = TurnResult(Verdict.RECOVERED, text)
    turn = Turn(ScriptedSource([TextDelta("ab"), recovered]), "t1")
    assert await turn.result() == recovered


# Ends as errors


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_every_verdict_is_a_whole_answer_or_an_error(verdict: Verdict) -> None:
    turn = await ended_with(TurnResult(verdict, "so far", "session", error="it broke"))
    wanted = {Verdict.INTERRUPTED: TurnInterrupted, Verdict.FAILED: TurnFailed}.get(verdict)
    if wanted is None:
        turn.raise_for_result()
        return
    with pytest.raises(TurnError, match="it broke") as caught:
        turn.raise_for_result()
    error = caught.value
    assert type(error) is wanted
    assert (error.text, error.session_id, error.instance) == ("so far", "session", "demo")


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"error": "the API says 529", "api_status": 529}, ApiError),
        ({"error": "Not logged in"}, NotLoggedIn),
        ({"error": "OAuth token has expired · Please run /login"}, NotLoggedIn),
        ({"error": "Invalid API key · Fix external API key", "api_status": 401}, NotLoggedIn),
        ({"error": "401 authentication_error: invalid x-api-key", "api_status": 401}, NotLoggedIn),
        ({"error": "not logged in", "verdict": Verdict.INTERRUPTED}, NotLoggedIn),
        ({"error": "it ended", "exit_code": 1}, ClaudeStartError),
        ({"error": "it ended", "exit_code": -9}, ClaudeStartError),
        ({"error": "it ended", "exit_code": 1, "text": "so far"}, TurnFailed),
        ({"error": "it ended", "exit_code": 0}, TurnFailed),
        ({"error": "it ended", "exit_code": 1, "verdict": Verdict.INTERRUPTED}, TurnInterrupted),
        ({"error": "the API says 529", "api_status": 529, "verdict": Verdict.INTERRUPTED}, TurnInterrupted),
    ],
)
async def test_which_error_it_is(facts: dict[str, Any], wanted: type[ClaudeError]) -> None:
    turn = await ended_with(TurnResult(**{"verdict": Verdict.FAILED, "text": "", **facts}))
    with pytest.raises(ClaudeError, match=facts["error"][:6]) as caught:
        turn.raise_for_result()
    assert type(caught.value) is wanted
    assert caught.value.instance == "demo"


async def test_the_errors_say_what_is_known_of_the_end() -> None:
    turn = await ended_with(TurnResult(Verdict.FAILED, "", error="refused", api_status=400))
    with pytest.raises(ApiError) as refused:
        turn.raise_for_result()
    assert refused.value.status == 400
    turn = await ended_with(TurnResult(Verdict.INTERRUPTED, "", error="killed", exit_code=-9, out_of_memory=True))
    with pytest.raises(TurnInterrupted) as killed:
        turn.raise_for_result()
    assert (killed.value.exit_code, killed.value.out_of_memory) == (-9, True)


async def test_a_turn_that_has_not_ended_is_no_error() -> None:
    turn = Turn(ScriptedSource([STARTED]), "t1")
    await anext(turn)
    turn.raise_for_result()


# Interrupting and leaving


async def test_an_interrupted_turn_still_has_its_result() -> None:
    source = ScriptedSource([TextDelta("a"), TurnResult(Verdict.INTERRUPTED, "a")])
    turn = Turn(source, "t1")
    await turn.interrupt()
    assert source.asked == [("interrupt_turn", "t1")]
    assert (await turn.result()).verdict is Verdict.INTERRUPTED


async def test_leaving_a_turn_of_ones_own_early_ends_it_and_waits_until_it_is_over() -> None:
    source = ScriptedSource([TextDelta("a")])
    async with Turn(source, "t1") as turn:
        await anext(turn)
    assert source.asked[-2:] == [("abandon", "t1"), ("abandoned", "t1")]


async def test_a_turn_that_was_read_to_its_end_has_nothing_to_be_left() -> None:
    source = ScriptedSource([DONE])
    async with Turn(source, "t1") as turn:
        await turn.result()
    assert source.asked == [("wait_for_events", "t1")]


@pytest.mark.parametrize("batch", [[TextDelta("a")], [DONE]], ids=["early", "at its end"])
async def test_leaving_a_turn_that_was_found_lets_it_go_on(batch: list[Event]) -> None:
    source = ScriptedSource(batch)
    async with Turn(source, "t1", found=True) as turn:
        await anext(turn)
    assert source.asked == [("wait_for_events", "t1"), ("leave", "")]


async def test_a_cancelled_reader_still_waits_until_its_turn_is_over() -> None:
    source = ScriptedSource()

    async def read() -> None:
        async with Turn(source, "t1") as turn:
            await anext(turn)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert source.asked[-1] == ("abandoned", "t1")


async def test_the_readers_own_error_is_what_comes_out() -> None:
    source = ScriptedSource([TextDelta("a")])
    with pytest.raises(ZeroDivisionError):
        async with Turn(source, "t1") as turn:
            await anext(turn)
            raise ZeroDivisionError
    assert source.asked[-1] == ("abandoned", "t1")


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["trio"])
async def test_leaving_is_bounded_where_the_turn_never_ends(anyio_backend: object) -> None:
    """On a clock of the test's own, which is moved on when nothing else can happen."""
    source = ScriptedSource()
    source.never_over = True
    with anyio.fail_after(60):
        await Turn(source, "t1").aclose()
    assert source.asked == [("abandon", "t1")]
