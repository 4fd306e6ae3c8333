"""``cc-bridge permissions``, ``allow`` and ``deny``: permission requests of all instances, whoever attends to them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import anyio

from ..errors import AlreadyDecided, BridgeError, ConnectionLost, InvalidInput
from . import options as o
from .completion import complete_name, complete_request
from .parameters import Argument, Option
from .session import exit_code_of, run_async

if TYPE_CHECKING:
    from ..decisions import Decision
    from ..fleet.choices import AllowAlways, AllowForSession
    from ..instances.bridged import BridgedInstance
    from ..instances.open_requests import PendingRequest, RequestWatch
    from .display import Display

__all__ = ["allow", "beginnings", "deny", "permissions"]

#: Instances that are asked at once, and seconds for one of them.
_AT_ONCE = 16
_LIMIT = 10.0

#: Characters of an id that are shown, and that are needed to name one.
_SHOWN, _LEAST = 12, 6

#: Characters of a tool's input and of its name in a line.
_LONGEST, _LONGEST_TOOL = 100, 60

Id = Annotated[str, Argument(metavar="ID", help="The request, or the beginning of its id.", complete=complete_request)]


def permissions(
    name: Annotated[str, Argument(metavar="[NAME]", help="Of this instance only.", complete=complete_name)] = "",
    follow: Annotated[bool, Option("--follow", "-f", help="Show also those that come, until Ctrl-C.")] = False,
    as_json: o.Json = False,
) -> None:
    """List what instances ask permission for, whichever program attends to them. None is started."""
    from .display import Display, print_json
    from .tables import print_table

    async def main() -> int:
        with Display(as_json) as display:
            if follow:
                return await _follow(_names(name), display)
            found, failed = await _open_requests(_names(name))
            if as_json:
                print_json([_described(item) for item in found])
            elif found:
                print_table(["ID", "NAME", "WAITS", "TOOL", "INPUT", "SUGGESTED"], [_row(item) for item in found])
                for item in found:
                    _show_rules(item)
            return _told(failed, display, alone=bool(name))

    run_async(main)


def allow(
    id_: Id,
    rule: Annotated[
        str, Argument(metavar="[RULE]", help="With --session or --always: this one, and not the suggested one.")
    ] = "",
    session: Annotated[
        bool, Option("--session", help="And what the rule covers, until Claude Code's session ends.")
    ] = False,
    always: Annotated[
        bool, Option("--always", help="And what the rule covers from now on: kept in the instance's record.")
    ] = False,
    input_: Annotated[str, Option("--input", metavar="JSON", help="With this input in the tool's place.")] = "",
) -> None:
    """Allow what an instance asks for: once, for the session, or always. The first answer wins."""

    def choice() -> Decision | AllowForSession | AllowAlways:
        from ..decisions import Allow
        from ..fleet.choices import AllowAlways, AllowForSession

        if session and always:
            raise InvalidInput("--session and --always: which of the two?")
        if rule and not (session or always):
            raise InvalidInput(f"the rule {rule!r} is for --session or --always: once needs none")
        if input_ and (session or always):
            raise InvalidInput("--input is for this once, and a rule would be for other inputs")
        if session or always:
            return (AllowForSession if session else AllowAlways)(rule or None)
        return Allow(_parse_input(input_) if input_ else None)

    _answer(id_, choice, "allowed")


def deny(
    id_: Id,
    reason: Annotated[str, Argument(metavar="[REASON]", help="The model reads it.")] = "",
) -> None:
    """Deny what an instance asks for. The first answer wins."""

    def choice() -> Decision:
        from ..decisions import Deny

        return Deny(reason) if reason else Deny()

    _answer(id_, choice, "denied")


def _answer(wanted: str, choose: Callable[[], Decision | AllowForSession | AllowAlways], done: str) -> None:
    from .display import Display

    async def main() -> int:
        from ..fleet.choices import answer_pending
        from ..instances.registry import Registry
        from .display import short

        choice = choose()
        with Display() as display:
            pending = await _find(wanted)
            async with _opened(pending.instance) as instance:
                rules = await answer_pending(
                    instance.connect_to_look, Registry(), pending, choice, engine_is_here=_engine_is_here
                )
            request = pending.request
            display.note(f"{done}: {pending.instance} {request.tool_name[:_LONGEST_TOOL]} {short(request.input)}")
            for text in rules:
                display.note(f"kept in its record, which fleets go by: {text}")
            print(pending.id)
        return 0

    run_async(main)


def _parse_input(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("--input is no JSON object", hint='Such as {"command": "ls"}; `permissions --json` has it.')
    return found


def _engine_is_here() -> bool:
    """Whether containers run on this machine, as far as the engine's address says."""
    from ..engine.address import find_address

    try:
        return find_address().scheme == "unix"
    except BridgeError:
        return False


