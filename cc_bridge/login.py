"""Claude Code's login, as this machine's environment has it: it travels whole, or not at all.

A key belongs to the server that it was set for. With ``ANTHROPIC_BASE_URL`` left behind, a company's key would go to
another server than the company's. Names: docs.claude.com, "Claude Code settings", "LLM gateway", "Bedrock", "Vertex".
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .errors import InvalidInput

__all__ = [
    "KEYS",
    "PARTS",
    "check_key",
    "check_reachable",
    "decides",
    "host_login",
    "joined",
    "login_file",
    "other_provider",
    "with_login",
]

#: Each lets Claude Code in; one is enough, and with two the wrong one may win.
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")

#: Addresses of the server that is asked.
_ADDRESSES = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_FOUNDRY_BASE_URL",
)

#: Other providers: what chooses each, and what it needs.
_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "CLAUDE_CODE_USE_BEDROCK": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "ANTHROPIC_SMALL_FAST_MODEL_AWS_REGION",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    ),
    "CLAUDE_CODE_USE_VERTEX": (
        "ANTHROPIC_VERTEX_PROJECT_ID",
        "CLOUD_ML_REGION",
        "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    ),
    "CLAUDE_CODE_USE_FOUNDRY": (
        "ANTHROPIC_FOUNDRY_API_KEY",
        "ANTHROPIC_FOUNDRY_RESOURCE",
        "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
    ),
}

#: Say who is let in where; a variable of an instance's own that does so leaves nothing of this machine's login.
_DECIDES = (*KEYS, *_ADDRESSES, *_PROVIDERS)

#: What a provider needs that other programs have as well: it is taken only where the provider is chosen.
_SHARED = "AWS_"

#: All of a login but what other programs use, too.
PARTS = (
    *_DECIDES,
    "ANTHROPIC_CUSTOM_HEADERS",
    *(name for needs in _PROVIDERS.values() for name in needs if not name.startswith(_SHARED)),
)


def host_login(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The login in an environment: one key or token, and all that belongs to it; empty: there is none."""
    names = [*_ADDRESSES, "ANTHROPIC_CUSTOM_HEADERS", *[name for name in KEYS if environ.get(name)][:1]]
    for provider, needs in _PROVIDERS.items():
        # A settings file may choose a provider, too: what nobody else uses goes in any case.
        names += [provider, *(name for name in needs if environ.get(provider) or not name.startswith(_SHARED))]
    return {name: environ[name] for name in names if environ.get(name)}


def decides(env: Mapping[str, str]) -> bool:
    """Whether an instance's variables say who is let in where."""
    return any(name in env for name in _DECIDES)


def other_provider(env: Mapping[str, str]) -> str:
    """The variable by which another provider than Anthropic is asked; empty: none is."""
    return next((name for name in (*_PROVIDERS, *_ADDRESSES[1:]) if env.get(name)), "")


def joined(env: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """An instance's variables, and those of one Claude Code of it; where these name a login, nothing is left of its."""
    return {**{name: value for name, value in env.items() if not (decides(own) and name in PARTS)}, **own}


def with_login(env: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An instance's variables, and this machine's login where they say nothing of one.

    Of a provider of which they name a part, nothing is added: its parts belong together.
    """
    if decides(env):
        return dict(env)
    login = host_login(environ)
    for provider, needs in _PROVIDERS.items():
        if any(name in env for name in needs):
            login = {name: value for name, value in login.items() if name not in (provider, *needs)}
    return {**login, **env}


def check_key(env: Mapping[str, str], instance: str = "") -> None:
    """Refuse an address without a key, where a login that is kept in a file would go there.

    Raises:
        InvalidInput: names the variable.
    """
    address = next((name for name in _ADDRESSES if env.get(name)), None)
    if address and not any(env.get(name) for name in (*KEYS, *_PROVIDERS)):
        what = f"{address} is set without a key, and your own login would be sent there"
        raise InvalidInput(
            what, instance=instance, hint="Set the key of that server, too; any will do if it needs none."
        )


def check_reachable(env: Mapping[str, str], instance: str = "") -> None:
    """Refuse an address that is on this machine's loopback: in a container it is the container's own.

    Raises:
        InvalidInput: names the variable. Otherwise Claude Code would try again for minutes.
    """
    for name in _ADDRESSES:
        if _is_loopback(env.get(name, "")):
            what = f"{name} is {env[name]}: this machine's loopback, which a container with a network of its own lacks"
            hint = "Use `--network host`, or an address of this machine that containers reach."
            raise InvalidInput(what, instance=instance, hint=hint)


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def login_file() -> Path:
    """Claude Code's login of this user, in a file.

    Raises:
        InvalidInput: there is none.
    """
    config = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    login = config / ".credentials.json"
    if not login.is_file():
        raise InvalidInput(f"there is no login of Claude Code in {config}", hint="`claude` and /login make one.")
    return login.resolve()
