"""What the service keeps, by one contract in both databases: real ones, a file and a server."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from anyio.abc import Process
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from cc_bridge import InvalidInput
from cc_bridge.service.identities import Limits
from cc_bridge.service.store import SESSION_LIFE, Command, KeyReused, Outgoing, Store, StoreUnavailable
from cc_bridge.service.store.migrate import migrate
from cc_bridge.service.store.schema import metadata
from cc_bridge.service.store.tokens import checked_token
from tests.postgresql import Cluster

pytestmark = pytest.mark.anyio

BOTH = ["sqlite", "postgresql"]


def command(instance: str = "demo", prompt: Any = "hello", **fields: Any) -> Command:
    return Command(id=str(uuid.uuid4()), instance=instance, prompt=prompt, **fields)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/service.db"
    return request.getfixturevalue("postgresql").database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with Store.open(url) as store:
        yield store


async def at_once(*functions: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What they return, run at once."""
    results: list[Any] = [None] * len(functions)

    async def run(place: int) -> None:
        results[place] = await functions[place]()

    async with anyio.create_task_group() as group:
        for place in range(len(functions)):
            group.start_soon(run, place)
    return results


class TestCommands:
    @pytest.mark.parametrize(
        "prompt", ["hello", "\0 and \ud800, é, 🙂", [{"type": "image", "data": "A" * 3_000_000}], [], ""]
    )
    async def test_a_command_is_read_as_it_was_stored(self, store: Store, prompt: Any) -> None:
        before = now()
        stored, is_new = await store.commands.add(command(prompt=prompt, owner="me"))
        assert is_new
        assert stored.prompt == prompt
        assert (stored.state, stored.result, stored.owner) == ("stored", None, "me")
        assert before <= stored.created <= now()
        assert await store.commands.get(stored.id) == stored
        assert await store.commands.open() == [stored]

    async def test_it_has_what_the_service_before_has_stored(self, url: str) -> None:
        async with Store.open(url) as store:
            stored, _ = await store.commands.add(command())
            sent, _ = await store.commands.add(command())
            ended, _ = await store.commands.add(command())
            assert await store.commands.sent(sent.id)
            await store.commands.end(ended.id, {"verdict": "completed"})
        async with Store.open(url) as store:
            assert [(item.id, item.state) for item in await store.commands.open()] == [
                (stored.id, "stored"),
                (sent.id, "sent"),
            ]
            again = await store.commands.get(ended.id)
            assert again is not None
            assert again.result == {"verdict": "completed"}

    async def test_they_are_numbered_in_the_order_in_which_they_were_accepted(self, store: Store) -> None:
        accepted: list[Command] = []

        async def add() -> None:
            accepted.append((await store.commands.add(command()))[0])

        await at_once(*[add] * 30)
        assert [item.number for item in accepted] == sorted({item.number for item in accepted})
        assert await store.commands.open() == accepted

    async def test_a_number_is_never_taken_twice(self, store: Store) -> None:
        first, _ = await store.commands.add(command())
        await store.commands.forget("demo")
        assert (await store.commands.add(command()))[0].number > first.number

    async def test_of_many_with_the_same_key_at_once_one_is_stored(self, store: Store) -> None:
        async def add() -> tuple[Command, bool]:
            return await store.commands.add(command(owner="me"), key="k", digest="d")

        got = await at_once(*[add] * 20)
        assert sum(is_new for _, is_new in got) == 1
        assert len({item.id for item, _ in got}) == 1
        assert len(await store.commands.open()) == 1

    async def test_a_key_finds_its_command_when_it_has_ended_and_after_a_restart(self, url: str) -> None:
        async with Store.open(url) as store:
            first, _ = await store.commands.add(command(), key="k", owner="me", digest="d")
            await store.commands.end(first.id, {"text": "done"})
        async with Store.open(url) as store:
            again, is_new = await store.commands.add(command(), key="k", owner="me", digest="d")
            assert not is_new
            assert (again.id, again.state, again.result) == (first.id, "ended", {"text": "done"})

    async def test_a_key_with_another_body_is_refused(self, store: Store) -> None:
        await store.commands.add(command(), key="k", owner="me", digest="d")
        with pytest.raises(KeyReused, match="another command"):
            await store.commands.add(command(), key="k", owner="me", digest="e")
        assert len(await store.commands.open()) == 1

    async def test_a_key_is_its_owner_s_and_for_one_instance(self, store: Store) -> None:
        for owner, instance in (("me", "a"), ("you", "a"), ("me", "b")):
            _, is_new = await store.commands.add(command(instance), key="k", owner=owner, digest="d")
            assert is_new

    async def test_without_a_key_each_is_another(self, store: Store) -> None:
        for _ in range(2):
            assert (await store.commands.add(command()))[1]

    async def test_an_id_that_is_taken_is_refused_and_the_store_goes_on(self, store: Store) -> None:
        first, _ = await store.commands.add(command())
        with pytest.raises(InvalidInput, match="already"):
            await store.commands.add(first)
        assert (await store.commands.add(command()))[1]

    @pytest.mark.parametrize("key", ["a\0b", "\ud800", "k" * 201])
    async def test_a_key_that_is_no_text_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(InvalidInput):
            await store.commands.add(command(), key=key)
        assert await store.commands.open() == []

    async def test_of_withdrawing_and_sending_one_is_first(self, store: Store) -> None:
        for _ in range(20):
            stored, _ = await store.commands.add(command())
            withdrawn, sent = await at_once(
                lambda item=stored: store.commands.withdraw(item.id), lambda item=stored: store.commands.sent(item.id)
            )
            assert withdrawn != sent
            after = await store.commands.get(stored.id)
            assert after is not None
            assert after.state == ("ended" if withdrawn else "sent")
            assert (after.result or {}).get("verdict") == ("withdrawn" if withdrawn else None)

    async def test_a_command_goes_forward_only(self, store: Store) -> None:
        stored, _ = await store.commands.add(command())
        assert await store.commands.change(stored.id, "other")
        assert await store.commands.sent(stored.id)
        assert not await store.commands.sent(stored.id)
        assert not await store.commands.change(stored.id, "too late")
        assert await store.commands.running(stored.id)
        assert await store.commands.running(stored.id)
        assert await store.commands.end(stored.id, {"n": 1})
        assert not await store.commands.end(stored.id, {"n": 2})
        assert not await store.commands.running(stored.id)
        assert not await store.commands.withdraw(stored.id)
        after = await store.commands.get(stored.id)
        assert after is not None
        assert (after.prompt, after.state, after.result) == ("other", "ended", {"n": 1})
        assert await store.commands.open() == []

    async def test_what_is_not_there_is_not_moved(self, store: Store) -> None:
        moves = store.commands
        assert [await moves.sent("x"), await moves.running("x"), await moves.end("x", {})] == [False] * 3
        assert not await moves.withdraw("x")
        assert await moves.get("x") is None

    async def test_the_end_and_what_is_told_of_it_are_one(self, store: Store) -> None:
        hook = await store.webhooks.add("https://example.test/", "s")
        stored, _ = await store.commands.add(command())
        tell = [Outgoing(hook.id, "demo", "{}"), Outgoing("none such", "demo", "{}")]
        await at_once(*[lambda: store.commands.end(stored.id, {}, tell)] * 3)
        assert [item.body for item in await store.webhooks.due(now())] == ["{}"]

    async def test_pages_of_an_instance_s_commands(self, store: Store) -> None:
        numbers = [(await store.commands.add(command("a")))[0].number for _ in range(5)]
        await store.commands.add(command("b"))

        async def page(**how: Any) -> list[int]:
            return [item.number for item in await store.commands.of("a", **how)]

        assert await page() == numbers
        assert await page(limit=2) == numbers[3:]
        assert await page(before=numbers[3], limit=2) == numbers[1:3]
        assert await page(before=numbers[0]) == []
        assert await page(before=2**200, limit=1) == numbers[4:]
        assert await page(limit=-1) == []

    async def test_an_instance_that_was_removed_is_forgotten_with_its_keys(self, store: Store) -> None:
        await store.commands.add(command("a"), key="k", digest="d")
        kept, _ = await store.commands.add(command("b"))
        await store.commands.forget("a")
        assert await store.commands.open() == [kept]
        assert (await store.commands.add(command("a"), key="k", digest="other"))[1]

    async def test_only_what_has_ended_is_pruned(self, store: Store) -> None:
        waits, _ = await store.commands.add(command())
        old, _ = await store.commands.add(command())
        await store.commands.end(old.id, {})
        assert await store.commands.prune(old.created) == 0
        assert await store.commands.prune(now()) == 1
        assert await store.commands.of("demo") == [waits]

    async def test_what_nobody_needs_any_more_is_pruned_after_a_while(self, store: Store) -> None:
        waits, _ = await store.commands.add(command())
        old, _ = await store.commands.add(command())
        await store.commands.end(old.id, {})
        await store.audit.note("me", "x")
        hook = await store.webhooks.add("https://example.test/", "s")
        await store.webhooks.queue([Outgoing(hook.id, "a", "1"), Outgoing(hook.id, "b", "1")])
        await store.webhooks.failed((await store.webhooks.due(now()))[0].id, 1, "no", None)
        left = []
        for days in (29, 31, 89, 91, 730, 732, 10_000):
            await store.prune(now() + timedelta(days=days))
            dead, log = await store.webhooks.dead(hook.id), await store.audit.list()
            left.append((len(dead), len(await store.commands.of("demo")), len(log)))
        assert left == [(1, 2, 1), (0, 2, 1), (0, 2, 1), (0, 1, 1), (0, 1, 1), (0, 1, 0), (0, 1, 0)]
        assert await store.commands.open() == [waits]
        assert len(await store.webhooks.due(now())) == 1


