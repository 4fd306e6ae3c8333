"""A fleet and a store, and what lives between them while the service runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.abc

from ..errors import InvalidInput
from ..fleet import Fleet
from ..logs import Log
from ..state import write_whole
from .board import Board
from .deliveries import Deliveries
from .identities import ALL_SCOPES, Identity, Meters, Strikes
from .inbox import Inbox
from .observer import Observer
from .permission_hooks import tell_of_permissions
from .store import Command, Outgoing, Store, StoreUnavailable
from .streams import Farewell

if TYPE_CHECKING:
    from .openid import OpenId

__all__ = ["Limits", "Service"]

_A_DAY = 86400.0


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Attributes:
        body: bytes of a request, uploads apart; a prompt with its files fits.
        upload: bytes of a file.
        longest_wait: seconds for which ``Prefer: wait=…`` may hold a request.
    """

    body: int = 32 * 1024 * 1024
    upload: int = 256 * 1024 * 1024
    longest_wait: float = 600.0


class Service:
    """What the routes stand on. Use it with ``async with``.

    Leaving it ends nothing that runs in an instance: turns go on with their agents, and the next service of this
    database goes on with them.

    Args:
        store: opened and closed by the service.
        fleet: a new one; the service's for as long as it runs.
        token_file: where the secret of the first token is written, if there is none yet.
        hosts: names by which clients may call this service, beside loopback addresses.
        webhooks_to_private: webhooks may go to addresses of this machine and of private networks, too.
        observers: are told what happens; metrics and traces.
        openid: where people sign in; None: with tokens only.

    Attributes:
        stopping: set when it is to end: streams end with a hint to come back.
        is_ready: commands are taken.
        strikes, meters: wrong tokens by address, and commands by token.
        deliveries: webhooks, and what waits for them.
    """

    inbox: Inbox
    board: Board

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        *,
        token_file: Path | None = None,
        hosts: Iterable[str] = (),
        limits: Limits | None = None,
        webhooks_to_private: bool = False,
        observers: Iterable[Observer] = (),
        openid: OpenId | None = None,
    ) -> None:
        self.store = store
        self.fleet = fleet
        self._token_file = token_file
        self.hosts = frozenset(host.lower() for host in hosts)
        self.limits = limits or Limits()
        self.strikes = Strikes()
        self.meters = Meters()
        self.openid = openid
        self.observers = tuple(observers)
        self.deliveries = Deliveries(
            store.webhooks, allow_private=webhooks_to_private, delivered=[item.delivered for item in self.observers]
        )
        self.stopping = anyio.Event()
        self.is_ready = False
        self._farewells: dict[tuple[str, str], anyio.Event] = {}  # of a token, and one session of it
        self._ended: set[str] = (
            set()
        )  # tokens and sessions; they stay: who was let in just before may open something yet
        self._stack = AsyncExitStack()
        self._group: anyio.abc.TaskGroup | None = None
        self._log = Log("", "service")

    async def __aenter__(self) -> Self:
        """Begin, and go on with all commands that have not ended.

        Raises:
            InvalidInput: another service has the database or the fleet.
            StoreUnavailable: the database is away.
        """
        try:
            await self._stack.enter_async_context(self.store)
            if self._token_file is not None:
                await _make_first_token(self.store, self._token_file)
            await self._stack.enter_async_context(self.fleet)
            self._group = await self._stack.enter_async_context(anyio.create_task_group())
            self.board = Board(self.fleet, await self.store.titles.all())
            self.inbox = Inbox(
                self.store.commands,
                self.fleet,
                self._start_soon,
                changed=self.board.tell,
                tell=self._to_tell,
                over=self._is_over,
                observers=self.observers,
            )
            self.board.inbox = self.inbox
            await self.deliveries.begin()
            for command in await self.inbox.begin():
                self.meters.goes_on(command.owner, command.id)
            self._start_soon(self.board.follow_fleet)
            self._start_soon(self.board.follow_desk)
            self._start_soon(self.deliveries.run)
            self._start_soon(partial(tell_of_permissions, self.fleet.desk, self.deliveries))
            self._start_soon(self._tidy)
            for observer in self.observers:
                observer.begins(self)
            self.is_ready = True
        except BaseException:  # cancelled, too
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def stop(self) -> None:
        """Take no more commands, and let streams end."""
        self.is_ready = False
        self.stopping.set()
        for told in self._farewells.values():
            told.set()

    def farewell(self, who: Identity) -> Farewell:
        """When what is open for them is to end: token or session expires or is ended, or the service stops."""
        told = self._farewells.setdefault((who.id, who.session), anyio.Event())
        if self.stopping.is_set() or self._ended & {who.id, who.session}:
            told.set()
        return Farewell(told, who.ends)

    def revoked(self, token: str) -> None:
        """A token is none any more: what is open with it ends, and its webhooks are told nothing more."""
        self._ended.add(token)
        self.end_streams(token)
        self.deliveries.owner_changed(token, revoked=datetime.now(UTC))

    def end_streams(self, token: str) -> None:
        """A token may and sees something else now: who comes back gets that."""
        for of in [of for of in self._farewells if of[0] == token]:
            self._farewells.pop(of).set()

    def signed_out(self, who: Identity) -> None:
        """What is open for them in this session ends."""
        self._ended.add(who.session)
        if (told := self._farewells.pop((who.id, who.session), None)) is not None:
            told.set()

    async def _end(self) -> None:
        self.stop()
        if self._group is not None:  # before the fleet: what that tells of its end is nothing of the commands'
            self._group.cancel_scope.cancel()
        await self._stack.aclose()
        for observer in self.observers:
            await observer.ends()

    async def _tidy(self) -> None:
        """Once a day, delete what is kept no longer."""
        while not self.stopping.is_set():
            try:
                await self.store.prune(datetime.now(UTC))
            except StoreUnavailable as error:
                self._log.warning("not_pruned", reason=error.what)
            with anyio.move_on_after(_A_DAY):
                await self.stopping.wait()

    def _to_tell(self, command: Command, result: dict[str, Any]) -> Iterable[Outgoing]:
        return self.deliveries.outgoing(command.instance, "turn_result", {"turn": command.id, "result": result})

    def _is_over(self, command: Command) -> None:
        self.meters.ended(command.owner, command.id)
        self.deliveries.wake()

    def _start_soon(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._group is None:
            raise RuntimeError("the service is not in use")
        self._group.start_soon(task)


async def _make_first_token(store: Store, path: Path) -> bool:
    """Where there is no token yet, make one that may do everything, and write it into a file for the user alone.

    Returns:
        Whether one was made.

    Raises:
        InvalidInput: the file cannot be written.
    """
    if await store.tokens.list():
        return False
    _, secret = await store.tokens.make("first", ALL_SCOPES)
    try:
        write_whole(path, secret.encode() + b"\n", lasting=True)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error
    return True
