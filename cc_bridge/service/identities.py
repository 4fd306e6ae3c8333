"""Who asks, what they may do and see, and how much of it. Nothing here waits or looks at a clock."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from fnmatch import fnmatchcase
from ipaddress import IPv6Address, ip_address
from typing import Literal, Protocol

from ..errors import BridgeError, InvalidInput
from ..values import Value

__all__ = [
    "ALL_SCOPES",
    "NO_LIMITS",
    "Identity",
    "Limits",
    "Meters",
    "MoreThanOwn",
    "NotAllowed",
    "Scope",
    "Strikes",
    "TokenBucket",
    "TooMany",
]

#: ``read``: see instances, their conversations and files. ``command``: give commands, interrupt, write files.
#: ``permissions``: decide what Claude Code may do. ``manage``: make and remove instances, tokens and webhooks.
Scope = Literal["read", "command", "permissions", "manage"]

ALL_SCOPES: frozenset[Scope] = frozenset(("read", "command", "permissions", "manage"))


class NotAllowed(BridgeError):
    """A scope lacks.

    Attributes:
        scope: the one that it takes.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"this token may not do that: it takes the scope {scope}", hint="Use a token that has it.")
        self.scope = scope


class MoreThanOwn(NotAllowed):
    """Somebody would hand out what they have not: scopes, a view, limits, or time."""

    def __init__(self) -> None:
        super().__init__("manage")
        self.what = "nobody can hand out more than their own token has: scopes, instances, limits, or time"
        self.hint = "Ask for less, or use a token that has it."


class TooMany(BridgeError):
    """Too many commands, or too many wrong tokens.

    Attributes:
        retry_after: seconds until it may work.
    """

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(what, hint=f"Try again in {max(1, round(retry_after))} s.")
        self.retry_after = retry_after


class Limits(Value):
    """How much somebody may ask for. None: no limit.

    Attributes:
        commands_per_minute: on average; a minute's worth may come at once.
        at_once: commands that have not ended, over all instances.
    """

    commands_per_minute: int | None = None
    at_once: int | None = None

    def checked(self) -> Limits:
        """These limits.

        Raises:
            InvalidInput: one is smaller than 1, or larger than a database's integer.
        """
        for name, value in self.as_dict().items():
            if value is not None and not 1 <= value <= _LARGEST:
                raise InvalidInput(f"{name} is at least 1 and at most {_LARGEST}, and not {value}")
        return self


_LARGEST = 1_000_000
NO_LIMITS = Limits()


class _TokenLike(Protocol):
    """What an identity is made from; a :class:`~cc_bridge.service.store.Token`."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> frozenset[Scope]: ...
    @property
    def instances(self) -> tuple[str, ...]: ...
    @property
    def projects(self) -> tuple[str, ...]: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def expires(self) -> datetime | None: ...


class Identity(Value):
    """Who asks.

    Attributes:
        id: the token's; the owner of commands and who it was in the audit log.
        instances, projects: patterns, as a shell has them (``*``, ``?``, ``[…]``). Both empty: it sees everything.
        expires: when its token does, UTC; None: never.
        ends: when what is open for it is to end, UTC: its token expires, or the session that was shown.
        session: tells the session that was shown from others; empty: the token itself was.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    instances: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    expires: datetime | None = None
    ends: datetime | None = None
    session: str = ""

    @classmethod
    def of(cls, token: _TokenLike, session_ends: datetime | None = None, session: str = "") -> Identity:
        """The identity of who has this token.

        Args:
            session_ends, session: when the session expires that was shown, UTC, and what tells it from others.
        """
        ends = min((end for end in (token.expires, session_ends) if end is not None), default=None)
        own = (token.id, token.name, token.scopes, token.instances, token.projects, token.limits, token.expires)
        return cls(*own, ends, session)

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope."""
        return scope in self.scopes

    def need(self, scope: Scope) -> None:
        """Go on only with this scope.

        Raises:
            NotAllowed: it lacks.
        """
        if scope not in self.scopes:
            raise NotAllowed(scope)

    @property
    def sees_all(self) -> bool:
        """Whether there is no instance that it does not see."""
        return not self.instances and not self.projects

    def sees(self, instance: str, project: str) -> bool:
        """Whether an instance is there for it: its name or its project matches a pattern."""
        return self.sees_all or _matches(self.instances, instance) or _matches(self.projects, project)

    def covers(self, other: _TokenLike) -> bool:
        """Whether it may hand this token out, or end it: nobody makes one that may, sees or lasts more than their own.

        Patterns are compared as they are written: a narrower one that is spelled in another way is refused, which is
        the safe side.
        """
        own, limits = self.limits.as_dict(), other.limits.as_dict()
        return (
            other.scopes <= self.scopes
            and self.covers_view(other.instances, other.projects)
            and all(_at_most(limits[name], own[name]) for name in own)
            and (self.expires is None or (other.expires is not None and other.expires <= self.expires))
        )

    def covers_view(self, instances: tuple[str, ...], projects: tuple[str, ...] = ()) -> bool:
        """Whether it sees all that these patterns match; both empty: everything. Compared as :meth:`covers` does."""
        if self.sees_all:
            return True
        named = bool(instances or projects)
        return named and set(instances) <= set(self.instances) and set(projects) <= set(self.projects)


def _at_most(value: int | None, limit: int | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


class TokenBucket:
    """So many a minute on average, and at once as many as a minute has.

    Args:
        per_minute: how many; at least 1.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._level = per_minute
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until one may be taken; 0: now."""
        self._fill(now)
        return max(0.0, (1 - self._level) * 60 / self.per_minute)

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        if self.wait(now) > 0:
            return False
        self._level = max(0.0, self._level - 1)
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing was taken for so long that it is as good as new."""
        self._fill(now)
        return self._level >= self.per_minute

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = max(self._at, now)
        self._level = min(self.per_minute, self._level + passed * self.per_minute / 60)


