"""What waits to be written: all of it, in order, counted meanwhile. covers: C16"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cc_bridge_agent.outbox import Outbox
from tests.unit.agent.stepping import drain


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    yield read, write
    os.close(read)
    os.close(write)


def test_what_there_is_room_for_goes_at_once_and_in_order(pipe: tuple[int, int]) -> None:
    outbox = Outbox()
    outbox.add(b"one")
    outbox.add(b"two")
    assert outbox.size == 6
    outbox.write(pipe[1])
    assert outbox.size == 0
    assert drain(pipe[0]) == b"onetwo"
    outbox.write(pipe[1])
    assert drain(pipe[0]) == b"", "once"


def test_the_rest_waits_and_is_counted(pipe: tuple[int, int]) -> None:
    outbox, data = Outbox(), os.urandom(300_000)
    outbox.add(data)
    outbox.add(b"end")
    found = b""
    for _ in range(100):
        outbox.write(pipe[1])
        read = drain(pipe[0])
        found += read
        assert outbox.size == len(data) + 3 - len(found)
        if not outbox.size:
            break
    assert found == data + b"end"


def test_what_is_cleared_is_forgotten(pipe: tuple[int, int]) -> None:
    outbox = Outbox()
    outbox.add(b"one")
    outbox.clear()
    outbox.write(pipe[1])
    assert (outbox.size, drain(pipe[0])) == (0, b"")


def test_a_reader_that_has_gone_is_told() -> None:
    read, write = os.pipe()
    os.close(read)
    outbox = Outbox()
    outbox.add(b"x")
    with pytest.raises(BrokenPipeError):
        outbox.write(write)
    os.close(write)