class TestTokens:
    async def test_who_has_the_secret_is_found(self, store: Store) -> None:
        expires = now() + timedelta(days=1)
        token, secret = await store.tokens.make(
            "phone", ["read", "command"], ["chat-*"], ["shop"], expires, Limits(60, 3)
        )
        await store.tokens.make("other", ["read"])
        assert secret.startswith("ccb_")
        assert await store.tokens.find(secret) == token
        assert await store.tokens.get(token.id) == token
        assert token.scopes == {"read", "command"}
        assert (token.instances, token.projects, token.limits) == (("chat-*",), ("shop",), Limits(60, 3))
        assert token.expires == expires

    @pytest.mark.parametrize("wrong", ["", "ccb_", "ccb_" + "A" * 43, "\0", "\ud800", "x" * 100_000])
    async def test_nobody_else_is(self, store: Store, wrong: str) -> None:
        await store.tokens.make("phone", ["read"])
        assert await store.tokens.find(wrong) is None

    async def test_not_after_it_has_expired(self, store: Store) -> None:
        expires = now() + timedelta(hours=1)
        _, secret = await store.tokens.make("phone", ["read"], expires=expires)
        assert await store.tokens.find(secret, expires - timedelta(seconds=1))
        assert await store.tokens.find(secret, expires) is None

    async def test_not_after_it_was_revoked(self, store: Store) -> None:
        token, secret = await store.tokens.make("phone", ["read"])
        cookie = await store.sessions.make(token.id)
        assert await store.tokens.revoke(token.id)
        assert not await store.tokens.revoke(token.id)
        assert not await store.tokens.revoke("none such")
        assert await store.tokens.find(secret) is None
        assert await store.sessions.find(cookie) is None
        (listed,) = await store.tokens.list()
        assert listed.revoked is not None

    async def test_bad_ones_are_not_made(self, store: Store) -> None:
        bad: list[dict[str, Any]] = [
            {"scopes": ["root"]},
            {"scopes": []},
            {"name": "a\0"},
            {"instances": [""]},
            {"projects": ["p" * 201]},
            {"instances": ["a"] * 101},
            {"limits": Limits(0)},
            {"limits": Limits(None, 10**9)},
            {"expires": datetime(2030, 1, 1)},
        ]
        for change in bad:
            with pytest.raises(InvalidInput):
                await store.tokens.make(**{"name": "phone", "scopes": ["read"], **change})
        assert await store.tokens.list() == []

    async def test_no_secret_is_kept(self, tmp_path: Path) -> None:
        async with Store.open(f"sqlite:///{tmp_path}/service.db") as store:
            token, secret = await store.tokens.make("phone", ["read"])
            cookie = await store.sessions.make(token.id)
            kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert token.id.encode() in kept
        assert secret.encode() not in kept
        assert cookie.encode() not in kept


