"""When a copy of a conversation is put where; the agent runs as a process of this machine in the container's place."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from cc_bridge.channels.base import Channel
from cc_bridge.engine.execs import Execs
from cc_bridge.errors import AgentUnavailable
from cc_bridge.instances import conversation_copy
from cc_bridge.instances.conversation_copy import ConversationCopy
from cc_bridge.instances.registry import agent_archive, state_root
from cc_bridge.logs import Log

pytestmark = pytest.mark.anyio

SESSION = "0b0a6d04-6f0e-4d0e-8a40-d1b6ed2b1f0c"
OTHER = "1b0a6d04-6f0e-4d0e-8a40-d1b6ed2b1f0c"
EXECS = cast("Execs", None)  # nothing is run by an engine


class ProcessChannel(Channel):
    """A process's stdin and stdout."""

    kind = "process"
    refused = b""

    def __init__(self, process: anyio.abc.Process, waited_for: anyio.Event) -> None:
        self._process = process
        self.stderr, self.exit_code = b"", None
        self.waited_for = waited_for

    async def send(self, data: bytes) -> None:
        await self._process.stdin.send(data)  # type: ignore[union-attr]

    async def send_eof(self) -> None:
        await self._process.stdin.aclose()  # type: ignore[union-attr]

    async def receive(self) -> bytes:
        self.waited_for.set()
        try:
            return await self._process.stdout.receive()  # type: ignore[union-attr]
        except anyio.EndOfStream:
            self.stderr = b"".join([piece async for piece in self._process.stderr])  # type: ignore[union-attr]
            self.exit_code = await self._process.wait()
            raise

    async def aclose(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        with anyio.CancelScope(shield=True):
            await self._process.aclose()


class Machine:
    """Where a session's files are."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.transcript = config / "projects" / "-workspace" / f"{SESSION}.jsonl"

    def write(self, text: str) -> None:
        self.transcript.parent.mkdir(parents=True, exist_ok=True)
        self.transcript.write_text(text)


class CopyHere(ConversationCopy):
    """A copy whose containers are processes here.

    Attributes:
        machine: where they are.
        program: what runs in the agent's place.
        waits: for what a container says.
    """

    machine: Machine
    program: str = ""
    waits: anyio.Event

    async def _open(self, execs: Execs, container: str, way: str) -> Any:
        argv = [sys.executable, "-IS", "-c", conversation_copy._RUN, str(agent_archive(state_root())), way]
        if self.program:
            argv = [sys.executable, "-IS", "-c", self.program]
        self.waits = anyio.Event()
        env = {"CLAUDE_CONFIG_DIR": str(self.machine.config)}
        with anyio.CancelScope(shield=True):  # whoever is cancelled meanwhile leaves no process behind
            return ProcessChannel(await anyio.open_process(argv, env=env), self.waits)

    async def to_here(self, machine: Machine) -> bool:
        self.machine = machine
        return await self.copy(EXECS, "c", SESSION, "/workspace")

    async def into(self, machine: Machine) -> bool:
        self.machine = machine
        return await self.restore(EXECS, "c", SESSION, "/workspace")


@pytest.fixture
async def copy(tmp_path: Path) -> AsyncIterator[CopyHere]:
    yield CopyHere(tmp_path / "copy", Log("test", "docker"))
    assert not list(tmp_path.rglob("*.part"))


@pytest.fixture
def one(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "one")
    machine.write("first\nsecond\n")
    (machine.config / "tasks" / SESSION).mkdir(parents=True)
    (machine.config / "tasks" / SESSION / "1.json").write_text("{}")
    return machine


@pytest.fixture
def two(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "two")


async def test_what_is_missing_is_restored(copy: CopyHere, one: Machine, two: Machine) -> None:
    assert await copy.to_here(one)
    assert await copy.into(two)
    assert two.transcript.read_text() == "first\nsecond\n"
    assert (two.config / "tasks" / SESSION / "1.json").read_text() == "{}"
    assert two.transcript.stat().st_mode & 0o777 == 0o600
    assert not await copy.into(two), "all of it is there"
    two.write("first\nsec")
    assert await copy.into(two), "less of it is there"
    assert two.transcript.read_text() == "first\nsecond\n"


async def test_a_turn_is_in_the_copy_when_the_model_has_ended_it(copy: CopyHere, one: Machine) -> None:
    """What was asked is there sooner: the copy after one turn has the prompt of the next."""
    asked = {"type": "user", "uuid": OTHER, "message": {"role": "user", "content": "a question"}}
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}}
    lines = [json.dumps(line, separators=(",", ":")) + "\n" for line in (asked, said)]
    assert not await copy.has(SESSION, OTHER)
    assert not await copy.has("", OTHER), "no session is known yet"
    one.write("first\n" + lines[0])
    await copy.to_here(one)
    assert not await copy.has(SESSION, OTHER)
    one.write("first\n" + "".join(lines))
    await copy.to_here(one)
    assert await copy.has(SESSION, OTHER)
    assert not await copy.has(SESSION, SESSION)
    assert not await copy.has(OTHER, OTHER)


async def test_of_what_was_removed_nothing_is_made_again(copy: CopyHere, one: Machine) -> None:
    """A copy begins beside the removal, and finds no container."""

    async def gone(*about: Any) -> Any:
        raise AgentUnavailable("there is no container")

    await copy.to_here(one)
    copy.remove()
    copy._open = gone  # type: ignore[method-assign]
    assert not await copy.to_here(one)
    assert not copy._files.directory.exists()


async def test_what_is_newer_is_left(copy: CopyHere, one: Machine) -> None:
    await copy.to_here(one)
    one.write("first\nsecond\nthird\n")
    assert not await copy.into(one)
    assert not await copy.into(one)
    assert one.transcript.read_text() == "first\nsecond\nthird\n"


async def test_a_node_that_comes_back_has_an_old_conversation(copy: CopyHere, one: Machine, two: Machine) -> None:
    """It had a turn that was cut off, and the conversation has gone on elsewhere since."""
    await copy.to_here(one)
    one.write("first\nsecond\ncut off\nand longer than what was said elsewhere\n")
    assert await copy.into(two)
    two.write("first\nsecond\nthird\n")
    await copy.to_here(two)
    assert await copy.into(one)
    assert one.transcript.read_text() == "first\nsecond\nthird\n"
    one.write("first\nrewritten\n")
    await copy.to_here(one)
    one.write("something else\n")
    assert not await copy.into(one), "it is where the copy is from, and so newer"


async def test_what_another_copys_program_has_said_is_left(
    copy: CopyHere, one: Machine, two: Machine, tmp_path: Path
) -> None:
    """Where a program of another machine has no copy in common with this one, this one's may be the older."""
    await copy.to_here(one)
    assert await copy.into(two)
    two.write("first\nother words\n")
    other = CopyHere(tmp_path / "other", Log("test", "docker"))
    await other.to_here(two)
    await copy.to_here(one)
    assert not await copy.into(two)
    assert two.transcript.read_text() == "first\nother words\n"


async def test_the_journal_of_before_goes_with_what_is_put_there(copy: CopyHere, one: Machine, two: Machine) -> None:
    await copy.to_here(one)
    journal = two.config / "journal"
    journal.mkdir(parents=True)
    (journal / "id").write_text("x")
    copy.machine = two
    assert await copy.restore(EXECS, "c", SESSION, "/workspace", forget=str(journal))
    assert not journal.exists()
    journal.mkdir()
    assert not await copy.restore(EXECS, "c", SESSION, "/workspace", forget=str(journal))
    assert journal.exists(), "it has all, and so its journal is that of now"


async def test_a_copy_that_was_damaged_is_made_anew(copy: CopyHere, one: Machine, two: Machine, tmp_path: Path) -> None:
    """And none that nothing can be read of stands in the way of a start."""
    await copy.to_here(one)
    index = json.loads((tmp_path / "copy" / "index.json").read_bytes())
    (tmp_path / "copy" / index["files"]["transcript"][0]).unlink()
    assert not await copy.into(two)
    assert await copy.to_here(one)
    assert await copy.into(two)
    assert two.transcript.read_text() == "first\nsecond\n"


async def test_nothing_to_copy(copy: CopyHere, two: Machine) -> None:
    assert not await copy.to_here(two)
    assert not await copy.into(two)
    assert not await copy.copy(EXECS, "c", "../x", "/workspace")
    assert not await copy.restore(EXECS, "c", "../x", "/workspace")


@pytest.mark.parametrize(
    "program",
    [
        "while True: print('x' * 65536)",
        "print('{')",
        "import signal; signal.pause()",
        "import sys; sys.exit(127)",
        "print('[1]')",
        'print(\'{"size": -1, "digest": 5}\')',
        "print('{\"size\": 0}')",
        'print(\'{"size": 0, "digest": ""}\'); input(); input()',
    ],
    ids=["endless", "torn", "silent", "no Python", "no object", "no size", "no digest", "no end"],
)
async def test_a_hostile_container(
    copy: CopyHere, one: Machine, two: Machine, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs time and a bounded room, and changes nothing here."""
    await copy.to_here(one)
    monkeypatch.setattr(conversation_copy, "LARGEST", 1024 * 1024)
    monkeypatch.setattr(conversation_copy, "_LIMIT", 0.2 if "pause" in program else 60.0)
    copy.program = program
    assert not await copy.to_here(two)
    with pytest.raises(AgentUnavailable):
        await copy.into(two)
    monkeypatch.undo()
    copy.program = ""
    assert await copy.into(two)
    assert two.transcript.read_text() == "first\nsecond\n"


async def test_who_is_cancelled_leaves_the_copy_before(copy: CopyHere, one: Machine, two: Machine) -> None:
    await copy.to_here(one)
    copy.program = "input(); input()"
    async with anyio.create_task_group() as group:
        group.start_soon(copy.to_here, one)
        await anyio.wait_all_tasks_blocked()
        await copy.waits.wait()
        group.cancel_scope.cancel()
    copy.program = ""
    assert await copy.into(two)
