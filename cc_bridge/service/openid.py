"""Signing in by an identity provider: OpenID Connect, the authorization code flow with PKCE.

Each sign-in has one secret, which the browser keeps in a cookie; state, nonce and code verifier are made of it. So what
comes back is taken only from the browser that has begun, and nothing is kept here meanwhile. What the provider answers
is bounded in size and time, no redirect is followed, and its endpoints are https unless it is on this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import ssl
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Self, cast
from urllib.parse import quote_plus, urlencode

import anyio
import anyio.to_thread
import httpcore
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from .. import checks
from .sign_in_rules import Person, Rule, person_of

__all__ = ["OpenId", "Settings", "SignInFailed", "begun_in", "kept_with"]

#: Bytes of an answer, keys that are looked at, and characters of a code.
_MOST = 256 * 1024
_MOST_KEYS = 100
_LONGEST_CODE = 8192

#: Seconds for which the provider's description of itself is believed; its keys are asked for each time.
_FRESH = 3600.0

#: Sign-ins that may wait for the provider at once.
_AT_ONCE = 32

#: Tabs of one browser in which somebody may sign in at once.
_MOST_TABS = 4

#: Seconds by which the clocks may differ.
_LEEWAY = 60

#: How ID tokens may be signed: by a key that the provider alone has, so neither ``none`` nor a shared secret.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_KINDS = frozenset({"RSA", "EC"})
_OF_A_KEY = ("kty", "kid", "alg", "use", "n", "e", "crv", "x", "y")

#: What can go wrong with a request: httpcore's errors have no common root.
_UNREACHABLE = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
)

#: What hostile tokens and keys may raise: the library's errors, and those of what it stands on.
_UNTRUE = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class SignInFailed(Exception):
    """Nobody has signed in.

    Attributes:
        what: a sentence for the person.
        reason: for the log; has what a stranger or the provider has said, shortened.
        status: of the HTTP response.
    """

    def __init__(self, what: str, reason: str, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        super().__init__(f"{what} ({reason})")
        self.what = what
        self.reason = reason
        self.status = status


class _Refused(Exception):
    """The provider has answered with another status than 200: the status, and its word for why."""


@dataclass(frozen=True)
class Settings:
    """Where people sign in, and who may do what.

    Attributes:
        issuer: the provider's address, as it calls itself.
        public_url: this service's, as browsers know it: scheme, host and port.
        people: the first rule that is for somebody holds.
        client_secret: empty: the provider knows this service by its id alone.
        name: what the button says.
        ask_for: scopes of OpenID Connect, beside ``openid``.
        groups_claim: where an ID token has groups.
        session: how long somebody stays signed in.
    """

    issuer: str
    client_id: str
    public_url: str
    people: tuple[Rule, ...]
    client_secret: str = field(default="", repr=False)
    name: str = ""
    ask_for: tuple[str, ...] = ("email",)
    groups_claim: str = "groups"
    session: timedelta = timedelta(hours=12)

    @classmethod
    def of(cls, configured: Mapping[str, Any], client_secret: str = "") -> Self:
        """The settings of a checked table ``[service.oidc]``."""
        found = {name: value for name, value in configured.items() if name != "client_secret_file"}
        found["people"] = tuple(Rule.of(item) for item in found["people"])
        if "session" in found:
            found["session"] = timedelta(seconds=found["session"])
        return cls(**found | ({"client_secret": client_secret} if client_secret else {}))

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by https."""
        return self.public_url.startswith("https:")

    @property
    def comes_back_to(self) -> str:
        """Where the provider sends browsers, and nowhere else."""
        return f"{self.public_url}/oidc/callback"


def kept_with(kept: str, secret: str) -> str:
    """What the browser is to keep: this sign-in's secret beside those of other tabs, which may come back, too."""
    return ".".join([*kept.split(".")[-_MOST_TABS + 1 :], secret] if kept else [secret])


