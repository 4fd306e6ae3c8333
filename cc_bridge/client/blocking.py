"""The client for programs without an event loop."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from .calls import LONGEST_WAIT, Call, Patience, answer, checked, command, headers_of, of, timeout_for
from .errors import ServiceError
from .shapes import AnswerName, Change, Entry, Event, History, Instance, Permission, Prompt, Turn, Usage
from .streams import Stream, as_change

__all__ = ["Client"]


class Client:
    """A service's instances. Use it with ``with``, or close it.

    What only asks, and what is sent with a key, is sent again when the service is away for a while; streams go on where
    they broke off. Threads may share a client.

    Args:
        address: such as ``http://127.0.0.1:8765``.
        token: which says who asks.
        patience: seconds for which the service may be away.
        http: another client to use, for a proxy or a certificate of its own, say; it stays the caller's to close.

    Raises, from every method:
        ServiceError: the service has refused, or failed.
        ServiceUnreachable: nobody answers.
    """

    def __init__(self, address: str, token: str, *, patience: float = 60.0, http: httpx.Client | None = None) -> None:
        self._address = address.rstrip("/")
        self._headers = headers_of(token)
        self._patience = patience
        self._own = http is None
        self._http = http if http is not None else httpx.Client(timeout=timeout_for(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections. Nothing that runs in an instance ends with them."""
        if self._own:
            self._http.close()

    # Instances

    def instances(self) -> list[Instance]:
        """All instances that the token sees."""
        found: list[Instance] = self._ask(of("GET", "instances"))["instances"]
        return found

    def instance(self, name: str) -> Instance:
        """One of them."""
        found: Instance = self._ask(of("GET", "instances", name))
        return found

    def make(
        self,
        name: str,
        template: str = "default",
        *,
        title: str = "",
        labels: Mapping[str, str] | None = None,
        project: str | None = None,
    ) -> Instance:
        """Make an instance of a template and start it; one that was made in the same way is returned."""
        body = {"name": name, "template": template, "title": title, "labels": dict(labels or {}), "project": project}
        made: Instance = self._ask(of("POST", "instances", body=body)._replace(again=True))
        return made

    def remove(self, name: str, *, conversation: bool = False) -> None:
        """Stop an instance and remove it.

        Args:
            conversation: that, too; otherwise it is kept for 30 days.
        """
        self._ask(of("DELETE", "instances", name, conversation=conversation))

    def changes(self) -> Iterator[Change]:
        """What the instances do: first all of them, then each whenever something of it changes. It does not end."""
        for event in self._stream("/v1/events", Stream()):
            yield as_change(event)

    # Commands

    def send(self, name: str, prompt: Prompt, *, key: str | None = None, wait: float = 0.0) -> Turn:
        """Send a command. It is answered, whatever happens to this program or to the service.

        Args:
            key: of the caller's choice. The same key is the same command, also from another program.
            wait: seconds for its end. If they run out, it goes on all the same.

        Returns:
            The turn; with its result, if it has ended.
        """
        key, deadline = key or str(uuid.uuid4()), time.monotonic() + wait
        while True:
            left = deadline - time.monotonic()
            turn: Turn = self._ask(command(name, prompt, key, left), wait=min(max(left, 0.0), LONGEST_WAIT))
            if turn["state"] == "ended" or deadline - time.monotonic() < 1:
                return turn

    def stream(self, name: str, prompt: Prompt, *, key: str | None = None) -> Iterator[Event]:
        """Send a command, and hear what is said in its turn; the last event is ``turn_result``."""
        yield from self.events(name, self.send(name, prompt, key=key)["id"])

    def events(self, name: str, turn: str | None = None, *, after: str = "") -> Iterator[Event]:
        """What an instance says, each event once and in order, however often the connection breaks.

        Args:
            turn: from the first event of this turn to its last; None: all that is said from now on, without end.
            after: from after the event of this place (:attr:`Event.at`).
        """
        turns = ("turns", turn) if turn is not None else ()
        yield from self._stream(of("GET", "instances", name, *turns, "events").path, Stream(after, ends=bool(turn)))

    def turn(self, name: str, turn: str) -> Turn:
        """A command, and what became of it."""
        found: Turn = self._ask(of("GET", "instances", name, "turns", turn))
        return found

    def turns(self, name: str, *, before: int | None = None, limit: int = 50) -> list[Turn]:
        """The latest commands, oldest first.

        Args:
            before: only those whose ``number`` is smaller.
        """
        found: list[Turn] = self._ask(of("GET", "instances", name, "turns", before=before, limit=limit))["turns"]
        return found

    def cancel(self, name: str, turn: str) -> None:
        """Take a command back that waits, or interrupt its turn. Nothing, where it has ended."""
        self._ask(of("DELETE", "instances", name, "turns", turn))

    def interrupt(self, name: str) -> None:
        """End the running turn, whoever has asked."""
        self._ask(of("POST", "instances", name, "interrupt"))

    # Permissions

    def permissions(self) -> list[Permission]:
        """All requests that wait for somebody."""
        found: list[Permission] = self._ask(of("GET", "permissions"))["permissions"]
        return found

    def answer(
        self,
        request: str,
        decision: AnswerName,
        *,
        rule: str | None = None,
        reason: str | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002  what the service calls it
    ) -> None:
        """Decide on a request, by its id.

        Args:
            rule: what else is allowed (``session``, ``always``); None: what Claude Code suggests.
            reason: which the model reads (``deny``).
            input: what the tool is given instead (``allow``).

        Raises:
            ServiceError: among others with the status 409: somebody was first, and ``problem`` says who and how.
        """
        self._ask(answer(request, decision, rule=rule, reason=reason, changed=input))

    # Files and conversations

    def files(self, name: str, path: str = "") -> list[Entry]:
        """What is in a directory of the workspace."""
        found: list[Entry] = self._ask(of("GET", "instances", name, "files", path=path))["entries"]
        return found

    def fetch(self, name: str, path: str) -> bytes:
        """A file of the workspace."""
        return self._answer(of("GET", "instances", name, "files", "content", path=path)).content

    def put(self, name: str, path: str, content: bytes | Iterable[bytes]) -> Entry:
        """Write a file of the workspace, whole or not at all."""
        call = of("PUT", "instances", name, "files", "content", body=content, path=path)
        written: Entry = self._ask(call._replace(again=isinstance(content, bytes)))
        return written

    def history(self, name: str, *, before: int | None = None, limit: int = 100) -> History:
        """What was said: the latest part, or the one before an index."""
        found: History = self._ask(of("GET", "instances", name, "history", before=before, limit=limit))
        return found

    def export(self, name: str) -> bytes:
        """The conversation as a tar.gz."""
        return self._answer(of("GET", "instances", name, "export")).content

    def fork(self, name: str, new: str, *, title: str = "") -> Instance:
        """A new instance that goes on in a copy of the conversation."""
        made: Instance = self._ask(of("POST", "instances", name, "fork", body={"name": new, "title": title}))
        return made

    def usage(self, *, instance: str | None = None, project: str | None = None, day: str | None = None) -> Usage:
        """What was used; ``day`` is written as 2026-01-31 is."""
        found: Usage = self._ask(of("GET", "usage", instance=instance, project=project, day=day))["usage"]
        return found

    # How

    def _ask(self, call: Call, *, wait: float = 0.0) -> Any:
        response = self._answer(call, wait=wait)
        return response.json() if response.content else None

    def _answer(self, call: Call, *, wait: float = 0.0) -> httpx.Response:
        patience = Patience(self._patience if call.again else 0.0)
        while True:
            try:
                return checked(self._http.send(self._request(call, timeout_for(wait))))
            except (httpx.TransportError, ServiceError) as error:
                pause = patience.pause(error, time.monotonic())
            time.sleep(pause)  # back-off: it is away

    def _request(self, call: Call, timeout: httpx.Timeout) -> httpx.Request:
        raw = call.body is not None and not isinstance(call.body, dict)
        body: dict[str, Any] = {"content": call.body} if raw else {"json": call.body} if call.body is not None else {}
        headers = {**self._headers, **call.headers}
        address = f"{self._address}{call.path}"
        return self._http.build_request(
            call.method, address, params=dict(call.params), headers=headers, timeout=timeout, **body
        )

    def _stream(self, path: str, stream: Stream) -> Iterator[Event]:
        patience = Patience(self._patience)
        while not stream.ended:
            try:
                for event in self._connection(path, stream):
                    patience.rewarded()
                    yield event
                error: Exception = httpx.RemoteProtocolError("the stream has ended")
            except (httpx.TransportError, ServiceError) as failure:
                error = failure
            if not stream.ended:
                time.sleep(patience.pause(error, time.monotonic()))  # back-off: it is away

    def _connection(self, path: str, stream: Stream) -> Iterator[Event]:
        request = self._request(Call("GET", path, headers=stream.headers), timeout_for(0))
        response = self._http.send(request, stream=True)
        try:
            if not response.is_success:
                response.read()
            checked(response)
            if response.status_code == httpx.codes.NO_CONTENT:
                stream.ended = True
            for data in response.iter_bytes():
                yield from stream.feed(data)
        finally:
            response.close()