# Finding them


def _names(name: str) -> list[str]:
    from ..instances.registry import Registry

    if name:
        Registry().load(name)
        return [name]
    return Registry().names()


@asynccontextmanager
async def _opened(name: str) -> AsyncIterator[BridgedInstance]:
    from .display import Display

    instance = o.load(name, Display())
    try:
        yield instance
    finally:
        with anyio.CancelScope(shield=True):
            await instance.release()


async def _of_each(
    names: Sequence[str], look: Callable[[str, RequestWatch], Awaitable[None]]
) -> dict[str, BridgeError]:
    """Look at instances, several at once; the errors of those that could not be looked at."""
    from ..instances.activity import NOBODY
    from ..instances.open_requests import RequestWatch

    failed: dict[str, BridgeError] = {}
    places = anyio.Semaphore(_AT_ONCE)

    async def one(name: str) -> None:
        try:
            async with places, _opened(name) as instance:
                with anyio.fail_after(_LIMIT):
                    async with RequestWatch.open(instance.connect_to_look, name) as watch:
                        await look(name, watch)
        except NOBODY:
            pass
        except TimeoutError:
            failed[name] = ConnectionLost("its agent does not answer in time", instance=name)
        except BridgeError as error:
            failed[name] = error

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(one, name)
    return failed


async def _open_requests(names: Sequence[str]) -> tuple[list[PendingRequest], dict[str, BridgeError]]:
    found: dict[str, list[PendingRequest]] = {}

    async def look(name: str, watch: RequestWatch) -> None:
        found[name] = watch.open_requests

    failed = await _of_each(names, look)
    return [item for name in names for item in found.get(name, [])], failed


async def beginnings(incomplete: str) -> list[str]:
    """The ids of open requests that begin so, as they are shown."""
    found, _ = await _open_requests(_names(""))
    return [item.id[:_SHOWN] for item in found if item.id.startswith(incomplete.lower())]


async def _find(wanted: str) -> PendingRequest:
    """The open request whose id begins so.

    Raises:
        AlreadyDecided: it was open.
        InvalidInput: there is none, or more than one.
    """
    beginning = wanted.strip().lower()
    if len(beginning) < _LEAST:
        raise InvalidInput(f"{wanted!r} is too short for an id", hint=f"At least {_LEAST} characters of it.")
    found: list[PendingRequest] = []
    decided: list[str] = []

    async def look(name: str, watch: RequestWatch) -> None:
        found.extend(item for item in watch.open_requests if item.id.startswith(beginning))
        decided.extend(name for id_ in watch.closed if id_.startswith(beginning))

    failed = await _of_each(_names(""), look)
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"{len(found)} requests begin with {wanted!r}", hint="Write more of the id.")
    if decided:
        what = "the request was decided already, or needs no decision any more"
        raise AlreadyDecided(what, instance=decided[0], how="moot")
    hint = "`cc-bridge permissions` shows what is open; a request goes when its turn ends."
    if failed:
        hint += f" Not looked at, because they do not answer: {', '.join(sorted(failed))}."
    raise InvalidInput(f"no open permission request has the id {wanted!r}", hint=hint)


