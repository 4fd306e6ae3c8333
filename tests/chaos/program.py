"""A program to be killed: submits commands with ids, says when the agent has accepted all, and reads no further."""

from __future__ import annotations

import sys

import anyio

from cc_bridge import DockerContainer, LocalProcess, TmuxInstance
from cc_bridge.instances.registry import Registry

KINDS = {"docker": DockerContainer, "local": LocalProcess, "tmux": TmuxInstance}


async def main(name: str, *commands: str) -> None:
    record = Registry().load(name)
    instance = KINDS[record.kind](record)
    turns = [await instance.submit(prompt, id=turn_id) for turn_id, prompt in zip(*[iter(commands)] * 2, strict=True)]
    for turn in turns:
        await anext(turn)
    print("accepted", flush=True)
    await anyio.sleep_forever()


anyio.run(main, *sys.argv[1:])
