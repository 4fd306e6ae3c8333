"""Tokens, sessions, webhooks and the audit log over HTTP, with a real store and a fleet without instances."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi.routing import APIRoute

from cc_bridge.fleet import Fleet
from cc_bridge.instances.registry import Registry
from cc_bridge.service.app import make_app
from cc_bridge.service.deliveries import verify
from cc_bridge.service.identities import Identity
from cc_bridge.service.routes import (
    audit,
    commands,
    conversations,
    files,
    instances,
    permissions,
    settings,
    tokens,
    turns,
    webhooks,
)
from cc_bridge.service.service import Service
from cc_bridge.service.store import Outgoing, Store
from cc_bridge.service.store.tokens import checked_token
from cc_bridge.testing import ScriptedModel
from tests.postgresql import Cluster
from tests.receiver import hang, receiver
from tests.served import Served, made

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"


class Api:
    """A running service, and who asks it."""

    def __init__(self, service: Service, first: str) -> None:
        self.service = service
        self.first = first
        self._transport = httpx.ASGITransport(make_app(service))

    def client(self, secret: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Somebody with this token's secret; None: with none."""
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        return httpx.AsyncClient(transport=self._transport, base_url="http://localhost", headers=headers)

    async def token(self, **fields: Any) -> dict[str, Any]:
        """A new token."""
        made = await self.client(self.first).post(
            "/v1/tokens", json={"name": "phone", "scopes": ["read", "manage"], **fields}
        )
        assert made.status_code == 201, made.text
        return dict(made.json())


@asynccontextmanager
async def running(tmp_path: Path, url: str = "", **options: Any) -> AsyncIterator[Api]:
    fleet = Fleet(registry=Registry(tmp_path / "state"), name=f"test-{uuid.uuid4().hex[:8]}")
    store = Store.open(url or f"sqlite:///{tmp_path}/service.db", patience=2 if url else 10)
    async with Service(store, fleet, token_file=tmp_path / "token", **options) as service:
        yield Api(service, (tmp_path / "token").read_text().strip())


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as api:
        yield api


