"""What the parts of the proxy say to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..limits import ApiLimits
from ..values import Value

__all__ = ["Entry", "Guest", "Refused", "Upstream"]


class Upstream(Value):
    """Where a request to the API goes, and what lets it in: the login as it is now.

    Attributes:
        base_url: as ``ANTHROPIC_BASE_URL`` has it, without a slash at its end.
        headers: names in lower case, and values: the key or token, and the headers that belong to it. Secrets.
    """

    base_url: str
    headers: tuple[tuple[str, str], ...]


class Entry(Value):
    """One request that came out of an instance, as it is logged: never a body, never a key.

    Attributes:
        method: the request's, ``CONNECT`` for a tunnel.
        host: with its port, of the API or of who was asked for; what the container said, so it is shown harmlessly.
        path: of a request to the API, without its query; empty for tunnels.
        status: that was answered.
        sent, received: bytes of bodies, as seen from the instance.
        input_tokens, output_tokens: as the API counts them; the first with what was cached.
        usd: by list prices; 0 where they are not known.
        seconds: from the request's first byte to the answer's last.
        refused: why it was not passed on; empty: it was.
    """

    instance: str
    method: str
    host: str
    path: str = ""
    status: int = 0
    sent: int = 0
    received: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    refused: str = ""


class Refused(Exception):
    """A request is not passed on.

    Attributes:
        status: of the answer.
        kind: in the API's errors, such as ``permission_error``.
        message: what happened, and what to do.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


@dataclass(kw_only=True, eq=False)
class Guest:
    """An instance, as the proxy sees it. What changes is changed in it: its open connections are asked by it, too.

    Attributes:
        name: the instance's.
        placeholder: what a key ends with that Claude Code has in the place of the real one. A request to the API
            without it is refused: on a shared loopback others may find the port, too.
        sealed: it has no network; hosts of ``allow_hosts`` are reached by tunnels. Otherwise there are no tunnels.
        allow_hosts: as ``ClaudeInstance.allow_hosts`` has them.
        login: reads the login as it is now. Raises :class:`Refused` where there is none, or it has expired.
        login_refused: takes a login that the API has answered with 401.
        note: takes a request that has ended, or was refused.
    """

    name: str
    placeholder: str
    sealed: bool
    allow_hosts: tuple[str, ...]
    limits: ApiLimits
    login: Callable[[], Awaitable[Upstream]]
    note: Callable[[Entry], None]
    login_refused: Callable[[Upstream], None] = lambda _: None
