"""The login that is put into requests: read anew for each, out of where it is.

What may be given::

    {"variables": {"ANTHROPIC_API_KEY": "…"}}        as Claude Code's own have it, with the address and headers
    {"file": "/path", "variables": {…}}              the one line of a file; the address and headers beside it
    {"command": "…", "variables": {…}}               the one line that a command prints, as git's credential helpers do
    {"login_file": "/home/…/.credentials.json"}      the user's login in Claude Code, which this never renews
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio

from ..login import KEYS, PARTS
from .journal import ProxyLog
from .terms import Refused, Upstream

__all__ = ["ClaudeLogin", "Login", "Unusable", "check_source", "describe_source"]

#: Where requests go unless a variable says otherwise.
_API = "https://api.anthropic.com"

#: What a request with a login's token has beside it; Claude Code sends the same.
_BETA = ("anthropic-beta", "oauth-2025-04-20")

#: A key: what may stand in a header, and nothing that is not seen.
_KEY = re.compile(rb"[\x21-\x7e]{1,8192}\Z")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)\Z")

#: Bytes of a key's file or of a command's output, and of Claude Code's login.
_LONGEST = 16_384
_LONGEST_LOGIN = 1024 * 1024

#: Seconds for a key command, and how long its key is used before it is run again (Claude Code's `apiKeyHelper`: 5 min).
_COMMAND_LIMIT = 30.0
_KEY_AGE = 300.0

#: Seconds for which a command's key is used though the API refuses it.
_FRESH = 5.0

_SAYS_MORE = "`cc-bridge proxy logs` on its machine says more"


class Unusable(Exception):
    """No login can be had; says why, without anything secret, and nothing of this machine's."""


class ClaudeLogin:
    """Claude Code's login of a user, as its file has it now.

    Attributes:
        token: secret.
        expires: seconds since 1970; None: that is not said.
        can_renew: Claude Code renews it by itself when it runs.
    """

    def __init__(self, token: str, expires: float | None, *, can_renew: bool) -> None:
        self.token = token
        self.expires = expires
        self.can_renew = can_renew

    @classmethod
    def read(cls, path: Path) -> ClaudeLogin:
        """Read it.

        Raises:
            Unusable: it cannot be read, or is no login.
        """
        try:
            found = json.loads(_content(path, _LONGEST_LOGIN))["claudeAiOauth"]
            token, expires = found["accessToken"], found.get("expiresAt")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Unusable("the login of Claude Code is no login") from None
        if not isinstance(token, str) or not _KEY.match(token.encode(errors="replace")):
            raise Unusable("the login of Claude Code has no token")
        is_time = isinstance(expires, int | float) and not isinstance(expires, bool)
        return cls(token, expires / 1000 if is_time else None, can_renew=bool(found.get("refreshToken")))

    def has_expired(self, now: float) -> bool:
        """Whether the API refuses it by now (seconds since 1970)."""
        return self.expires is not None and self.expires <= now


def check_source(source: Any) -> Mapping[str, Any]:
    """The same, if it is one of those above.

    Raises:
        ValueError: says what is wrong.
    """
    ways = [way for way in ("file", "command", "login_file") if isinstance(source, dict) and way in source]
    if (
        not isinstance(source, dict)
        or len(ways) > 1
        or not set(source) <= {"file", "command", "login_file", "variables"}
    ):
        raise ValueError("a source has one of file, command, login_file, and variables")
    env = source.get("variables", {})
    if not isinstance(env, dict) or not all(isinstance(text, str) for pair in env.items() for text in pair):
        raise ValueError("variables: texts by their names")
    if ways and not (isinstance(source[ways[0]], str) and source[ways[0]] and "\0" not in source[ways[0]]):
        raise ValueError(f"{ways[0]}: a text")
    if not ways and not any(env.get(name) for name in KEYS):
        raise ValueError(f"variables: one of {', '.join(KEYS)}")
    _address(env)
    _custom_headers(env)
    return source


def describe_source(source: Mapping[str, Any]) -> str:
    """Where a login is, for people: nothing secret."""
    if "login_file" in source:
        return f"login in {source['login_file']}"
    if "file" in source:
        return f"file {source['file']}"
    if "command" in source:
        return "key command"
    return next(name for name in KEYS if source["variables"].get(name))


