"""A host program to be killed: submits a command with an id and prints the answer as it comes."""

from __future__ import annotations

import sys

import anyio

from cc_bridge import DockerContainer, LocalProcess, TextDelta
from cc_bridge.instances.registry import Registry


async def main(name: str, turn_id: str, prompt: str) -> None:
    record = Registry().load(name)
    instance = (DockerContainer if record.kind == "docker" else LocalProcess)(record)
    print("begun", flush=True)
    async for event in await instance.submit(prompt, id=turn_id):
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)


anyio.run(main, *sys.argv[1:])
