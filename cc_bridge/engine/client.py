"""The connection to the engine, and the border where its errors become ours.

The Docker SDK is blocking: every call runs in a worker thread, within a time limit. A call whose
caller is cancelled or out of time goes on in its thread until the SDK's own limit ends it; what it
asked for may still happen, which is what :class:`~cc_bridge.errors.EngineTimeout` says.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from ..errors import (
    BridgeError,
    ContainerNotFound,
    ContainerNotRunning,
    EngineError,
    EnginePermissionDenied,
    EngineTimeout,
    EngineUnavailable,
    ImageNotFound,
)

if TYPE_CHECKING:
    import docker

__all__ = ["CONNECT_LIMIT", "OPERATION_LIMIT", "Engine", "translate"]

T = TypeVar("T")

#: Seconds to connect, and for one operation.
CONNECT_LIMIT = 5.0
OPERATION_LIMIT = 30.0


class Engine:
    """A Docker engine.

    Args:
        client: a Docker client to use; it stays the caller's to close. Without one, the engine that
            ``DOCKER_HOST`` names, or the local one, is connected to on first use.
    """

    def __init__(self, client: docker.DockerClient | None = None) -> None:
        self._client = client
        self._own = client is None
        self._shares_kernel: bool | None = None

    @property
    def address(self) -> str:
        """Where the engine is, for messages."""
        address = str(getattr(self._client.api, "base_url", "")) if self._client is not None else ""
        if address.startswith("http") and not address.startswith("http+docker"):
            return address
        return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")

    async def call(self, function: Callable[..., T], *args: Any, limit: float = OPERATION_LIMIT, **options: Any) -> T:
        """Run a blocking call of the SDK in a worker thread.

        Raises:
            EngineError: the kind that fits; nothing of Docker's or requests' own gets past.
        """
        try:
            with anyio.fail_after(limit):
                return await anyio.to_thread.run_sync(partial(function, *args, **options), abandon_on_cancel=True)
        except TimeoutError:
            raise EngineTimeout(f"the engine at {self.address} did not answer within {limit:g} s") from None
        except BridgeError:
            raise
        except Exception as error:  # the border: everything foreign is translated, or goes on as it is
            translated = translate(error, self.address)
            if translated is None:
                raise
            raise translated from error

    async def client(self) -> docker.DockerClient:
        """The SDK's client, connected.

        Raises:
            EngineUnavailable, EnginePermissionDenied, EngineTimeout: as they say.
        """
        if self._client is None:
            self._client = await self.call(_connect, limit=2 * CONNECT_LIMIT)
        return self._client

    async def version(self) -> str:
        """The engine's version."""
        client = await self.client()
        return str((await self.call(client.version)).get("Version", "unknown"))

    async def shares_kernel(self) -> bool:
        """Whether a FIFO can connect this host and a container: same kernel, reached by a local socket."""
        if self._shares_kernel is None:
            client = await self.client()
            local = str(client.api.base_url).startswith("http+docker://")
            info = await self.call(client.info) if local else {}
            self._shares_kernel = bool(info.get("KernelVersion") == os.uname().release)
        return self._shares_kernel

    async def aclose(self) -> None:
        """Close the connections, if they are this object's own."""
        if self._own and self._client is not None:
            client, self._client = self._client, None
            await self.call(client.close)


def _connect() -> docker.DockerClient:
    import docker

    if getattr(docker, "__file__", None) is None or not hasattr(docker, "from_env"):
        raise EngineError(
            "the Docker SDK is not installed; a folder named 'docker' is imported in its place",
            hint="Install it (`pip install docker`), or start from another directory.",
        )
    # Asked by ourselves first: the SDK hides the operating system's reason, and leaves its socket open.
    address = docker.utils.kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock"
    scheme, _, path = address.rpartition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_LIMIT)
            probe.connect(path)
    client = docker.from_env(timeout=int(CONNECT_LIMIT))
    client.api.timeout = int(OPERATION_LIMIT)
    return client


def translate(error: Exception, address: str = "its address") -> EngineError | None:
    """The error of ours for one of Docker's or requests'; None: it is neither."""
    import docker.errors
    import requests.exceptions

    answered = isinstance(error, docker.errors.APIError)
    if not answered and any(
        isinstance(link, PermissionError) or "Permission denied" in str(link) for link in _chain(error)
    ):
        return EnginePermissionDenied(f"no permission to use the engine at {address}")
    if isinstance(error, docker.errors.ImageNotFound):
        return ImageNotFound(_explain(error))
    if isinstance(error, docker.errors.NotFound):
        return _not_found(error)
    if isinstance(error, docker.errors.APIError):
        explained = _explain(error)
        if "is not running" in explained:  # 409, or 500 where it ended in the middle of the request
            return ContainerNotRunning(explained)
        return EngineError(f"the engine refused: {explained}")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return EngineTimeout(f"the engine at {address} did not answer in time")
    if isinstance(error, requests.exceptions.RequestException | ConnectionError | FileNotFoundError):
        return EngineUnavailable(f"no engine answers at {address}")
    if isinstance(error, docker.errors.BuildError):
        return EngineError(f"the image could not be built: {error}")
    if isinstance(error, docker.errors.DockerException):
        down = "Error while fetching server API version" in str(error)
        return EngineUnavailable(f"no engine answers at {address}") if down else EngineError(str(error))
    return None


def _not_found(error: Any) -> EngineError:
    explained = _explain(error)
    return (ImageNotFound if "mage" in explained else ContainerNotFound)(explained)


def _explain(error: Any) -> str:
    return str(error.explanation or error).strip().rstrip(".")


def _chain(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and what urllib3 and requests carry as arguments."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo and len(found) < 20:
        link = todo.pop()
        if isinstance(link, BaseException) and link not in found:
            found.append(link)
            todo += [link.__cause__, link.__context__, *link.args, getattr(link, "reason", None)]
    return found
