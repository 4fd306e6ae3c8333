"""What is fuzzed: each target takes any bytes, as a hostile container could send them, and must not be impressed.

Used by hypothesis and the corpus in ``test_fuzz.py``, and by the coverage-guided fuzzer in ``fuzz.py``.
"""

from __future__ import annotations

import json

from cc_bridge.events import TurnResult, as_dict
from cc_bridge.protocol.conversation import Conversation, DeclareDone, EndProcess, ReadTranscript, SendInput
from cc_bridge.protocol.link import ErrorOutput, Exited, Hello, Link, Output, Position, Started, Violated
from cc_bridge_agent import wire

TURN = "70239f12-b8a6-4331-8634-823542f95e3f"
HELLO = {"hello": 1, "agent": "0.1.0", "epoch": "e", "session": "main", "journal": "j", "state": "running", "seq": 0}
HELLO |= {"from": 1, "open": []}

#: A small limit, so that a fuzzer reaches it.
LIMIT = 4096


def frames(data: bytes) -> None:
    """The reader of frames. The first byte says how the data is cut, and whether a hello came before."""
    how, data = data[:1] or b"\0", data[1:]
    link = Link(after=Position(0, "j") if how[0] & 1 else None, limit=LIMIT)
    link.greet()
    if how[0] & 2:
        link.receive_data(wire.encode(HELLO))
    size = how[0] // 4 + 1
    last = link.last_seq
    for start in range(0, len(data), size):
        events = link.receive_data(data[start : start + size])
        assert not any(isinstance(event, Violated) for event in events[:-1]), "something came after a violation"
        for event in events:
            if isinstance(event, Violated):
                assert link.closed
                assert event.reason
                assert len(event.reason) < 1000, "it repeats what it was sent"
            elif isinstance(event, Hello):
                last = link.last_seq
            str(event).encode("utf-8")
        if not any(isinstance(event, Hello) for event in events):
            numbered = sum(isinstance(event, Output | ErrorOutput | Started | Exited) for event in events)
            assert numbered <= link.last_seq - last <= size, "numbers went astray"
            last = link.last_seq
        held = len(link._splitter._rest)
        assert held <= LIMIT + size, "it keeps more than its limit"
    if link.closed:
        assert link.receive_data(wire.encode(HELLO)) == []


def conversation(data: bytes) -> None:
    """What Claude Code says, a message a line, to a conversation with a turn of its own and one that is followed."""
    made = Conversation(silence=1, interrupt_limit=1)
    made.follow("b" * 36, 0.0)
    made.process_ready((), 0.0)
    made.submit(TURN, "hello", 0.0)
    results = 0
    for number, line in enumerate(data.split(b"\n")):
        now = float(number)
        try:
            frame = wire.decode(b'{"seq":1,"out":' + line + b"}")
        except wire.FrameError:
            continue
        message = frame.get("out")
        if not isinstance(message, dict | str):
            continue
        for command in made.commands():
            assert isinstance(command, SendInput | DeclareDone | ReadTranscript | EndProcess)
            if isinstance(command, SendInput):
                wire.encode_input(command.input_id, json.dumps(command.message).encode())
                made.took(command.input_id, now)
            if isinstance(command, ReadTranscript):
                made.receive_transcript(command.turn_id, [line.decode("utf-8", "replace")], now)
        made.receive_message(message, now)
        if number % 7 == 3:
            made.handle_timer(now)
        if number % 11 == 5:
            made.interrupt(TURN, now)
        for turn_id in (TURN, "b" * 36):
            for event in made.take_events(turn_id):
                json.dumps(as_dict(event)).encode()
                str(event).encode("utf-8")
                results += isinstance(event, TurnResult)
    assert results <= 2, "a turn has ended twice"
    assert sum(len(name) for name in made.unknown) <= 200 * (len(data) + 1), "it remembers what it was told at length"
    made.process_exited(-9, 1e9)
    made.connection_lost("the end", 1e9)


TARGETS = {"frames": frames, "conversation": conversation}
