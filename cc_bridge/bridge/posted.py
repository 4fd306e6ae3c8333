"""A command on its way before the program has loaded what it takes to read the answer.

Loading that takes longer than the model until its first token. The command is given under an id, which the agent takes
once, so whoever reads the answer afterwards may give it again where this has failed half-way.
"""

from __future__ import annotations

import os
import select
import time

from ..channels.pipe_ends import meet
from ..names import new_uuid
from ..protocol.link import Hello, Link
from ..protocol.stream_json import user_message
from .this_program import this_program

__all__ = ["post"]

#: Seconds for an agent that listens to answer; one that does not may be suspended, and there are other ways to it.
_ANSWER_LIMIT = 2.0

#: Bytes that a pipe takes as a whole or not at all (PIPE_BUF).
_AT_ONCE = 4096
_READ = 65536


def post(directory: str, prompt: str) -> str:
    """Give a command to an agent that listens and whose Claude Code runs, where no other waits.

    Args:
        directory: of the agent's pipes.
        prompt: a valid one.

    Returns:
        The turn's id. Empty: nothing was given, because it takes more than that.
    """
    link = Link(host=this_program())
    link.greet()
    ends = meet(directory, link.data_to_send(), _ANSWER_LIMIT)
    if ends is None:
        return ""
    incoming, outgoing = ends
    try:
        hello = _hello(link, incoming)
        if hello is None or hello.state != "running" or hello.queue != ():
            return ""
        turn_id = new_uuid()
        link.send_input(turn_id, user_message(prompt, turn_id))
        said = link.data_to_send()
        return turn_id if len(said) <= _AT_ONCE and os.write(outgoing, said) == len(said) else ""
    except OSError:
        return ""
    finally:
        os.close(incoming)
        os.close(outgoing)


def _hello(link: Link, incoming: int) -> Hello | None:
    """The agent's, which is not kept waiting for."""
    deadline, waiting = time.monotonic() + _ANSWER_LIMIT, select.poll()
    waiting.register(incoming, select.POLLIN)
    # The time is looked at with each piece: something may come for ever that is no hello.
    while (left := deadline - time.monotonic()) > 0 and waiting.poll(left * 1000):
        data = os.read(incoming, _READ)
        if not data:
            return None
        if events := link.receive_data(data):
            return events[0] if isinstance(events[0], Hello) else None
    return None
