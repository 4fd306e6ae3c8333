"""An instance whose key is outside: what Claude Code gets in the key's place, and who is given the key.

The proxy on this machine (`cc_bridge.proxy`) has the login and puts it into each request to the API. In the instance
there is a placeholder, which only tells the proxy that it is Claude Code who asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AgentUnavailable, EngineError, InvalidInput
from ..login import KEYS, PARTS, check_key, decides, login_file, other_provider, with_login
from .claude_settings import check_settings, config_directory
from .way_out import attend, leave, placeholder, proxy_now

if TYPE_CHECKING:
    from ..channels.base import Channel
    from ..record import ClaudeInstance
    from .outline import Outlined
    from .place import Place

__all__ = [
    "PORT",
    "agent_words",
    "attended",
    "check_outside",
    "connected",
    "leave_outside",
    "login_outside",
    "stop_outside",
    "surroundings",
    "with_placeholder",
]

#: Where the agent of a sealed container listens for what is to go out; elsewhere the port may be taken.
PORT = 3128

#: What a key or token of each variable begins with.
_PREFIXES = {
    "ANTHROPIC_API_KEY": "sk-ant-api03-",
    "ANTHROPIC_AUTH_TOKEN": "",
    "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-",
}

#: What the proxy is made of.
_PARTS_OF_THE_PROXY = ("h11", "httpx")

#: What is reached without a proxy.
_LOOPBACK = "127.0.0.1,localhost"


def agent_words(record: ClaudeInstance) -> list[str]:
    """What the agent's command line says of the way out."""
    if not record.key_is_outside:
        return []
    return ["--egress", str(PORT if record.sealed else 0), "--egress-env", "ANTHROPIC_BASE_URL"]


def surroundings(record: ClaudeInstance) -> dict[str, str]:
    """Variables of a sealed container, for whatever runs in it."""
    if not record.sealed:
        return {}
    proxy = f"http://127.0.0.1:{PORT}"
    return {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "NO_PROXY": _LOOPBACK,
        "no_proxy": _LOOPBACK,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # else each start would be refused half a dozen tunnels
    }


def login_outside(record: Outlined) -> dict[str, Any]:
    """The login that the proxy is given, as JSON types: ``variables`` as they are, and where the key is, if elsewhere.

    Raises:
        InvalidInput: there is none, or it is of another provider's.
    """
    has_source = bool(record.key_command or record.key_file)
    env = record.env if has_source else with_login(record.env)
    if other := other_provider(env):
        what = f"{other} is set, and with a key outside only Anthropic's own API, or a gateway to it, can be asked"
        raise InvalidInput(what, instance=record.name, hint="Unset it, or leave the key inside.")
    variables = {name: env[name] for name in PARTS if env.get(name)}
    if has_source and (key := next((name for name in KEYS if name in variables), "")):
        what = f"its env has {key}, and key_command or key_file says where the key is"
        raise InvalidInput(what, instance=record.name, hint="Leave one out.")
    if record.key_command:
        return {"command": record.key_command, "variables": variables}
    if record.key_file:
        return {"file": str(record.key_file), "variables": variables}
    if any(name in variables for name in KEYS):
        return {"variables": variables}
    check_key(env, record.name)
    return {"login_file": str(login_file())}


def with_placeholder(
    record: Outlined, env: Mapping[str, str], own: Mapping[str, str], directory: Path
) -> dict[str, str]:
    """Claude Code's variables without any login, and the placeholder in the place of the key.

    Args:
        env: of which these are made.
        own: those among them that are of one Claude Code of several.
        directory: the instance's.

    Raises:
        InvalidInput: as :func:`login_outside`, or ``own`` or Claude Code's settings have a login.
    """
    if decides(own):
        raise InvalidInput("its key is outside, and a Claude Code of it gets no login of its own", instance=record.name)
    source = login_outside(record)
    login = "CLAUDE_CODE_OAUTH_TOKEN" if "login_file" in source else "ANTHROPIC_API_KEY"
    key = next((name for name in KEYS if source.get("variables", {}).get(name)), login)
    around = {} if record.kind in ("docker", "swarm") else os.environ
    if record.kind == "local":
        check_settings(config_directory({**around, **env}), record.name)
    not_proxied = env.get("NO_PROXY") or around.get("NO_PROXY") or around.get("no_proxy", "")
    not_proxied = ",".join(filter(None, (not_proxied, _LOOPBACK)))  # the way out is on loopback
    return {
        **{name: value for name, value in env.items() if name not in PARTS},
        "NO_PROXY": not_proxied,
        "no_proxy": not_proxied,
        key: _PREFIXES[key] + placeholder(directory),
    }


def check_outside(record: ClaudeInstance, *, is_remote: bool = False) -> None:
    """Make sure that what the proxy needs is there.

    Args:
        is_remote: the container's engine is on another machine.

    Raises:
        InvalidInput: as :func:`login_outside`, or the proxy cannot run in this installation, or not for that engine.
    """
    if not record.key_is_outside:
        return
    from importlib.util import find_spec

    if is_remote:
        what = "its key is to be outside, and its engine is on another machine"
        raise InvalidInput(what, instance=record.name, hint="Use this machine's engine, or leave the key inside.")
    login_outside(record)
    if missing := [name for name in _PARTS_OF_THE_PROXY if find_spec(name) is None]:
        what = f"the proxy that holds the key needs {' and '.join(missing)}"
        raise InvalidInput(what, instance=record.name, hint="`pip install 'cc-bridge[sealed]'` installs what it needs.")


async def connected(place: Place, greeting: bytes) -> Channel:
    """As :meth:`Place.connect`; where the key is outside, the proxy is at its place, too, before anything is asked.

    Raises:
        InvalidInput: there is no login that the proxy could be given. The rest: as :meth:`Place.connect`.
    """
    channel = await place.connect(greeting)
    if place.record.key_is_outside:
        try:
            await _attend(place)
        except BaseException:  # cancelled, too: nobody else has the channel
            await channel.aclose()
            raise
    return channel


async def attended(place: Place) -> None:
    """The proxy that attended to a place has not gone since, or the next one does. Raises as :func:`connected`."""
    asked = place.attended_by
    if asked is not None and (asked == 0 or asked != proxy_now(place.registry.root)):
        with suppress(AgentUnavailable, EngineError):  # its agent has ended, too; the next one is attended to at once
            await _attend(place)


async def _attend(place: Place) -> None:
    await attend(place.registry.root, place.name, login_outside(place.record))
    place.attended_by = proxy_now(place.registry.root)


async def stop_outside(place: Place) -> None:
    """As :meth:`Place.stop`; the proxy need not look for it any more, and forgets the login."""
    await place.stop()
    await leave_outside(place)


async def leave_outside(place: Place) -> None:
    """The place has ended, and the proxy is told."""
    if place.record.key_is_outside:
        place.attended_by = None
        with suppress(AgentUnavailable):  # it does not answer; without the agent it ends by itself
            await leave(place.registry.root, place.name)