def begun_in(kept: str, came: Mapping[str, str]) -> tuple[str, str]:
    """The secret of the sign-in that comes back, empty if the browser has begun none such; and what it keeps on."""
    state, found = came.get("state", ""), ""
    others = []
    for secret in kept.split(".")[-_MOST_TABS:]:
        if not found and secret and _same(_made(secret, "state"), state):
            found = secret
        elif secret:
            others.append(secret)
    return found, ".".join(others)


class OpenId:
    """Signs people in. Holds no connection between two calls.

    Args:
        patience: seconds for the provider to answer, in all of one call.
    """

    def __init__(self, settings: Settings, *, patience: float = 10.0) -> None:
        self.settings = settings
        self._patience = patience
        self._known: tuple[float, dict[str, Any]] | None = None
        self._tls: ssl.SSLContext | None = None
        self._going = 0

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the secret that it is to keep until it comes back.

        Raises:
            SignInFailed: the provider cannot be reached, or is not what it should be.
        """
        secret = secrets.token_urlsafe(32)
        with self._asking(), anyio.fail_after(self._patience):
            endpoint = str((await self._provider())["authorization_endpoint"])
        challenge = hashlib.sha256(_made(secret, "verifier").encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.comes_back_to,
            "scope": " ".join(dict.fromkeys(("openid", *self.settings.ask_for))),
            "state": _made(secret, "state"),
            "nonce": _made(secret, "nonce"),
            "code_challenge": _text_of(challenge),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", secret

    async def finish(self, secret: str, came: Mapping[str, str]) -> Person:
        """Who has signed in.

        Args:
            secret: of :func:`begun_in`.
            came: the parameters with which the provider has sent it back. Anybody may have written them.

        Raises:
            SignInFailed: nobody has; nothing was begun for them.
        """
        if not secret or not _same(_made(secret, "state"), came.get("state", "")):
            what = "This sign-in was not begun in this browser, or too long ago. Begin anew."
            raise SignInFailed(what, "the state is not the browser's")
        with self._asking(), anyio.fail_after(self._patience):
            provider = await self._provider()
            self._check_sender(provider, came)
            if "error" in came:
                raise _Refused(f"it has sent the browser back with {_short(came['error'])}")
            code = came.get("code", "")
            if not 0 < len(code) <= _LONGEST_CODE:
                raise _Refused("it has sent the browser back without a code")
            tokens = await self._redeem(provider, code, _made(secret, "verifier"))
            keys = await self._fetch("GET", provider["jwks_uri"])
            claims = self._claims(tokens.get("id_token"), keys, _made(secret, "nonce"))
            return person_of(claims, self.settings.issuer, self.settings.groups_claim)

    # Private

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Within it the provider is asked; whatever goes wrong becomes a sentence for people."""
        if self._going >= _AT_ONCE:
            reason = f"{_AT_ONCE} wait for the provider"
            raise SignInFailed("Many people sign in at the moment. Try again.", reason, HTTPStatus.SERVICE_UNAVAILABLE)
        self._going += 1
        try:
            yield
        except _Refused as error:
            raise SignInFailed("The identity provider has not signed you in.", str(error)) from error
        except _UNREACHABLE as error:
            reason = _short(f"{type(error).__name__}: {error}")
            what = "The identity provider does not answer. Try again later."
            raise SignInFailed(what, reason, HTTPStatus.SERVICE_UNAVAILABLE) from error
        except ValueError as error:
            what = "The identity provider's answer cannot be trusted, and nobody was signed in."
            raise SignInFailed(what, _short(str(error))) from error
        finally:
            self._going -= 1

    async def _provider(self) -> dict[str, Any]:
        """What the provider says of itself: OpenID Connect Discovery 1.0."""
        now, issuer = anyio.current_time(), self.settings.issuer
        if self._known is not None and now < self._known[0]:
            return self._known[1]
        found = await self._fetch("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise ValueError(f"it calls itself {_short(str(found.get('issuer')))}, and not {issuer}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            address = checks.secure_address(found.get(name))
            if issuer.startswith("https:") and not address.startswith("https:"):
                raise ValueError(f"its {name} is not https")
        self._known = now + _FRESH, found
        return found

    def _check_sender(self, provider: Mapping[str, Any], came: Mapping[str, str]) -> None:
        """That another provider's answer is not taken for this one's: RFC 9207."""
        is_said = "iss" in came or provider.get("authorization_response_iss_parameter_supported") is True
        if is_said and came.get("iss") != self.settings.issuer:
            raise ValueError("the browser comes from another provider")

    async def _redeem(self, provider: Mapping[str, Any], code: str, verifier: str) -> dict[str, Any]:
        """The tokens for a code."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.comes_back_to,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        known = provider.get("token_endpoint_auth_methods_supported")
        is_form = isinstance(known, list) and "client_secret_post" in known and "client_secret_basic" not in known
        if not self.settings.client_secret:
            given["client_id"] = self.settings.client_id
        elif is_form:
            given |= {"client_id": self.settings.client_id, "client_secret": self.settings.client_secret}
        else:  # RFC 6749, section 2.3.1: each is encoded as in a form first
            pair = f"{quote_plus(self.settings.client_id)}:{quote_plus(self.settings.client_secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return await self._fetch("POST", provider["token_endpoint"], headers, urlencode(given).encode())

    def _claims(self, id_token: object, keys: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """What an ID token says, if it is the provider's, for this service, for this sign-in, and still holds.

        Raises:
            ValueError: it is not.
        """
        if not isinstance(id_token, str):
            raise ValueError("there is no ID token")
        own = self.settings
        wanted = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": own.issuer},
            aud={"essential": True, "value": own.client_id},
            nonce={"essential": True, "value": nonce},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = jwt.decode(id_token, _keys(keys), algorithms=_ALGORITHMS).claims
            wanted.validate(claims)
        except _UNTRUE as error:
            raise ValueError(f"the ID token: {type(error).__name__}: {error}") from error
        if claims.get("azp", own.client_id) != own.client_id:
            raise ValueError("the ID token was made for another service")
        return claims

    async def _fetch(
        self, method: str, address: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> dict[str, Any]:
        """The JSON object that is there. What is compressed or elsewhere is not read."""
        sent = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "cc-bridge",
            **(headers or {}),
        }
        if self._tls is None and address.startswith("https:"):
            self._tls = await anyio.to_thread.run_sync(ssl.create_default_context)
        pairs = [(name.encode(), value.encode()) for name, value in sent.items()]
        content = b""
        async with (
            httpcore.AsyncConnectionPool(self._tls) as pool,
            pool.stream(method, address, headers=pairs, content=body or None) as response,
        ):
            async for piece in response.aiter_stream():
                content += piece
                if len(content) > _MOST:
                    raise ValueError(f"{address} answers with more than {_MOST} bytes")
        if response.status != 200:
            why = _object(content).get("error", "")
            raise _Refused(f"{address} answers {response.status} {_short(str(why))}")
        if not (found := _object(content)):
            raise ValueError(f"{address} answers with no JSON object")
        return found


def _keys(found: Mapping[str, Any]) -> KeySet:
    """The keys that may sign; those that cannot be read are left out."""
    given = found.get("keys")
    keys: list[Key] = []
    for item in given[:_MOST_KEYS] if isinstance(given, list) else ():
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        public = {name: item[name] for name in _OF_A_KEY if isinstance(item.get(name), str)}
        if public.get("kty") not in _KINDS:
            continue
        try:
            keys.append(JWKRegistry.import_key(cast(Any, public)))
        except _UNTRUE:
            continue
    return KeySet(keys)


def _object(content: bytes) -> dict[str, Any]:
    """The JSON object that this is; of anything else, an empty one."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _made(secret: str, what: str) -> str:
    """Something of a sign-in's own, which says nothing of its secret."""
    return _text_of(hmac.digest(secret.encode("utf-8", "replace"), what.encode(), "sha256"))


def _text_of(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "replace"))


def _short(text: str) -> str:
    """What somebody else has written, for the log."""
    return "".join(character if character.isprintable() else " " for character in text[:300])
