"""How a turn has ended, from what three witnesses say: its result, its transcript, and the process. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..events import TurnResult, Verdict
from ..values import Value
from . import stream_json as sj
from .bounded_text import BoundedText
from .streamed_answer import StreamedAnswer

__all__ = ["Judgement", "ProcessEnd", "by_exit", "by_result", "by_transcript", "turn_result"]


class ProcessEnd(Value):
    """How Claude Code has ended in mid-turn.

    Attributes:
        code: negative for a signal; None: nobody saw how.
        cause: what is known otherwise, for a person.
    """

    code: int | None
    out_of_memory: bool = False
    cause: str = ""


class Judgement(Value):
    """How a turn ends.

    Attributes:
        unsaid: what its text lacks, in pieces.
        result: Claude Code's own account of it, where there is one.
    """

    verdict: Verdict
    error: str = ""
    unsaid: tuple[str, ...] = ()
    result: sj.Result | None = None


def by_result(result: sj.Result, answer: StreamedAnswer) -> Judgement:
    """Claude Code has said that the turn is over."""
    if result.is_error:
        interrupted = result.subtype == "error_during_execution" and not result.api_status
        error = result.text or answer.synthetic.kept or ("interrupted" if interrupted else result.subtype)
        return Judgement(Verdict.INTERRUPTED if interrupted else Verdict.FAILED, error, result=result)
    unsaid: tuple[str, ...] = ()
    if answer.synthetic.length:
        unsaid = (answer.gap, answer.synthetic.kept)
    elif not answer.text.length:  # a local command may answer in its result only
        unsaid = (result.text,)
    return Judgement(Verdict.COMPLETED, unsaid=unsaid, result=result)


def by_transcript(texts: Iterable[str], answer: StreamedAnswer) -> Judgement:
    """The transcript has the end that the output lacks, and these messages of the model's."""
    joined = BoundedText()
    for text in texts:
        if joined.length and not joined.ends_paragraph:
            joined.add("\n\n")
        joined.add(text)
    whole = joined.kept
    rest = answer.text.rest_of(whole)
    if rest == "":
        return Judgement(Verdict.COMPLETED_AFTER_HANG)
    return Judgement(Verdict.RECOVERED, unsaid=(f"\n\n{whole}" if rest is None else rest,))


def by_exit(end: ProcessEnd, *, interrupted: bool, last_words: str) -> Judgement:
    """The process has ended and nothing says that the answer is whole.

    Args:
        interrupted: somebody wanted the turn to end.
        last_words: the last line that it wrote to stderr.
    """
    last = f": {last_words}" if last_words else ""
    if end.out_of_memory:
        return Judgement(Verdict.INTERRUPTED, end.cause or "Claude Code was killed: out of memory")
    if end.code is None or end.cause:
        return Judgement(Verdict.INTERRUPTED, end.cause or f"Claude Code ended with its agent{last}")
    if end.code < 0 or end.code > 128:
        number = -end.code if end.code < 0 else end.code - 128
        return Judgement(Verdict.INTERRUPTED, f"Claude Code was ended by signal {number}{last}")
    verdict = Verdict.INTERRUPTED if interrupted else Verdict.FAILED
    return Judgement(verdict, f"Claude Code ended with exit code {end.code}{last}")


def turn_result(judgement: Judgement, text: BoundedText, session_id: str, exited: ProcessEnd | None) -> TurnResult:
    """The last event of a turn whose text is whole."""
    facts: dict[str, Any] = {}
    if (result := judgement.result) is not None:
        facts = {
            "api_status": result.api_status,
            "num_turns": result.num_turns,
            "duration": result.duration,
            "cost_usd": result.cost_usd,
            "usage": result.usage,
        }
    return TurnResult(
        judgement.verdict,
        text.kept,
        session_id,
        judgement.error,
        exit_code=exited.code if exited else None,
        out_of_memory=exited.out_of_memory if exited else False,
        truncated=text.is_cut,
        **facts,
    )
