"""Signing in by an identity provider that is real, and lies. covers: B13"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from cc_bridge.service import openid as module
from cc_bridge.service.openid import OpenId, Settings, SignInFailed
from cc_bridge.service.sign_in_rules import Person, Rule
from tests.identity_provider import (
    CLIENT,
    KEY,
    OTHER_KEY,
    SECRET,
    Change,
    IdentityProvider,
    identity_provider,
    signed,
    signed_as_with_a_secret,
    signed_by_another,
    unsigned,
)

pytestmark = pytest.mark.anyio

PUBLIC = "http://127.0.0.1:1"
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def running() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        provider.redirect_uris.add(f"{PUBLIC}/oidc/callback")
        yield provider


@pytest.fixture
def provider(running: IdentityProvider) -> IdentityProvider:
    running.reset()
    return running


@pytest.fixture
def openid(provider: IdentityProvider) -> OpenId:
    return made(provider)


def made(provider: IdentityProvider, **options: Any) -> OpenId:
    own = Settings(
        **{"client_id": CLIENT, "issuer": provider.issuer, "client_secret": SECRET, **options},
        public_url=PUBLIC,
        people=(),
    )
    return OpenId(own)


async def sent_back(address: str) -> dict[str, str]:
    """The parameters with which a browser comes back that was sent to this address."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        location = (await browser.get(address)).headers["location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def sign_in(openid: OpenId) -> Person:
    address, secret = await openid.begin()
    return await openid.finish(secret, await sent_back(address))


async def test_somebody_signs_in(openid: OpenId, provider: IdentityProvider) -> None:
    provider.person["groups"] = ["admins", 7]
    person = await sign_in(openid)
    assert person == Person(f"{provider.issuer} ann", "ann@example.com", frozenset({"admins"}))
    await sign_in(openid)
    assert provider.asked.count(DISCOVERY) == 1
    assert provider.asked.count("/keys") == 2  # they may change at any time


async def test_nothing_in_the_address_says_what_the_browser_keeps(openid: OpenId) -> None:
    (one, secret), (other, _) = await openid.begin(), await openid.begin()
    assert secret not in one
    first, second = parse_qs(urlsplit(one).query), parse_qs(urlsplit(other).query)
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) == 43
        assert first[name] != second[name]


@pytest.mark.parametrize("methods", [["client_secret_basic", "client_secret_post"], 7, None])
async def test_the_secret_goes_as_the_provider_wants_it(
    openid: OpenId, provider: IdentityProvider, methods: Any
) -> None:
    provider.changed[DISCOVERY] = lambda answer: answer.update(token_endpoint_auth_methods_supported=methods)
    assert (await sign_in(openid)).name == "ann@example.com"


async def test_the_secret_goes_in_the_form_where_nothing_else_is_taken(
    openid: OpenId, provider: IdentityProvider
) -> None:
    provider.changed[DISCOVERY] = lambda answer: answer.update(
        token_endpoint_auth_methods_supported=["client_secret_post"]
    )
    assert (await sign_in(openid)).name == "ann@example.com"


def late(claims: dict[str, Any]) -> None:
    claims.update(exp=time.time() - 3600, iat=time.time() - 7200)


@pytest.mark.parametrize(
    "lie",
    [
        lambda claims: claims.update(nonce="another"),
        lambda claims: claims.update(nonce=None),
        lambda claims: claims.__delitem__("nonce"),
        lambda claims: claims.update(aud="another"),
        lambda claims: claims.update(aud=None),
        lambda claims: claims.__delitem__("aud"),
        lambda claims: claims.__delitem__("iss"),
        lambda claims: claims.__delitem__("iat"),
        lambda claims: claims.update(aud=[CLIENT, "another"], azp="another"),
        lambda claims: claims.update(iss="https://evil.test"),
        lambda claims: claims.pop("exp"),
        lambda claims: claims.update(exp=float("nan")),
        lambda claims: claims.update(sub=""),
        lambda claims: claims.update(sub=["ann"]),
        late,
        unsigned,
        signed_by_another,
        lambda claims: signed(claims, OTHER_KEY, kid="2"),
        lambda claims: signed(claims, KEY)[:-8] + "AAAAAAAA",
        signed_as_with_a_secret,
        lambda claims: "no.token.",
        lambda claims: "",
    ],
)
async def test_a_token_that_is_not_for_this_sign_in_signs_nobody_in(
    openid: OpenId, provider: IdentityProvider, lie: Change
) -> None:
    provider.claims = lie
    with pytest.raises(SignInFailed, match="cannot be trusted"):
        await sign_in(openid)


@pytest.mark.parametrize(
    "lie",
    [
        lambda answer: answer.update(keys=[]),
        lambda answer: answer.update(keys=["key", {"kty": ["RSA"]}, {"kty": "RSA", "n": "!", "e": "AQAB"}]),
        lambda answer: answer.update(keys=[{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "1"}]),
        lambda answer: answer.update(keys=[{**KEY.as_dict(private=False), "use": "enc"}]),
        lambda answer: answer.update(keys=7),
        lambda answer: b"[" * 200_000,
        lambda answer: b"no JSON",
        lambda answer: b"x" * 300_000,
        lambda answer: answer.update(status=302, headers={"Location": "/realm/token"}),
    ],
)
async def test_keys_that_are_none_sign_nobody_in(openid: OpenId, provider: IdentityProvider, lie: Change) -> None:
    provider.changed["/keys"] = lie
    with pytest.raises(SignInFailed):
        await sign_in(openid)


