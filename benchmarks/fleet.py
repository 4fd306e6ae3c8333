"""A fleet: conversations that remember while few are awake, what idle ones cost, and many readers of one."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from cc_bridge import ClaudeInstance, InstanceInterface, TextDelta, TurnResult
from cc_bridge.fleet import Fleet
from cc_bridge.instances.process_place import find_claude

from .figures import Sheet
from .stage import milli, resident, scripted_model

TITLE = "a fleet: conversations, few of them awake; what idle ones cost; many readers of one"
#: CONVERSATIONS=30 has fewer.
CONVERSATIONS = int(os.environ.get("CONVERSATIONS", "300"))
AWAKE = 8
ROUNDS = 5
IDLE = 1000
SECONDS = 10.0
READERS = 50
SEED = 1

#: A model that can be asked for what the conversation has said before, and keeps nothing of what it is sent.
_MODEL = """
import json, re, sys
from cc_bridge.testing import Reply, Say, ScriptedModel
class Remembering(ScriptedModel):
    def take(self, body):
        request, reply = super().take(body)
        self.requests.clear()
        if request.prompt.startswith("Which word"):
            said = json.dumps([message for message in body["messages"] if message["role"] == "user"])
            words = re.findall("My word is (w[0-9a-f]+)", said)
            reply = Reply([Say(" ".join([*words, str(said.count("Which word"))]))])
        return request, reply
with Remembering() as model:
    print(model.url, flush=True)
    sys.stdin.read()
