"""What an answer has used: whatever it says, in whatever pieces. covers: B5"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.limits import ApiLimits
from cc_bridge.proxy.meters import Meters
from cc_bridge.proxy.terms import Refused
from cc_bridge.proxy.usage import Usage, UsageReader

counts = st.integers(0, 10**6)


def streamed(*said: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in said)


def read(data: bytes, size: int, content_type: str = "text/event-stream; charset=utf-8") -> UsageReader:
    reader = UsageReader(content_type)
    for start in range(0, len(data), size):
        reader.receive_data(data[start : start + size])
    return reader


@given(counts, counts, counts, counts, st.integers(1, 200))
def test_a_streamed_answer_in_any_pieces(fresh: int, written: int, cached: int, output: int, size: int) -> None:
    usage = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": 1,
    }
    start = {"type": "message_start", "message": {"model": "claude-sonnet-4-5-20250929", "usage": usage}}
    text = {"type": "content_block_delta", "delta": {"text": '"message_delta" "usage" ' * 20}}
    delta = {"type": "message_delta", "usage": {"output_tokens": output}}
    reader = read(streamed(start, text, delta, {"type": "message_stop"}), size)
    assert reader.complete
    used = reader.usage()
    assert (used.input_tokens, used.output_tokens) == (fresh + written + cached, max(1, output))
    assert used.usd == used.usd_at_most
    assert used.usd == pytest.approx((fresh * 3 + written * 3.75 + cached * 0.3 + max(1, output) * 15) / 1e6)


@given(st.binary(max_size=500), st.integers(1, 50), st.sampled_from(["text/event-stream", "application/json", ""]))
def test_any_bytes(data: bytes, size: int, content_type: str) -> None:
    used = read(data, size, content_type).usage()
    assert used.input_tokens >= 0
    assert 0 <= used.output_tokens <= len(data)


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}))


@given(st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", "cache_creation", "speed"]), values))
def test_any_usage(usage: dict[str, Any]) -> None:
    data = json.dumps({"model": "claude-opus-5-5", "usage": usage}).encode()
    used = read(data, 7, "application/json").usage()
    assert 0 <= used.input_tokens <= 10**9
    assert used.usd >= 0


def test_an_answer_that_was_cut_is_counted_by_its_length() -> None:
    start = {"type": "message_start", "message": {"model": "x", "usage": {"input_tokens": 5, "output_tokens": 1}}}
    text = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a" * 3000}}
    reader = read(streamed(start, text), 1000)
    assert not reader.complete
    assert reader.usage().output_tokens >= 900
    assert reader.usage().usd == 0
    assert reader.usage().usd_at_most > 0


def test_long_prompts_of_a_model_that_costs_more_then() -> None:
    def usd(tokens: int) -> float:
        body = {"model": "claude-haiku-5-5", "usage": {"input_tokens": tokens, "output_tokens": 0}}
        return read(json.dumps(body).encode(), 999, "application/json").usage().usd

    assert usd(100_000) == pytest.approx(0.01)
    assert usd(200_000) == pytest.approx(0.1)


def test_a_count_of_tokens_costs_nothing() -> None:
    used = read(b'{"input_tokens": 99}', 99, "application/json").usage()
    assert used == Usage()


DAY = 86_400.0


@pytest.mark.parametrize(
    "limits", [ApiLimits(bytes_per_day=100), ApiLimits(tokens_per_day=30), ApiLimits(usd_per_day=1)]
)
def test_a_day_s_limit_lasts_until_the_day_ends_and_over_a_restart(limits: ApiLimits) -> None:
    meters = Meters(limits)
    meters.begin(DAY)
    meters.add_bytes(DAY, 100)
    meters.end(DAY, Usage("", 20, 10, 0.0, 1.0))
    again = Meters(limits, json.loads(json.dumps(meters.as_dict())))
    for now in (DAY + 1, 2 * DAY - 1, DAY - 1):
        with pytest.raises(Refused, match="limit of"):
            again.begin(now)
    again.begin(2 * DAY)


def test_what_is_asked_and_not_answered_counts_meanwhile() -> None:
    meters = Meters(ApiLimits(tokens_per_day=30))
    meters.begin(DAY)
    meters.reserve(90)
    with pytest.raises(Refused, match="is being used") as told:
        meters.begin(DAY)
    assert told.value.status == 429
    meters.end(DAY, Usage("", 20, 0, 0.0, 0.0), 90)
    for _ in range(16):
        meters.begin(DAY)
    with pytest.raises(Refused, match="16 requests at once"):
        meters.begin(DAY)


def test_much_that_is_refused_is_no_news() -> None:
    meters = Meters(ApiLimits())
    for number in range(101):
        assert not meters.is_flooded(DAY)
        meters.refuse(DAY + number / 10)
    assert meters.is_flooded(DAY + 11)
    assert not meters.is_flooded(DAY + 61)


def test_requests_at_once_and_in_a_minute() -> None:
    meters = Meters(ApiLimits(at_once=1, requests_per_minute=2))
    meters.begin(DAY)
    with pytest.raises(Refused, match="at once"):
        meters.begin(DAY)
    meters.end(DAY, Usage())
    meters.begin(DAY + 1)
    meters.end(DAY + 1, Usage())
    with pytest.raises(Refused, match="a minute"):
        meters.begin(DAY + 59)
    meters.begin(DAY + 60)


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(["day", "bytes", "usd"]), values))
def test_whatever_was_kept(kept: dict[str, Any]) -> None:
    Meters(ApiLimits(), kept).as_dict()