class TestTokens:
    async def test_a_token_is_made_shown_once_used_and_revoked(self, api: Api) -> None:
        made = await api.token(instances=["chat-*"], expires="2999-01-01T00:00:00Z", limits={"at_once": 3})
        secret = made.pop("secret")
        assert made["limits"] == {"commands_per_minute": None, "at_once": 3}
        first = api.client(api.first)
        listed = (await first.get("/v1/tokens")).json()["tokens"]
        assert made in listed
        assert secret not in (await first.get("/v1/tokens")).text
        theirs = api.client(secret)
        assert (await theirs.get("/v1/session")).json()["name"] == "phone"
        assert (await first.delete(f"/v1/tokens/{made['id']}")).status_code == 204
        assert (await first.delete(f"/v1/tokens/{made['id']}")).status_code == 204
        refused = await theirs.get("/v1/session")
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        (revoked,) = [item for item in (await first.get("/v1/tokens")).json()["tokens"] if item["id"] == made["id"]]
        assert revoked["revoked"]

    async def test_a_token_that_has_expired_is_none(self, api: Api) -> None:
        made = await api.token(expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
        assert (await api.client(made["secret"]).get("/v1/session")).status_code == 401

    @pytest.mark.parametrize(
        "change",
        [
            {"scopes": ["read", "command"]},
            {"instances": []},
            {"instances": ["*"]},
            {"projects": ["shop"]},
            {"expires": None},
            {"expires": "2999-01-02T00:00:00Z"},
            {"limits": {}},
            {"limits": {"at_once": 4}},
        ],
    )
    async def test_nobody_hands_out_more_than_they_have(self, api: Api, change: dict[str, Any]) -> None:
        own = {"instances": ["chat-*"], "expires": "2999-01-01T00:00:00Z", "limits": {"at_once": 3}}
        theirs = api.client((await api.token(**own))["secret"])
        asked = {"name": "child", "scopes": ["read"], **own}
        assert (await theirs.post("/v1/tokens", json=asked)).status_code == 201
        refused = await theirs.post("/v1/tokens", json={**asked, **change})
        assert refused.status_code == 403
        assert "more than their own" in refused.json()["detail"]

    async def test_tokens_that_have_more_are_not_there(self, api: Api) -> None:
        theirs = api.client((await api.token(instances=["chat-*"]))["secret"])
        first, _ = (await api.client(api.first).get("/v1/tokens")).json()["tokens"]
        assert [item["name"] for item in (await theirs.get("/v1/tokens")).json()["tokens"]] == ["phone"]
        for token in (first["id"], NOBODY):
            assert (await theirs.delete(f"/v1/tokens/{token}")).status_code == 404

    async def test_the_last_that_can_make_others_stays(self, api: Api) -> None:
        first = api.client(api.first)
        (own,) = (await first.get("/v1/tokens")).json()["tokens"]
        await api.token(instances=["a"])
        await api.service.store.people.come(checked_token("ann", ["manage"], subject="https://id.test ann"))
        refused = await first.delete(f"/v1/tokens/{own['id']}")
        assert refused.status_code == 409
        other = await api.token(scopes=["read", "command", "permissions", "manage"])
        assert (await first.delete(f"/v1/tokens/{own['id']}")).status_code == 204
        assert (await api.client(other["secret"]).get("/v1/tokens")).status_code == 200

    async def test_only_who_manages(self, api: Api) -> None:
        reader = api.client((await api.token(scopes=["read", "command", "permissions"]))["secret"])
        for path in ("/v1/tokens", "/v1/webhooks", "/v1/audit"):
            refused = await reader.get(path)
            assert refused.status_code == 403
            assert "manage" in refused.json()["detail"]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"name": ""},
            {"name": "a\0b"},
            {"scopes": []},
            {"scopes": ["root"]},
            {"instances": [""]},
            {"instances": ["x"] * 101},
            {"expires": "2030-01-01T00:00:00"},
            {"limits": {"at_once": 0}},
            {"limits": {"at_once": 10**9}},
            {"secret": "mine"},
        ],
    )
    async def test_bad_ones_are_refused(self, api: Api, body: dict[str, Any]) -> None:
        full = {"name": "phone", "scopes": ["read"], **body} if body else {}
        refused = await api.client(api.first).post("/v1/tokens", json=full)
        assert refused.status_code == 422, refused.text
        assert len((await api.client(api.first).get("/v1/tokens")).json()["tokens"]) == 1

    async def test_who_tries_wrong_ones_must_wait_and_others_need_not(self, api: Api) -> None:
        first = api.client(api.first)
        assert (await first.get("/v1/session")).status_code == 200
        codes = [(await api.client(f"ccb_{number:043}").get("/v1/session")).status_code for number in range(12)]
        assert codes[:10] == [401] * 10
        assert codes[11] == 429
        assert (await first.get("/v1/session")).status_code == 200


