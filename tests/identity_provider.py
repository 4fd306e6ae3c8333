"""A real identity provider on this machine: OpenID Connect with signed tokens, which also lies as it is told to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

Change = Callable[[dict[str, Any]], Any]

#: What the provider knows this service by: characters that have to be encoded are in it.
CLIENT, SECRET = "cc bridge", "s%cr+t:ü"

KEY = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})


def signed(claims: dict[str, Any], key: RSAKey, kid: str = "1") -> str:
    return jwt.encode({"alg": "RS256", "kid": kid}, claims, key)


def signed_by_another(claims: dict[str, Any]) -> str:
    return signed(claims, OTHER_KEY)


def signed_as_with_a_secret(claims: dict[str, Any]) -> str:
    """A token that whoever takes the public key for a shared secret takes for true."""
    begin = unsigned(claims, alg="HS256", kid="1")[:-1]
    return f"{begin}.{_encoded(hmac.digest(KEY.as_pem(private=False), begin.encode(), 'sha256'))}"


def unsigned(claims: dict[str, Any], **header: str) -> str:
    """A token without a signature, with the algorithm ``none`` unless said."""
    parts = ({"alg": "none", **header}, claims)
    return ".".join([*(_encoded(json.dumps(part).encode()) for part in parts), ""])


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class IdentityProvider:
    """Whoever is sent there signs in at once, as :attr:`person`.

    Attributes:
        person: claims of the next one to sign in.
        changed: by the path of an answer, what it does to it before it is sent; may return bytes instead.
        claims: what it does to an ID token's claims; may return a finished token instead.
        sends_back: what it does to the parameters with which a browser is sent back.
        asked: the paths of all requests.
        released: set to let answers go that :meth:`hang` holds.
    """

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []
        self.redirect_uris: set[str] = set()
        self._codes: dict[str, dict[str, str]] = {}
        self.reset()

    def reset(self) -> None:
        """Honest again, and Ann is there."""
        self.person: dict[str, Any] = {"sub": "ann", "email": "ann@example.com", "email_verified": True}
        self.changed: dict[str, Change] = {}
        self.claims: Change = lambda claims: None
        self.sends_back: Change = lambda parameters: None
        self.asked.clear()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/realm"

    def hang(self, answer: dict[str, Any]) -> None:
        """A change: it comes when nobody waits for it any more."""
        self.released.wait(60)

    def answer(self, method: str, target: str, body: bytes, authorization: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        path, query = urlsplit(target).path.removeprefix("/realm"), parse_qs(urlsplit(target).query)
        self.asked.append(path)
        if path == "/authorize":
            return 302, {"Location": self._authorized({name: values[0] for name, values in query.items()})}, b""
        answers = {
            "/.well-known/openid-configuration": self._described,
            "/keys": lambda: {"keys": [KEY.as_dict(private=False), {"kty": "of another kind"}]},
            "/token": lambda: self._token(body, authorization),
        }
        if path not in answers:
            return 404, {}, b"{}"
        found: dict[str, Any] = answers[path]()
        raw = self.changed.get(path, lambda answer: None)(found)
        status = 400 if "error" in found else found.pop("status", 200)
        headers = found.pop("headers", {})
        return status, headers, raw if isinstance(raw, bytes) else json.dumps(found).encode()

    def _described(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?theme=dark",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_response_iss_parameter_supported": True,
        }

    def _authorized(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        assert (asked["response_type"], asked["client_id"], asked["theme"]) == ("code", CLIENT, "dark")
        assert asked["redirect_uri"] in self.redirect_uris
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = {"code": code, "state": asked["state"], "iss": self.issuer}
        self.sends_back(back)
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def _token(self, body: bytes, authorization: str) -> dict[str, Any]:
        given = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if authorization:
            client, secret = map(
                unquote_plus, base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
            )
        else:
            client, secret = given["client_id"], given.get("client_secret", "")
        if (client, secret) != (CLIENT, SECRET):
            return {"error": "invalid_client"}
        asked = self._codes.pop(given["code"], None)
        if asked is None or given["redirect_uri"] != asked["redirect_uri"]:
            return {"error": "invalid_grant"}
        digest = hashlib.sha256(given["code_verifier"].encode()).digest()
        if _encoded(digest) != asked["code_challenge"]:
            return {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": asked["nonce"],
        } | self.person
        made = self.claims(claims)
        token = made if isinstance(made, str) else signed(claims, KEY)
        return {"token_type": "Bearer", "access_token": "unused", "id_token": token}


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """One, until the end of the block."""
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            found = provider.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            status, headers, content = found
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # nobody waits any more
                self.close_connection = True

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
