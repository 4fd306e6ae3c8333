"""People sign in by an identity provider: a served service, a real provider, and browsers with cookies. covers: B13"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from cc_bridge.service.openid import OpenId, Settings
from tests.identity_provider import CLIENT, SECRET, Change, IdentityProvider, identity_provider, signed_by_another
from tests.integration.test_service_admin import running
from tests.served import Served, events

pytestmark = pytest.mark.anyio

_CONFIG = """
[service.oidc]
issuer = "{issuer}"
client_id = "{client}"
client_secret_file = "secret"
public_url = "{public}"
name = "A & B"
ask_for = ["email", "groups"]

[[service.oidc.people]]
group = ["admins"]
scopes = ["read", "command", "permissions", "manage"]

[[service.oidc.people]]
email_domain = ["example.com"]
scopes = ["read", "command"]
instances = ["team-*"]
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, IdentityProvider]]:
    root = tmp_path_factory.mktemp("sign-in")
    with identity_provider() as provider:
        service = Served(root / "state", {"CC_BRIDGE_CONFIG": str(root / "cc-bridge.toml")})
        with socket.create_server(("127.0.0.1", 0)) as free:
            service.address = f"http://127.0.0.1:{free.getsockname()[1]}/"
        public = service.address.rstrip("/")
        provider.redirect_uris.add(f"{public}/oidc/callback")
        (root / "secret").write_text(f"{SECRET}\n")
        (root / "cc-bridge.toml").write_text(_CONFIG.format(issuer=provider.issuer, client=CLIENT, public=public))
        try:
            yield service.start(), provider
        finally:
            anyio.run(service.clean)


@pytest.fixture
def provider(both: tuple[Served, IdentityProvider]) -> IdentityProvider:
    both[1].reset()
    return both[1]


@pytest.fixture
def served(both: tuple[Served, IdentityProvider]) -> Served:
    return both[0]


@pytest.fixture
async def admin(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Who has the first token."""
    async with served.client() as found:
        yield found


@pytest.fixture
async def browser(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor(served) as found:
        yield found


def visitor(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.address, timeout=60, trust_env=False)


async def sent_back(browser: httpx.AsyncClient) -> str:
    """The address to which the provider sends a browser that has followed the page's link."""
    page = (await browser.get("/")).text
    link = re.search(r'<a id="sign-in-with" [^>]*href="([^"]+)">Sign in with A &amp; B</a>', page)
    assert link
    off = await browser.get(link[1])
    assert off.status_code == 303
    return str((await browser.get(off.headers["location"])).headers["location"])


async def sign_in(browser: httpx.AsyncClient) -> httpx.Response:
    return await browser.get(await sent_back(browser))


async def log_of(admin: httpx.AsyncClient) -> dict[str, Any]:
    """The newest entry."""
    return dict((await admin.get("/v1/audit", params={"limit": 1})).json()["entries"][0])


def refused(response: httpx.Response, says: str) -> None:
    """A page with a sentence, and nobody signed in."""
    assert response.status_code in (403, 503)
    assert says in response.text
    assert response.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in response.headers["content-security-policy"]
    assert "cc_bridge=" not in str(response.headers.get_list("set-cookie"))


async def test_somebody_signs_in_works_and_signs_out(
    provider: IdentityProvider, browser: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    planted = "a secret that somebody else knows"
    browser.cookies.set("cc_bridge", planted, "127.0.0.1")
    arrived = await sign_in(browser)
    assert (arrived.status_code, arrived.headers["location"]) == (303, "/")
    (cookie,) = [line for line in arrived.headers.get_list("set-cookie") if line.startswith("cc_bridge=")]
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
    assert planted not in cookie
    assert dict(browser.cookies).keys() == {"cc_bridge"}  # what was kept for the way is gone
    who = (await browser.get("/v1/session")).json()
    assert (who["name"], who["scopes"], who["instances"]) == ("ann@example.com", ["command", "read"], ["team-*"])
    begun = await log_of(admin)
    assert (begun["what"], begun["who"], begun["name"]) == ("session.begun", who["id"], "ann@example.com")
    (token,) = [item for item in (await admin.get("/v1/tokens")).json()["tokens"] if item["id"] == who["id"]]
    assert token["subject"] == f"{provider.issuer} ann"
    assert token["expires"]
    assert (await browser.delete("/v1/session", headers={"X-CC-Bridge": "1"})).status_code == 204
    assert (await browser.get("/v1/session")).status_code == 401
    await sign_in(browser)
    assert (await browser.get("/v1/session")).json() == who  # what was theirs is theirs


async def test_another_s_browser_is_not_signed_in(
    served: Served, provider: IdentityProvider, browser: httpx.AsyncClient
) -> None:
    address = await sent_back(browser)
    async with visitor(served) as victim:
        refused(await victim.get(address), "was not begun in this browser")
        await sent_back(victim)
        refused(await victim.get(address), "was not begun in this browser")


async def test_a_code_is_taken_once(provider: IdentityProvider, browser: httpx.AsyncClient) -> None:
    address = await sent_back(browser)
    kept = dict(browser.cookies)
    assert (await browser.get(address)).status_code == 303
    refused(await browser.get(address), "was not begun in this browser")
    browser.cookies.clear()
    browser.cookies.update(kept)
    refused(await browser.get(address), "has not signed you in")


async def test_tabs_sign_in_beside_each_other(provider: IdentityProvider, browser: httpx.AsyncClient) -> None:
    first, second = await sent_back(browser), await sent_back(browser)
    for address in (first, second):
        assert (await browser.get(address)).headers["location"] == "/"
    assert dict(browser.cookies).keys() == {"cc_bridge"}
    for _ in range(9):  # a page that is opened again and again
        last = await sent_back(browser)
    assert len(browser.cookies["cc_bridge_sign_in"]) < 400
    assert (await browser.get(last)).headers["location"] == "/"


async def test_nobody_is_sent_elsewhere(provider: IdentityProvider, browser: httpx.AsyncClient) -> None:
    port = browser.base_url.port
    off = await browser.get(
        "/oidc/sign-in?next=//evil.test&redirect_uri=//evil.test", headers={"Host": f"localhost:{port}"}
    )
    asked = parse_qs(urlsplit(off.headers["location"]).query)
    assert asked["redirect_uri"] == [f"http://127.0.0.1:{port}/oidc/callback"]
    assert off.headers["location"].startswith(f"{provider.issuer}/authorize?")
    provider.sends_back = lambda back: back.update(next="//evil.test", redirect_uri="//evil.test")
    assert (await sign_in(browser)).headers["location"] == "/"


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda claims: claims.update(email_verified=False), "signed in as ann, and nobody has allowed"),
        (lambda claims: claims.update(email="ann@evil.test"), "signed in as ann@evil.test, and nobody has allowed"),
        (lambda claims: claims.update(sub="<b>", email=None), "signed in as &lt;b&gt;, and nobody has allowed"),
        (lambda claims: claims.update(nonce="another"), "cannot be trusted"),
        (signed_by_another, "cannot be trusted"),
    ],
)
async def test_who_may_nothing_is_told_so(
    provider: IdentityProvider, browser: httpx.AsyncClient, admin: httpx.AsyncClient, lie: Change, says: str
) -> None:
    provider.claims = lie
    refused(await sign_in(browser), says)
    if "nobody" in says:
        assert (await log_of(admin))["what"] == "session.refused"
    assert (await browser.get("/v1/session")).status_code == 401