class TestSessions:
    async def test_a_browser_shows_its_token_once(self, api: Api) -> None:
        made = await api.token()
        browser = api.client()
        signed_in = await browser.post("/v1/session", json={"token": made["secret"]})
        assert signed_in.status_code == 200
        cookie = signed_in.headers["set-cookie"].lower()
        assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
        assert made["secret"] not in signed_in.headers["set-cookie"]
        assert (await browser.get("/v1/session")).json() == signed_in.json()
        assert (await browser.get("/v1/tokens")).status_code == 200
        assert (await browser.delete("/v1/session")).status_code == 401  # a page of another site can send no header
        assert (await browser.delete("/v1/session", headers={"X-CC-Bridge": "1"})).status_code == 204
        assert not browser.cookies
        browser.cookies.set("cc_bridge", signed_in.cookies["cc_bridge"])
        assert (await browser.get("/v1/session")).status_code == 401

    async def test_over_tls_the_cookie_stays_there(self, api: Api) -> None:
        behind = await api.client(Origin="https://localhost").post("/v1/session", json={"token": api.first})
        assert behind.headers["set-cookie"].startswith("__Host-cc_bridge="), "a proxy speaks TLS"
        signed_in = await api.client().post("https://localhost/v1/session", json={"token": api.first})
        cookie = signed_in.headers["set-cookie"]
        assert cookie.startswith("__Host-cc_bridge=")
        assert {"Secure", "Path=/"} <= set(cookie.split("; "))
        secret = signed_in.cookies["__Host-cc_bridge"]
        for name, code in (
            ("__Host-cc_bridge", 200),
            ("cc_bridge", 401),
        ):  # a neighbour in the domain can set the other
            browser = api.client(Cookie=f"{name}={secret}")
            assert (await browser.get("https://localhost/v1/session")).status_code == code

    async def test_a_session_ends_with_its_token(self, api: Api) -> None:
        made = await api.token()
        browser = api.client()
        await browser.post("/v1/session", json={"token": made["secret"]})
        await api.client(api.first).delete(f"/v1/tokens/{made['id']}")
        assert (await browser.get("/v1/session")).status_code == 401

    async def test_what_is_open_ends_with_what_was_shown(self, api: Api) -> None:
        expired = Identity("one", "ann", frozenset({"read"}), ends=datetime.now(UTC))
        revoked = Identity("other", "bob", frozenset({"read"}))
        api.service.revoked("other")
        for who in (expired, revoked):
            with anyio.fail_after(10):
                await api.service.farewell(who).wait()

    async def test_what_is_open_in_a_session_ends_with_it(self, api: Api) -> None:
        one, other = (Identity("ann", "ann", frozenset({"read"}), session=session) for session in ("a", "b"))
        open_in = [api.service.farewell(who) for who in (one, other)]
        api.service.signed_out(one)
        with anyio.fail_after(10):
            await open_in[0].wait()
            await api.service.farewell(one).wait()  # also what was let in just before
        with anyio.move_on_after(0.01) as waited:
            await open_in[1].wait()
        assert waited.cancelled_caught

    @pytest.mark.parametrize("token", ["", "ccb_wrong", "\0", "x" * 200])
    async def test_a_wrong_token_begins_none(self, api: Api, token: str) -> None:
        refused = await api.client().post("/v1/session", json={"token": token})
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers

    async def test_another_site_s_page_cannot_sign_anybody_in(self, api: Api) -> None:
        client = api.client(Origin="https://evil.test")
        assert (await client.post("/v1/session", json={"token": api.first})).status_code == 403


