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
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FRAMES = st.dictionaries(st.text(), VALUES)
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    ends = sorted({position % (len(data) + 1) for position in positions})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@pytest.mark.long
@given(st.lists(FRAMES, max_size=10), st.lists(st.integers(0, 10**6)))
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
            for line in splitter.feed(piece):
                found.append(line)
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
    assert wire.split_input(frame) == (name, line)
    assert wire.decode(frame) == {"id": name, "in": message}


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
    with pytest.raises(wire.FrameError, match="not JSON|not a JSON object"):
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