class TestSessions:
    async def test_a_session_is_its_token_s(self, store: Store) -> None:
        token, _ = await store.tokens.make("phone", ["read"])
        cookie = await store.sessions.make(token.id)
        found = await store.sessions.find(cookie)
        assert found
        assert found.token == token
        assert await store.sessions.find("other") is None
        await store.sessions.end(cookie)
        assert await store.sessions.find(cookie) is None

    async def test_it_ends_by_itself(self, store: Store) -> None:
        token, _ = await store.tokens.make("phone", ["read"], expires=now() + 2 * SESSION_LIFE)
        begun = now()
        cookie = await store.sessions.make(token.id, begun)
        assert await store.sessions.find(cookie, begun + SESSION_LIFE - timedelta(seconds=1))
        assert await store.sessions.find(cookie, begun + SESSION_LIFE) is None

    async def test_it_ends_with_its_token(self, store: Store) -> None:
        expires = now() + timedelta(hours=1)
        token, _ = await store.tokens.make("phone", ["read"], expires=expires)
        cookie = await store.sessions.make(token.id)
        assert await store.sessions.find(cookie, expires) is None


class TestPeople:
    async def test_a_person_has_one_token_until_it_is_revoked(self, store: Store) -> None:
        wanted = checked_token("ann", ["read"], ["a-*"], expires=now() + timedelta(hours=1), subject="https://id ann")
        first, _ = await store.people.come(wanted)
        await store.people.come(checked_token("bob", ["manage"], subject="https://id bob"))
        later = checked_token(
            "ann@b.test", ["read"], ["a-*"], expires=now() + timedelta(hours=2), subject=wanted.subject
        )
        again, other = await store.people.come(later)
        assert (again, other) == (later.replace(id=first.id, created=first.created), None)
        more = later.replace(instances=(), scopes=frozenset({"read", "command"}))
        assert await store.people.come(more) == (more.replace(id=first.id, created=first.created), first.id)
        cookie = await store.sessions.make(first.id)
        for change in ({"instances": ("a-*",)}, {"limits": Limits(at_once=1)}, {"scopes": frozenset({"read"})}):
            before, less = first, more.replace(id=f"id-{next(iter(change))}", **change)
            first, other = await store.people.come(less)
            assert (first.id, other) == (less.id, before.id), "what was made with more ends with the old token"
            await store.people.come(first.replace(**{name: getattr(more, name) for name in change}))
        assert await store.sessions.find(cookie) is None
        assert await store.people.gone("https://id ann") == first.id
        assert await store.people.gone("https://id ann") is None
        new, _ = await store.people.come(checked_token("ann", ["read"], subject=wanted.subject))
        assert new.id != first.id
        assert len([token for token in await store.tokens.list() if not token.revoked]) == 2

    async def test_a_session_may_be_shorter(self, store: Store) -> None:
        token, _ = await store.people.come(checked_token("ann", ["read"], subject="https://id ann"))
        begun = now()
        found = await store.sessions.find(await store.sessions.make(token.id, begun, timedelta(hours=1)), begun)
        assert found
        assert found.expires == begun + timedelta(hours=1)

    async def test_the_log_has_the_name_that_a_token_has_now(self, store: Store) -> None:
        token, _ = await store.people.come(checked_token("ann", ["read"], subject="https://id ann"))
        await store.audit.note(token.id, "session.begun")
        await store.audit.note("", "session.refused")
        await store.people.come(checked_token("ann@b.test", ["read"], subject="https://id ann"))
        assert [entry.name for entry in await store.audit.list()] == ["", "ann@b.test"]


