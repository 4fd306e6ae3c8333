"""The permission desk of a fleet: every request that no policy decides waits here for somebody.

A request goes through the rules of its instance's record, then through ``on_permission``, and what neither decides is
put on the desk, where anybody may answer; the first answer wins. What waits, and an answer that may not have arrived,
is kept on disk: a fleet that was killed is followed by one that finds both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

import anyio

from ..decisions import request_digest
from ..errors import AlreadyDecided, BridgeError, InvalidInput
from ..events import PermissionRequest
from ..instance import Allow, Decision, Deny
from .choices import AllowAlways, AllowForSession, rules_to_keep, session_updates
from .permission_store import Answered, KeptRequest, RequestStore
from .permission_watch import Asked, Decided, DeskEvent, Missed, Moot, OpenRequest, Watch
from .rules import Rules

__all__ = [
    "AllowAlways",
    "AllowForSession",
    "Asked",
    "Decided",
    "Desk",
    "DeskEvent",
    "Missed",
    "Moot",
    "OpenRequest",
    "Policy",
    "Watch",
]

#: Requests of one instance that wait at once; no Claude Code asks for so many.
_MOST_OPEN = 100

#: Answers that are kept because they may not have arrived, and those that are remembered for who answers late.
_MOST_ANSWERED = 1000
_MOST_PAST = 1000

#: A coroutine function that decides on a request, or returns None: somebody is to be asked.
Policy = Callable[[OpenRequest], Awaitable[Decision | None]]


@dataclass(eq=False)
class _Entry:
    kept: KeptRequest
    undecided: str = ""
    waiting: int = 0  # calls of decide
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def shown(self) -> OpenRequest:
        kept = self.kept
        of_it = (kept.id, kept.instance, kept.turn, kept.tool_name, kept.input, kept.suggestions, kept.since)
        return OpenRequest(*of_it, undecided=self.undecided, attended=self.waiting > 0)


class Desk:
    """Who decides on permission requests, for all instances of a fleet.

    Args:
        directory: where requests and answers are kept; this desk's alone.
        rules: finds the rules of an instance; it may raise.
        remember: writes a rule into an instance's record; None: "always" is refused.
        wait: seconds from when a request was asked until it is denied; None: it waits for as long as its turn does.
        on_permission: decides by code on what the rules have not decided.
        policy_limit: seconds for it to do so. If they run out, or it raises, the request is put on the desk.
        now: the time; UTC.

    Raises:
        InvalidInput: the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rules: Callable[[str], Rules],
        remember: Callable[[str, str], None] | None = None,
        wait: float | None = None,
        on_permission: Policy | None = None,
        policy_limit: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = RequestStore(directory)
        self._rules = rules
        self._remember = remember
        self._wait = wait
        self._on_permission = on_permission
        self._policy_limit = policy_limit
        self._now = now
        self._closed = False
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._past: OrderedDict[str, tuple[str, str, str]] = OrderedDict()  # instance, by, how
        self._watches: WeakSet[Watch] = WeakSet()
        for kept in self._store.load():
            self._entries[kept.id] = _Entry(kept)

    # What attends the instances calls

    async def decide(self, instance: str, turn: str, request: PermissionRequest) -> Decision:
        """The decision on a request, however long it takes. Call it again with the same request after a restart.

        Cancelled, the request is moot, and leaves the desk; after :meth:`close` it stays for the next fleet. An answer
        is given again until :meth:`end_turn` says that nobody needs it.
        """
        try:
            request_id = request_digest(instance, turn, request)
        except (ValueError, TypeError, RecursionError):
            return Deny("This request cannot be read.")
        if answered := self._answer_to(request_id):
            return answered.decision
        policy = await self._policy(request_id, instance, turn, request)
        if answered := self._answer_to(request_id):  # somebody has, meanwhile
            return answered.decision
        if isinstance(policy, Answered):
            if entry := self._entries.get(request_id):
                self._settle(entry, policy)
            return policy.decision
        entry = self._entries.get(request_id)
        if entry is None and len(self._open_entries(instance)) >= _MOST_OPEN:
            return Deny("Too many requests wait for a decision.")
        return await self._ask(self._put(request_id, instance, turn, request, policy))

    def end_turn(self, instance: str, turn: str) -> None:
        """Forget a turn's requests and answers: it has ended. Harmless when repeated."""
        self._forget(lambda kept: kept.instance == instance and kept.turn == turn)

    def forget(self, instance: str) -> None:
        """Forget an instance's requests and answers: it is removed, or has no turn."""
        self._forget(lambda kept: kept.instance == instance)

    def close(self) -> None:
        """Keep what waits for the next fleet, and end all watches. Call it before :meth:`decide` is cancelled."""
        self._closed = True
        for watch in list(self._watches):
            watch.close()

    # What those who answer call

    def open(self, instance: str | None = None) -> list[OpenRequest]:
        """What waits for somebody, oldest first.

        Args:
            instance: of this one only.
        """
        return [entry.shown for entry in self._open_entries(instance)]

    def answer(self, id: str, decision: Decision | AllowForSession | AllowAlways, by: str = "") -> None:  # noqa: A002
        """Decide on a request. It is kept when this returns, and carried out at once, or when the instance is reached.

        "Always" also answers the other requests of the instance that the new rule covers.

        Args:
            by: whoever decides; told to those who watch, and to those who answer later.

        Raises:
            AlreadyDecided: by whom, and how.
            InvalidInput: there is no such request, or the decision is none; the request waits on.
            BridgeError: the rule could not be written; the request waits on.
        """
        entry = self._entries.get(id)
        if entry is None and (past := self._past.get(id)):
            raise _already_decided(*past)
        if entry is None:
            raise InvalidInput(f"there is no permission request {id!r}", hint="List what is open; ids are not numbers.")
        if (answered := entry.kept.answered) is not None:
            raise _already_decided(entry.kept.instance, answered.by, answered.how)
        self._settle(entry, self._answered(entry, decision, by), keep=not entry.waiting)
        if isinstance(decision, AllowAlways):
            self._allow_what_is_covered(entry.kept.instance, by)

    def watch(self) -> Watch:
        """What happens from now on: :class:`Asked`, :class:`Decided`, :class:`Moot`, :class:`Missed`."""
        watch = Watch()
        if self._closed:
            watch.close()
        self._watches.add(watch)
        return watch

    # Policies

    async def _policy(self, request_id: str, instance: str, turn: str, request: PermissionRequest) -> Answered | str:
        """What the policies decide, or why they do not."""
        try:
            ruling = self._rules(instance).decide(request)
        except (
            Exception
        ) as error:  # they are a caller's function; a deny rule may be among those that nobody could read
            return f"The rules could not be read: {_in_words(error)}"
        if ruling is None:
            return await self._by_code(request_id, instance, turn, request)
        if ruling.behaviour == "allow":
            return Answered(Allow(), "", "rule")
        if ruling.behaviour == "deny":
            return Answered(Deny(f"The rule {ruling.rule} denies this."), "", "rule")
        if ruling.doubt:
            return f"Nobody can say whether the rule {ruling.rule} forbids it."
        return f"The rule {ruling.rule} asks."

    async def _by_code(self, request_id: str, instance: str, turn: str, request: PermissionRequest) -> Answered | str:
        if self._on_permission is None:
            return ""
        shown = _Entry(self._new(request_id, instance, turn, request)).shown
        try:
            with anyio.move_on_after(self._policy_limit):
                decision: object = await self._on_permission(shown)
                if isinstance(decision, Allow | Deny):
                    return Answered(decision, "", "policy")
                return "" if decision is None else f"on_permission returned {decision!r:.100}, which is no decision."
        except Exception as error:  # a caller's function: whatever it raises, somebody is asked
            return f"on_permission failed: {_in_words(error)}"
        return f"on_permission has not decided within {self._policy_limit:g} seconds."

    # The desk

    def _new(self, request_id: str, instance: str, turn: str, request: PermissionRequest) -> KeptRequest:
        of_it = (request.request_id, request.tool_name, request.input, request.suggestions)
        return KeptRequest(request_id, instance, turn, *of_it, since=self._now())

    def _put(self, request_id: str, instance: str, turn: str, request: PermissionRequest, undecided: str) -> _Entry:
        entry = self._entries.get(request_id)
        if entry is None:
            entry = self._entries[request_id] = _Entry(self._new(request_id, instance, turn, request))
            try:
                self._store.save(entry.kept)
            except OSError as error:  # it waits all the same; a restart asks it anew
                undecided = f"{undecided} It is not kept on disk: {error.strerror}.".lstrip()
        entry.kept = replace(entry.kept, input=request.input, suggestions=request.suggestions)
        entry.undecided = undecided
        return entry

    async def _ask(self, entry: _Entry) -> Decision:
        entry.waiting += 1
        if entry.waiting == 1:
            self._tell(Asked(entry.shown))
        try:
            with anyio.move_on_after(self._time_left(entry)):
                await entry.changed.wait()
            if entry.kept.answered is None:
                self._settle(entry, Answered(Deny("Nobody has decided in time."), "", "time"))
        finally:
            entry.waiting -= 1
            if entry.kept.answered is None and not entry.waiting and not self._closed:
                self._drop(entry, "moot")
        assert entry.kept.answered is not None
        return entry.kept.answered.decision

    def _time_left(self, entry: _Entry) -> float | None:
        """Within bounds, however the clock has jumped since."""
        if self._wait is None:
            return None
        return min(max(self._wait - (self._now() - entry.kept.since).total_seconds(), 0.0), self._wait)

    def _answered(self, entry: _Entry, decision: Decision | AllowForSession | AllowAlways, by: str) -> Answered:
        name = entry.kept.instance
        match decision:
            case Allow():
                return Answered(decision, by, "allow")
            case Deny():
                return Answered(decision, by, "deny")
            case AllowForSession(rule):
                return Answered(Allow(updates=session_updates(name, entry.kept.suggestions, rule)), by, "session")
            case AllowAlways(rule):
                self._write(entry.kept, rule)
                return Answered(Allow(), by, "always")
        hint = "It is Allow, Deny, AllowForSession or AllowAlways; nothing was decided."
        raise InvalidInput(f"{decision!r} is no decision", instance=name, hint=hint)

    def _write(self, kept: KeptRequest, rule: str | None) -> None:
        name, request = kept.instance, _request_of(kept)
        if self._remember is None:
            raise InvalidInput("no rule can be kept here", instance=name, hint="Allow it once, or for the session.")
        rules = rules_to_keep(name, request, rule, self._rules(name))
        for text in rules:
            self._remember(name, text)

    def _allow_what_is_covered(self, instance: str, by: str) -> None:
        try:
            rules = self._rules(instance)
        except BridgeError:  # the answer stands; the others wait on
            return
        for entry in self._open_entries(instance):
            ruling = rules.decide(_request_of(entry.kept)) if entry.kept.input is not None else None
            if ruling is not None and ruling.behaviour == "allow":
                with suppress(BridgeError):  # it waits on
                    self._settle(entry, Answered(Allow(), by, "rule"), keep=not entry.waiting)

    def _settle(self, entry: _Entry, answered: Answered, *, keep: bool = False) -> None:
        """Decide it, once. ``keep``: not if it cannot be kept, because nobody waits for it just now."""
        kept = replace(entry.kept, answered=answered)
        try:
            self._store.save(kept)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the answer is not JSON: {error}", instance=kept.instance) from None
        except OSError as error:
            if keep:
                what = f"the answer could not be kept: {error.strerror}"
                raise BridgeError(
                    what, instance=kept.instance, hint="The request waits on; answer it again."
                ) from error
        entry.kept = kept
        entry.changed.set()
        self._entries.move_to_end(kept.id)
        self._tell(Decided(kept.id, kept.instance, isinstance(answered.decision, Allow), answered.by, answered.how))
        done = [other for other in self._entries.values() if other.kept.answered is not None and not other.waiting]
        for other in done[: max(0, len(done) - _MOST_ANSWERED)]:
            self._drop(other)

    def _answer_to(self, request_id: str) -> Answered | None:
        entry = self._entries.get(request_id)
        return entry.kept.answered if entry else None

    def _open_entries(self, instance: str | None) -> list[_Entry]:
        found = [entry for entry in self._entries.values() if entry.kept.answered is None]
        return [entry for entry in found if instance is None or entry.kept.instance == instance]

    def _forget(self, chosen: Callable[[KeptRequest], bool]) -> None:
        for entry in [entry for entry in self._entries.values() if chosen(entry.kept)]:
            if entry.kept.answered is not None:
                self._drop(entry)
            elif not entry.waiting:  # whoever waits is cancelled by its own caller
                self._drop(entry, "moot")

    def _drop(self, entry: _Entry, how: str = "") -> None:
        kept = entry.kept
        if self._entries.pop(kept.id, None) is None:
            return
        self._store.remove(kept.id)
        answered = kept.answered
        self._past[kept.id] = (kept.instance, answered.by, answered.how) if answered else (kept.instance, "", how)
        if len(self._past) > _MOST_PAST:
            self._past.popitem(last=False)
        if answered is None:
            self._tell(Moot(kept.id, kept.instance))

    def _tell(self, event: DeskEvent) -> None:
        for watch in list(self._watches):
            watch.tell(event)


def _request_of(kept: KeptRequest) -> PermissionRequest:
    return PermissionRequest(kept.request_id, kept.tool_name, kept.input or {}, kept.suggestions)


def _already_decided(instance: str, by: str, how: str) -> AlreadyDecided:
    if how == "moot":
        what = "the request needs no decision any more"
    elif how == "time":
        what = "nobody had decided in time, and the request was denied"
    else:
        what = f"{by or 'somebody'} was first: {how}"
    return AlreadyDecided(what, instance=instance, by=by, how=how)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