"""

#: A program of its own, so that nothing else wakes it: opens what there is, says what that took, and is idle.
_IDLE = """
import gc, json, os, sys, tracemalloc
import anyio
from cc_bridge.fleet import Fleet
async def main():
    async with Fleet():  # what is loaded once is loaded
        await anyio.sleep(2)
    gc.collect()
    files, _ = len(os.listdir("/proc/self/fd")), tracemalloc.start()
    async with Fleet() as fleet:
        instances = [fleet.open(name) for name in fleet.names()]
        print(flush=True)
        await anyio.sleep(2)  # it looks whether something runs
        gc.collect()
        took, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        files = len(os.listdir("/proc/self/fd")) - files
        print(json.dumps({"bytes": took / len(instances), "files": files}), flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


async def run(sheet: Sheet) -> None:
    await _idle(sheet)
    async with _stage(_MODEL) as stage:
        await _beginnings(sheet, stage)
        await _conversations(sheet, stage)
    async with _stage() as stage:
        await _readers(sheet, stage)


class _Stage:
    """Records of local conversations, each with a home of its own, and a look at the memory of their processes."""

    def __init__(self, scratch: Path, env: dict[str, str]) -> None:
        self._scratch = scratch
        self._env = env
        self._made = 0
        self._claude = os.path.realpath(find_claude())

    def record(self) -> ClaudeInstance:
        self._made += 1
        place = self._scratch / str(self._made)
        (place / "home").mkdir(parents=True)
        env = {**self._env, "HOME": str(place / "home")}
        name = f"bench-{os.getpid()}-{self._made}"
        return ClaudeInstance.of(name=name, kind="local", workspace=place, env=env, ephemeral=True)

    def memory(self) -> list[float]:
        """MiB (PSS) of each Claude Code that runs here."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if not os.readlink(process / "cwd").startswith(str(self._scratch)):
                    continue
                if os.path.realpath(process / "exe") != self._claude:
                    continue
                rollup = (process / "smaps_rollup").read_text()
            except OSError:  # it has ended
                continue
            if pss := re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE):
                found.append(int(pss[1]) / 1024)
        return found


@asynccontextmanager
async def _stage(model: str | None = None) -> AsyncIterator[_Stage]:
    with tempfile.TemporaryDirectory() as scratch, scripted_model(model) as env:
        yield _Stage(Path(scratch).resolve(), env)


async def _first_token(instance: InstanceInterface) -> float:
    began, first = time.perf_counter(), 0.0
    async for event in instance.stream("[[say one]]"):
        if isinstance(event, TextDelta) and not first:
            first = time.perf_counter() - began
    return first


async def _beginnings(sheet: Sheet, stage: _Stage) -> None:
    """Warm, asleep and new in turn, because a machine has slow minutes."""
    warm, asleep, cold = [], [], []
    async with Fleet() as fleet:
        for _ in range(ROUNDS):
            instance = fleet.adopt(stage.record())
            cold.append(await _first_token(instance))
            warm += [await _first_token(instance) for _ in range(4)][1:]
            await instance.sleep()
            asleep.append(await _first_token(instance))
            await fleet.remove(instance.name, conversation=True)
    base = sheet.add("first token: one that is warm", milli(warm), "ms")
    sheet.add("first token: one that sleeps", milli(asleep), "ms", base)
    sheet.add("first token: a cold start", milli(cold), "ms", base)


async def _conversations(sheet: Sheet, stage: _Stage) -> None:
    rng = random.Random(SEED)
    commands = [rng.randrange(CONVERSATIONS) for _ in range(2 * CONVERSATIONS)]
    words = [f"w{rng.getrandbits(64):016x}" for _ in range(CONVERSATIONS)]
    times = [0] * CONVERSATIONS
    wrong: list[str] = []
    samples: list[tuple[float, int]] = []
    async with Fleet(most_awake=AWAKE) as fleet:
        instances = [fleet.adopt(stage.record()) for _ in range(CONVERSATIONS)]
        turns = [anyio.Lock() for _ in instances]
        await _eight(sheet, stage, instances)
        before = resident(os.getpid())
        left = iter(commands)

        async def work() -> None:
            for number in left:
                async with turns[number]:
                    expected = f"{words[number]} {times[number]}"
                    prompt = (
                        f"Which word? {times[number]}" if times[number] else f"My word is {words[number]} [[say y]]"
                    )
                    answer = await instances[number].send_command_and_wait(prompt, 300)
                    if answer != (True, expected if times[number] else "y"):
                        wrong.append(f"{answer} for {expected!r}")
                    times[number] += 1

        async def watch() -> None:
            while True:
                memory = await anyio.to_thread.run_sync(stage.memory)
                samples.append((sum(memory), len(memory)))
                await anyio.sleep(0.5)

        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            async with anyio.create_task_group() as workers:
                for _ in range(AWAKE):
                    workers.start_soon(work)
            group.cancel_scope.cancel()
        seconds = time.perf_counter() - began
        grown = resident(os.getpid()) - before
    for text in wrong[:5]:
        sheet.note(f"wrong: {text}")
    what = f"{CONVERSATIONS} conversations, {len(commands)} commands"
    sheet.add(f"{what}: wrong or forgotten", len(wrong), "answers", most=0)
    sheet.add(f"{what}: commands answered", len(commands) / seconds, "a second")
    eight = next(figure for figure in sheet.figures if figure.name == _EIGHT)
    sheet.add(f"{what}: peak memory of Claude Code", max(size for size, _ in samples), "MiB", eight, most=1.1)
    sheet.add(f"{what}: most Claude Codes at once", max(count for _, count in samples), "processes", most=AWAKE)
    spoken = sum(count > 0 for count in times)
    sheet.add(f"{what}: the host's memory for each that has spoken", grown * 1024 / spoken, "KiB")


_EIGHT = f"{AWAKE} awake processes after a turn"


async def _eight(sheet: Sheet, stage: _Stage, instances: list[InstanceInterface] | list[object]) -> None:
    """What so many take that are all awake, to which the peak is compared."""
    chosen = [instance for instance in instances[:AWAKE] if isinstance(instance, InstanceInterface)]
    alone: list[float] = []
    for instance in chosen:
        await instance.send_command_and_wait("[[say hello]]", 300)
        alone = alone or stage.memory()
    sheet.add("one awake process, alone", alone, "MiB")
    sheet.add(_EIGHT, sum(stage.memory()), "MiB")


async def _idle(sheet: Sheet) -> None:
    registry = Fleet().registry
    with tempfile.TemporaryDirectory() as scratch:
        names = [f"idle-{number}" for number in range(IDLE)]
        for name in names:
            home = registry.home(name)
            home.prepare()
            home.save(ClaudeInstance.of(name=name, kind="local", workspace=Path(scratch)))
        pipe = subprocess.PIPE
        try:
            began = time.perf_counter()
            async with await anyio.open_process([sys.executable, "-c", _IDLE], stdin=pipe, stderr=None) as host:
                try:
                    assert host.stdout
                    await host.stdout.receive()
                    opened = time.perf_counter() - began - 2  # which it sleeps
                    found = json.loads(await host.stdout.receive())
                    await anyio.sleep(2)
                    before = _wake_ups(host.pid)
                    await anyio.sleep(SECONDS)
                    woken = _wake_ups(host.pid) - before
                finally:
                    host.kill()
        finally:
            for name in names:
                registry.home(name).remove()
    sheet.add(f"{IDLE:,} idle: until all are open, Python's start included", opened, "s")
    sheet.add(f"{IDLE:,} idle: wake-ups in {SECONDS:g} s", woken, "in all", most=0)
    sheet.add(f"{IDLE:,} idle: the host's memory", found["bytes"] / 1024, "KiB each", most=20)
    sheet.add(f"{IDLE:,} idle: descriptors, the fleet's lock among them", found["files"], "in all", most=1)


def _wake_ups(pid: int) -> int:
    """Voluntary context switches of all its threads."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary"))
    return total


async def _readers(sheet: Sheet, stage: _Stage) -> None:
    used: dict[int, list[float]] = {1: [], READERS: []}
    async with Fleet() as fleet:
        instance = await fleet.make(stage.record())
        for _ in range(ROUNDS):
            for count, found in used.items():
                found.append(await _read_by(fleet, instance, count))
    one = sheet.add("1 reader: processor time of the host for 1,500 events", milli(used[1]), "ms")
    sheet.add(f"{READERS} readers: the same", milli(used[READERS]), "ms", one)


async def _read_by(fleet: Fleet, instance: InstanceInterface, count: int) -> float:
    """Seconds of processor time for a turn that so many read."""
    ready = anyio.Semaphore(0)

    async def read() -> None:
        got = 0
        async with aclosing(fleet.feed(instance.name)) as feed:
            ready.release()
            async for heard in feed:
                got += isinstance(heard.event, TextDelta)
                if isinstance(heard.event, TurnResult):
                    break
        if got != 1500:
            raise RuntimeError(f"a reader has {got} of 1500 pieces")

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(read)
        for _ in range(count):
            await ready.acquire()
        await anyio.sleep(0.5)  # until each listens
        used = time.process_time()
        await instance.submit("[[pace 0.001]][[repeat 1500 word,]]")
    return time.process_time() - used
