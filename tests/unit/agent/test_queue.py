"""The one order of turns: who is next, and what ends the turn that Claude Code has. covers: C8, C16"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cc_bridge_agent import queue as module
from cc_bridge_agent.queue import Queue


@pytest.fixture
def queue() -> Queue:
    made = Queue()
    made.current = "a"
    return made


def line(**message: Any) -> bytes:
    return json.dumps(message).encode()


def test_first_come_first_given_one_at_a_time(queue: Queue) -> None:
    for name in ("b", "c"):
        queue.hold(name, name.encode())
    assert queue.next() is None, "a turn runs"
    queue.current = ""
    assert not queue.is_free, "others were first"
    assert queue.next() == ("b", b"b")
    assert queue.waiting == ["c"]
    assert queue.next() == ("c", b"c")
    assert queue.next() is None
    assert queue.is_free


def test_room_is_counted_in_inputs_and_in_bytes(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_INPUTS", 2)
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    assert queue.has_room(10)
    assert not queue.has_room(11)
    queue.hold("b", b"x" * 6)
    assert queue.has_room(4)
    assert not queue.has_room(5)
    queue.hold("c", b"x")
    assert not queue.has_room(0)
    assert queue.withdraw("b")
    assert queue.has_room(9)
    queue.current = ""
    queue.next()
    assert queue.has_room(10)


def test_withdrawing_what_does_not_wait(queue: Queue) -> None:
    queue.hold("b", b"x")
    assert not queue.withdraw("a")
    assert queue.withdraw("b")
    assert not queue.withdraw("b")


@pytest.mark.parametrize(
    "said",
    [
        line(type="result"),
        line(type="result", user_message_uuids=[]),
        line(type="result", user_message_uuids=None),
        line(type="result", user_message_uuids=["z", "a"]),
        b'{ "type" : "result" }',
    ],
)
def test_a_result_ends_the_turn(queue: Queue, said: bytes) -> None:
    assert queue.ends_turn(said)
    assert queue.current == ""
    assert not queue.ends_turn(said), "there is none"


def test_a_long_answer_is_not_decoded_to_see_that_its_turn_has_ended(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would keep everybody waiting."""
    decoded: list[int] = []
    decode = module.wire.decode
    monkeypatch.setattr(module.wire, "decode", lambda line: decoded.append(len(line)) or decode(line))
    said = b'{"is_error":false,"result":"%b","type":"result","user_message_uuids":["a"]}' % (b'\\"' * 100_000)
    assert queue.ends_turn(said)
    assert decoded == [len(b'{"type":"result","user_message_uuids":["a"]}')]


@pytest.mark.parametrize("end", [b'"type":"result"}', b'"user_message_uuids":["a"],"type":"result"}'])
def test_a_long_result_that_names_its_turn_elsewhere_or_not_at_all_is_looked_at_whole(queue: Queue, end: bytes) -> None:
    assert queue.ends_turn(b'{"result":"%b",%b' % (b"x" * 100_000, end))


@pytest.mark.parametrize(
    "end",
    [
        b'"inner":{"type":"result","user_message_uuids":["a"]}}',
        b'"inner":[{"type":"result","user_message_uuids":["a"]}]}',
        b'"type":"result","user_message_uuids":["z"]}',
        b'"type":"result","user_message_uuids":["a"]',
        b'"type":"user","text":"\\"type\\":\\"result\\",\\"user_message_uuids\\":[\\"a\\"]}"}',
    ],
)
def test_no_other_long_line_does(queue: Queue, end: bytes) -> None:
    assert not queue.ends_turn(b'{"text":"%b",%b' % (b"x" * 100_000, end))
    assert queue.current == "a"


@pytest.mark.parametrize(
    "said",
    [
        line(type="result", user_message_uuids=["z"]),
        line(type="assistant", result="result"),
        line(type="user", message={"type": "result"}),
        line(result="result"),
        b'["type","result"]',
        b'"result"',
        b'{"type":"result"',
        b"",
    ],
)
def test_nothing_else_does(queue: Queue, said: bytes) -> None:
    assert not queue.ends_turn(said)
    assert queue.current == "a"
