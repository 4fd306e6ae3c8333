"""One request to the Claude API: passed on with the login in it, and its answer passed back as it comes."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import anyio
from anyio.abc import TaskGroup

from .api_client import ApiClient
from .api_rules import answer_headers, request_headers
from .http_server import HttpServer, HungUp
from .meters import Meters
from .request_head import Head
from .terms import Guest, Refused, Upstream
from .usage import Usage, UsageReader

__all__ = ["ApiRequest", "Cut"]

#: Seconds for the API to take a piece of a request.
_TAKING_LIMIT = 120.0

#: Bytes. The longest answers have some megabytes.
_LARGEST_ANSWER = 256 * 1024 * 1024


#: After these the API was not asked anything.
_NOT_ASKED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


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
        self._problem: Exception | None = None  # of the body's
        self._sending = anyio.CancelScope()
        self._left_alone = anyio.Event()  # nobody reads from the container for the API (any more)
        self._left_alone.set()
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
            finally:
                with anyio.move_on_after(5, shield=True):
                    await self._left_alone.wait()  # the body is read in another task, which is ending
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
        answer = await self._ask(login, group)
        if answer.status == 401:
            self._guest.login_refused(login)
        try:
            await self._pass_back(answer)
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise Cut(f"the API's answer has ended in the middle: {type(problem).__name__}") from None
        finally:
            answer.close()

    async def _ask(self, login: Upstream, group: TaskGroup) -> aiohttp.ClientResponse:
        url, headers = login.base_url + self._head.target, request_headers(self._head, login)
        body = self._body(group)
        if not self._head.has_body:
            async for _ in body:
                pass
        try:
            with self._sending:
                return await self._client.send(self._head.method, url, headers, body if self._head.has_body else None)
        except (aiohttp.ClientError, TimeoutError) as problem:
            if self._problem:
                raise self._problem from None
            if isinstance(problem, _NOT_ASKED):
                self._usage = UsageReader("")
            raise _unreachable(self.host, problem) from None
        raise _unreachable(self.host, TimeoutError())

    async def _body(self, group: TaskGroup) -> AsyncIterator[bytes]:
        self._left_alone = anyio.Event()
        try:
            async for piece in self._http.body():
                self._count(len(piece))
                if not self._is_free:
                    self._asked += len(piece)
                    self._meters.reserve(len(piece))
                self._sending.deadline = anyio.current_time() + _TAKING_LIMIT
                self._left_alone.set()
                yield piece  # where the other task may end
                self._left_alone = anyio.Event()
                self._sending.deadline = math.inf
        except (Refused, HungUp) as problem:
            self._problem = problem
            raise
        finally:
            self._left_alone.set()
        if not self._http.status:
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

    async def _pass_back(self, answer: aiohttp.ClientResponse) -> None:
        returned = answer_headers(answer.status, answer.headers.items())
        self._usage = UsageReader(answer.headers.get("content-type", ""), self._asked)
        await self._http.begin_answer(answer.status, returned)
        async for piece in answer.content.iter_any():
            await self._http.send(piece)
            self._usage.receive_data(piece)
            self._count(len(piece))
            if self._http.sent > _LARGEST_ANSWER:
                raise Cut(f"the API's answer has more than {_LARGEST_ANSWER} bytes")
        if not self._usage.complete:
            raise Cut("the API's answer has ended before its last event")
        await self._http.end_answer()

    def _count(self, size: int) -> None:
        now = time.time()
        if not self._meters.add_bytes(now, size):
            self._meters.check_day(now)


def _unreachable(host: str, problem: Exception) -> Refused:
    """In words of ours: theirs may have an address, or what an unknown server said."""
    what = type(problem).__name__
    if isinstance(problem, TimeoutError) and not isinstance(problem, _NOT_ASKED):
        return Refused(504, "timeout_error", f"cc-bridge: the API at {host} did not answer in time")
    return Refused(502, "api_error", f"cc-bridge: the API at {host} cannot be reached, or does not speak HTTP ({what})")
