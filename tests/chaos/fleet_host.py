"""A program with a fleet, to be killed: gives commands at their moments, and says what has become of them."""

from __future__ import annotations

import json
import sys
from functools import partial

import anyio

from cc_bridge import Allow, BridgeError, Decision, Waiting
from cc_bridge.fleet import Fleet, OpenRequest


def say(*words: str) -> None:
    print(" ".join(words) + "\n", end="", flush=True)  # at once, or a kill could tear it


async def give(fleet: Fleet, most_awake: int | None, name: str, turn_id: str, prompt: str, moment: float) -> None:
    await anyio.sleep(moment)
    try:
        async for event in await fleet.open(name).submit(prompt, id=turn_id):
            if most_awake is None or not isinstance(event, Waiting):  # else it may wait for a seat, here
                say("accepted", turn_id)
        say("ended", turn_id)
    except BridgeError as error:
        say("failed", turn_id, str(error))


async def main(most_awake: int | None, decides: bool, commands: list[tuple[str, str, str, float]]) -> None:
    async def decide(request: OpenRequest) -> Decision:
        if not decides:
            await anyio.sleep_forever()
        return Allow()

    async with Fleet(on_permission=decide, most_awake=most_awake) as fleet:
        say("begun")
        async with anyio.create_task_group() as group:
            for command in commands:
                group.start_soon(partial(give, fleet, most_awake, *command))
            await anyio.sleep_forever()


anyio.run(partial(main, **json.loads(sys.argv[1])))
