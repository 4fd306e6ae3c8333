"""The Agent SDK over an instance, beside its own transport, which starts Claude Code as a process of its own."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, StreamEvent, query

from cc_bridge import ClaudeInstance, DockerContainer, LocalProcess
from cc_bridge.instances.process_place import find_claude
from cc_bridge.sdk import BridgeTransport

from .figures import Sheet
from .stage import default_image, milli, scripted_model

TITLE = "the Agent SDK, until its first token: in a client that is open, and in a query that starts Claude Code"

#: Turns of each in a block, the first two of which warm it up; queries are one a round.
ROUNDS, BLOCK = 20, 8
QUERIES = 12
PROMPT = "[[say one]]"

OWN = "the SDK's own transport"
LOCAL = "BridgeTransport, LocalProcess"
DOCKER = "BridgeTransport, DockerContainer"

#: Options, and the transport that goes with them; None: the SDK's own.
Way = tuple[ClaudeAgentOptions, Callable[[], BridgeTransport | None]]

#: Seconds until the first token, by way and round.
Blocks = dict[str, list[list[float]]]


async def run(sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as scratch, scripted_model() as env:
        async with default_image() as image, AsyncExitStack() as stack:
            ways = {OWN: _own(env, _directory(scratch, "own"))}
            home = _directory(scratch, "home")
            record = _record("local", _directory(scratch, "local"), env={**env, "HOME": str(home)})
            ways[LOCAL] = await _over(await stack.enter_async_context(LocalProcess(record)))
            if image:
                record = _record("docker", _directory(scratch, "docker"), image=image, network="host", env=env)
                ways[DOCKER] = await _over(await stack.enter_async_context(DockerContainer(record)))
            else:
                sheet.note("no engine answers here: no containers")
            _tell(sheet, "an open client", await _in_clients(ways))
            _tell(sheet, "a new query", await _in_queries(ways))


def _directory(scratch: str, name: str) -> Path:
    Path(scratch).chmod(0o755)
    path = Path(scratch, name)
    path.mkdir()
    path.chmod(0o777)  # the container's user writes there, too
    return path


def _record(kind: str, workspace: Path, **fields: Any) -> ClaudeInstance:
    return ClaudeInstance.of(
        name=f"bench-{os.getpid()}-{kind}", kind=kind, workspace=workspace, ephemeral=True, **fields
    )


def _own(env: dict[str, str], home: Path) -> Way:
    options = ClaudeAgentOptions(
        cli_path=find_claude(), cwd=str(home), env={**env, "HOME": str(home)}, include_partial_messages=True
    )
    return options, lambda: None


async def _over(instance: Any) -> Way:
    """The instance's own Claude Code rests beside what is measured, and so does not run."""
    options = ClaudeAgentOptions(include_partial_messages=True)
    async for _ in query(prompt=PROMPT, options=options, transport=BridgeTransport(instance, options)):
        pass  # its place and its agent are there from now on
    return options, lambda: BridgeTransport(instance, options)


async def _first_token(messages: AsyncIterator[Any], began: float) -> float:
    """Seconds until the first text; all is read."""
    first = 0.0
    async for message in messages:
        if not first and isinstance(message, StreamEvent) and "text_delta" in str(message.event):
            first = time.perf_counter() - began
        if isinstance(message, ResultMessage) and not first:
            raise RuntimeError(f"no token: {message.result}")
    return first


async def _in_clients(ways: dict[str, Way]) -> Blocks:
    """Warm turns of clients that stay open, some of each in every round, in an order that changes."""
    blocks: Blocks = {name: [] for name in ways}
    async with AsyncExitStack() as stack:
        turns: dict[str, Callable[[], Awaitable[float]]] = {}
        for name, (options, make) in ways.items():
            client = await stack.enter_async_context(ClaudeSDKClient(options, make()))
            turns[name] = partial(_turn, client)
        for number in range(ROUNDS):
            for name in _in_turn(ways, number):
                blocks[name].append([await turns[name]() for _ in range(BLOCK)][2:])
    return blocks


async def _turn(client: ClaudeSDKClient) -> float:
    began = time.perf_counter()
    await client.query(PROMPT)
    return await _first_token(client.receive_response(), began)


async def _in_queries(ways: dict[str, Way]) -> Blocks:
    """Queries, each of which starts a Claude Code; those of the first round warm up what it reads."""
    blocks: Blocks = {name: [] for name in ways}
    for number in range(QUERIES + 1):
        for name in _in_turn(ways, number):
            options, make = ways[name]
            began = time.perf_counter()
            first = await _first_token(query(prompt=PROMPT, options=options, transport=make()), began)
            blocks[name].append([first])
    return {name: found[1:] for name, found in blocks.items()}


def _in_turn(ways: dict[str, Way], number: int) -> list[str]:
    first = number % len(ways)
    return [*ways][first:] + [*ways][:first]


def _tell(sheet: Sheet, what: str, blocks: Blocks) -> None:
    """The times, and what was aimed at: the ratio within each round, which a machine's slow minutes leave alone."""
    base = sheet.add(f"{what}: {OWN}", milli([first for block in blocks[OWN] for first in block]), "ms")
    for name, found in blocks.items():
        if name != OWN:
            sheet.add(f"{what}: {name}", milli([first for block in found for first in block]), "ms", base)
            pairs = zip(found, blocks[OWN], strict=True)
            ratios = [statistics.median(ours) / statistics.median(own) for ours, own in pairs]
            sheet.add(f"{what}: {name}, within a round", ratios, "×", most=1.1)