class TestAuditAndTitles:
    async def test_the_log_says_who_did_what(self, store: Store) -> None:
        await store.audit.note("me", "instance.removed", "demo", {"conversation": True})
        await store.audit.note("", "token.wrong", details={"address": "\0"})
        last, first = await store.audit.list()
        assert (first.who, first.what, first.instance, first.details) == (
            "me",
            "instance.removed",
            "demo",
            {"conversation": True},
        )
        assert last.details == {"address": "\0"}
        assert await store.audit.list(before=last.number) == [first]
        assert await store.audit.list(limit=1) == [last]
        assert await store.audit.prune(now()) == 2
        assert await store.audit.list() == []

    async def test_a_title_replaces_the_one_before(self, store: Store) -> None:
        await store.titles.set("a", "first")
        await store.titles.set("a", "second 🙂")
        await store.titles.set("b", "other")
        assert await store.titles.all() == {"a": "second 🙂", "b": "other"}
        await store.titles.set("b", "")
        assert await store.titles.all() == {"a": "second 🙂"}
        assert await store.titles.get("a") == "second 🙂"
        assert await store.titles.get("b") == ""
        with pytest.raises(InvalidInput):
            await store.titles.set("a", "t" * 201)


class TestDeliveries:
    async def test_the_first_of_each_instance_is_due(self, store: Store) -> None:
        hook = await store.webhooks.add("https://example.test/", "s")
        await store.webhooks.queue([Outgoing(hook.id, name, body) for name, body in ("a1", "a2", "b1")])
        first, other = await store.webhooks.due(now())
        assert [(first.instance, first.body), (other.instance, other.body)] == [("a", "1"), ("b", "1")]
        await store.webhooks.delivered(first.id)
        second, _ = sorted(await store.webhooks.due(now()), key=lambda item: item.instance)
        assert (second.instance, second.body) == ("a", "2")

    async def test_what_failed_holds_up_what_is_behind_it_until_it_is_given_up(self, store: Store) -> None:
        hook = await store.webhooks.add("https://example.test/", "s")
        await store.webhooks.queue([Outgoing(hook.id, "a", "1"), Outgoing(hook.id, "a", "2")])
        (first,) = await store.webhooks.due(now())
        later = now() + timedelta(minutes=1)
        await store.webhooks.failed(first.id, 1, "no\0 answer", later)
        assert await store.webhooks.due(now()) == []
        assert await store.webhooks.next_due(now()) == later
        (again,) = await store.webhooks.due(later)
        assert (again.id, again.tries, again.why) == (first.id, 1, "no\ufffd answer")
        await store.webhooks.failed(first.id, 2, "no", None)
        (second,) = await store.webhooks.due(now())
        assert second.body == "2"
        (dead,) = await store.webhooks.dead(hook.id)
        assert (dead.id, dead.tries) == (first.id, 2)
        assert dead.dead is not None
        assert await store.webhooks.dead(hook.id, before=dead.number) == []

    async def test_one_that_was_given_up_is_tried_again_first(self, store: Store) -> None:
        hook = await store.webhooks.add("https://example.test/", "s")
        await store.webhooks.queue([Outgoing(hook.id, "a", "1"), Outgoing(hook.id, "a", "2")])
        (first,) = await store.webhooks.due(now())
        await store.webhooks.failed(first.id, 1, "no", None)
        assert await store.webhooks.revive(hook.id, first.id)
        assert not await store.webhooks.revive(hook.id, first.id)
        (again,) = await store.webhooks.due(now())
        assert (again.id, again.tries) == (first.id, 0)

    async def test_one_webhook_does_not_crowd_out_another(self, store: Store) -> None:
        busy = await store.webhooks.add("https://busy.test/", "s")
        other = await store.webhooks.add("https://other.test/", "s")
        await store.webhooks.queue([Outgoing(busy.id, f"i{number}", "") for number in range(50)])
        await store.webhooks.queue([Outgoing(other.id, "a", "")])
        due = await store.webhooks.due(now(), each=4)
        assert [item.webhook for item in due] == [busy.id] * 4 + [other.id]

    async def test_with_a_webhook_goes_what_waits_for_it(self, store: Store) -> None:
        hook = await store.webhooks.add("https://example.test/", "s", ["chat-*"], ["turn_*"], "me")
        assert await store.webhooks.get(hook.id) == hook
        assert await store.webhooks.list() == [hook]
        await store.webhooks.queue([Outgoing(hook.id, "a", "1")])
        assert await store.webhooks.remove(hook.id)
        assert not await store.webhooks.remove(hook.id)
        assert await store.webhooks.due(now()) == []
        await store.webhooks.queue([Outgoing(hook.id, "a", "1")])
        assert await store.webhooks.due(now()) == []

    async def test_the_dead_are_pruned(self, store: Store) -> None:
        hook = await store.webhooks.add("https://example.test/", "s")
        await store.webhooks.queue([Outgoing(hook.id, "a", "1"), Outgoing(hook.id, "b", "1")])
        first, _ = await store.webhooks.due(now())
        await store.webhooks.failed(first.id, 1, "no", None)
        assert await store.webhooks.prune(now() + timedelta(seconds=1)) == 1
        assert [item.instance for item in await store.webhooks.due(now())] == ["b"]