def _told(failed: dict[str, BridgeError], display: Display, *, alone: bool) -> int:
    """Say what could not be looked at; the exit code."""
    if alone:
        for error in failed.values():
            raise error
    for name, error in sorted(failed.items()):
        display.note(f"{name} cannot be looked at: {error.what}")
    codes = [exit_code_of(error) for error in failed.values() if not isinstance(error, InvalidInput)]
    return max(codes, default=0)


async def _follow(names: Sequence[str], display: Display) -> int:
    """Show requests as they come, and when they are decided; until none of the instances has an agent."""
    from ..instances.activity import NOBODY
    from ..instances.open_requests import RequestWatch

    async def one(name: str) -> None:
        try:
            async with _opened(name) as instance, AsyncExitStack() as stack:
                with anyio.fail_after(_LIMIT):
                    watch = await stack.enter_async_context(RequestWatch.open(instance.connect_to_look, name))
                shown: dict[str, PendingRequest] = {}
                while True:
                    now = {item.id: item for item in watch.open_requests}
                    for id_ in [id_ for id_ in shown if id_ not in now]:
                        _show("decided", shown[id_], display)
                    for id_ in [id_ for id_ in now if id_ not in shown]:
                        _show("asked", now[id_], display)
                    shown = now
                    await watch.receive()
        except NOBODY:
            display.note(f"{name} does not run")
        except TimeoutError:
            display.note(f"{name} does not answer in time")
        except ConnectionLost:
            display.note(f"{name} has ended")
        except BridgeError as error:
            display.note(f"{name} cannot be looked at: {error.what}")

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(one, name)
    return 0


# Showing them


def _show(event: str, item: PendingRequest, display: Display) -> None:
    from .display import print_json
    from .harmless import plain

    if display.as_json:
        print_json({"event": event, **_described(item)}, lines=True)
    elif event == "decided":
        print(plain(f"{item.id[:_SHOWN]}  {item.instance}  decided, or no decision is needed any more"), flush=True)
    else:
        id_, name, _, tool, given, suggested = _row(item)
        print(plain(f"{id_}  {name}  {tool}  {given}  {suggested}".rstrip()), flush=True)
        _show_rules(item)


def _row(item: PendingRequest) -> list[str]:
    from ..fleet.rules import suggested_rules
    from .display import short

    request = item.request
    given = short(request.input, _LONGEST)
    rules = suggested_rules(request)
    suggested = "".join(rules) if _fits(rules) else f"{len(rules)}, below"
    tool = (request.tool_name or "-")[:_LONGEST_TOOL]
    return [item.id[:_SHOWN], item.instance, _age(item.waited), tool, given, suggested]


def _fits(rules: Sequence[str]) -> bool:
    """Whether the line of a request has room for the rules that it suggests."""
    return not rules or (len(rules) == 1 and len(rules[0]) <= _LONGEST)


def _show_rules(item: PendingRequest) -> None:
    """What `allow --always` would keep, whole, where the line has no room for it."""
    from ..fleet.choices import MOST_KEPT
    from ..fleet.rules import suggested_rules
    from .harmless import plain

    rules = suggested_rules(item.request)
    if _fits(rules):
        return
    for text in rules[:MOST_KEPT]:
        print(plain(f"{item.id[:_SHOWN]}  --always would keep {text}"), flush=True)
    if len(rules) > MOST_KEPT:
        more = f"and {len(rules) - MOST_KEPT} more, so a rule has to be named"
        print(plain(f"{item.id[:_SHOWN]}  {more}"), flush=True)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    unit, size = next((pair for pair in (("d", 86400), ("h", 3600), ("m", 60)) if seconds >= pair[1]), ("s", 1))
    return f"{seconds / size:.0f}{unit}"


def _described(item: PendingRequest) -> dict[str, Any]:
    from ..fleet.rules import suggested_rules

    request = item.request
    return {
        "id": item.id,
        "instance": item.instance,
        "turn": item.turn or None,
        "tool": request.tool_name,
        "input": dict(request.input),
        "suggestions": list(request.suggestions),
        "suggested_rules": suggested_rules(request),
        "reason": request.reason or None,
        "agent": request.agent_id or None,
        "waited": item.waited,
    }