class Meters:
    """How many commands each identity has given, and how many of them go on.

    Call :meth:`admit` for each new command, and :meth:`ended` when it has ended, whatever became of it.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        self._going: dict[str, set[str]] = {}

    def admit(self, identity: Identity, command: str, now: float) -> None:
        """Count a command, by its id. One that is counted already is let through.

        Raises:
            TooMany: its limits are reached; nothing is counted.
        """
        going = self._going.get(identity.id, set())
        if command in going:
            return
        limits = identity.limits
        if limits.at_once is not None and len(going) >= limits.at_once:
            raise TooMany(f"{len(going)} commands of this token go on, as many as may at once", 5)
        if limits.commands_per_minute is not None:
            bucket = self._bucket(identity.id, limits.commands_per_minute, now)
            if not bucket.take(now):
                what = f"this token may give {limits.commands_per_minute} commands a minute"
                raise TooMany(what, bucket.wait(now))
        self.goes_on(identity.id, command)

    def goes_on(self, owner: str, command: str) -> None:
        """Count a command that was admitted before: by the service that ran before this one."""
        self._going.setdefault(owner, set()).add(command)

    def ended(self, owner: str, command: str) -> None:
        """It goes on no more. What was never admitted may end, too."""
        going = self._going.get(owner)
        if going is not None:
            going.discard(command)
            if not going:
                del self._going[owner]

    def going(self, owner: str) -> int:
        """How many commands of this owner go on."""
        return len(self._going.get(owner, ()))

    def _bucket(self, owner: str, per_minute: int, now: float) -> TokenBucket:
        bucket = self._buckets.get(owner)
        if bucket is None or bucket.per_minute != per_minute:
            self._buckets = {name: kept for name, kept in self._buckets.items() if not kept.is_full(now)}
            bucket = self._buckets[owner] = TokenBucket(per_minute, now)
        return bucket


#: Wrong tokens that one address may show in a minute, and all addresses together.
_WRONG_PER_MINUTE = 10
_MOST_ADDRESSES = 10_000
_MOST_KNOWN = 10_000


class Strikes:
    """Slows down who shows wrong tokens.

    Many people may share an address, and behind a proxy all do: whose token was right a while ago is never held up by
    what others do. Ask :meth:`wait` before looking for a token, then call :meth:`right` or :meth:`wrong`.

    Args:
        per_minute: wrong ones that an address may show.
    """

    def __init__(self, per_minute: int = _WRONG_PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def check(self, address: str, digest: str, now: float) -> None:
        """Go on only if this may be tried now.

        Args:
            address: the client's; any text.
            digest: of what it has shown (never the secret itself: it is remembered).

        Raises:
            TooMany: it must wait. Do not look whether the token is right.
        """
        if (wait := self.wait(address, digest, now)) > 0:
            raise TooMany("too many wrong tokens came from this address", wait)

    def wait(self, address: str, digest: str, now: float) -> float:
        """Seconds until this may be tried; 0: now."""
        if digest in self._known:
            return 0.0
        bucket = self._buckets.get(_network(address))
        return bucket.wait(now) if bucket else 0.0

    def right(self, digest: str) -> None:
        """It was right: whoever shows it again is not held up."""
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def wrong(self, address: str, digest: str, now: float) -> None:
        """It was wrong, or is not right any more."""
        self._known.pop(digest, None)
        network = _network(address)
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(self._per_minute, now)
        bucket.take(now)
        self._buckets.move_to_end(network)
        if len(self._buckets) > _MOST_ADDRESSES:  # the one that has been quiet for longest
            self._buckets.popitem(last=False)


def _network(address: str) -> str:
    """What one subscriber has: an IPv4 address, or the first half of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
