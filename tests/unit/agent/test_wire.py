"""Frames: what is written is read again, however it is cut; what is no frame is refused by name. covers: C9"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge_agent import wire

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FRAMES = st.dictionaries(st.text(), VALUES, max_size=4)
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    ends = sorted({position % (len(data) + 1) for position in positions})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(0, 10**6), max_size=20))
def test_frames_survive_any_cut(frames: list[dict[str, Any]], positions: list[int]) -> None:
    splitter = wire.LineSplitter()
    data = b"".join(map(wire.encode, frames))
    lines = [line for piece in cut(data, positions) for line in splitter.feed(piece)]
    assert [wire.decode(line) for line in lines] == frames
    assert splitter.flush() == b""


@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), max_size=10), st.lists(st.integers(0, 10**6)))
def test_a_splitter_loses_nothing_and_adds_nothing(lines: list[bytes], positions: list[int]) -> None:
    splitter = wire.LineSplitter()
    data = b"".join(line + b"\n" for line in lines) + b"unfinished"
    found = [line for piece in cut(data, positions) for line in splitter.feed(piece)]
    assert found == [line for line in lines if line]
    assert splitter.flush() == b"unfinished"
    assert splitter.flush() == b""


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 5, b"x" * 6], [b"ok\n" + b"x" * 11 + b"\n"]])
def test_a_line_over_the_limit_is_refused_after_those_before_it(pieces: list[bytes]) -> None:
    splitter, found = wire.LineSplitter(limit=10), []
    with pytest.raises(wire.FrameError, match="the limit is 10"):
        for piece in pieces:
            found.extend(splitter.feed(piece))
    assert found == ([b"ok"] if pieces[0].startswith(b"ok") else [])


def test_a_line_of_the_limit_is_taken() -> None:
    assert list(wire.LineSplitter(limit=10).feed(b"x" * 10 + b"\n")) == [b"x" * 10]


@pytest.mark.long
@given(st.integers(0, 10**17), FRAMES)
def test_output_travels_as_it_is(seq: int, message: dict[str, Any]) -> None:
    line = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return  # half a surrogate pair is no UTF-8; below
    frame = wire.encode_output(seq, line)
    assert line in frame
    assert wire.decode(frame.rstrip(b"\n")) == {"seq": seq, "out": message}


@given(st.integers(0, 10**17), st.binary(min_size=1).filter(lambda line: b"\n" not in line))
def test_output_that_is_no_json_arrives_as_text(seq: int, line: bytes) -> None:
    frame = wire.decode(wire.encode_output(seq, line).rstrip(b"\n"))
    assert frame["seq"] == seq
    assert isinstance(frame["out"], str | dict)
    if isinstance(frame["out"], str):
        assert frame["out"] == line.decode("utf-8", "replace")


@pytest.mark.long
@given(IDS, FRAMES)
def test_input_travels_as_it_is(name: str, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode()
    frame = wire.encode_input(name, line).rstrip(b"\n")
    assert wire.split_input(frame) == (name, "", line)
    assert wire.decode(frame) == {"id": name, "in": message}


@given(IDS, IDS, FRAMES)
def test_input_for_a_turn_names_it(name: str, turn: str, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode()
    frame = wire.encode_input(name, line, turn).rstrip(b"\n")
    assert wire.split_input(frame) == (name, turn, line)
    assert wire.decode(frame) == {"id": name, "for": turn, "in": message}
    with pytest.raises(wire.FrameError, match="not an id"):
        wire.encode_input(name, line, f"{turn} ")


@given(st.integers(0, 10**17), IDS, FRAMES)
def test_what_waits_is_kept_as_it_is(seq: int, name: str, message: dict[str, Any]) -> None:
    line = json.dumps(message).encode()
    frame = wire.encode_queued(seq, name, line)
    assert wire.split_queued(frame) == (name, line)
    assert wire.decode(frame.rstrip(b"\n")) == {"seq": seq, "queued": name, "in": message}
    assert wire.split_queued(wire.encode_output(seq, line)) is None
    assert wire.split_queued(wire.encode({"seq": seq, "took": name})) is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "é", "a\n"])
def test_what_is_no_id(name: str) -> None:
    with pytest.raises(wire.FrameError, match="not an id"):
        wire.encode_input(name, b"{}")


@pytest.mark.parametrize("line", [b"", b"[]", b"1", b"{", b"{}{}", b'{"a":\n1}', b"{}\r", b"\xff", b"[" * 100_000])
def test_what_no_input_may_be(line: bytes) -> None:
    """Claude Code ends on a line that is not JSON, so none may pass in either direction."""
    with pytest.raises(wire.FrameError):
        wire.encode_input("id", line)
    with pytest.raises(wire.FrameError):
        wire.split_input(b'{"id":"id","in":' + line + b"}")


@pytest.mark.parametrize("line", [b"", b"[]", b"nonsense", b'{"a":1', b'{"seq":1,"out":', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_frame(line: bytes) -> None:
    with pytest.raises(wire.FrameError, match=r"not JSON|not a JSON object"):
        wire.decode(line)


def test_an_error_quotes_little() -> None:
    with pytest.raises(wire.FrameError) as caught:
        wire.decode(b"x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("padding", [0, 5000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"a":[', "]}")])
def test_the_deepest_frame_and_one_deeper(opening: str, closing: str, padding: int) -> None:
    """With text in it that has as many brackets as it likes, and however long it is."""
    levels = opening.count("[") + opening.count("{")
    text = "[{" * 200 + "x" * padding
    inner = wire.MAX_DEPTH - 2  # in the frame and the message
    for depth, is_frame in ((inner // levels, True), (inner // levels + 1, False)):
        line = f'{{"text":"{text}","deep":{opening * depth}1{closing * depth}}}'
        kind = dict if is_frame else str
        assert type(wire.decode(wire.encode_output(1, line.encode())[:-1])["out"]) is kind


@pytest.mark.parametrize("padding", [0, 5000])
def test_half_a_surrogate_pair_becomes_a_replacement_character(padding: int) -> None:
    """For it could be written nowhere; one that is only quoted, with its backslash, stays as it is."""
    text = "x" * padding
    line = b'{"half":"\\ud83d%b","whole":"\\ud83d\\ude00\\n","quoted":"\\\\ud83d"}' % text.encode()
    assert wire.decode(line) == {"half": "\ufffd" * 3 + text, "whole": "😀\n", "quoted": "\\ud83d"}


def test_what_the_document_says_of_limits() -> None:
    """docs/protocol.md: version 1, frames of at most 64 MiB, control messages begin with `c-`."""
    assert (wire.VERSION, wire.MAX_FRAME, wire.CONTROL) == (1, 64 * 2**20, "c-")
    assert wire.LineSplitter().limit == 64 * 2**20


def test_a_frame_is_written_in_the_fewest_bytes() -> None:
    assert wire.encode({"seq": 1, "err": "é"}) == b'{"seq":1,"err":"\\u00e9"}\n'


@pytest.mark.parametrize("line", [b"{", b"}", b"[{}]", b"{} ", b" {}", b"text"])
def test_output_that_cannot_be_an_object_travels_as_text(line: bytes) -> None:
    assert json.loads(wire.encode_output(1, line)) == {"seq": 1, "out": line.decode()}


@pytest.mark.parametrize("line", [b'{"a":1} ', b'{"a":1}\t\r'])
def test_blanks_after_a_frame_do_no_harm(line: bytes) -> None:
    assert wire.decode(line) == {"a": 1}


@pytest.mark.parametrize("line", [b"{}{}", b'{"a":1} x', b'{"a":NaN}', b'{"a":-Infinity}'])
def test_what_only_begins_like_a_frame_is_none(line: bytes) -> None:
    with pytest.raises(wire.FrameError, match="not JSON"):
        wire.decode(line)


def test_broken_output_arrives_as_the_text_that_it_is() -> None:
    """What is around it is the agent's, and not broken; the number counts."""
    assert wire.decode(b'{"seq":17,"out":{"a":nonsense}}') == {"seq": 17, "out": '{"a":nonsense}'}
    assert wire.decode(b'{"seq":17,"out":{"a":\xff}}') == {"seq": 17, "out": '{"a":\ufffd}'}


