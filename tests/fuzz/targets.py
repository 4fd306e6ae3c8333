"""What is fuzzed: each target takes any bytes, as a hostile container could send them, and must not be impressed.

Used by hypothesis and the corpus in ``test_fuzz.py``, and by the coverage-guided fuzzer in ``fuzz.py``.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator

from cc_bridge.events import TurnResult, as_dict
from cc_bridge.protocol.commands import DeclareDone, EndProcess, ReadTranscript, SendInput
from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import ErrorOutput, Exited, Hello, Link, Output, Position, Started, Took, Violated
from cc_bridge.proxy.api_rules import check_request, request_headers
from cc_bridge.proxy.request_head import LARGEST_HEAD, find_end, read_head
from cc_bridge.proxy.terms import Refused, Upstream
from cc_bridge.proxy.usage import UsageReader
from cc_bridge_agent import wire
from cc_bridge_agent.ledger import Ledger

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


#: Bytes at a time, as a pipe gives them; and how many lines are compared with how many, of so many bytes at most.
CHUNK = 65536
SMALL, LARGE = 2_000, 16_000
MOST_BYTES = 400

#: Bytes of memory for a byte of input: an empty object is 3 bytes of JSON and 72 of memory, and its text comes thrice.
MOST_MEMORY = 60

#: Bytes of what is remembered however little was said: ids, a chunk's events.
REMEMBERED = 3 * 1024 * 1024

#: How much longer the large input may take than the small one, which has an eighth of it: a list that is searched for
#: each line takes 64 times as long.
MOST_TIME = 30

#: What is too slow is so each time; a processor that others use is slower at times, for the large input only.
TRIES = 5


def cost(data: bytes) -> None:
    """Time and memory a byte: what Claude Code and the agent may say again and again costs the same each time.

    The lines of ``data`` are said in turn until there is enough; ``@`` in them is a number that is new each time.
    """
    for read in (host_reads, agent_reads):
        small, large = (said_again(data, lines) for lines in (SMALL, LARGE))
        if not large:
            return
        for _ in range(TRIES):
            before, after = timed(read, small), timed(read, large)
            if after < max(MOST_TIME * before, 0.5):
                break
        else:
            raise AssertionError(f"{data[:200]!r}: {before:.3f} s became {after:.3f} s")
        tracemalloc.start()
        try:
            read(small)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MOST_MEMORY * len(small) + REMEMBERED, (
            f"{data[:200]!r}: {peak // len(small)} bytes of memory a byte"
        )


def said_again(data: bytes, most: int) -> bytes:
    """So many lines, or fewer where they are long."""
    lines, said, room = [line for line in data.split(b"\n") if line], [], most * MOST_BYTES
    for number in range(most if lines else 0):
        said.append(lines[number % len(lines)].replace(b"@", b"%d" % number) + b"\n")
        room -= len(said[-1])
        if room <= 0:
            break
    return b"".join(said)


def timed(read: Callable[[bytes], None], data: bytes) -> float:
    """Seconds of processor time."""
    began = time.process_time()
    read(data)
    return time.process_time() - began


def host_reads(data: bytes) -> None:
    """As frames where the lines are some, else as lines of Claude Code's; fetched only where that is waited for."""
    link, conversation = Link(), Conversation()
    link.greet()
    link.receive_data(wire.encode(HELLO))
    conversation.process_ready((), 0.0)
    conversation.submit(TURN, "hello", 0.0)
    conversation.took(TURN, 0.0)
    numbers = itertools.count(1)
    for chunk in chunks(b"".join(framed(line, numbers) for line in data.splitlines(keepends=True))):
        for event in link.receive_data(chunk):
            match event:
                case Output(message, size):
                    conversation.receive_message(message, 0.0, size)
                case Took(name):
                    conversation.took(name, 0.0)
                case ErrorOutput(text):
                    conversation.receive_stderr(text)
        conversation.commands()
        if conversation.crowded:
            conversation.take_events(TURN)
        if conversation.is_done(TURN):
            conversation.take_events(TURN)
            conversation.follow(TURN, 0.0)
            conversation.replayed()


def framed(line: bytes, numbers: Iterator[int]) -> bytes:
    if line.startswith((b'{"took":', b'{"err":', b'{"done":')):
        return b'{"seq":%d,' % next(numbers) + line[1:]
    return wire.encode_output(next(numbers), line.rstrip(b"\n"))


def agent_reads(data: bytes) -> None:
    """What the agent does with Claude Code's output, and with the hosts' inputs."""
    splitter = wire.LineSplitter()
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(directory, 1 << 30)
        for number, chunk in enumerate(chunks(data)):
            lines = list(splitter.feed(chunk))
            ledger.number_output(lines)
            for line in lines:
                ledger.take(f"{number}-{abs(hash(line))}")
                try:
                    wire.split_input(b'{"id":"a","in":%b}' % line)
                except wire.FrameError:
                    pass
            ledger.keep()
        ledger.journal.close()


def chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


PLACEHOLDER = "placeholder-0123456789abcdef"

#: What a request to the API may ask for, in so many words.
REACHED = {"/v1/messages", "/v1/messages/count_tokens", "/v1/models"}


def gate(data: bytes) -> None:
    """A container's request is refused, or reaches the API in our words only; and the same bytes as an answer."""
    for content_type in ("text/event-stream", "application/json"):
        reader = UsageReader(content_type)
        for start in range(0, len(data), 7):
            reader.receive_data(data[start : start + 7])
        assert reader.usage().input_tokens >= 0
    problem = None
    try:
        end = find_end(data)
        if end < 0:
            assert len(data) <= LARGEST_HEAD
            return
        head = read_head(data[:end])
        check_request(head, PLACEHOLDER)
    except Refused as refused:
        problem = refused
    if problem:
        assert 400 <= problem.status < 600
        assert len(problem.message) < 500, "it repeats what it was sent"
        return
    path = head.target.partition("?")[0]
    assert path in REACHED or path.startswith("/v1/models/") or head.method == "HEAD"
    assert ".." not in path.split("/")
    sent = request_headers(head, Upstream("https://api", (("x-api-key", "real"),)))
    assert [value for name, value in sent if name == "x-api-key"] == ["real"]
    for name, value in sent:
        assert name not in ("host", "authorization", "cookie", "connection")
        assert not set("\r\n\0") & set(name + value)
        assert PLACEHOLDER not in value or name != "x-api-key"


TARGETS = {"gate": gate, "frames": frames, "conversation": conversation, "cost": cost}
