"""The client for programs with an event loop: as the other one, word for word, but for what is awaited."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import anyio
import httpx

from .calls import LONGEST_WAIT, Call, Patience, answer, checked, command, headers_of, of, timeout_for
from .errors import ServiceError
from .shapes import AnswerName, Change, Entry, Event, History, Instance, Permission, Prompt, Turn, Usage
from .streams import Stream, as_change

__all__ = ["AsyncClient"]


class AsyncClient:
    """A service's instances. Use it with ``async with``, or close it.

    What only asks, and what is sent with a key, is sent again when the service is away for a while; streams go on where
    they broke off. Tasks may share a client.

    Args:
        address: such as ``http://127.0.0.1:8765``.
        token: which says who asks.
        patience: seconds for which the service may be away.
        http: another client to use, for a proxy or a certificate of its own, say; it stays the caller's to close.

    Raises, from every method:
        ServiceError: the service has refused, or failed.
        ServiceUnreachable: nobody answers.
    """

    def __init__(
        self, address: str, token: str, *, patience: float = 60.0, http: httpx.AsyncClient | None = None
    ) -> None:
        self._address = address.rstrip("/")
        self._headers = headers_of(token)
        self._patience = patience
        self._own = http is None
        self._http = http if http is not None else httpx.AsyncClient(timeout=timeout_for(0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As :meth:`.Client.close`."""
        if self._own:
            await self._http.aclose()

    # Instances

    async def instances(self) -> list[Instance]:
        """As :meth:`.Client.instances`."""
        found: list[Instance] = (await self._ask(of("GET", "instances")))["instances"]
        return found

    async def instance(self, name: str) -> Instance:
        """As :meth:`.Client.instance`."""
        found: Instance = await self._ask(of("GET", "instances", name))
        return found

    async def make(
        self,
        name: str,
        template: str = "default",
        *,
        title: str = "",
        labels: Mapping[str, str] | None = None,
        project: str | None = None,
    ) -> Instance:
        """As :meth:`.Client.make`."""
        body = {"name": name, "template": template, "title": title, "labels": dict(labels or {}), "project": project}
        made: Instance = await self._ask(of("POST", "instances", body=body)._replace(again=True))
        return made

    async def remove(self, name: str, *, conversation: bool = False) -> None:
        """As :meth:`.Client.remove`."""
        await self._ask(of("DELETE", "instances", name, conversation=conversation))

    async def changes(self) -> AsyncGenerator[Change, None]:
        """As :meth:`.Client.changes`."""
        async with aclosing(self._stream("/v1/events", Stream())) as events:
            async for event in events:
                yield as_change(event)

    # Commands

    async def send(self, name: str, prompt: Prompt, *, key: str | None = None, wait: float = 0.0) -> Turn:
        """As :meth:`.Client.send`."""
        key, deadline = key or str(uuid.uuid4()), anyio.current_time() + wait
        while True:
            left = deadline - anyio.current_time()
            turn: Turn = await self._ask(command(name, prompt, key, left), wait=min(max(left, 0.0), LONGEST_WAIT))
            if turn["state"] == "ended" or deadline - anyio.current_time() < 1:
                return turn

    async def stream(self, name: str, prompt: Prompt, *, key: str | None = None) -> AsyncGenerator[Event, None]:
        """As :meth:`.Client.stream`."""
        turn = await self.send(name, prompt, key=key)
        async with aclosing(self.events(name, turn["id"])) as events:
            async for event in events:
                yield event

    async def events(self, name: str, turn: str | None = None, *, after: str = "") -> AsyncGenerator[Event, None]:
        """As :meth:`.Client.events`."""
        turns = ("turns", turn) if turn is not None else ()
        path = of("GET", "instances", name, *turns, "events").path
        async with aclosing(self._stream(path, Stream(after, ends=bool(turn)))) as events:
            async for event in events:
                yield event

    async def turn(self, name: str, turn: str) -> Turn:
        """As :meth:`.Client.turn`."""
        found: Turn = await self._ask(of("GET", "instances", name, "turns", turn))
        return found

    async def turns(self, name: str, *, before: int | None = None, limit: int = 50) -> list[Turn]:
        """As :meth:`.Client.turns`."""
        call = of("GET", "instances", name, "turns", before=before, limit=limit)
        found: list[Turn] = (await self._ask(call))["turns"]
        return found

    async def cancel(self, name: str, turn: str) -> None:
        """As :meth:`.Client.cancel`."""
        await self._ask(of("DELETE", "instances", name, "turns", turn))

    async def interrupt(self, name: str) -> None:
        """As :meth:`.Client.interrupt`."""
        await self._ask(of("POST", "instances", name, "interrupt"))

    # Permissions

    async def permissions(self) -> list[Permission]:
        """As :meth:`.Client.permissions`."""
        found: list[Permission] = (await self._ask(of("GET", "permissions")))["permissions"]
        return found

    async def answer(
        self,
        request: str,
        decision: AnswerName,
        *,
        rule: str | None = None,
        reason: str | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002  what the service calls it
    ) -> None:
        """As :meth:`.Client.answer`."""
        await self._ask(answer(request, decision, rule=rule, reason=reason, changed=input))

    # Files and conversations

    async def files(self, name: str, path: str = "") -> list[Entry]:
        """As :meth:`.Client.files`."""
        found: list[Entry] = (await self._ask(of("GET", "instances", name, "files", path=path)))["entries"]
        return found

    async def fetch(self, name: str, path: str) -> bytes:
        """As :meth:`.Client.fetch`."""
        return (await self._answer(of("GET", "instances", name, "files", "content", path=path))).content

    async def put(self, name: str, path: str, content: bytes | AsyncIterable[bytes]) -> Entry:
        """As :meth:`.Client.put`."""
        call = of("PUT", "instances", name, "files", "content", body=content, path=path)
        written: Entry = await self._ask(call._replace(again=isinstance(content, bytes)))
        return written

    async def history(self, name: str, *, before: int | None = None, limit: int = 100) -> History:
        """As :meth:`.Client.history`."""
        found: History = await self._ask(of("GET", "instances", name, "history", before=before, limit=limit))
        return found

    async def export(self, name: str) -> bytes:
        """As :meth:`.Client.export`."""
        return (await self._answer(of("GET", "instances", name, "export"))).content

    async def fork(self, name: str, new: str, *, title: str = "") -> Instance:
        """As :meth:`.Client.fork`."""
        made: Instance = await self._ask(of("POST", "instances", name, "fork", body={"name": new, "title": title}))
        return made

    async def usage(self, *, instance: str | None = None, project: str | None = None, day: str | None = None) -> Usage:
        """As :meth:`.Client.usage`."""
        found: Usage = (await self._ask(of("GET", "usage", instance=instance, project=project, day=day)))["usage"]
        return found

    # How

    async def _ask(self, call: Call, *, wait: float = 0.0) -> Any:
        response = await self._answer(call, wait=wait)
        return response.json() if response.content else None

    async def _answer(self, call: Call, *, wait: float = 0.0) -> httpx.Response:
        patience = Patience(self._patience if call.again else 0.0)
        while True:
            try:
                return checked(await self._http.send(self._request(call, timeout_for(wait))))
            except (httpx.TransportError, ServiceError) as error:
                pause = patience.pause(error, anyio.current_time())
            await anyio.sleep(pause)  # back-off: it is away

    def _request(self, call: Call, timeout: httpx.Timeout) -> httpx.Request:
        raw = call.body is not None and not isinstance(call.body, dict)
        body: dict[str, Any] = {"content": call.body} if raw else {"json": call.body} if call.body is not None else {}
        headers = {**self._headers, **call.headers}
        address = f"{self._address}{call.path}"
        return self._http.build_request(
            call.method, address, params=dict(call.params), headers=headers, timeout=timeout, **body
        )

    async def _stream(self, path: str, stream: Stream) -> AsyncGenerator[Event, None]:
        patience = Patience(self._patience)
        while not stream.ended:
            try:
                async with aclosing(self._connection(path, stream)) as events:
                    async for event in events:
                        patience.rewarded()
                        yield event
                error: Exception = httpx.RemoteProtocolError("the stream has ended")
            except (httpx.TransportError, ServiceError) as failure:
                error = failure
            if not stream.ended:
                await anyio.sleep(patience.pause(error, anyio.current_time()))  # back-off: it is away

    async def _connection(self, path: str, stream: Stream) -> AsyncGenerator[Event, None]:
        request = self._request(Call("GET", path, headers=stream.headers), timeout_for(0))
        response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                await response.aread()
            checked(response)
            if response.status_code == httpx.codes.NO_CONTENT:
                stream.ended = True
            async for data in response.aiter_bytes():
                for event in stream.feed(data):
                    yield event
        finally:
            await response.aclose()