class TestCancellation:
    async def test_who_is_cancelled_before_has_done_nothing(self, store: Store) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.commands.add(command())
        assert scope.cancelled_caught
        assert await store.commands.open() == []

    async def test_who_is_cancelled_meanwhile_has_done_it_whole(self, store: Store) -> None:
        keys = [str(number) for number in range(20)]
        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(lambda key=key: store.commands.add(command(), key=key))
            await anyio.lowlevel.checkpoint()  # they have begun: one writes, the others stand in line
            group.cancel_scope.cancel()
        stored = await store.commands.open()
        assert len(stored) == len(keys)
        for key in keys:
            again, is_new = await store.commands.add(command(), key=key)
            assert not is_new
            assert again in stored

    async def test_a_task_that_is_ended_from_outside_leaves_the_store_usable(self, store: Store) -> None:
        """As a server's shutdown does it, which no shield keeps out: each command is there whole, or not at all."""
        given: list[Command] = []
        for turns in range(12):
            given.append(command(prompt=["x"] * 1000))
            task = asyncio.ensure_future(store.commands.add(given[-1]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        stored = await store.commands.open()
        assert {item.id for item in stored} <= {item.id for item in given}
        assert all(item.prompt == ["x"] * 1000 for item in stored)
        assert (await store.commands.add(command()))[1]


class TestOneService:
    async def test_a_second_one_is_refused_until_the_first_has_ended(self, url: str) -> None:
        async with Store.open(url) as store:
            with pytest.raises(InvalidInput, match=r"in use by the process|another service has"):
                async with Store.open(url):
                    pytest.fail("two have it")
            assert (await store.commands.add(command()))[1]
        async with Store.open(url) as store:
            assert len(await store.commands.open()) == 1

    async def test_one_that_was_killed_has_left_it(self, url: str) -> None:
        async with other_service(url) as other:
            with pytest.raises(InvalidInput):
                async with Store.open(url):
                    pytest.fail("two have it")
            other.kill()
            await other.wait()
            async with Store.open(url) as store:
                (left,) = await store.commands.open()
                assert left.prompt == "of the other"

    async def test_what_is_closed_says_so(self, url: str) -> None:
        async with Store.open(url) as store:
            pass
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.commands.open()
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.commands.add(command())


_OTHER = """
import sys, anyio
from cc_bridge.service.store import Command, Store

async def main():
    async with Store.open(sys.argv[1]) as store:
        await store.commands.add(Command("00000000-0000-4000-8000-000000000000", "demo", "of the other"))
        print("ready", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


class other_service:  # noqa: N801
    """Another process that has the store, within the block."""

    def __init__(self, url: str) -> None:
        self._argv = [sys.executable, "-c", _OTHER, url]

    async def __aenter__(self) -> Process:
        self._process = await anyio.open_process(self._argv, stdout=subprocess.PIPE, stderr=None)
        assert self._process.stdout is not None
        with anyio.fail_after(60):
            assert (await self._process.stdout.receive()).strip() == b"ready"
        return self._process

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._process.aclose()


# Migrations


async def in_database(url: str, function: Callable[[Connection], Any]) -> Any:
    """Run it in a transaction of its own."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(function)
    finally:
        await engine.dispose()


_FIRST_DATA = [
    "INSERT INTO commands (id, instance, prompt, owner, key, digest, created, state, result) VALUES"
    " ('c1', 'demo', '\"hello\"', 'me', 'k', 'd', '2026-01-02 03:04:05', 'ended', '{\"text\": \"hi\"}'),"
    " ('c2', 'demo', '[]', 'me', NULL, '', '2026-01-02 03:04:06', 'stored', NULL)",
    "INSERT INTO tokens (id, name, hash, scopes, instances, projects, created) VALUES"
    " ('t1', 'phone', 'h', '[\"read\"]', '[]', '[]', '2026-01-02 03:04:05')",
    "INSERT INTO sessions (hash, token, created, expires) VALUES ('s', 't1', '2026-01-02 03:04:05', '2999-01-01')",
    "INSERT INTO titles (instance, title) VALUES ('demo', 'A title')",
    "INSERT INTO audit (at, who, what, instance, details) VALUES ('2026-01-02 03:04:05', 'me', 'x', '', '{}')",
]


def first_revision(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT 1")
    migrate(connection, "0001")
    for statement in _FIRST_DATA:
        connection.execute(text(statement.replace(":", r"\:")))


class TestMigrations:
    async def test_a_database_of_the_first_version_keeps_all_its_data(self, url: str) -> None:
        await in_database(url, first_revision)
        async with Store.open(url) as store:
            ended, stored = await store.commands.of("demo")
            assert (ended.id, ended.prompt, ended.state, ended.result) == ("c1", "hello", "ended", {"text": "hi"})
            assert ended.created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
            assert (stored.id, stored.state) == ("c2", "stored")
            assert not (await store.commands.add(command(), key="k", owner="me", digest="d"))[1]
            assert (await store.commands.add(command()))[0].number > stored.number
            assert [token.name for token in await store.tokens.list()] == ["phone"]
            assert await store.titles.all() == {"demo": "A title"}
            assert len(await store.audit.list()) == 1
            assert await store.commands.prune(datetime(2026, 1, 3, tzinfo=UTC)) == 1  # it has an end, too
        sessions = await in_database(url, lambda it: it.execute(text("SELECT count(*) FROM sessions")).scalar())
        assert sessions == 1

    async def test_a_step_that_fails_leaves_all_as_it_was(self, url: str) -> None:
        await in_database(url, first_revision)
        await in_database(url, lambda it: it.execute(text("CREATE TABLE deliveries (of_somebody_else INTEGER)")))
        with pytest.raises(StoreUnavailable, match="deliveries"):
            async with Store.open(url):
                pytest.fail("it was opened")

        def look(connection: Connection) -> tuple[str | None, Any]:
            version = MigrationContext.configure(connection).get_current_revision()
            return version, connection.dialect.has_table(connection, "webhooks")

        assert await in_database(url, look) == ("0001", False)
        await in_database(url, lambda it: it.execute(text("DROP TABLE deliveries")))
        async with Store.open(url) as store:
            assert len(await store.commands.of("demo")) == 2

    async def test_a_database_of_a_later_version_is_left_alone(self, url: str) -> None:
        async with Store.open(url) as store:
            await store.titles.set("a", "kept")
        await in_database(url, lambda it: it.execute(text("UPDATE alembic_version SET version_num = '9999'")))
        with pytest.raises(InvalidInput, match="later version"):
            async with Store.open(url):
                pytest.fail("it was opened")
        assert await in_database(url, lambda it: it.execute(text("SELECT title FROM titles")).scalar()) == "kept"

    async def test_the_migrations_make_what_the_code_expects(self, url: str) -> None:
        async with Store.open(url):
            pass

        def differences(connection: Connection) -> Any:
            return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

        assert await in_database(url, differences) == []


# SQLite's troubles


class TestSqlite:
    async def test_its_files_are_for_nobody_else(self, tmp_path: Path) -> None:
        async with Store.open(f"sqlite:///{tmp_path}/new/service.db") as store:
            await store.titles.set("a", "b")
            for path in (tmp_path / "new").iterdir():
                assert path.stat().st_mode & 0o077 == 0, path
            assert (tmp_path / "new" / "service.db-wal").exists()

    async def test_by_another_name_it_is_the_same_database(self, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to(tmp_path / "service.db")
        async with Store.open(f"sqlite:///{tmp_path}/service.db"):
            with pytest.raises(InvalidInput, match="in use"):
                async with Store.open(f"sqlite:///{tmp_path}/link.db"):
                    pytest.fail("two have it")

    async def test_a_database_that_another_program_locks_is_unavailable_until_it_is_free(self, tmp_path: Path) -> None:
        path = tmp_path / "service.db"
        async with Store.open(f"sqlite:///{path}", patience=0.5) as store:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailable, match=r"locked|in time"):
                    await store.commands.add(command())
                assert await store.commands.open() == []  # who only reads is not held up
                other.execute("COMMIT")
            assert (await store.commands.add(command()))[1]

    async def test_one_that_is_locked_at_the_start_is_unavailable(self, tmp_path: Path) -> None:
        path = tmp_path / "service.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE of_somebody_else (x)")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="locked"):
                async with Store.open(f"sqlite:///{path}", patience=0.5):
                    pytest.fail("it was opened")
            other.execute("COMMIT")
        async with Store.open(f"sqlite:///{path}") as store:
            assert (await store.commands.add(command()))[1]

    async def test_a_full_disk_loses_nothing_that_was_acknowledged(self, small_disk: Path) -> None:
        async with Store.open(f"sqlite:///{small_disk}/service.db") as store:
            acknowledged = []
            with pytest.raises(StoreUnavailable, match="full"):
                while True:
                    acknowledged.append(await store.commands.add(command(prompt="x" * 50_000)))
            assert len(acknowledged) > 1
            assert [item.id for item in await store.commands.open()] == [item.id for item, _ in acknowledged]
            with pytest.raises(StoreUnavailable, match="full"):
                await store.commands.add(command(prompt="x" * 50_000))
            make_larger(small_disk)
            assert (await store.commands.add(command(prompt="x" * 50_000)))[1]
            assert len(await store.commands.open()) == len(acknowledged) + 1

    async def test_a_directory_that_cannot_be_written_to_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreUnavailable, match="file"):
            async with Store.open(f"sqlite:///{tmp_path}/file/service.db"):
                pytest.fail("it was opened")

    async def test_what_is_no_database_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "service.db"
        path.write_bytes(b"letters " * 1000)
        with pytest.raises(StoreUnavailable, match="not a database"):
            async with Store.open(f"sqlite:///{path}"):
                pytest.fail("it was opened")
        assert path.read_bytes() == b"letters " * 1000


