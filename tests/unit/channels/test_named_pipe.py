"""The rendezvous from the host's side: what lies in the directory is not believed. covers: C9, B2, B3"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from cc_bridge.channels import pipe_ends
from cc_bridge.channels.named_pipe import NamedPipeChannel, NobodyListens, prepare_directory, until_nobody_listens
from cc_bridge.errors import AgentUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipes(tmp_path: Path) -> Path:
    prepare_directory(str(tmp_path / "pipes"))
    return tmp_path / "pipes"


async def test_nobody_listens_is_known_at_once(pipes: Path) -> None:
    with anyio.fail_after(1), pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"hello\n")
    assert os.listdir(pipes) == ["listen"]


async def test_that_nobody_listens_any_more_is_told_by_the_kernel(pipes: Path) -> None:
    over = anyio.Event()

    async def wait() -> None:
        await until_nobody_listens(str(pipes))
        over.set()

    with anyio.fail_after(10):
        await until_nobody_listens(str(pipes))
        await until_nobody_listens(str(pipes / "nowhere"))
        listening = os.open(pipes / "listen", os.O_RDONLY | os.O_NONBLOCK)
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not over.is_set()
            os.close(listening)
            await over.wait()


async def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable, match="No such file"):
        await NamedPipeChannel.connect(str(tmp_path / "nowhere"), b"hello\n")


@pytest.mark.parametrize("kind", ["file", "link", "link to a fifo", "directory"])
async def test_something_else_in_the_place_of_a_pipe(pipes: Path, tmp_path: Path, kind: str) -> None:
    listen = pipes / "listen"
    listen.unlink()
    match kind:
        case "file":
            listen.write_text("precious")
        case "link":
            (tmp_path / "precious").write_text("precious")
            listen.symlink_to(tmp_path / "precious")
        case "link to a fifo":
            os.mkfifo(tmp_path / "fifo")
            reader = os.open(tmp_path / "fifo", os.O_RDWR)
            listen.symlink_to(tmp_path / "fifo")
        case "directory":
            listen.mkdir()
    with pytest.raises(AgentUnavailable, match="cannot be used"):
        await NamedPipeChannel.connect(str(pipes), b"hello\n")
    if kind == "file":
        assert listen.read_text() == "precious"
    if kind == "link":
        assert (tmp_path / "precious").read_text() == "precious"
    if kind == "link to a fifo":
        os.close(reader)


async def test_an_agent_that_does_not_answer(pipes: Path) -> None:
    listener = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    try:
        with pytest.raises(AgentUnavailable, match="did not answer"):
            await NamedPipeChannel.connect(str(pipes), b"hello\n", limit=0.05)
        with anyio.move_on_after(0.05):
            await NamedPipeChannel.connect(str(pipes), b"hello\n")
        assert os.listdir(pipes) == ["listen"], "a rendezvous that failed has left its names"
    finally:
        os.close(listener)


async def test_an_agent_that_ends_during_the_rendezvous_is_known_at_once(pipes: Path) -> None:
    listener = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    async with anyio.create_task_group() as group:

        async def end_when_asked() -> None:
            await anyio.wait_readable(listener)
            os.close(listener)

        group.start_soon(end_when_asked)
        with anyio.fail_after(2), pytest.raises(NobodyListens, match="ended during"):
            await NamedPipeChannel.connect(str(pipes), b"hello\n")
    assert os.listdir(pipes) == ["listen"]


async def test_what_a_killed_host_has_left_is_swept(pipes: Path) -> None:
    os.mkfifo(pipes / "old.in")
    os.mkfifo(pipes / "old.out")
    os.mkfifo(pipes / "new.in")
    long_ago = time.time() - 3600
    os.utime(pipes / "old.in", (long_ago, long_ago))
    with pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"")
    assert sorted(os.listdir(pipes)) == ["listen", "new.in"]


def test_the_directory_may_be_prepared_again(pipes: Path) -> None:
    before = (pipes / "listen").stat().st_ino
    prepare_directory(str(pipes))
    assert (pipes / "listen").stat().st_ino == before
    assert (pipes / "listen").stat().st_mode & 0o777 == 0o666


def test_a_directory_whose_listen_is_no_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "listen").write_text("")
    with pytest.raises(OSError, match="not a FIFO"):
        prepare_directory(str(tmp_path))


async def test_descriptors_are_given_back(pipes: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(NobodyListens):
            await NamedPipeChannel.connect(str(pipes), b"")
    listener = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
    for _ in range(3):
        with pytest.raises(AgentUnavailable):
            await NamedPipeChannel.connect(str(pipes), b"", limit=0.01)
    os.close(listener)
    assert len(os.listdir("/proc/self/fd")) == before


class Agent:
    """The agent's side of the rendezvous, as docs/protocol.md has it."""

    def __init__(self, pipes: Path) -> None:
        self.pipes = pipes
        self.listen = os.open(pipes / "listen", os.O_RDWR | os.O_NONBLOCK)
        self.name = ""
        self.greeting = b""
        self.read = self.write = -1

    async def answer(self, data: bytes = b"welcome") -> None:
        await anyio.wait_readable(self.listen)
        line = os.read(self.listen, 200).decode()
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}\n", line)
        self.name = line.strip()
        self.read = os.open(self.pipes / f"{self.name}.in", os.O_RDONLY | os.O_NONBLOCK)
        self.write = os.open(self.pipes / f"{self.name}.out", os.O_WRONLY | os.O_NONBLOCK)
        self.greeting = os.read(self.read, 65536)
        os.write(self.write, data)

    def end(self) -> None:
        for fd in (self.listen, self.read, self.write):
            if fd != -1:
                os.close(fd)
        self.listen = self.read = self.write = -1