@pytest.mark.parametrize(
    "line",
    [b'{"seq":17,"out":{"a"}x', b'{"seq":%d,"out":{x}}' % 10**18, b'x{"seq":17,"out":{x}}', b'{"seq":,"out":{x}}'],
)
def test_output_whose_frame_is_broken_is_no_frame(line: bytes) -> None:
    with pytest.raises(wire.FrameError):
        wire.decode(line)


@pytest.mark.parametrize("escape", ["d83d", "D83D", "dfff", "DC00", "dABC"])
def test_either_half_of_a_surrogate_pair_in_either_case(escape: str) -> None:
    assert wire.decode(b'{"a":"\\u%b"}' % escape.encode()) == {"a": "\ufffd" * 3}


def test_escapes_that_are_no_surrogates_stay() -> None:
    assert wire.decode(b'{"a":"\\ud7ff\\ue000\\n\\\\"}') == {"a": "\ud7ff\ue000\n\\"}


@pytest.mark.parametrize(
    "line", [b'{"id":"a","in":{', b'{"id":"a b","in":{}}', b'{"start":{}}', b' {"id":"a","in":{}}']
)
def test_other_frames_carry_no_input(line: bytes) -> None:
    assert wire.split_input(line) is None


def test_an_input_is_refused_for_what_is_wrong_with_it() -> None:
    for line, reason in ((b"{", "not JSON"), (b"[]", "not a JSON object"), (b"{}\r", "not on one line")):
        with pytest.raises(wire.FrameError, match=reason):
            wire.encode_input("id", line)


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_VALUES", 50)
    monkeypatch.setattr(wire, "_SHORT", 300)


