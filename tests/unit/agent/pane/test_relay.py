"""The relay over real sockets: between a client and the scripted model, or a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from cc_bridge.testing import ScriptedModel
from cc_bridge_agent.pane.http import Head
from cc_bridge_agent.pane.relay import Exchange, Relay

pytestmark = pytest.mark.anyio


class Reader(Exchange):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def begun(self, head: Head, body: dict[str, Any]) -> None:
        self.told.append(body["messages"][-1]["content"])

    def answered(self, status: int, headers: dict[str, str]) -> None:
        self.told.append(status)

    def event(self, event: dict[str, Any]) -> None:
        if event["type"] == "content_block_delta":
            self.told.append(event["delta"]["text"])

    def over(self, *, complete: bool, by_client: bool) -> None:
        self.told.append("complete" if complete else "by client" if by_client else "broken")


async def _relay(upstream: str) -> tuple[Relay, str, list[Reader]]:
    readers: list[Reader] = []

    def read() -> Reader:
        readers.append(Reader())
        return readers[-1]

    async def drained() -> None:
        pass

    relay = Relay(upstream, read, drained, lambda event, **fields: None)
    return relay, await relay.start(), readers


def _ask(url: str, prompt: str) -> bytes:
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": prompt}]}).encode()
    request = urllib.request.Request(f"{url}/v1/messages?beta=true", body, {"Accept-Encoding": "gzip"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        error.read()  # or it is the client who has ended it
        raise


async def test_it_passes_on_and_reads_along(scripted_model: ScriptedModel) -> None:
    relay, url, readers = await _relay(scripted_model.url)
    direct = await asyncio.to_thread(_ask, scripted_model.url, "[[say one two]]")
    relayed = await asyncio.to_thread(_ask, url, "[[say one two]]")
    assert relayed.count(b"data:") == direct.count(b"data:")
    with pytest.raises(urllib.error.HTTPError, match="429"):
        await asyncio.to_thread(_ask, url, "[[error 429]]")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        await asyncio.to_thread(urllib.request.urlopen, f"{url}/elsewhere")
    await relay.close()
    assert readers[0].told == ["[[say one two]]", 200, "one", " two", "complete"]
    assert readers[1].told == ["[[error 429]]", 429, "complete"]
    assert len(readers) == 2


async def test_many_at_once(scripted_model: ScriptedModel) -> None:
    relay, url, readers = await _relay(scripted_model.url)
    await asyncio.gather(*(asyncio.to_thread(_ask, url, f"[[repeat 50 {number},]]") for number in range(8)))
    await relay.close()
    assert sorted("".join(reader.told[2:-1]) for reader in readers) == [f"{number}," * 50 for number in range(8)]


@pytest.mark.parametrize(("prompt", "end"), [("[[say a]] [[hang]]", "by client"), ("[[say a]] [[cut]]", "broken")])
async def test_who_has_ended_it(scripted_model: ScriptedModel, prompt: str, end: str) -> None:
    relay, url, readers = await _relay(scripted_model.url)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": prompt}]}).encode()
    writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readuntil(b"text_delta")
    if end == "by client":
        writer.close()
    while "by client" not in readers[0].told and "broken" not in readers[0].told:
        await asyncio.sleep(0.01)
    writer.close()
    await relay.close()
    assert readers[0].told == [prompt, 200, "a", end]


async def test_an_api_that_is_not_there() -> None:
    relay, url, readers = await _relay("http://127.0.0.1:9")
    with pytest.raises(OSError):
        await asyncio.to_thread(_ask, url, "hello")
    await relay.close()
    assert readers == []


async def test_bytes_that_are_no_http_end_the_connection(scripted_model: ScriptedModel) -> None:
    relay, url, _ = await _relay(scripted_model.url)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b"x" * 300_000)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    await relay.close()


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://"])
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="not a URL"):
        await _relay(url)