class TestWebhooks:
    async def test_a_webhook_is_made_listed_and_removed(self, api: Api) -> None:
        first = api.client(api.first)
        made = await first.post("/v1/webhooks", json={"url": "https://bot.test/hook", "instances": ["chat-*"]})
        assert made.status_code == 201
        shown = made.json()
        assert len(shown.pop("secret")) > 30
        assert (await first.get("/v1/webhooks")).json() == {"webhooks": [shown]}
        assert (await first.delete(f"/v1/webhooks/{shown['id']}")).status_code == 204
        assert (await first.delete(f"/v1/webhooks/{shown['id']}")).status_code == 404
        assert (await first.get("/v1/webhooks")).json() == {"webhooks": []}

    async def test_it_is_there_after_a_restart(self, tmp_path: Path) -> None:
        async with running(tmp_path) as api:
            own = {"url": "https://bot.test/", "secret": "a secret of one's own"}
            made = await api.client(api.first).post("/v1/webhooks", json=own)
            assert made.json()["secret"] == own["secret"]
        async with running(tmp_path) as api:
            assert [hook.secret for hook in api.service.deliveries.list()] == [own["secret"]]

    async def test_what_was_given_up_is_read_and_tried_again(self, api: Api) -> None:
        first = api.client(api.first)
        hook = (await first.post("/v1/webhooks", json={"url": "https://none.invalid/"})).json()["id"]
        other = (await first.post("/v1/webhooks", json={"url": "https://other.invalid/"})).json()["id"]
        webhooks = api.service.store.webhooks
        await webhooks.queue([Outgoing(hook, "demo", "{}")])
        (waits,) = await webhooks.due(datetime.now(UTC))
        await webhooks.failed(waits.id, 1, "404", None)
        (dead,) = (await first.get(f"/v1/webhooks/{hook}/dead")).json()["deliveries"]
        assert (dead["id"], dead["why"], dead["body"]) == (waits.id, "404", "{}")
        assert (await first.post(f"/v1/webhooks/{other}/dead/{dead['id']}")).status_code == 404
        assert (await first.post(f"/v1/webhooks/{hook}/dead/{dead['id']}")).status_code == 202
        assert (await first.post(f"/v1/webhooks/{hook}/dead/{dead['id']}")).status_code == 404
        assert (await first.get(f"/v1/webhooks/{hook}/dead")).json() == {"deliveries": []}

    @pytest.mark.parametrize(
        "body",
        [
            {"url": "http://127.0.0.1/"},
            {"url": "http://[::1]/"},
            {"url": "file:///etc/passwd"},
            {"url": "https://me:secret@bot.test/"},
            {"secret": "short"},
            {"events": [""]},
        ],
    )
    async def test_bad_ones_are_refused(self, api: Api, body: dict[str, Any]) -> None:
        refused = await api.client(api.first).post("/v1/webhooks", json={"url": "https://bot.test/", **body})
        assert refused.status_code == 422, refused.text
        assert api.service.deliveries.list() == []

    async def test_private_addresses_are_the_administrator_s_choice(self, tmp_path: Path) -> None:
        async with running(tmp_path, webhooks_to_private=True) as api:
            made = await api.client(api.first).post("/v1/webhooks", json={"url": "http://127.0.0.1:1/"})
            assert made.status_code == 201

    async def test_nobody_is_told_of_what_they_do_not_see(self, api: Api) -> None:
        theirs = api.client((await api.token(instances=["chat-*"]))["secret"])
        for patterns in ([], ["*"]):
            asked = {"url": "https://bot.test/", "instances": patterns}
            assert (await theirs.post("/v1/webhooks", json=asked)).status_code == 403
        hook = (await api.client(api.first).post("/v1/webhooks", json={"url": "https://bot.test/"})).json()["id"]
        assert (await theirs.get("/v1/webhooks")).json() == {"webhooks": []}
        assert (await theirs.delete(f"/v1/webhooks/{hook}")).status_code == 404
        assert (await theirs.get(f"/v1/webhooks/{hook}/dead")).status_code == 404
        own = {"url": "https://bot.test/", "instances": ["chat-*"]}
        assert (await theirs.post("/v1/webhooks", json=own)).status_code == 201

    async def test_a_webhook_ends_with_its_token_and_others_stay(self, api: Api) -> None:
        first = api.client(api.first)
        token = await api.token(instances=["chat-*"])
        own = {"url": "https://bot.test/", "instances": ["chat-*"]}
        theirs = (await api.client(token["secret"]).post("/v1/webhooks", json=own)).json()
        assert theirs["stopped"] is None
        await first.post("/v1/webhooks", json=own)
        await first.delete(f"/v1/tokens/{token['id']}")
        for _ in range(2):  # and after the database was asked again
            ended, admins = (await first.get("/v1/webhooks")).json()["webhooks"]
            assert ended["id"] == theirs["id"]
            assert ended["stopped"] == "the token that made it was revoked"
            assert admins["stopped"] is None
            await api.service.deliveries.begin()
        (outgoing,) = api.service.deliveries.outgoing("chat-1", "turn_result", {})
        assert outgoing.webhook == admins["id"]
        assert (await first.delete(f"/v1/webhooks/{theirs['id']}")).status_code == 204


