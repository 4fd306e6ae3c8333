#!/usr/bin/env python3
"""A stand-in for Claude Code that plays the troubles which the real one is known for.

Speaks stream-json like ``claude -p``. The first word of a prompt names what to play; see ``SCENES``. It ends, as
the real one does, on a line that is not JSON, and on a blank line or a carriage return, which have killed sessions.
"""

import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path

ARGUMENTS = sys.argv[1:]
SESSION = ARGUMENTS[ARGUMENTS.index("--resume") + 1] if "--resume" in ARGUMENTS else str(uuid.uuid4())
TRANSCRIPT = Path(os.environ["HOME"], ".claude", "projects", "stub", f"{SESSION}.jsonl")


def say(message):
    sys.stdout.buffer.write(json.dumps(message, ensure_ascii=False).encode() + b"\n")
    sys.stdout.buffer.flush()


def init():
    say({"type": "system", "subtype": "init", "session_id": SESSION, "model": "stub"})


def echo(turn):
    say({"type": "user", "isReplay": True, "uuid": turn, "message": {"role": "user", "content": "…"}})


def delta(text):
    start = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
    piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    say({"type": "stream_event", "event": start})
    say({"type": "stream_event", "event": piece})


def assistant(text):
    say({"type": "assistant", "message": {"model": "stub", "content": [{"type": "text", "text": text}]}})


def result(text="", **more):
    fields = {"subtype": "success", "is_error": False, "result": text, "session_id": SESSION, "num_turns": 1}
    say({"type": "result", **fields, **more})


def interrupted(**more):
    more = {"subtype": "error_during_execution", "is_error": True, **more}
    say({"type": "result", "session_id": SESSION, **more})


def record(turn, *texts, ended=True):
    """What the transcript has of this turn."""
    TRANSCRIPT.parent.mkdir(parents=True, exist_ok=True)
    with TRANSCRIPT.open("a") as file:
        user = {"type": "user", "uuid": turn, "message": {"role": "user", "content": "…"}}
        file.write(json.dumps(user) + "\n")
        for text in texts:
            message = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn" if ended else None}
            file.write(json.dumps({"type": "assistant", "uuid": str(uuid.uuid4()), "message": message}) + "\n")


def wait_for_control():
    """The next control request, answered."""
    while True:
        message = read()
        if message.get("type") == "control_request":
            reply = {"subtype": "success", "request_id": message["request_id"], "response": {}}
            say({"type": "control_response", "response": reply})
            return message


def read():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    if not line.strip() or "\r" in line:
        sys.stderr.write("a blank line or a carriage return\n")
        sys.exit(1)
    return json.loads(line)


def forever():
    while True:
        signal.pause()


# The scenes


def plain(turn, text):
    init()
    echo(turn)
    delta("Hello, ")
    say(
        {
            "type": "stream_event",
            "event": {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "you."}},
        }
    )
    assistant("Hello, you.")
    record(turn, "Hello, you.")
    result("Hello, you.")


def no_result(turn, text):
    """The whole answer streams, and its result never comes."""
    init()
    echo(turn)
    delta("All of it.")
    assistant("All of it.")
    record(turn, "All of it.")
    forever()


def output_stops(turn, text):
    """Output stops, and the session goes on in its transcript."""
    init()
    echo(turn)
    delta("The first half")
    record(turn, "The first half and the second.")
    forever()


def works_silently(turn, text):
    """Silent for long, and working all the time: not to be cut."""
    init()
    echo(turn)
    for number in range(5):
        record(turn, f"step {number}", ended=False)
        time.sleep(0.2)
    delta("Done at last.")
    assistant("Done at last.")
    result("Done at last.")


def left_over(turn, text):
    """A result left over from an earlier turn comes first."""
    result("left over", user_message_uuids=[str(uuid.uuid4())])
    plain(turn, text)


def left_over_anonymous(turn, text):
    """The same, as releases without ids write it; also the empty one after --resume."""
    result("")
    plain(turn, text)


def late_init(turn, text):
    """Begins late; an interrupt before its init would be ignored."""
    sys.stdin.flush()
    init()
    echo(turn)
    delta("Begun")
    wait_for_control()
    interrupted(result="")


def interrupted_bare(turn, text):
    """After an interrupt, a result without its text field."""
    init()
    echo(turn)
    delta("So far")
    wait_for_control()
    interrupted()


