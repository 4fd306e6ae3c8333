"""A program of one of several machines, which all reach one instance: it sends commands at random, under a lease.

Its state directory is its own, as on another machine; the instance's place is at the first machine, and the lease's
note is in a directory that all see. A line of JSON says how each command has ended.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from cc_bridge import BridgeError, SwarmService
from cc_bridge.channels.base import Channel
from cc_bridge.cluster.lease import Lease
from cc_bridge.instances.bridged import BridgedInstance
from cc_bridge.instances.process_place import ProcessPlace
from cc_bridge.instances.registry import Registry
from cc_bridge.instances.swarm_place import SwarmPlace
from cc_bridge.record import ClaudeInstance
from tests.chaos.texts import command

#: Of versions of a note that are not the newest, so many stay for who reads slowly.
_KEPT = 20


class Notes:
    """A note whose versions are files: a link is made once. No lock: who is suspended is in nobody's way."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def read(self) -> tuple[str, int] | None:
        newest = self._newest()
        return ((self._directory / str(newest)).read_text(), newest) if newest else ("", 0)

    async def make(self) -> None:
        raise AssertionError("it is always there")

    async def write(self, text: str, version: int) -> bool:
        await anyio.lowlevel.checkpoint()
        if self._newest() != version:
            return False
        written = self._directory / f"by-{anyio.get_current_task().id}-{random.random()}"
        written.write_text(text)
        try:
            (self._directory / str(version + 1)).hardlink_to(written)
        except FileExistsError:
            return False
        finally:
            written.unlink()
        with suppress(FileNotFoundError):
            (self._directory / str(version - _KEPT)).unlink()
        return True

    async def wait(self, version: int, limit: float) -> None:
        with anyio.move_on_after(limit):
            while self._newest() == version:
                await anyio.sleep(0.01)  # a swarm has events for it; files that all machines see have none

    def _newest(self) -> int:
        return max((int(path.name) for path in self._directory.iterdir() if path.name.isdigit()), default=0)


class Elsewhere(ProcessPlace):
    """A place at another machine: how to get there is that machine's, all else this program's."""

    def __init__(self, record: ClaudeInstance, there: ProcessPlace, lease: Lease) -> None:
        super().__init__(record, Registry())
        self._there = there
        self.lease = lease

    async def connect(self, greeting: bytes) -> Channel:
        return await self._there.connect(greeting)

    async def way(self, greeting: bytes) -> Channel:
        return await self._there.way(greeting)


class Instance(BridgedInstance):
    kind = "local"


def at_another_machine(first: str, name: str, notes: str, ttl: float, seed: str) -> Instance:
    """An instance whose place is that of another state directory."""
    record = Registry(Path(first)).load(name)
    there = ProcessPlace(record, Registry(Path(first)))
    users = Registry().home(name).path / "lease"
    who = {"name": name, "machine": seed, "host": f"program {seed}"}
    return Instance(Elsewhere(record, there, Lease(Notes(Path(notes)), there.log, users=users, ttl=ttl, **who)))


async def in_a_swarm(name: str, env: str, ttl: float) -> SwarmService:
    """An instance that is found there by its name."""
    SwarmPlace.lease_ttl = ttl
    return await SwarmService.find(name, env=json.loads(env))


async def main(place: str, name: str, more: str, ttl: str, seed: str, count: str) -> None:
    instance: BridgedInstance
    if place == "swarm":
        instance = await in_a_swarm(name, more, float(ttl))
    else:
        instance = at_another_machine(place, name, more, float(ttl), seed)
    rng = random.Random(seed)
    print("begun", flush=True)

    async def ask(number: int) -> None:
        turn_id, prompt, _ = command(seed, number)
        try:
            result = await (await instance.submit(prompt, id=turn_id)).result()
            said = [result.verdict.value, result.text.strip(), result.error]
        except BridgeError as error:
            said = [type(error).__name__, "", str(error)]
        print(json.dumps([turn_id, *said]), flush=True)

    number = 0
    while number < int(count):
        at_once = min(rng.choice([1, 1, 1, 2, 3]), int(count) - number)
        async with anyio.create_task_group() as group:
            for more in range(at_once):
                group.start_soon(ask, number + more)
        number += at_once
        await anyio.sleep(rng.uniform(0, 0.05))
    await instance.release()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