async def test_one_bad_key_among_good_ones_does_no_harm(openid: OpenId, provider: IdentityProvider) -> None:
    bad = [{"kty": "RSA", "n": "!", "e": "AQAB"}, {"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA"}]
    provider.changed["/keys"] = lambda answer: answer["keys"].extend(bad)
    assert await sign_in(openid)


@pytest.mark.parametrize(
    "lie",
    [
        lambda answer: answer.update(issuer="https://evil.test"),
        lambda answer: answer.pop("jwks_uri"),
        lambda answer: answer.update(token_endpoint="http://login.example/token"),
        lambda answer: answer.update(authorization_endpoint="https://login.example/\r\nX: y"),
        lambda answer: answer.update(authorization_endpoint="javascript:alert(1)"),
        lambda answer: answer.update(jwks_uri="file:///etc/passwd"),
        lambda answer: answer.update(jwks_uri="https://me:pw@login.example/"),
        lambda answer: b"x" * 300_000,
    ],
)
async def test_a_provider_that_is_not_what_it_should_be_is_not_gone_to(
    openid: OpenId, provider: IdentityProvider, lie: Change
) -> None:
    provider.changed[DISCOVERY] = lie
    with pytest.raises(SignInFailed, match="cannot be trusted"):
        await openid.begin()
    provider.reset()
    assert await openid.begin()  # it is not remembered


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": "another"}, "not begun in this browser"),
        ({"state": "é"}, "not begun in this browser"),
        ({"state": None}, "not begun in this browser"),
        ({"iss": "https://evil.test"}, "another provider"),
        ({"iss": None}, "another provider"),
        ({"error": "access_denied\n"}, "access_denied"),
        ({"code": None}, "without a code"),
        ({"code": "x" * 9000}, "without a code"),
        ({"code": "guessed"}, "400"),
    ],
)
async def test_what_a_browser_brings_is_checked(
    openid: OpenId, provider: IdentityProvider, change: dict[str, str | None], says: str
) -> None:
    address, secret = await openid.begin()
    came = {name: value for name, value in {**await sent_back(address), **change}.items() if value is not None}
    with pytest.raises(SignInFailed, match=says) as caught:
        await openid.finish(secret, came)
    assert "\n" not in caught.value.reason


async def test_another_browser_cannot_come_back_and_nobody_twice(openid: OpenId) -> None:
    address, secret = await openid.begin()
    _, others = await openid.begin()
    came = await sent_back(address)
    for stranger in (others, ""):
        with pytest.raises(SignInFailed, match="not begun in this browser"):
            await openid.finish(stranger, came)
    assert await openid.finish(secret, came)
    with pytest.raises(SignInFailed, match="invalid_grant"):
        await openid.finish(secret, came)


async def test_a_provider_that_does_not_answer_is_not_waited_for(provider: IdentityProvider) -> None:
    openid = made(provider)
    openid._patience = 0.2
    provider.changed[DISCOVERY] = provider.hang
    with anyio.fail_after(30), pytest.raises(SignInFailed, match="does not answer"):
        await openid.begin()


async def test_a_provider_that_is_not_there() -> None:
    settings = Settings("http://127.0.0.1:1", CLIENT, PUBLIC, ())
    with pytest.raises(SignInFailed, match="does not answer"):
        await OpenId(settings).begin()


class Described(OpenId):
    """Of a provider whose description came over TLS."""

    async def _fetch(self, *request: Any) -> dict[str, Any]:
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        return {**dict.fromkeys(names, "https://a.test/"), "issuer": "https://a.test", "jwks_uri": "http://127.0.0.1/"}


async def test_who_is_elsewhere_leads_to_nothing_on_this_machine() -> None:
    with pytest.raises(SignInFailed, match="its jwks_uri is not https"):
        await Described(Settings("https://a.test", CLIENT, PUBLIC, ())).begin()


async def test_only_so_many_wait_for_it_at_once(openid: OpenId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 0)
    with pytest.raises(SignInFailed, match="Many people"):
        await openid.begin()


def test_settings_are_those_of_the_file() -> None:
    table = {"issuer": "https://id.test", "client_id": "x", "public_url": PUBLIC, "session": 3600.0}
    people = [{"group": ("a",), "scopes": ("read",)}]
    own = Settings.of({**table, "client_secret_file": "f", "people": people}, "s")
    assert (own.client_secret, own.session, own.comes_back_to) == ("s", timedelta(hours=1), f"{PUBLIC}/oidc/callback")
    assert own.people == (Rule.of(people[0]),)
    assert Settings.of({**table, "client_secret": "t", "people": []}).client_secret == "t"


async def test_what_is_secret_is_not_shown(openid: OpenId) -> None:
    assert SECRET not in repr(openid.settings)