def ignores_interrupt(turn, text):
    init()
    echo(turn)
    delta("Deaf")
    wait_for_control()
    forever()


def drains_slowly(turn, text):
    """Says a lot more between the interrupt and the result."""
    init()
    echo(turn)
    delta("one ")
    wait_for_control()
    for number in range(100):
        delta(f"{number} ")
    interrupted(result="")


def empty(turn, text):
    init()
    echo(turn)
    result("")


def strange(turn, text):
    """Types that nobody has heard of, and known ones with the wrong insides."""
    init()
    say({"type": "hologram", "shape": "cube"})
    say({"type": "system", "subtype": "brand_new"})
    say({"type": 7})
    say({"type": "assistant", "message": "not an object"})
    say({"type": "stream_event", "event": [1, 2]})
    sys.stdout.write("no JSON at all\n{broken}\n\n")
    sys.stdout.flush()
    echo(turn)
    block = {"type": "hologram_block", "depth": 3}
    say({"type": "assistant", "message": {"content": [block, {"type": "text", "text": "Fine."}]}})
    result("Fine.")


def split_utf8(turn, text):
    """Multi-byte characters cut by the writes."""
    init()
    echo(turn)
    whole = "é漢字🙂\u2028x" * 50
    event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": whole}}
    line = json.dumps({"type": "stream_event", "event": event}, ensure_ascii=False).encode() + b"\n"
    for start in range(0, len(line), 7):
        sys.stdout.buffer.write(line[start : start + 7])
        sys.stdout.buffer.flush()
    assistant(whole)
    result(whole)


def long_line(turn, text):
    init()
    echo(turn)
    assistant("x" * int(text.split()[1]))
    result("done")


def pours(turn, text):
    """An answer of so many megabytes, in messages of one megabyte, every piece of it numbered."""
    init()
    echo(turn)
    number = 0
    for _ in range(int(text.split()[1])):
        pieces = [f"{number + piece:08d}" + "x" * 65528 for piece in range(16)]
        number += 16
        start = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
        say({"type": "stream_event", "event": start})
        for piece in pieces:
            event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}}
            say({"type": "stream_event", "event": event})
        assistant("".join(pieces))
    result("")


def eats(turn, text):
    """Takes memory until the kernel ends it."""
    init()
    echo(turn)
    delta("Hungry")
    eaten = []
    while True:
        eaten.append(b"x" * 16 * 1024 * 1024)


def exits(turn, text):
    init()
    echo(turn)
    delta("Before the end")
    sys.stderr.write("something broke\n")
    sys.stderr.flush()
    os._exit(int(text.split()[1]))


def killed(turn, text):
    init()
    echo(turn)
    delta("Before the kill")
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after_answer(turn, text):
    """Dies when all is said and written down, before its result."""
    init()
    echo(turn)
    delta("All said.")
    assistant("All said.")
    record(turn, "All said.")
    os.kill(os.getpid(), signal.SIGKILL)


def environment(turn, text):
    init()
    echo(turn)
    names = sorted(name for name in os.environ if name.startswith(("ANTHROPIC", "CLAUDE")))
    assistant(json.dumps({"argv": ARGUMENTS, "names": names}))
    result("")


def repeats(turn, text):
    """Says the prompt again, to show that it arrived as it was."""
    init()
    echo(turn)
    assistant(text)
    result("")


def floods(turn, text):
    """Lines without an end, beyond every limit."""
    init()
    echo(turn)
    for _ in range(int(text.split()[1])):
        sys.stdout.write("y" * 1024 * 1024)
    sys.stdout.flush()
    forever()


def sleeps_on_sigint(turn, text):
    """A turn that takes its time to end when the agent is stopped."""
    signal.signal(signal.SIGINT, lambda *_: (interrupted(result=""), os._exit(0)))
    init()
    echo(turn)
    delta("Working")
    forever()


def main():
    if os.environ.get("STUB_REFUSES"):
        sys.stderr.write(os.environ["STUB_REFUSES"] + "\n")
        sys.exit(1)
    if "--resume" in ARGUMENTS and os.environ.get("STUB_EMPTY_RESULT_AFTER_RESUME"):
        result("")
    while True:
        message = read()
        if message.get("type") != "user":
            continue
        text = message["message"]["content"]
        scene = globals().get(text.split()[0].replace("-", "_"), plain)
        scene(message["uuid"], text)


if __name__ == "__main__":
    main()