@pytest.fixture
def small_disk(as_root: None) -> Iterator[Path]:
    """A file system of its own, with little room, to which every user can come."""
    place = Path(tempfile.mkdtemp(prefix="cc-bridge-small-"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if done.returncode != 0:
        place.rmdir()
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)
    place.rmdir()


def make_larger(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)


# PostgreSQL's troubles


def kill_writer(cluster: Cluster) -> str:
    """End the sessions of all writers; how many they were."""
    return cluster.run(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'cc-bridge-writer%'"
    )


class TestPostgresql:
    async def test_a_server_that_is_away_is_unavailable_until_it_is_back(self, own_postgresql: Cluster) -> None:
        url = own_postgresql.database()
        async with Store.open(url) as store:
            stored, _ = await store.commands.add(command())
            await anyio.to_thread.run_sync(own_postgresql.stop)
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.commands.add(command())
                with pytest.raises(StoreUnavailable):
                    await store.commands.open()
            await anyio.to_thread.run_sync(own_postgresql.start)
            assert await store.commands.open() == [stored]
            assert (await store.commands.add(command()))[1]
            with pytest.raises(InvalidInput, match="another service"):  # it has the right to write again
                async with Store.open(url):
                    pytest.fail("two have it")

    async def test_a_server_that_says_nothing_is_unavailable_in_bounded_time(self, own_postgresql: Cluster) -> None:
        async with Store.open(own_postgresql.database(), patience=1) as store:
            stored, _ = await store.commands.add(command())
            await store.commands.open()
            own_postgresql.freeze()
            for use in (lambda: store.commands.add(command()), store.commands.open, store.check):
                with anyio.fail_after(30), pytest.raises(StoreUnavailable, match="in time"):
                    await use()
            own_postgresql.thaw()
            assert stored in await store.commands.open()
            assert await store.commands.end(stored.id, {})
            await store.check()

    async def test_a_server_that_is_away_at_the_start_is_said_to_be(self, own_postgresql: Cluster) -> None:
        url = own_postgresql.database()
        own_postgresql.stop()
        with pytest.raises(StoreUnavailable):
            async with Store.open(url):
                pytest.fail("it was opened")

    async def test_a_session_that_was_ended_is_made_again_unseen(self, own_postgresql: Cluster) -> None:
        async with Store.open(own_postgresql.database()) as store:
            await store.commands.add(command())
            assert kill_writer(own_postgresql) == "1"
            await until_lost(store)
            assert (await store.commands.add(command()))[1]

    async def test_who_has_lost_the_right_to_write_writes_nothing(self, own_postgresql: Cluster) -> None:
        url = own_postgresql.database()
        async with Store.open(url) as first:
            await first.commands.add(command())
            kill_writer(own_postgresql)
            async with Store.open(url) as second:
                with pytest.raises(StoreUnavailable):
                    await first.commands.add(command())
                with pytest.raises(StoreUnavailable, match="another service"):
                    await first.commands.add(command())
                assert (await second.commands.add(command()))[1]
            assert (await first.commands.add(command()))[1]
            assert len(await first.commands.open()) == 3

    async def test_a_database_that_cannot_keep_every_text_is_refused(self, postgresql: Cluster) -> None:
        url = postgresql.database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        with pytest.raises(InvalidInput, match="LATIN1"):
            async with Store.open(url):
                pytest.fail("it was opened")

    async def test_no_password_is_said(self, own_postgresql: Cluster) -> None:
        url = own_postgresql.database().replace("tester@", "tester:geheim@")
        store = Store.open(url)
        async with store:
            with pytest.raises(InvalidInput) as refused:
                async with Store.open(url):
                    pytest.fail("two have it")
        assert "geheim" not in f"{store} {refused.value}"

    async def test_a_full_disk_loses_nothing_that_was_acknowledged(
        self, own_postgresql: Cluster, small_disk: Path
    ) -> None:
        url = own_postgresql.database()
        room = own_postgresql.lend(small_disk)
        async with Store.open(url):
            pass
        own_postgresql.run(f"CREATE TABLESPACE small LOCATION '{room}'")
        own_postgresql.run("ALTER TABLE commands SET TABLESPACE small", url.split("/")[3].split("?")[0])
        async with Store.open(url) as store:
            acknowledged = []
            with pytest.raises(StoreUnavailable, match="No space left"):
                for number in range(3000):
                    prompt = "".join(str(uuid.UUID(int=number * 1000 + part)) for part in range(40))
                    acknowledged.append(await store.commands.add(command(prompt=prompt)))
            assert [item.id for item in await store.commands.open()] == [item.id for item, _ in acknowledged]
            await store.titles.set("a", "what has room is still kept")
            make_larger(small_disk)
            assert (await store.commands.add(command()))[1]


async def until_lost(store: Store) -> None:
    """This process has heard that the writer's session has ended."""
    database = store._database
    assert database._writer is not None
    raw: Any = (await database._writer.get_raw_connection()).driver_connection
    ended = anyio.Event()
    raw.add_termination_listener(lambda _: ended.set())
    if not raw.is_closed():
        with anyio.fail_after(30):
            await ended.wait()