class Login:
    """A login, out of a source that was checked.

    Args:
        log: is told why there is none.
        command_limit: seconds for a key command.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        log: ProxyLog,
        *,
        command_limit: float = _COMMAND_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._env: Mapping[str, str] = source.get("variables", {})
        self._base_url, self._custom_headers = _address(self._env), _custom_headers(self._env)
        self._log = log
        self._limit = command_limit
        self._clock = clock
        self._running = anyio.Lock()
        self._made: tuple[float, bytes] | None = None

    async def read(self) -> Upstream:
        """The login as it is now.

        Raises:
            Refused: there is none, or it has expired; the log has the reason, too.
        """
        try:
            return Upstream(self._base_url, (*await self._headers(), *self._custom_headers))
        except Unusable as error:
            self._log.warning("no_login", source=describe_source(self._source), reason=str(error))
            raise Refused(401, "authentication_error", f"cc-bridge: {error}; {_SAYS_MORE}") from None

    def refused(self, login: Upstream) -> None:
        """The API lets this login in no longer: a command's key is read anew for the next request.

        One that was read just now is kept: its command would print the same, and a container decides how often.
        """
        if (
            self._made
            and self._clock() - self._made[0] >= _FRESH
            and set(_headers_of(self._made[1])) <= set(login.headers)
        ):
            self._made = None

    async def _headers(self) -> tuple[tuple[str, str], ...]:
        if "login_file" in self._source:
            login = ClaudeLogin.read(Path(self._source["login_file"]))
            if login.has_expired(self._clock()):
                raise Unusable("the login of Claude Code has expired, which `claude` on its machine renews")
            return ("authorization", f"Bearer {login.token}"), _BETA
        if "file" in self._source:
            return _headers_of(_one_line(_content(Path(self._source["file"]), _LONGEST), "the key's file"))
        if "command" in self._source:
            return _headers_of(await self._from_command())
        name = next(name for name in KEYS if self._env.get(name))
        return _headers_of(_one_line(self._env[name].encode(errors="replace"), name), name)

    async def _from_command(self) -> bytes:
        async with self._running:  # once for all who wait
            if self._made is None or not 0 <= self._clock() - self._made[0] < _KEY_AGE:
                self._made = None
                self._made = (
                    self._clock(),
                    _one_line(await _output(self._source["command"], self._limit), "its command"),
                )
            return self._made[1]


def _headers_of(key: bytes, name: str = "") -> tuple[tuple[str, str], ...]:
    """What lets a key in; without the variable that it was in, what it is like says which it is."""
    text = key.decode("ascii")
    if name == "CLAUDE_CODE_OAUTH_TOKEN" or (not name and text.startswith("sk-ant-oat")):
        return ("authorization", f"Bearer {text}"), _BETA
    if name == "ANTHROPIC_AUTH_TOKEN":
        return (("authorization", f"Bearer {text}"),)
    if not name and not text.startswith("sk-ant-"):  # a gateway's: either header, as Claude Code does it
        return ("x-api-key", text), ("authorization", f"Bearer {text}")
    return (("x-api-key", text),)


def _one_line(data: bytes, where: str) -> bytes:
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise Unusable(f"there is no key: {where} has nothing")
    if not _KEY.match(line):
        raise Unusable(f"there is no key: {where} has more than one line, or what no key has")
    return line


def _content(path: Path, longest: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Unusable("what should have the key is no file")
            data = os.read(fd, longest + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise Unusable(f"the key's file cannot be read: {error.strerror}") from None
    if len(data) > longest:
        raise Unusable("the key's file is too large")
    return data


async def _output(command: str, limit: float) -> bytes:
    """What a command prints: by the shell, with nothing to read, and with no login of this process's."""
    process = await anyio.open_process(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name not in PARTS},
        cwd=Path.home() if Path.home().is_dir() else "/",
        start_new_session=True,
    )
    data = b""
    try:
        with anyio.fail_after(limit):
            assert process.stdout is not None
            with suppress(anyio.EndOfStream):
                while len(data) <= _LONGEST:
                    data += await process.stdout.receive()
                raise Unusable("there is no key: its command printed too much")
            code = await process.wait()
    except TimeoutError:
        raise Unusable(f"there is no key: its command took more than {limit:g} s") from None
    finally:
        with anyio.CancelScope(shield=True):
            # All that it has started, too; until it is waited for, its number is no other's.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.aclose()
    if code:
        raise Unusable(f"there is no key: its command failed with exit code {code}")
    return data


def _address(env: Mapping[str, str]) -> str:
    url = env.get("ANTHROPIC_BASE_URL") or _API
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        parts.netloc.encode("idna")
    except ValueError:  # a port that is none, a name that is too long
        is_good = False
    if not is_good or parts.query or parts.fragment or "@" in url:
        raise ValueError("ANTHROPIC_BASE_URL: http:// or https://, and a host")
    return url.rstrip("/")


def _custom_headers(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    headers = []
    for line in filter(None, map(str.strip, env.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n"))):
        found = _HEADER.match(line)
        if not found:
            raise ValueError("ANTHROPIC_CUSTOM_HEADERS: a line each, such as `Name: value`")
        headers.append((found[1].lower(), found[2].strip()))
    return tuple(headers)
