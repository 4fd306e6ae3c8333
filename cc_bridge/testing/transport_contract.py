"""What the Agent SDK relies on in a transport, as rules that any can be held against.

Each rule is a function that takes a maker of transports, which run :data:`PROGRAM` in Claude Code's place with the
variables that it is given. It raises AssertionError where the transport does not keep the rule.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import anyio

__all__ = ["PROGRAM", "RULES", "MakeTransport", "Transport"]

#: Seconds after which something hangs.
_LIMIT = 30.0

#: Says what it hears, and what became of its input; what it is told to do is in its variables.
PROGRAM = f"""#!{sys.executable}
import json, os, sys, time
def say(**what):
    print(json.dumps(what), flush=True)
say(type="begin", pid=os.getpid(), mine=os.environ.get("MINE"), cwd=os.getcwd())
for line in sys.stdin:
    try:
        say(type="heard", said=json.loads(line), size=len(line))
    except ValueError:
        say(type="torn", line=line[:100])
say(type="ended")
for number in range(int(os.environ.get("AFTER", "0"))):
    say(type="after", number=number)
if os.environ.get("STAYS"):
    time.sleep(600)
sys.stderr.write("its last words\\n")
sys.exit(int(os.environ.get("CODE", "0")))
"""


class Transport(Protocol):
    """What the SDK has a transport do."""

    async def connect(self) -> None:
        """Start the process."""

    async def write(self, data: str) -> None:
        """Write to its stdin."""

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """All messages until it ends."""

    async def end_input(self) -> None:
        """End its stdin."""

    async def close(self) -> None:
        """End it."""


MakeTransport = Callable[[Mapping[str, str]], Awaitable[Transport]]


async def _rest(messages: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    with anyio.fail_after(_LIMIT):
        return [message async for message in messages]


async def _begin(transport: Transport) -> tuple[AsyncIterator[dict[str, Any]], dict[str, Any]]:
    with anyio.fail_after(_LIMIT):
        await transport.connect()
        messages = transport.read_messages()
        return messages, await anext(messages)


async def variables_arrive(make: MakeTransport) -> None:
    """The variables of the options are the program's."""
    transport = await make({"MINE": "a b"})
    _, began = await _begin(transport)
    await transport.close()
    assert began["mine"] == "a b", began


async def each_message_comes_once_and_in_order(make: MakeTransport) -> None:
    """Across turns, and what was written before somebody read."""
    transport = await make({"AFTER": "2000"})
    with anyio.fail_after(_LIMIT):
        await transport.connect()
        for number in range(300):
            await transport.write(json.dumps({"n": number}) + "\n")
        await transport.end_input()
    messages = await _rest(transport.read_messages())
    await transport.close()
    assert [message["said"]["n"] for message in messages if message["type"] == "heard"] == list(range(300))
    assert [message["number"] for message in messages if message["type"] == "after"] == list(range(2000))


async def writes_of_several_tasks_are_whole(make: MakeTransport) -> None:
    """Also long ones."""
    transport = await make({})
    messages, _ = await _begin(transport)

    async def write(name: str, size: int) -> None:
        for number in range(20):
            await transport.write(json.dumps({"from": name, "n": number, "text": "x" * size}) + "\n")

    got: list[dict[str, Any]] = []

    async def read() -> None:
        async for message in messages:
            got.append(message)  # noqa: PERF401  while others write

    with anyio.fail_after(_LIMIT):
        async with anyio.create_task_group() as readers:
            readers.start_soon(read)
            async with anyio.create_task_group() as writers:
                for name, size in (("a", 10), ("b", 200_000), ("c", 70_000)):
                    writers.start_soon(write, name, size)
            await transport.end_input()
    await transport.close()
    assert not [message for message in got if message["type"] == "torn"]
    for name in "abc":
        heard = [message["said"]["n"] for message in got if message.get("said", {}).get("from") == name]
        assert heard == list(range(20)), name


async def the_end_of_the_input_is_one_and_output_goes_on(make: MakeTransport) -> None:
    """It comes behind what was written, may be repeated, and nothing can be written after it."""
    transport = await make({"AFTER": "3"})
    messages, _ = await _begin(transport)
    await transport.write('{"n": 1}\n')
    for _ in range(2):
        await transport.end_input()
    rest = await _rest(messages)
    assert [message["type"] for message in rest] == ["heard", "ended", "after", "after", "after"], rest
    try:
        await transport.write('{"n": 2}\n')
    except Exception:  # noqa: S110  the SDK's, which this module does not import
        pass
    else:
        raise AssertionError("something could be written after the end")
    finally:
        await transport.close()


async def an_exit_code_is_an_error_after_all_messages(make: MakeTransport) -> None:
    """With the code in it."""
    transport = await make({"CODE": "3"})
    messages, _ = await _begin(transport)
    await transport.end_input()
    types: list[str] = []
    code = None
    try:
        with anyio.fail_after(_LIMIT):
            async for message in messages:
                types.append(message["type"])  # noqa: PERF401  those before the error
    except Exception as error:
        code = getattr(error, "exit_code", None)
    await transport.close()
    assert (types, code) == (["ended"], 3)


async def closing_ends_the_process(make: MakeTransport) -> None:
    """Also one that reads on, or stays after the end of its input; it is bounded, and may be repeated."""
    for variables in ({}, {"STAYS": "1"}):
        transport = await make(variables)
        _, began = await _begin(transport)
        with anyio.fail_after(_LIMIT):
            await transport.close()
            await transport.close()
        assert not _runs(began["pid"]), "the process runs on"


async def closing_before_connecting_is_nothing(make: MakeTransport) -> None:
    """And harmless."""
    transport = await make({})
    with anyio.fail_after(_LIMIT):
        await transport.close()


async def two_transports_are_two_processes(make: MakeTransport) -> None:
    """And one's end is not the other's."""
    one, other = await make({"MINE": "1"}), await make({"MINE": "2"})
    _, first = await _begin(one)
    messages, second = await _begin(other)
    await one.close()
    await other.write('{"n": 1}\n')
    await other.end_input()
    rest = await _rest(messages)
    await other.close()
    assert (first["mine"], second["mine"]) == ("1", "2")
    assert [message["type"] for message in rest] == ["heard", "ended"]


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


#: All of them.
RULES: tuple[Callable[[MakeTransport], Awaitable[None]], ...] = (
    variables_arrive,
    each_message_comes_once_and_in_order,
    writes_of_several_tasks_are_whole,
    the_end_of_the_input_is_one_and_output_goes_on,
    an_exit_code_is_an_error_after_all_messages,
    closing_ends_the_process,
    closing_before_connecting_is_nothing,
    two_transports_are_two_processes,
)
