"""The agent's log as a person reads it: harmless, whatever a container has put into it. covers: G10"""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import InvalidInput
from cc_bridge.cli.logs import parse_age, readable
from cc_bridge.instances import conversations


def test_a_line_of_the_agents() -> None:
    line = json.dumps(
        {"time": 0.5, "event": "turn_began", "session": "main", "turn": "t", "reason": "two words", "n": 1}
    )
    assert readable(line, whole=True) == '1970-01-01T00:00:00.500+00:00  turn began  turn=t reason="two words" n=1'
    other = json.dumps({"event": "stopped", "session": "health", "time": "never"})
    assert readable(other) == "-  stopped  session=health"


def test_any_other_line_is_shown_and_harmless() -> None:
    assert readable("Killed\x1b[2J") == "Killed␛[2J"
    assert readable('{"no": "event"}') == '{"no": "event"}'
    assert readable('{"event": "x", "deep": ' + "[" * 5000 + "]" * 5000 + "}").startswith('{"event"')
    hidden = json.dumps({"time": 1e300, "event": "x\x1b]0;evil\x07", "why": "\u202e\ud800"})
    assert readable(hidden) == "-  x␛]0;evil␇  why=\\u202e���"


@given(
    st.text()
    | st.dictionaries(st.sampled_from(["time", "event", "x"]), st.none() | st.floats() | st.text()).map(json.dumps)
)
def test_nothing_gets_through_to_the_terminal(line: str) -> None:
    shown = readable(line)
    shown.encode()
    assert not any(ord(character) < 0x20 and character not in "\n\t" for character in shown)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds
    with pytest.raises(InvalidInput, match="no length of time"):
        parse_age(f"-{text}")


def test_a_hostile_transcript_is_read_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines without end, without sense, or nested without measure."""
    monkeypatch.setattr(conversations, "_LONGEST_LINE", 100)
    lines = [b'{"n": 1}', b"x" * 99 + b"\n" + b"y" * 250, b"[" * 90, b'{"s": "\\ud800"}', b'{"n": 2}', b'{"torn']
    found = list(conversations._entries(io.BytesIO(b"\n".join(lines))))
    assert found == [{"n": 1}, {"s": "���"}, {"n": 2}]
