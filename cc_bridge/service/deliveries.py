"""Webhooks: each event is told until it was heard, in order by instance.

A delivery is a POST of JSON with these headers::

    X-CC-Bridge-Delivery: its id, the same at each try: what came twice is told by it
    X-CC-Bridge-Timestamp: when it was sent, in seconds since 1970
    X-CC-Bridge-Signature: v1=HMAC-SHA256 of "TIMESTAMP.BODY" by the webhook's secret, in hexadecimal digits

An answer from 200 to 299 says that it has arrived. After anything else it is tried again after a pause that grows to
an hour; what is behind it for the same instance waits meanwhile. After a day or so it is given up, and kept for
somebody to look at.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import httpcore

from ..logs import Log
from ..values import Value
from .public_addresses import CheckedNetwork, checked_url
from .store import Delivery, Outgoing, StoreUnavailable, Webhook, Webhooks

__all__ = ["PAUSES", "Deliveries", "sign", "verify"]

#: Seconds between tries; after the last one it is given up.
PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0, *[3600.0] * 24)

#: Longest pause that a receiver may ask for, in seconds.
_LONGEST_PAUSE = 3600.0

#: Tries at once: of one webhook, so that one that hangs does not take all; and together.
_AT_ONCE_OF_ONE = 4
_AT_ONCE = 32

#: Bytes of an answer that are looked at.
_MOST_OF_AN_ANSWER = 2000

#: Seconds between looks at a database that is away: the first and the longest.
_STORE_PAUSE, _LONGEST_STORE_PAUSE = 1.0, 30.0

#: What can go wrong with a try: httpcore's errors have no common root.
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
    OSError,
    ValueError,
)


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """What ``X-CC-Bridge-Signature`` says of a body that is sent at this time (seconds since 1970)."""
    digest = hmac.new(secret.encode(), b"%d.%s" % (timestamp, body), hashlib.sha256)
    return f"v1={digest.hexdigest()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float, tolerance: float = 300) -> bool:
    """For a receiver: whether a delivery comes from who knows the secret, and was sent just now.

    Args:
        headers: of the request; names in any case.
        now: seconds since 1970.
        tolerance: seconds that the clocks may differ; an older delivery may be somebody else's repetition.
    """
    given = {name.lower(): value for name, value in headers.items()}
    stamp, signature = given.get("x-cc-bridge-timestamp", ""), given.get("x-cc-bridge-signature", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 20) or abs(now - int(stamp)) > tolerance:
        return False
    return hmac.compare_digest(sign(secret, int(stamp), body).encode(), signature.encode("utf-8", "replace"))


class _Failure(Value):
    """Why a try has failed.

    Attributes:
        pause: seconds that the receiver asks for.
        is_final: the receiver wants no more of it.
    """

    why: str
    pause: float = 0.0
    is_final: bool = False


class Deliveries:
    """Delivers what is queued for webhooks, while :meth:`run` runs.

    A delivery is forgotten only when it was heard and the database knows it. A service that is killed between both, or
    cancelled, sends it again: receivers know it by its id.

    Args:
        webhooks: of the store.
        allow_private: send to addresses of this machine and of private networks, too.
        pauses: seconds before each further try; after the last one it is given up.
        patience: seconds that a receiver has for its answer.
        clock: what time it is, UTC.
        delivered: called with each delivery that was confirmed.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        *,
        allow_private: bool = False,
        pauses: tuple[float, ...] = PAUSES,
        patience: float = 15.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        delivered: Iterable[Callable[[Delivery], None]] = (),
    ) -> None:
        self._delivered = tuple(delivered)
        self._webhooks = webhooks
        self._pauses = pauses
        self._patience = patience
        self._clock = clock
        # Of several addresses the first may swallow all: there is time for another one.
        self._limits = {"timeout": {"connect": patience / 2}}
        self._known: dict[str, Webhook] = {}
        self._is_stale = True
        self._changing = anyio.Lock()
        self._allow_private = allow_private
        self._network = CheckedNetwork(allow_private=allow_private)
        self._in_flight: dict[tuple[str, str], Delivery] = {}
        self._settled: set[str] = set()
        self._woken = anyio.Event()
        self._log = Log("", "webhooks")

    async def begin(self) -> None:
        """Read which webhooks there are. Nobody else changes them: a database is one service's.

        Raises:
            StoreUnavailable: the database is away.
        """
        async with self._changing:
            self._is_stale = False  # before it is read: what changes meanwhile is read once more
            try:
                self._known = {webhook.id: webhook for webhook in await self._webhooks.list()}
            except BaseException:  # cancelled, too
                self._is_stale = True
                raise

    async def add(
        self, url: str, secret: str, instances: Iterable[str] = (), events: Iterable[str] = (), owner: str = ""
    ) -> Webhook:
        """Tell an address of events from now on.

        Raises:
            InvalidInput: nothing can be sent there, or there are as many webhooks as there may be.
            StoreUnavailable: the database is away.
        """
        checked_url(url, allow_private=self._allow_private)
        async with self._changing:
            self._is_stale = True  # until the database has said what became of it
            webhook = await self._webhooks.add(url, secret, instances, events, owner)
            self._known[webhook.id] = webhook
        return webhook

    async def remove(self, webhook: str) -> bool:
        """Tell it no more, also of what waits. False: there is no such webhook.

        Raises:
            StoreUnavailable: the database is away.
        """
        async with self._changing:
            self._is_stale = True
            is_gone = await self._webhooks.remove(webhook)
            self._known.pop(webhook, None)
        return is_gone

    def outgoing(self, instance: str, event: str, payload: Mapping[str, Any]) -> tuple[Outgoing, ...]:
        """What is to be queued for all who want to know of an event; nothing is queued yet.

        Store it together with what has happened (:meth:`Commands.end` takes it), then call :meth:`wake`.

        Args:
            event: its type, such as ``turn_result``.
            payload: JSON; the body has it with ``type``, ``instance`` and ``at``.
        """
        now = self._clock()
        known = self._known.values()
        wanted = [webhook for webhook in known if webhook.wants(instance, event) and not webhook.stopped(now)]
        if not wanted:
            return ()
        told = {"type": event, "instance": instance, "at": now.isoformat(), **payload}
        body = json.dumps(told, ensure_ascii=True, separators=(",", ":"))
        return tuple(Outgoing(webhook.id, instance, body) for webhook in wanted)

    async def queue(self, outgoing: Iterable[Outgoing]) -> None:
        """Store what is to be delivered. It is delivered, whatever happens to this process, when this returns.

        Raises:
            StoreUnavailable: the database is away.
        """
        await self._webhooks.queue(outgoing)
        self.wake()

    def wake(self) -> None:
        """Look for what is due now: something was queued, or is to be tried again."""
        self._woken.set()

    def owner_changed(self, owner: str, *, expires: datetime | None = None, revoked: datetime | None = None) -> None:
        """A token ends at another moment than before: so does what its webhooks are told.

        Args:
            owner: the token's id.
        """
        for webhook in [webhook for webhook in self._known.values() if webhook.owner == owner]:
            self._known[webhook.id] = webhook.replace(owner_expires=expires, owner_revoked=revoked)
        self._is_stale = True  # the database may have been asked before
        self.wake()

    def stopped(self, webhook: Webhook) -> str:
        """Why it is told nothing, for a person; empty: it is told."""
        return webhook.stopped(self._clock())

    async def run(self) -> None:
        """Deliver what is due, until cancelled. What is under way then is sent again by the next one."""
        pause = _STORE_PAUSE
        options: dict[str, Any] = {"max_connections": _AT_ONCE, "keepalive_expiry": 30.0}
        tls = await anyio.to_thread.run_sync(ssl.create_default_context)
        async with (
            httpcore.AsyncConnectionPool(tls, network_backend=self._network, **options) as pool,
            anyio.create_task_group() as group,
        ):
            while True:
                self._woken = anyio.Event()
                try:
                    wait = await self._start_due(pool, group)
                    pause = _STORE_PAUSE
                except StoreUnavailable as error:
                    self._log.warning("webhooks_wait", reason=error.what, seconds=pause)
                    wait, pause = pause, min(2 * pause, _LONGEST_STORE_PAUSE)
                with anyio.move_on_after(wait):
                    await self._woken.wait()

    def list(self) -> list[Webhook]:
        """All webhooks, the oldest first."""
        return sorted(self._known.values(), key=lambda webhook: (webhook.created, webhook.id))

    # Private

    async def _start_due(self, pool: httpcore.AsyncConnectionPool, group: anyio.abc.TaskGroup) -> float:
        """Begin what is due. Returns seconds until something more is; what ends before wakes us."""
        self._settled.clear()
        now = self._clock()
        due = await self._webhooks.due(now, _AT_ONCE_OF_ONE)
        if self._is_stale or any(delivery.webhook not in self._known for delivery in due):
            await self.begin()
        next_due = await self._webhooks.next_due(now)
        busy = Counter(webhook for webhook, _ in self._in_flight)
        for delivery in due:
            place = (delivery.webhook, delivery.instance)
            webhook = self._known.get(delivery.webhook)
            # What has ended since the database was asked is not what it says any more.
            if webhook is None or place in self._in_flight or delivery.id in self._settled:
                continue
            if webhook.stopped(now):
                continue
            if busy[webhook.id] < _AT_ONCE_OF_ONE and len(self._in_flight) < _AT_ONCE:
                busy[webhook.id] += 1
                self._in_flight[place] = delivery
                group.start_soon(self._deliver, pool, webhook, delivery)
        return max(0.0, (next_due - self._clock()).total_seconds()) if next_due else math.inf

    async def _deliver(self, pool: httpcore.AsyncConnectionPool, webhook: Webhook, delivery: Delivery) -> None:
        try:
            failure = await self._try(pool, webhook, delivery)
            await self._settle(delivery, failure)
        finally:
            del self._in_flight[delivery.webhook, delivery.instance]
            self._settled.add(delivery.id)
            self.wake()

    async def _try(self, pool: httpcore.AsyncConnectionPool, webhook: Webhook, delivery: Delivery) -> _Failure | None:
        body = delivery.body.encode()
        stamp = int(self._clock().timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "cc-bridge",
            "X-CC-Bridge-Delivery": delivery.id,
            "X-CC-Bridge-Timestamp": str(stamp),
            "X-CC-Bridge-Signature": sign(webhook.secret, stamp, body),
        }
        named = [(name.encode(), value.encode()) for name, value in headers.items()]
        url = httpcore.URL(webhook.url)
        named.insert(0, (b"Host", url.origin.host + (b":%d" % url.port if url.port else b"")))
        try:
            with anyio.fail_after(self._patience):  # in all: an answer that drips is none
                async with pool.stream("POST", url, headers=named, content=body, extensions=self._limits) as response:
                    answer = await _beginning(response)
                    return _judge(response, answer)
        except TimeoutError:
            return _Failure(f"no answer in {self._patience:g} s")
        except _FAILURES as error:
            return _Failure(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    async def _settle(self, delivery: Delivery, failure: _Failure | None) -> None:
        """Tell the database what became of a try; while it is away, again and again: it was sent, and is not twice."""
        pause = _STORE_PAUSE
        while True:
            try:
                if failure is None:
                    await self._webhooks.delivered(delivery.id)
                    for tell in self._delivered:
                        tell(delivery)
                else:
                    await self._failed(delivery, failure)
                return
            except StoreUnavailable as error:
                self._log.warning("delivery_not_noted", delivery=delivery.id, reason=error.what)
                await anyio.sleep(pause)  # back-off: somebody has to start it
                pause = min(2 * pause, _LONGEST_STORE_PAUSE)

    async def _failed(self, delivery: Delivery, failure: _Failure) -> None:
        again_at = None
        if not failure.is_final and delivery.tries < len(self._pauses):
            again_at = self._clock() + timedelta(seconds=max(self._pauses[delivery.tries], failure.pause))
        await self._webhooks.failed(delivery.id, delivery.tries + 1, failure.why, again_at)
        what = "delivery_failed" if again_at else "delivery_given_up"
        self._log.warning(what, webhook=delivery.webhook, delivery=delivery.id, reason=failure.why)


async def _beginning(response: httpcore.Response) -> bytes:
    """The first bytes of an answer; whatever is behind them is not read."""
    found = b""
    async for piece in response.aiter_stream():
        found += piece
        if len(found) >= _MOST_OF_AN_ANSWER:
            break
    return found[:_MOST_OF_AN_ANSWER]


def _judge(response: httpcore.Response, answer: bytes) -> _Failure | None:
    status = response.status
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return _Failure(f"{status}: it is elsewhere, and redirects are not followed")
    said = answer.decode("utf-8", "replace")[:200].strip()
    why = f"{status}: {said}" if said else str(status)
    return _Failure(why, pause=_asked_pause(response), is_final=status == 410)


def _asked_pause(response: httpcore.Response) -> float:
    """Seconds that it asks for; dates are not understood, and ask for nothing."""
    for name, value in response.headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 10:
            return min(float(value), _LONGEST_PAUSE)
    return 0.0
