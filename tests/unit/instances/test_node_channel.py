"""A channel ends with its machine, also where it does not learn of that itself. covers: B11"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from cc_bridge.channels.base import Channel
from cc_bridge.instances.node_channel import NodeChannel

pytestmark = pytest.mark.anyio


class Pair(Channel):
    """A channel to another machine: what is put into ``arriving`` is received."""

    kind = "exec"

    def __init__(self) -> None:
        self.arriving, self._arrived = anyio.create_memory_object_stream[bytes](10)
        self.sent = b""

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent += data

    async def receive(self) -> bytes:
        return await self._arrived.receive()

    async def aclose(self) -> None:
        self.arriving.close()
        self._arrived.close()


async def test_what_comes_is_received_and_nobody_is_asked() -> None:
    ours = Pair()

    async def until_gone() -> None:
        raise AssertionError("there was no need to ask")

    async with NodeChannel(ours, until_gone) as channel:
        await channel.send(b"there")
        assert ours.sent == b"there"
        await ours.arriving.send(b"back")
        assert await channel.receive() == b"back"
        ours.arriving.close()
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()


async def test_it_breaks_when_the_machine_has_gone() -> None:
    ours = Pair()
    asked, gone = anyio.Event(), anyio.Event()

    async def until_gone() -> None:
        asked.set()
        await gone.wait()

    async with NodeChannel(ours, until_gone, quiet=0.0) as channel, anyio.create_task_group() as group:

        async def receive() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await channel.receive()

        group.start_soon(receive)
        await asked.wait()
        gone.set()


@pytest.mark.parametrize("ends", [False, True])
async def test_what_comes_or_ends_while_the_machine_is_watched(ends: bool) -> None:
    ours = Pair()
    asked = anyio.Event()

    async def until_gone() -> None:
        asked.set()
        await anyio.sleep_forever()

    async with NodeChannel(ours, until_gone, quiet=0.0) as channel, anyio.create_task_group() as group:

        async def receive() -> None:
            if ends:
                with pytest.raises(anyio.EndOfStream):
                    await channel.receive()
            else:
                assert await channel.receive() == b"late"

        group.start_soon(receive)
        await asked.wait()
        ours.arriving.close() if ends else ours.arriving.send_nowait(b"late")
