"""What of a request reaches the API, and what of its answer comes back: by lists, so that what is new is left out."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable

from .request_head import Head
from .terms import Refused, Upstream

__all__ = ["answer_headers", "check_request", "is_greeting", "request_headers"]

Headers = list[tuple[str, str]]

#: Whole targets, queries included: a path that is written in another way (``//``, ``%2e``, ``;``) is another path.
#: What Claude Code was seen to ask for is in docs/claude-code.md; the list of models costs nothing.
_TARGETS = {
    "POST": re.compile(r"/v1/messages(/count_tokens)?(\?beta=true)?"),
    "GET": re.compile(r"/v1/models(/[A-Za-z0-9][A-Za-z0-9.-]{0,99})?(\?(beta=true|limit=[0-9]{1,4}))?"),
}

_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")

#: Headers of requests that pass, and beginnings of such.
_PASSED = {
    "accept",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "content-type",
    "user-agent",
    "x-app",
    "x-client-request-id",
}
_PASSED_BEGINNINGS = ("x-stainless-", "x-claude-code-")

#: Headers of answers that pass. Not among them: cookies, and what says whose account or server it is.
_RETURNED = {"content-type", "request-id", "retry-after", "retry-after-ms", "x-should-retry"}
_RETURNED_BEGINNINGS = ("anthropic-ratelimit-",)

_BETA = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SHOWN = re.compile(r"[\t\x20-\x7e]{0,4096}")


def is_greeting(head: Head) -> bool:
    """Whether it only asks if somebody is there, by ``HEAD /``: the API is not asked, and no key is wanted."""
    return head.method == "HEAD" and head.target == "/" and not head.has_body


def check_request(head: Head, placeholder: str) -> None:
    """Refuse what is no request of Claude Code's to its API.

    Raises:
        Refused: says why.
    """
    if not head.target.startswith("/"):
        message = "plain HTTP to other servers is not passed on; use https, by HTTPS_PROXY"
        raise Refused(403, "permission_error", message)
    if head.version != "1.1":
        raise Refused(505, "invalid_request_error", "the API is asked by HTTP/1.1")
    if not _LOOPBACK.fullmatch(head.get("host")):
        # A page in somebody's browser reaches a loopback port, too, by a name of its own that points here.
        raise Refused(403, "permission_error", "the request is for another host than this one")
    if is_greeting(head):
        return
    allowed = _TARGETS.get(head.method)
    if not allowed or not allowed.fullmatch(head.target):
        message = "this part of the API is not passed on to an instance whose key is outside"
        raise Refused(403, "permission_error", message)
    if not _has_placeholder(head, placeholder):
        raise Refused(401, "authentication_error", "the request does not have this instance's placeholder for a key")


def _has_placeholder(head: Head, placeholder: str) -> bool:
    given = head.get("x-api-key") or head.get("authorization")
    end = placeholder.encode()
    return len(end) >= 16 and hmac.compare_digest(given.encode("latin-1")[-len(end) :], end)


def request_headers(head: Head, login: Upstream) -> Headers:
    """What the API is told: what passes of a request's headers, and the login's in the place of the container's.

    Answers are asked for unpacked, so that usage can be read in them.
    """
    own = {name.lower() for name, _ in login.headers}
    passed = [item for item in head.headers if _passes(item[0]) and item[0] not in own and _SHOWN.fullmatch(item[1])]
    betas = _betas(head, login)
    passed = [item for item in passed if item[0] != "anthropic-beta"]
    passed += [(name, value) for name, value in login.headers if name.lower() != "anthropic-beta"]
    if betas:
        passed.append(("anthropic-beta", ",".join(betas)))
    return [*passed, ("accept-encoding", "identity"), *_framing(head)]


def _passes(name: str) -> bool:
    return name in _PASSED or name.startswith(_PASSED_BEGINNINGS)


def _betas(head: Head, login: Upstream) -> Iterable[str]:
    """Both sides' in one, each once. What belongs to a kind of login is the login's to say where it is a key."""
    with_key = any(name.lower() == "x-api-key" for name, _ in login.headers)
    asked = [word for name, value in head.headers if name == "anthropic-beta" for word in value.split(",")]
    asked = [word for word in asked if not (with_key and word.strip().startswith("oauth-"))]
    said = [word for name, value in login.headers if name.lower() == "anthropic-beta" for word in value.split(",")]
    return dict.fromkeys(word.strip() for word in [*asked, *said] if _BETA.fullmatch(word.strip()))


def _framing(head: Head) -> Headers:
    if head.get("transfer-encoding"):
        return [("transfer-encoding", "chunked")]
    return [("content-length", str(int(head.get("content-length") or 0)))] if head.method == "POST" else []


def answer_headers(status: int, headers: Iterable[tuple[str, str]]) -> Headers:
    """What the container is told of an answer's headers.

    Raises:
        Refused: the answer cannot be passed on: it sends elsewhere, or is packed, so that nobody could count it.
    """
    given = [(name.lower(), value) for name, value in headers]
    if not 200 <= status < 600 or 300 <= status < 400:
        # Its place is not told: following it would take the key to another server.
        message = f"the API answered with the status {status}, which is not followed; is its base URL right?"
        raise Refused(502, "api_error", message)
    if any(name == "content-encoding" and value.lower() != "identity" for name, value in given):
        raise Refused(502, "api_error", "the API's answer is compressed, though it was asked not to be")
    lengths = {value for name, value in given if name == "content-length"}
    kept = [item for item in given if item[0] in _RETURNED or item[0].startswith(_RETURNED_BEGINNINGS)]
    kept = [(name, value) for name, value in kept if _SHOWN.fullmatch(value)]
    if len(lengths) == 1 and not any(name == "transfer-encoding" for name, _ in given):
        kept.append(("content-length", lengths.pop()))
    return kept
