"""The engine's stream frames, however they are cut. covers: R2"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import EngineError
from cc_bridge.engine.streams import Demultiplexer

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=50)), max_size=10)


def framed(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in pieces)


@given(PIECES, st.lists(st.integers(0, 10**6)))
def test_any_cut(pieces: list[tuple[int, bytes]], positions: list[int]) -> None:
    data, demultiplexer = framed(pieces), Demultiplexer()
    ends = sorted({position % (len(data) + 1) for position in positions})
    found: dict[int, bytes] = {1: b"", 2: b""}
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        for stream, piece in demultiplexer.feed(data[start:end]):
            found[stream] += piece
    for stream in (1, 2):
        assert found[stream] == b"".join(data for of, data in pieces if of == stream)


@pytest.mark.parametrize("data", [b"OCI runtime", b"\x01\x01\x00\x00\x00\x00\x00\x01x", b"HTTP/1.1 200"])
def test_what_is_no_such_stream(data: bytes) -> None:
    with pytest.raises(EngineError, match="garbled"):
        list(Demultiplexer().feed(data))
