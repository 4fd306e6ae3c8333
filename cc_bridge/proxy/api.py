"""One request to the Claude API: passed on with the login in it, and its answer passed back as it comes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import anyio
import httpcore
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .api_client import FAILURES, ApiClient
from .api_rules import answer_headers, request_headers
from .http_server import HttpServer, HungUp
from .meters import Meters
from .request_head import Head
from .terms import Guest, Refused
from .usage import Usage, UsageReader

__all__ = ["ApiRequest", "Cut"]

#: Bytes. The longest answers have some megabytes.
_LARGEST_ANSWER = 256 * 1024 * 1024

#: Pieces of an answer, each with 64 KiB at most, that are read before they can be passed on.
_PIECES = 16


class Cut(Exception):
    """An answer that has begun cannot be finished; its connection has to be cut, so that nobody takes it for whole."""


class ApiRequest:
    """One request, from its body to its answer's end; ``run`` it once.

    Attributes:
        host: of the API, with its port where one is said.
    """

    def __init__(self, http: HttpServer, head: Head, guest: Guest, meters: Meters, client: ApiClient) -> None:
        self._http = http
        self._head = head
        self._guest = guest
        self._meters = meters
        self._client = client
        self._usage = UsageReader("")
        self._asked = 0  # bytes of a body that costs something
        self._interrupted: str | None = None
        self._broken = ""  # by which error the answer has ended
        self.host = ""

    def usage(self) -> Usage:
        """What it has used: as the answer said, or where it did not come to that, by the length of what was asked."""
        return self._usage.usage()

    @property
    def asked(self) -> int:
        """Bytes of its body that were read, where they cost something."""
        return self._asked

    async def run(self) -> None:
        """Pass request and answer on. Cancelled, it leaves an answer that has begun unfinished: cut the connection.

        Raises:
            Refused: nothing was answered yet.
            Cut: an answer has begun, and cannot be finished.
            HungUp: the container's end is gone; the API's answer was not waited for.
        """
        problem: Exception | None = None
        async with anyio.create_task_group() as group:
            try:
                await self._pass_on(group)
            except (Refused, Cut, HungUp) as caught:
                problem = caught
            group.cancel_scope.cancel()
        if self._interrupted is not None:
            problem = Cut(self._interrupted) if self._interrupted else HungUp("the container's end hung up")
        if isinstance(problem, Refused) and self._http.status:
            problem = Cut(problem.message)
        if problem:
            raise problem

    async def _pass_on(self, group: TaskGroup) -> None:
        login = await self._guest.login()
        self.host = urlsplit(login.base_url).netloc.rpartition("@")[2]
        body = self._body(group)
        if not self._head.has_body:
            async for _ in body:
                pass
        try:
            answer = await self._client.send(
                self._head.method,
                login.base_url,
                self._head.target,
                request_headers(self._head, login),
                body if self._head.has_body else None,
            )
        except FAILURES as problem:
            if not isinstance(problem, httpcore.ReadError | httpcore.ReadTimeout | httpcore.RemoteProtocolError):
                self._usage = UsageReader("")  # it was not asked
            raise _unreachable(self.host, problem) from None
        if answer.status == 401:
            self._guest.login_refused(login)
        await self._pass_back(answer, group)

    async def _body(self, group: TaskGroup) -> AsyncIterator[bytes]:
        async for piece in self._http.body():
            self._count(len(piece))
            if not self._is_free:
                self._asked += len(piece)
                self._meters.reserve(len(piece))
            yield piece
        self._usage = UsageReader("", self._asked)
        group.start_soon(self._watch, group)

    @property
    def _is_free(self) -> bool:
        return "/count_tokens" in self._head.target

    async def _watch(self, group: TaskGroup) -> None:
        """Who is gone need not be answered: the API's answer costs money as long as somebody listens."""
        try:
            self._interrupted = await self._http.watch()
        except HungUp:
            self._interrupted = ""
        group.cancel_scope.cancel()

    async def _pass_back(self, answer: httpcore.Response, group: TaskGroup) -> None:
        give, pieces = anyio.create_memory_object_stream[bytes](_PIECES)
        group.start_soon(self._read, answer, give)
        with pieces:
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
            returned = answer_headers(answer.status, headers)
            self._usage = UsageReader(dict(returned).get("content-type", ""), self._asked)
            self._http.begin_answer(answer.status, returned)
            async for data in _together(pieces):
                await self._http.send(data)
                self._usage.receive_data(data)
                self._count(len(data))
                if self._http.sent > _LARGEST_ANSWER:
                    raise Cut(f"the API's answer has more than {_LARGEST_ANSWER} bytes")
        if self._broken:
            raise Cut(f"the API's answer has ended in the middle: {self._broken}")
        if not self._usage.complete:
            raise Cut("the API's answer has ended before its last event")
        await self._http.end_answer()

    async def _read(self, answer: httpcore.Response, give: MemoryObjectSendStream[bytes]) -> None:
        try:
            with give:
                async for piece in answer.aiter_stream():
                    try:
                        give.send_nowait(piece)  # so that what has come at once is there at once
                    except anyio.WouldBlock:
                        await give.send(piece)
        except FAILURES as problem:
            self._broken = type(problem).__name__
        except anyio.BrokenResourceError:
            pass  # nobody wants the rest
        finally:
            with anyio.move_on_after(5, shield=True):
                await answer.aclose()

    def _count(self, size: int) -> None:
        now = time.time()
        if not self._meters.add_bytes(now, size):
            self._meters.check_day(now)


async def _together(pieces: MemoryObjectReceiveStream[bytes]) -> AsyncIterator[bytes]:
    """All that has come, as one; at first that may be nothing. Each write wakes two processes, and takes their time."""
    await checkpoint()  # who reads it begins
    found: list[bytes] = []
    while True:
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                found.append(pieces.receive_nowait())
        yield b"".join(found)
        try:
            found = [await pieces.receive()]
        except anyio.EndOfStream:
            return


def _unreachable(host: str, problem: Exception) -> Refused:
    """In words of ours: theirs may have an address, or what an unknown server said."""
    what = type(problem).__name__
    if isinstance(problem, httpcore.ReadTimeout):
        return Refused(504, "timeout_error", f"cc-bridge: the API at {host} did not answer in time")
    return Refused(502, "api_error", f"cc-bridge: the API at {host} cannot be reached, or does not speak HTTP ({what})")