def values(count: int, kind: bytes = b"0") -> bytes:
    """An object of so many values: itself, a list, and what the list has; and long enough to be counted."""
    return b'{"many":[%b]   }' % b",".join([kind] * ((count - 2) // (1 if kind == b"0" else 2))) + b" " * 300


def test_a_frame_has_half_a_million_values_at_most_unless_it_is_short() -> None:
    assert (wire.MAX_VALUES, wire._SHORT) == (500_000, 2**20)


@pytest.mark.parametrize("kind", [b"0", b"[]", b"{}"])
def test_a_frame_of_more_values_than_memory_is_for_is_refused(few_values: None, kind: bytes) -> None:
    assert "many" in wire.decode(values(50, kind))
    for refuse in (wire.decode, lambda line: wire.encode_input("id", line)):
        with pytest.raises(wire.FrameError, match="more than 50 values"):
            refuse(values(54, kind))


def test_output_of_too_many_values_arrives_as_text(few_values: None) -> None:
    line = values(54).rstrip()[:-1] + b" " * 300 + b"}"
    assert wire.decode(wire.encode_output(7, line)[:-1]) == {"seq": 7, "out": line.decode()}


def test_a_short_frame_has_as_many_values_as_it_can_hold(few_values: None) -> None:
    line = b'{"many":[%b]}' % b",".join([b"0"] * 100)
    assert len(wire.decode(line.ljust(300))["many"]) == 100
    with pytest.raises(wire.FrameError):
        wire.decode(line.ljust(301))


@pytest.mark.parametrize("text", [b",", b"[", b"{", b'\\",', b"\\\\"])
def test_what_stands_in_text_is_no_value(few_values: None, text: bytes) -> None:
    assert set(wire.decode(b'{"a":"%b","b":"%b"}' % (text * 200, text * 200))) == {"a", "b"}


def test_values_beside_text_are_counted(few_values: None) -> None:
    text = b'"%b",' % (b',\\\\\\"' * 100)
    with pytest.raises(wire.FrameError, match="more than 50 values"):
        wire.decode(b'{"a":[%b%b0]}' % (text, b"0," * 60))


def test_very_many_texts_are_very_many_values(few_values: None) -> None:
    with pytest.raises(wire.FrameError, match="more than 50 values"):
        wire.decode(b'{"a":[%b0]}' % (b'"",' * 110))


def test_a_splitter_can_be_used_again_after_what_it_had_was_taken() -> None:
    splitter = wire.LineSplitter(limit=10)
    assert list(splitter.feed(b"x" * 10)) == []
    assert splitter.flush() == b"x" * 10
    assert list(splitter.feed(b"y" * 6)) == []
    assert list(splitter.feed(b"y" * 4 + b"\n" + b"z" * 10)) == [b"y" * 10]
    assert list(splitter.feed(b"\n")) == [b"z" * 10]


@pytest.mark.parametrize(
    "pieces", [[b"x" * 10, b"x"], [b"x" * 10, b"x\n"], [b"\n" * 3 + b"x" * 11], [b"ok\n", b"x" * 11]]
)
def test_the_limit_counts_what_has_come_before(pieces: list[bytes]) -> None:
    splitter = wire.LineSplitter(limit=10)
    with pytest.raises(wire.FrameError, match="at least 11 bytes"):
        for piece in pieces:
            list(splitter.feed(piece))


def test_an_id_has_1_to_64_of_its_characters() -> None:
    for name in ("a", "Z", "9", "_", "-", "x" * 64):
        assert wire.split_input(wire.encode_input(name, b"{}")[:-1]) == (name, "", b"{}")
    assert wire.split_input(b'{"id":"%b","in":{}}' % (b"x" * 65)) is None


@pytest.mark.parametrize("padding", [0, 2000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_a_frame_is_a_hundred_levels_deep_at_most(opening: str, closing: str, padding: int) -> None:
    """However short or long its line, and whichever brackets it has."""
    assert wire.MAX_DEPTH == 100
    levels = opening.count("[") + opening.count("{")
    for depth, is_frame in ((99 // levels, True), (100 // levels, False)):
        line = f'{{"deep":{opening * depth}0{closing * depth}{" " * padding}}}'.encode()
        if is_frame:
            assert set(wire.decode(line)) == {"deep"}
        else:
            with pytest.raises(wire.FrameError, match="nested more than 100 deep"):
                wire.decode(line)


def test_a_list_that_is_a_hundred_levels_deep_is_refused_for_what_it_is() -> None:
    for depth, reason in ((100, "not a JSON object"), (101, "nested more than 100 deep")):
        with pytest.raises(wire.FrameError, match=reason):
            wire.decode(b"[" * depth + b"]" * depth)


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    for filler in (b"", b" " * 2000):
        assert len(wire.decode(b'{"a":[%b[]]%b}' % (b"[],{}," * 200, filler))["a"]) == 401


def test_very_many_texts_are_not_looked_at_one_by_one(few_values: None) -> None:
    """Four quotes a value: more than that cannot be a frame of few values."""
    frame = b'{"a":"%b"%b}' % (b"x" * 300, b" " * 20)
    assert set(wire.decode(frame)) == {"a"}
    texts = b'{"a":[%b0]}' % (b'"%b",' % (b"," * 60) * 40)
    assert len(wire.decode(texts)["a"]) == 41


@pytest.mark.parametrize(
    "line",
    [
        b'{},"hello":{}',
        b'{},"error":"stopping","message":"a lie","z":{}',
        b'{},"seq":5',
        b'{},"took":"x"',
        b'1,"exit":0',
    ],
)
def test_what_claude_code_says_is_never_taken_for_the_agent_s_own(line: bytes) -> None:
    """It looks like an object, and goes on behind its end as if it were the frame's."""
    frame = wire.decode(b'{"seq":7,"out":' + line + b"}")
    assert frame == {"seq": 7, "out": line.decode()}