@pytest.fixture
async def agent(pipes: Path) -> AsyncIterator[Agent]:
    agent = Agent(pipes)
    yield agent
    agent.end()


async def meet(agent: Agent, **options: float) -> NamedPipeChannel:
    met: list[NamedPipeChannel] = []
    async with anyio.create_task_group() as group:

        async def connect() -> None:
            met.append(await NamedPipeChannel.connect(str(agent.pipes), b"hello\n", **options))

        group.start_soon(connect)
        await agent.answer()
    return met[0]


async def test_the_rendezvous(agent: Agent) -> None:
    async with await meet(agent) as channel:
        assert agent.greeting == b"hello\n"
        assert os.listdir(agent.pipes) == ["listen"], "its names are removed, by the host"
        assert channel.kind == "pipes"
        assert await channel.receive() == b"welcome", "the answer is the first that is received"
        await channel.send(b"to the agent")
        assert os.read(agent.read, 100) == b"to the agent"
        os.write(agent.write, b"to the host")
        assert await channel.receive() == b"to the host"


async def test_it_costs_two_descriptors_and_gives_them_back(agent: Agent) -> None:
    before = len(os.listdir("/proc/self/fd"))
    channel = await meet(agent)
    assert len(os.listdir("/proc/self/fd")) == before + 2 + 2, "two are the agent's"
    await channel.aclose()
    await channel.aclose()
    assert len(os.listdir("/proc/self/fd")) == before + 2


async def test_the_agent_sees_the_host_s_end(agent: Agent) -> None:
    channel = await meet(agent)
    with pytest.raises(BlockingIOError):
        os.read(agent.read, 1)
    await channel.aclose()
    assert os.read(agent.read, 1) == b""
    with pytest.raises(BrokenPipeError):
        os.write(agent.write, b"x")


async def test_the_host_sees_the_agent_s_end(agent: Agent) -> None:
    async with await meet(agent) as channel:
        agent.end()
        assert await channel.receive() == b"welcome"
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await channel.send(b"x")


async def test_it_is_closed_in_both_directions(agent: Agent) -> None:
    channel = await meet(agent)
    await channel.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await channel.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await channel.send(b"x")


async def test_names_that_were_swept_in_between_do_no_harm(agent: Agent) -> None:
    """By another host, whose clock is ahead."""
    async with anyio.create_task_group() as group:

        async def sweep() -> None:
            await agent.answer()
            os.unlink(agent.pipes / f"{agent.name}.out")

        group.start_soon(sweep)
        channel = await NamedPipeChannel.connect(str(agent.pipes), b"hello\n")
    assert os.listdir(agent.pipes) == ["listen"]
    await channel.aclose()


@pytest.mark.parametrize(("age", "left"), [(50, ["listen", "x.in", "x.out"]), (70, ["listen"])])
async def test_names_are_swept_when_they_are_a_minute_old(pipes: Path, age: float, left: list[str]) -> None:
    written = time.time() - age
    for end in ("in", "out"):
        os.mkfifo(pipes / f"x.{end}")
        os.utime(pipes / f"x.{end}", (written, written))
    with pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"")
    assert sorted(os.listdir(pipes)) == left


async def test_only_what_a_host_makes_is_swept(pipes: Path) -> None:
    for name in ("notes.txt", "in", "x.in.bak"):
        (pipes / name).write_text("")
    for path in pipes.iterdir():
        os.utime(path, (0, 0))
    with pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"")
    assert sorted(os.listdir(pipes)) == ["in", "listen", "notes.txt", "x.in.bak"]


async def test_a_link_in_an_old_name_s_place_is_judged_by_its_own_age(pipes: Path) -> None:
    (pipes / "old").write_text("")
    os.utime(pipes / "old", (0, 0))
    (pipes / "x.in").symlink_to("old")
    with pytest.raises(NobodyListens):
        await NamedPipeChannel.connect(str(pipes), b"")
    assert (pipes / "x.in").is_symlink()


def test_the_directory_can_be_entered_by_the_container_s_user(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        prepare_directory(str(tmp_path / "a" / "pipes"))
    finally:
        os.umask(old)
    assert (tmp_path / "a" / "pipes").stat().st_mode & 0o777 == 0o755


def test_preparing_gives_its_descriptor_back(pipes: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    prepare_directory(str(pipes))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_agent_whose_way_in_was_taken_away_is_not_met(agent: Agent) -> None:
    async with anyio.create_task_group() as group:

        async def take_away() -> None:
            await agent.answer()
            os.unlink(agent.pipes / f"{agent.name}.in")

        group.start_soon(take_away)
        with pytest.raises(NobodyListens, match="ended during the rendezvous"):
            await NamedPipeChannel.connect(str(agent.pipes), b"hello\n")
    assert os.listdir(agent.pipes) == ["listen"]


def test_a_minute_and_five_seconds() -> None:
    """docs/protocol.md, and what is waited for an answer unless something else is said."""
    assert pipe_ends._STALE == 60
    assert inspect.signature(NamedPipeChannel.connect).parameters["limit"].default == 5