async def test_a_provider_s_refusal_is_told(provider: IdentityProvider, browser: httpx.AsyncClient) -> None:
    provider.sends_back = lambda back: back.update(error="access_denied", error_description="<script>")
    told = await sign_in(browser)
    refused(told, "has not signed you in")
    assert "<script>" not in told.text


async def test_who_is_revoked_hears_no_more_and_comes_back_as_somebody_new(
    provider: IdentityProvider, browser: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    provider.person["sub"] = "bob"
    await sign_in(browser)
    before = (await browser.get("/v1/session")).json()["id"]
    async with browser.stream("GET", "/v1/events") as stream:
        assert (await admin.delete(f"/v1/tokens/{before}")).status_code == 204
        assert [kind async for _, kind, _ in events(stream)] == ["bye"]
    assert (await browser.get("/v1/session")).status_code == 401
    await sign_in(browser)
    assert (await browser.get("/v1/session")).json()["id"] != before


async def test_rights_are_those_of_the_latest_sign_in_in_all_browsers(
    served: Served, provider: IdentityProvider, browser: httpx.AsyncClient
) -> None:
    provider.person |= {"sub": "eve", "groups": ["admins"]}
    await sign_in(browser)
    assert (await browser.get("/v1/tokens")).status_code == 200
    async with visitor(served) as phone, browser.stream("GET", "/v1/events") as stream:
        provider.person["groups"] = []
        await sign_in(phone)
        assert [kind async for _, kind, _ in events(stream)] == ["bye"]  # it comes back, and sees less
        assert (await browser.get("/v1/tokens")).status_code == 401  # what was open with more rights ends
        assert (await phone.get("/v1/tokens")).status_code == 403
        provider.person["email_verified"] = False
        refused(await sign_in(phone), "nobody has allowed you anything")
        for lost in (browser, phone):
            assert (await lost.get("/v1/session")).status_code == 401


async def test_without_a_provider_there_is_a_sentence_and_over_tls_cookies_stay_there(tmp_path: Path) -> None:
    settings = Settings("http://127.0.0.1:1", CLIENT, "https://localhost", ())
    async with running(tmp_path, openid=OpenId(settings)) as api:
        browser = api.client()
        refused(await browser.get("/oidc/sign-in"), "does not answer")
        came = await browser.get("/oidc/callback?state=x")
        refused(came, "was not begun")
        assert came.headers["set-cookie"].startswith("__Host-cc_bridge_sign_in=")
        assert "Secure" in came.headers["set-cookie"]


async def test_where_it_is_not_wanted_there_is_nothing_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as api:
        assert (await api.client().get("/oidc/sign-in")).status_code == 404
        assert "sign-in-with" not in (await api.client().get("/")).text
