"""One request to the Claude API: passed on with the login in it, and its answer passed back as it comes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import anyio
import httpx
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .api_client import ApiClient
from .api_rules import answer_headers, request_headers
from .http_server import HttpServer, HungUp
from .meters import Meters
from .request_head import Head
from .terms import Guest, Refused
from .usage import Usage, UsageReader

__all__ = ["ApiRequest", "Cut"]

#: Seconds. Between two pieces of an answer as long as Claude Code itself waits (``X-Stainless-Timeout``).
_TIMEOUTS = httpx.Timeout(connect=20.0, read=600.0, write=120.0, pool=20.0)

#: Bytes. The longest answers have some megabytes.
_LARGEST_ANSWER = 256 * 1024 * 1024

#: Bytes of it that are read before they can be passed on.
_MOST_AHEAD = 65536

#: What sending and reading raise; an OSError where TLS has broken.
_FAILURES = (httpx.HTTPError, OSError)


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
        self._ahead = _Ahead()
        self._broken = "it was not read to its end"  # why an answer is not whole; empty: it is
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
            request = httpx.Request(
                self._head.method,
                login.base_url + self._head.target,
                headers=request_headers(self._head, login),
                content=body if self._head.has_body else None,
                extensions={"timeout": _TIMEOUTS.as_dict()},
            )
            answer = await self._client.send(request)
        except (*_FAILURES, httpx.InvalidURL) as problem:
            if not isinstance(problem, httpx.ReadError | httpx.ReadTimeout | httpx.RemoteProtocolError):
                self._usage = UsageReader("")  # it was not asked
            raise _unreachable(self.host, problem) from None
        group.start_soon(self._read, answer)  # which closes it
        if answer.status_code == 401:
            self._guest.login_refused(login)
        await self._pass_back(answer)

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

    async def _pass_back(self, answer: httpx.Response) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw]
        returned = answer_headers(answer.status_code, headers)
        self._usage = UsageReader(answer.headers.get("content-type", ""), self._asked)
        self._http.begin_answer(answer.status_code, returned)
        await checkpoint()  # what has come with the head goes on with it
        data: bytes | None = self._ahead.take()
        while data is not None:
            await self._http.send(data)
            self._usage.receive_data(data)
            self._count(len(data))
            if self._http.sent > _LARGEST_ANSWER:
                raise Cut(f"the API's answer has more than {_LARGEST_ANSWER} bytes")
            data = await self._ahead.next()
        if self._broken:
            raise Cut(f"the API's answer has ended in the middle: {self._broken}")
        if not self._usage.complete:
            raise Cut("the API's answer has ended before its last event")
        await self._http.end_answer()

    async def _read(self, answer: httpx.Response) -> None:
        try:
            async for piece in answer.aiter_raw():
                await self._ahead.give(piece)
            self._broken = ""
        except _FAILURES as problem:
            self._broken = type(problem).__name__
        finally:
            self._ahead.end()
            with anyio.move_on_after(5, shield=True):
                await answer.aclose()

    def _count(self, size: int) -> None:
        now = time.time()
        if not self._meters.add_bytes(now, size):
            self._meters.check_day(now)


class _Ahead:
    """What was read of an answer and not passed on, as one piece: each write wakes two processes, and takes their time.

    At most 64 KiB and a piece are read ahead.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._has_ended = False
        self._changed = anyio.Event()

    async def give(self, piece: bytes) -> None:
        """Add a piece, at once; return when there is room for more."""
        self._data += piece
        self._change()
        while len(self._data) > _MOST_AHEAD:
            await self._changed.wait()

    def end(self) -> None:
        """No more will come."""
        self._has_ended = True
        self._change()

    def take(self) -> bytes:
        """All that is there, which may be nothing."""
        data = bytes(self._data)
        self._data.clear()
        self._change()
        return data

    async def next(self) -> bytes | None:
        """All that is there, as soon as there is something; None: no more will come."""
        while not self._data and not self._has_ended:
            await self._changed.wait()
        return self.take() if self._data else None

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _unreachable(host: str, problem: Exception) -> Refused:
    """In words of ours: theirs may have an address, or what an unknown server said."""
    what = type(problem).__name__
    if isinstance(problem, httpx.ReadTimeout):
        return Refused(504, "timeout_error", f"cc-bridge: the API at {host} did not answer in time")
    return Refused(502, "api_error", f"cc-bridge: the API at {host} cannot be reached, or does not speak HTTP ({what})")
