"""An agent that is hostile: what it sends ends in an error that names it, and costs no other instance anything."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog  # noqa: F401  which the first record would load, while memory is measured

from cc_bridge import BridgeError, InvalidInput, LocalProcess
from tests.conftest import STUB

pytestmark = pytest.mark.anyio

#: Answers every rendezvous in a directory with the same words, and goes on saying the last of them for ever if asked.
AGENT = """
import os, sys
directory, words, endless = sys.argv[1], sys.argv[2].encode(), sys.argv[3] == "endless"
listen = os.open(directory + "/listen", os.O_RDWR)
print("ready", flush=True)
while True:
    for name in os.read(listen, 4096).decode().split():
        read = os.open(directory + "/" + name + ".in", os.O_RDONLY)
        write = os.open(directory + "/" + name + ".out", os.O_WRONLY)
        os.read(read, 65536)
        try:
            os.write(write, words)
            while endless:
                os.write(write, words[-65536:])
        except OSError:
            pass
        os.read(read, 65536) if not endless else None
        os.close(read)
        os.close(write)
"""

HELLO = {"hello": 1, "agent": "0.1.0", "epoch": "e", "session": "main", "journal": "j", "state": "running"}
HELLO |= {"seq": 0, "from": 1, "open": []}


def words(*frames: Any) -> str:
    return "".join(json.dumps(frame) + "\n" for frame in frames)


@asynccontextmanager
async def hostile(instance: LocalProcess, said: str, endless: bool) -> AsyncIterator[None]:
    instance._prepare_home()
    argv = [sys.executable, "-c", AGENT, str(instance._home.pipes), said, "endless" if endless else "once"]
    async with await anyio.open_process(argv, stderr=None) as process:
        assert process.stdout
        await process.stdout.receive()
        try:
            yield
        finally:
            with suppress(ProcessLookupError):  # it has ended by itself
                process.kill()


def memory(name: str) -> int:
    """Of this process, in kB: ``VmRSS`` now, ``VmHWM`` at most since the last :func:`forget_the_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def forget_the_peak() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


#: kB: three times the longest line that is accepted, 64 MiB, which is gathered in memory before it is looked at; the
#: allocator may copy it once as it grows.
MOST = 3 * 65_536


@pytest.mark.parametrize(
    ("said", "endless", "complaint"),
    [
        ("garbage\n", False, "not JSON"),
        ("x" * 65536, True, "the limit is 67108864"),
        (words({**HELLO, "hello": 2}), False, "version 2"),
        (words({**HELLO, "open": 7}), False, "'open' is not a list"),
        (words({**HELLO, "from": 9}), False, "frames from 9 on"),
        (words([[]] * 1000), False, "not a JSON object"),
        (words(HELLO, {"seq": 2, "out": {}}), False, "number 2 after 0"),
        (words(HELLO, {"seq": 1, "out": {}}, {"seq": 1, "out": {}}), False, "number 1 after 1"),
        (words(HELLO) + "\xff", False, ""),
        (words(HELLO, *[{"novelty": 1}] * 1000), True, ""),
        (words(HELLO, {"error": "start", "message": "no"}), True, "no"),
    ],
    ids=range(11),
)
async def test_what_it_says_is_an_error_with_a_name(
    make_record: Callable[..., Any], make_stubbed: Any, said: str, endless: bool, complaint: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cc_bridge.bridge.uplink._RESUME_LIMIT", 1)
    other = await make_stubbed()
    await other.start()
    victim = LocalProcess(make_record())
    forget_the_peak()
    before = memory("VmRSS")
    async with hostile(victim, said, endless), anyio.create_task_group() as group:

        async def ask_the_other() -> None:
            for _ in range(10):
                assert await other.send_command_and_wait("plain", 30) == (True, "Hello, you.")

        group.start_soon(ask_the_other)
        try:
            ok, text = await victim.send_command_and_wait("hello", 30 if complaint else 3)
        except BridgeError as error:
            ok, text = False, str(error)
        assert not ok
        assert complaint in text
    grown = memory("VmHWM") - before
    await victim.cleanup()
    assert grown < MOST, "it is kept in memory, however much it says"


@pytest.mark.parametrize("what", ["file", "link to a file", "link to a pipe", "directory", "device"])
async def test_something_else_in_place_of_a_pipe(make_record: Callable[..., Any], what: str, tmp_path: Path) -> None:
    """covers: B2"""
    instance = LocalProcess(make_record(env={"HOME": str(tmp_path)}, claude={"program": str(STUB)}))
    instance._prepare_home()
    listen, elsewhere = instance._home.pipes / "listen", tmp_path / "elsewhere"
    listen.unlink()
    match what:
        case "file":
            listen.write_text("")
            kept = os.open(listen, os.O_RDONLY)  # a first start that fails removes the instance, and the name
        case "link to a file":
            elsewhere.write_text("")
            listen.symlink_to(elsewhere)
        case "link to a pipe":
            os.mkfifo(elsewhere)
            reader = os.open(elsewhere, os.O_RDONLY | os.O_NONBLOCK)
            listen.symlink_to(elsewhere)
        case "directory":
            listen.mkdir()
        case "device":
            os.mknod(listen, 0o20666, os.makedev(1, 3))  # /dev/null
    with pytest.raises(InvalidInput, match="listen"):
        await instance.start()
    if what == "file":
        assert os.fstat(kept).st_size == 0, "something was written into it"
        os.close(kept)
    if what == "link to a pipe":
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
            raise BlockingIOError  # an end of file: nobody has written
        os.close(reader)
    await instance.cleanup()