class TestAudit:
    async def test_what_was_done_is_written_down_with_who_did_it(self, api: Api) -> None:
        first = api.client(api.first)
        made = await api.token()
        await first.post("/v1/tokens", json={"name": ""})  # refused: nothing was done
        await first.delete(f"/v1/tokens/{made['id']}")
        hook = (await first.post("/v1/webhooks", json={"url": "https://bot.test/"})).json()
        await api.client().post("/v1/session", json={"token": api.first})
        log = await first.get("/v1/audit")
        entries = log.json()["entries"]
        assert [entry["what"] for entry in entries] == [
            "session.begun",
            "webhook.made",
            "token.revoked",
            "token.made",
        ]
        assert len({entry["who"] for entry in entries}) == 1
        assert entries[1]["details"] == {"made": f"/v1/webhooks/{hook['id']}"}
        assert entries[2]["details"] == {"token": made["id"]}
        for secret in (made["secret"], hook["secret"], api.first):
            assert secret not in log.text
        page = (await first.get("/v1/audit", params={"before": entries[1]["number"], "limit": 1})).json()["entries"]
        assert page == [entries[2]]

    async def test_who_does_not_see_all_reads_what_they_did_themselves(self, api: Api) -> None:
        made = await api.token(instances=["chat-*"])
        theirs = api.client(made["secret"])
        assert (await theirs.get("/v1/audit")).json() == {"entries": []}
        own = {"url": "https://bot.test/", "instances": ["chat-*"]}
        await theirs.post("/v1/webhooks", json=own)
        (entry,) = (await theirs.get("/v1/audit")).json()["entries"]
        assert (entry["who"], entry["what"]) == (made["id"], "webhook.made")


async def test_while_the_database_is_away_clients_are_told_when_to_come_back(
    tmp_path: Path, own_postgresql: Cluster
) -> None:
    async with running(tmp_path, own_postgresql.database()) as api:
        first = api.client(api.first)
        assert (await first.get("/v1/tokens")).status_code == 200
        await anyio.to_thread.run_sync(own_postgresql.stop)
        for method, path in (("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("GET", "/v1/session")):
            told = await first.request(method, path, json={"name": "x", "scopes": ["read"]})
            assert told.status_code == 503, told.text
            assert int(told.headers["retry-after"]) > 0
        await anyio.to_thread.run_sync(own_postgresql.start)
        assert (await first.get("/v1/tokens")).status_code == 200
        assert (await first.post("/v1/tokens", json={"name": "x", "scopes": ["read"]})).status_code == 201


def test_whatever_is_done_has_a_word_in_the_log() -> None:
    names = set()
    for module in (instances, commands, turns, permissions, files, conversations, settings, tokens, webhooks):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            if route.methods != {"GET"}:
                names.add(route.name)
    assert names == set(audit._WORDS) | audit._LEFT_OUT


async def test_a_webhook_is_told_the_end_of_a_turn_though_the_service_is_killed(
    tmp_path: Path, scripted_model: ScriptedModel, claude: str
) -> None:
    """The answer is told once it is kept, by whichever service; a receiver that was away hears it later."""
    (tmp_path / "home").mkdir()
    served = Served(tmp_path / "state", scripted_model.claude_env(tmp_path / "home"))
    try:
        served.start("--private-webhooks")
        async with receiver(hang) as there:
            async with served.client() as client:
                await made(client, "desk")
                asked = {"url": there.url, "events": ["turn_result"]}
                hook = (await client.post("/v1/webhooks", json=asked)).json()
                turn = await client.post("/v1/instances/desk/commands", json={"prompt": "hello"})
                await there.until(1)
            served.kill()  # while the receiver has not answered
            served.start("--private-webhooks")
            _, second = await there.until(2)
            assert verify(hook["secret"], second.headers, second.body, datetime.now(UTC).timestamp())
            told = second.json
            assert (told["type"], told["instance"], told["turn"]) == ("turn_result", "desk", turn.json()["id"])
            assert told["result"]["ok"]
            assert len({request.headers["x-cc-bridge-delivery"] for request in there.requests}) == 1
    finally:
        with anyio.CancelScope(shield=True):
            await served.clean()
