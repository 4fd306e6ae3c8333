"""How a turn ends: by its result, its transcript, its process. covers: B14"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import Verdict
from cc_bridge.protocol import bounded_text
from cc_bridge.protocol import stream_json as sj
from cc_bridge.protocol.bounded_text import BoundedText
from cc_bridge.protocol.streamed_answer import StreamedAnswer
from cc_bridge.protocol.verdicts import Judgement, ProcessEnd, by_exit, by_result, by_transcript, turn_result


def answer(text: str = "", synthetic: str = "") -> StreamedAnswer:
    made = StreamedAnswer()
    made.say(text)
    made.synthetic.add(synthetic)
    return made


def result(**more: Any) -> sj.Result:
    fields: dict[str, Any] = {"turn_ids": (), "subtype": "success", "is_error": False, "text": "", "session_id": "s"}
    return sj.Result(**fields | {"api_status": None, "num_turns": 1, "duration": 2.0, "cost_usd": 0.5} | more)


@pytest.mark.parametrize(
    ("said", "synthetic", "text", "unsaid"),
    [
        ("answer", "", "answer", ""),
        ("", "", "of a local command", "of a local command"),
        ("", "by itself", "by itself", "by itself"),
        ("answer", "by itself", "by itself", "\n\nby itself"),
        ("answer\n\n", "by itself", "by itself", "by itself"),
    ],
)
def test_a_result_completes_the_text(said: str, synthetic: str, text: str, unsaid: str) -> None:
    judgement = by_result(result(text=text), answer(said, synthetic))
    assert (judgement.verdict, judgement.error, "".join(judgement.unsaid)) == (Verdict.COMPLETED, "", unsaid)


@pytest.mark.parametrize(
    ("facts", "synthetic", "verdict", "error"),
    [
        ({"subtype": "error_during_execution"}, "", Verdict.INTERRUPTED, "interrupted"),
        ({"subtype": "error_during_execution", "text": "why"}, "said", Verdict.INTERRUPTED, "why"),
        ({"subtype": "error_during_execution", "api_status": 500}, "", Verdict.FAILED, "error_during_execution"),
        ({"subtype": "error_max_turns"}, "", Verdict.FAILED, "error_max_turns"),
        ({"api_status": 529}, "API Error", Verdict.FAILED, "API Error"),
    ],
)
def test_a_result_that_is_an_error_says_why(
    facts: dict[str, Any], synthetic: str, verdict: Verdict, error: str
) -> None:
    judgement = by_result(result(is_error=True, **facts), answer("so far", synthetic))
    assert (judgement.verdict, judgement.error, judgement.unsaid) == (verdict, error, ())


@pytest.mark.parametrize(
    ("end", "interrupted", "verdict", "error"),
    [
        (ProcessEnd(-9, out_of_memory=True), False, Verdict.INTERRUPTED, "Claude Code was killed: out of memory"),
        (ProcessEnd(-9, out_of_memory=True, cause="cause"), False, Verdict.INTERRUPTED, "cause"),
        (ProcessEnd(None), False, Verdict.INTERRUPTED, "Claude Code ended with its agent: last"),
        (ProcessEnd(1, cause="cause"), False, Verdict.INTERRUPTED, "cause"),
        (ProcessEnd(-15), False, Verdict.INTERRUPTED, "Claude Code was ended by signal 15: last"),
        (ProcessEnd(-1), False, Verdict.INTERRUPTED, "Claude Code was ended by signal 1: last"),
        (ProcessEnd(129), False, Verdict.INTERRUPTED, "Claude Code was ended by signal 1: last"),
        (ProcessEnd(137), False, Verdict.INTERRUPTED, "Claude Code was ended by signal 9: last"),
        (ProcessEnd(128), False, Verdict.FAILED, "Claude Code ended with exit code 128: last"),
        (ProcessEnd(0), False, Verdict.FAILED, "Claude Code ended with exit code 0: last"),
        (ProcessEnd(1), True, Verdict.INTERRUPTED, "Claude Code ended with exit code 1: last"),
    ],
)
def test_a_process_that_ends_ends_its_turn(end: ProcessEnd, interrupted: bool, verdict: Verdict, error: str) -> None:
    assert by_exit(end, interrupted=interrupted, last_words="last") == Judgement(verdict, error)


def test_a_process_that_said_nothing_is_not_quoted() -> None:
    assert by_exit(ProcessEnd(1), interrupted=False, last_words="").error == "Claude Code ended with exit code 1"


@given(st.lists(st.text("ab\n", max_size=4), max_size=4), st.text("ab\n", max_size=10))
def test_the_transcript_completes_what_was_said(texts: list[str], said: str) -> None:
    heard = answer(said)
    judgement = by_transcript(texts, heard)
    for piece in judgement.unsaid:
        heard.say(piece)
    whole = ""
    for text in texts:
        whole += ("\n\n" if whole and not whole.endswith("\n\n") else "") + text
    assert heard.text.kept.endswith(whole)
    assert heard.text.kept.startswith(said)
    assert judgement.verdict is (Verdict.COMPLETED_AFTER_HANG if said == whole else Verdict.RECOVERED)


def test_the_last_event_has_all_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_text, "TEXT_LIMIT", 3)
    text = BoundedText()
    text.add("answer")
    judgement = Judgement(Verdict.FAILED, "why", result=result(api_status=500, usage={"input_tokens": 1}))
    last = turn_result(judgement, text, "s", ProcessEnd(-9, out_of_memory=True))
    assert (last.verdict, last.error, last.text, last.truncated, last.session_id) == (
        Verdict.FAILED,
        "why",
        "ans",
        True,
        "s",
    )
    assert (last.exit_code, last.out_of_memory) == (-9, True)
    assert (last.api_status, last.num_turns, last.duration, last.cost_usd) == (500, 1, 2.0, 0.5)
    assert last.usage == {"input_tokens": 1}


def test_of_what_is_not_known_nothing_is_said() -> None:
    last = turn_result(Judgement(Verdict.COMPLETED), BoundedText(), "", None)
    assert (last.exit_code, last.out_of_memory, last.api_status, last.num_turns) == (None, False, None, 0)
