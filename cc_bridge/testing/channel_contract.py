"""The contract of :class:`~cc_bridge.channels.base.Channel` as a test suite, for every implementation.

Subclass it with fixtures ``open_channel`` (a coroutine function from a greeting to a channel whose agent has
been greeted) and ``end_peer`` (a coroutine function that kills the other side).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from ..channels.base import Channel
from ..protocol.link import Exited, Hello, Link, LinkEvent, Output, Started, Took

__all__ = ["ChannelContract"]

OpenChannel = Callable[[bytes], Awaitable[Channel]]

_LIMIT = 30.0


class _Host:
    """A link over a channel, with ``cat`` in Claude Code's place: it says every line again."""

    def __init__(self, channel: Channel, link: Link) -> None:
        self.channel = channel
        self.link = link
        self.events: list[LinkEvent] = []

    async def flush(self) -> None:
        await self.channel.send(self.link.data_to_send())

    async def until(self, kind: type[LinkEvent], count: int = 1) -> list[Any]:
        """Receive until so many events of this kind have come; all of them."""
        with anyio.fail_after(_LIMIT):
            while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
                self.events += self.link.receive_data(await self.channel.receive())
        return found

    async def say(self, name: str, message: Mapping[str, Any]) -> None:
        self.link.send_input(name, {"uuid": name, **message})  # Claude Code repeats it, too
        await self.flush()


async def _open(open_channel: OpenChannel, start: bool = True) -> _Host:
    link = Link()
    link.greet()
    host = _Host(await open_channel(link.data_to_send()), link)
    await host.until(Hello)
    if start:
        host.link.start_claude(["cat"], {}, "/")
        await host.flush()
        await host.until(Started)
    return host


@pytest.mark.anyio
class ChannelContract:
    """What the conversation above may rely on, whichever way the frames travel."""

    async def test_a_greeting_is_answered(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel, start=False)
        async with host.channel:
            assert [type(event) for event in host.events] == [Hello]

    async def test_lines_come_back_in_order(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel)
        async with host.channel:
            for number in range(200):
                await host.say(f"c-{number}", {"number": number, "text": "é漢字🙂\u2028"})
            said = await host.until(Output, 200)
            took = await host.until(Took, 200)
        assert [output.message["number"] for output in said] == list(range(200))
        assert {output.message["text"] for output in said} == {"é漢字🙂\u2028"}
        assert [event.id for event in took] == [f"c-{number}" for number in range(200)]

    async def test_long_lines_and_both_ways_at_once(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel)
        text = "x" * 3_000_000
        async with host.channel, anyio.create_task_group() as group:

            async def say_all() -> None:
                for number in range(4):
                    await host.say(f"c-{number}", {"text": text})

            group.start_soon(say_all)
            said = await host.until(Output, 4)
        assert [len(output.message["text"]) for output in said] == [3_000_000] * 4

    async def test_a_cancelled_receive_has_taken_nothing(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel)
        async with host.channel:
            with anyio.move_on_after(0.05):
                await host.channel.receive()
            await host.say("c-a", {"still": "here"})
            (said,) = await host.until(Output)
        assert said.message == {"uuid": "c-a", "still": "here"}

    async def test_two_receivers_at_once_are_a_mistake(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel)
        async with host.channel, anyio.create_task_group() as group:
            group.start_soon(host.channel.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await host.channel.receive()
            group.cancel_scope.cancel()

    async def test_closing_is_idempotent_and_wakes_a_receiver(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel)
        woken: list[BaseException] = []

        async def receive() -> None:
            try:
                await host.channel.receive()
            except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
                woken.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            await host.channel.aclose()
            await host.channel.aclose()
        assert [type(error) for error in woken] == [anyio.ClosedResourceError]
        with pytest.raises(anyio.ClosedResourceError):
            await host.channel.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await host.channel.send(b"{}\n")

    async def test_the_end_of_the_program_is_told(self, open_channel: OpenChannel) -> None:
        host = await _open(open_channel)
        async with host.channel:
            host.link.signal_claude("KILL")
            await host.flush()
            (exited,) = await host.until(Exited)
        assert exited.code in (-9, 137)

    async def test_the_end_of_the_peer_is_noticed(
        self, open_channel: OpenChannel, end_peer: Callable[[], Awaitable[None]]
    ) -> None:
        host = await _open(open_channel)
        async with host.channel:
            await end_peer()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await _go_on(host)


async def _go_on(host: _Host) -> None:
    with anyio.fail_after(_LIMIT):
        while True:
            host.link.start_claude(["cat"], {}, "/")
            await host.flush()
            await host.channel.receive()
