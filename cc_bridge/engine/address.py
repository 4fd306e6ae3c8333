"""Find the engine: from the environment, Docker's contexts, or the sockets of this machine."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import InvalidInput
from ..values import Value

__all__ = ["DEFAULT_SOCKET", "Address", "address_of", "context_address", "find_address", "ssh_command"]

DEFAULT_SOCKET = "/var/run/docker.sock"


class Address(Value):
    """An engine's address.

    Attributes:
        url: ``unix://``, ``tcp://`` or ``ssh://``.
        tls: the SDK's TLS configuration, or None.
        source: where the address came from: a variable, a context, or this machine.
    """

    url: str
    tls: Any = None
    source: str = "this machine"

    @property
    def scheme(self) -> str:
        """The part before ``://``."""
        return self.url.partition("://")[0].removeprefix("http+")

    @property
    def path(self) -> str:
        """The path of a local socket."""
        return self.url.partition("://")[2]


def find_address(environ: Mapping[str, str] = os.environ) -> Address:
    """The address that the ``docker`` command would use, or else an existing socket.

    ``DOCKER_HOST``, then ``DOCKER_CONTEXT`` and the context in use (also Docker Desktop's), then the sockets of the
    system's engine, of Docker Desktop, of a rootless engine and of Podman.

    Raises:
        InvalidInput: the context does not exist, or the address has an unknown scheme.
    """
    from docker.context.config import get_current_context_name

    if environ.get("DOCKER_HOST"):
        return address_of(environ["DOCKER_HOST"], "DOCKER_HOST", environ)
    name = environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name != "default":
        found = context_address(name)
        if found is None:
            raise InvalidInput(f"there is no Docker context {name!r}", hint="`docker context ls` lists them.")
        return found
    for path in _sockets(environ):
        if _is_socket(path):
            return Address(f"unix://{path}")
    return Address(f"unix://{DEFAULT_SOCKET}")


def address_of(url: str, source: str, environ: Mapping[str, str] = os.environ) -> Address:
    """The address for a URL, with TLS as ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH`` say.

    Args:
        source: where the URL came from, for messages.

    Raises:
        InvalidInput: it has an unknown scheme.
    """
    import docker.utils

    checked = _checked(Address(url, None, source))
    if checked.scheme in ("unix", "ssh"):
        return checked
    return Address(url, docker.utils.kwargs_from_env(environment={**environ, "DOCKER_HOST": url}).get("tls"), source)


def context_address(name: str) -> Address | None:
    """The address in the Docker context of this name; None: there is none.

    Raises:
        InvalidInput: it has an unknown scheme.
    """
    from docker.context import ContextAPI

    context = (
        ContextAPI.get_context(name) if name not in ("", "default") else None
    )  # which is no other than DOCKER_HOST
    if context is None or not context.Host:
        return None
    return _checked(Address(context.Host.replace("http+unix://", "unix://"), context.TLSConfig, f"context {name}"))


def ssh_command(url: str, local_socket: str) -> list[str]:
    """The ssh command that forwards another machine's engine socket to a local one.

    It prints ``ready`` when the forwarding works, and exits when its stdin is closed, so also when its parent dies.
    Keys and known hosts are openssh's configuration; it never prompts.

    Args:
        url: ``ssh://[user@]host[:port][/path/of/the/socket]``.
    """
    parts = urlsplit(url)
    remote = unquote(parts.path) if parts.path not in ("", "/") else DEFAULT_SOCKET
    argv = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=5"]
    argv += ["-o", "ControlPath=none", "-o", "ServerAliveInterval=15", "-L", f"{local_socket}:{remote}"]
    argv += ["-p", str(parts.port)] if parts.port else []
    argv += ["-l", unquote(parts.username)] if parts.username else []
    return [*argv, "--", str(parts.hostname), f"test -S {shlex.quote(remote)} && echo ready && exec cat"]


def _checked(address: Address) -> Address:
    parts = urlsplit(address.url)
    if address.scheme not in ("unix", "tcp", "ssh", "http", "https") or not (parts.netloc or parts.path):
        raise InvalidInput(
            f"{address.url!r} is no address of an engine ({address.source})",
            hint="It begins with unix://, tcp:// or ssh://.",
        )
    if parts.hostname and parts.hostname.startswith("-"):
        raise InvalidInput(f"{address.url!r} has no host's name ({address.source})")
    return address


def _sockets(environ: Mapping[str, str]) -> list[str]:
    home = Path(environ.get("HOME") or "/nonexistent")
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [
        DEFAULT_SOCKET,
        str(home / ".docker/run/docker.sock"),
        str(home / ".docker/desktop/docker.sock"),
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    ]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
