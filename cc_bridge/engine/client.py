"""The connection to the engine, and the border where its errors become ours.

The Docker SDK is blocking: every call runs in a worker thread, within a time limit. A call that is cancelled or out of
time is hung up on: its connection is shut, so that its thread ends at once and the engine gives up a build or a pull.
What was asked may still have happened, which is what :class:`~cc_bridge.errors.EngineTimeout` says.
"""

from __future__ import annotations

import math
import os
import shlex
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from ..errors import (
    BridgeError,
    ContainerNotFound,
    ContainerNotRunning,
    EngineError,
    EnginePermissionDenied,
    EngineTimeout,
    EngineUnavailable,
    ImageBuildError,
    ImageNotFound,
    NameConflict,
    NoSpaceLeft,
)
from ..logs import Log
from .address import Address, find_address
from .tunnel import Tunnel

if TYPE_CHECKING:
    import docker

__all__ = ["CONNECT_LIMIT", "OPERATION_LIMIT", "PAUSES", "Engine", "translate"]

T = TypeVar("T")

#: Seconds to connect, and for one operation.
CONNECT_LIMIT = 5.0
OPERATION_LIMIT = 30.0

#: Seconds before what is safe to repeat is tried again, when the engine could not be reached.
PAUSES = (1.0, 2.0, 4.0)

#: Connections that are kept open, and calls at once. What streams or waits does not count.
_POOL = 16


class _Call:
    """A call in a worker thread, and the connection that it uses just now."""

    current: ContextVar[_Call | None] = ContextVar("call", default=None)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._over = False

    def run(self, function: Callable[[], T], *, keep: bool = False) -> T:
        """Run in this thread, with what :meth:`hang_up` needs. ``keep``: the connection is used again later."""
        _Call.current.set(self)  # in this thread's own context
        try:
            return function()
        finally:
            if not keep:
                self.uses(None)

    def uses(self, connection: Any) -> None:
        with self._lock:
            if connection is not None and self._over:
                raise EngineError("the call was cancelled")
            self._connection = connection

    def hang_up(self) -> None:
        """Shut the connection, whatever the thread is doing with it; nothing happens to a call that is over."""
        with self._lock:
            self._over = True
            sock = getattr(self._connection, "sock", None)
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class Engine:
    """A Docker engine, or another that speaks its language.

    Args:
        client: a Docker client to use; it stays the caller's to close. Without one, the engine that
            :func:`~cc_bridge.engine.address.find_address` finds is connected to on first use.
    """

    def __init__(self, client: docker.DockerClient | None = None) -> None:
        self._client = client
        self._own = client is None
        self._found: Address | None = None
        self._tunnel: Tunnel | None = None
        self._shares_kernel: bool | None = None
        self._connecting = anyio.Lock()
        self._unreachable = False
        self._limiter: anyio.CapacityLimiter | None = None
        self._log = Log("", "engine")

    @property
    def address(self) -> str:
        """Where the engine is, for messages."""
        if self._found is not None:
            return self._found.url
        address = str(getattr(self._client.api, "base_url", "")) if self._client is not None else ""
        if address.startswith("http") and not address.startswith("http+docker"):
            return address
        return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")

    async def call(
        self,
        function: Callable[..., T],
        *args: Any,
        limit: float = OPERATION_LIMIT,
        repeat: bool = False,
        shown: Sequence[str] = (),
        **options: Any,
    ) -> T:
        """Run a blocking call of the SDK in a worker thread.

        Args:
            limit: seconds.
            repeat: it is safe to do twice: it is tried again, after ``PAUSES``, when the engine cannot be reached.
            shown: the same as words for Docker's own command; logged as what is done.

        Raises:
            EngineError: the kind that fits; nothing of Docker's or requests' own gets past.
        """
        if shown:
            self.log_command(*shown)
        for pause in PAUSES if repeat else ():
            try:
                return await self._call_once(function, args, options, limit)
            except EngineUnavailable as error:
                self._log.warning("engine_unreachable", reason=error.what, again_in=pause)
            await anyio.sleep(pause)  # back-off
        return await self._call_once(function, args, options, limit)

    def log_command(self, *words: str) -> None:
        """Log a command of Docker's that does what is about to be done."""
        self._log.debug("engine_call", command=shlex.join(["docker", *words]))

    async def _call_once(self, function: Callable[..., T], args: Any, options: Any, limit: float) -> T:
        call = _Call()
        try:
            return await self._in_thread(partial(call.run, partial(function, *args, **options)), limit)
        finally:
            call.hang_up()

    async def _in_thread(self, act: Callable[[], T], limit: float) -> T:
        if limit > OPERATION_LIMIT:
            limiter = anyio.CapacityLimiter(math.inf)  # what waits must not keep others from being done
        else:
            limiter = self._limiter = self._limiter or anyio.CapacityLimiter(_POOL)
        try:
            with anyio.fail_after(limit):
                return await anyio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=limiter)
        except TimeoutError:
            raise EngineTimeout(f"the engine at {self.address} did not answer within {limit:g} s") from None
        except BridgeError:
            raise
        except Exception as error:  # the border: everything foreign is translated, or goes on as it is
            translated = translate(error, self.address)
            if translated is None:
                raise
            raise translated from error

    async def stream(
        self, function: Callable[[], Generator[T]], *, shown: Sequence[str] = ()
    ) -> AsyncGenerator[T, None]:
        """What a blocking generator yields, as it is asked for; a slow reader slows it, and leaving hangs up on it.

        Raises:
            EngineError: the kind that fits.
        """
        call, end = _Call(), object()
        items = function()
        if shown:
            self.log_command(*shown)
        try:
            while True:
                # No limit: what has nothing to say now may have something to say tomorrow.
                act = partial(call.run, partial(next, items, end), keep=True)
                item = await self._in_thread(act, math.inf)
                if item is end:
                    return
                yield item
        finally:
            call.hang_up()
            with suppress(ValueError):  # its thread is still in it, and about to find the connection shut
                items.close()

    async def client(self) -> docker.DockerClient:
        """The SDK's client, connected.

        Raises:
            EngineUnavailable, EnginePermissionDenied, EngineTimeout: as they say.
            InvalidInput: the address is of no known kind.
        """
        if self._client is None or self._has_lost_tunnel:
            async with self._connecting:  # of several callers one connects, and all get what it has made
                await self._ensure_connected()
        assert self._client is not None
        return self._client

    @property
    def _has_lost_tunnel(self) -> bool:
        return self._tunnel is not None and self._tunnel.has_ended

    async def _ensure_connected(self) -> None:
        if self._has_lost_tunnel:
            self._log.warning("tunnel_ended", engine=self.address)
            await self.aclose()
        if self._client is not None:
            return
        # Where there is no socket at all, there is no engine to wait for; one that refuses may be starting. Whoever
        # has waited for it in vain does not wait once more, to clean up for example.
        found = self._found = await self.call(find_address)
        missing = found.scheme == "unix" and not os.path.exists(found.path)
        url = await self._tunnelled(found)
        repeat = not missing and not self._unreachable
        try:
            self._client = await self.call(_connect, url, found.tls, limit=2 * CONNECT_LIMIT, repeat=repeat)
        except EngineUnavailable:
            self._unreachable = True
            raise
        self._unreachable = False

    async def _tunnelled(self, address: Address) -> str:
        if address.scheme != "ssh":
            return address.url
        if self._tunnel is None:
            self._tunnel = await Tunnel.open(address.url, 3 * CONNECT_LIMIT)
        return f"unix://{self._tunnel.socket}"

    async def version(self) -> str:
        """The engine's version; asking for it is the health check."""
        client = await self.client()
        return str((await self.call(client.version, repeat=True, shown=["version"])).get("Version", "unknown"))

    @property
    def source(self) -> str:
        """What the address was found by."""
        return self._found.source if self._found else "given"

    async def data_root(self) -> str:
        """Where the engine keeps images and containers, on its own machine."""
        client = await self.client()
        return str((await self.call(client.info, repeat=True)).get("DockerRootDir", ""))

    @property
    def is_local(self) -> bool:
        """It is reached by a socket of this machine; known once connected."""
        if self._tunnel is not None or self._client is None:
            return False
        return str(self._client.api.base_url).startswith("http+docker://")

    async def shares_kernel(self) -> bool:
        """Whether a FIFO can connect this host and a container: same kernel, reached by a local socket."""
        if self._shares_kernel is None:
            client = await self.client()
            info = await self.call(client.info, repeat=True) if self.is_local else {}
            self._shares_kernel = bool(info.get("KernelVersion") == os.uname().release)
        return self._shares_kernel

    async def aclose(self) -> None:
        """Close the connections, if they are this object's own."""
        try:
            if self._own and self._client is not None:
                client, self._client = self._client, None
                await self.call(client.close)
        finally:
            if self._tunnel is not None:
                tunnel, self._tunnel = self._tunnel, None
                await tunnel.aclose()


def _connect(url: str, tls: Any) -> docker.DockerClient:
    import docker

    if getattr(docker, "__file__", None) is None or not hasattr(docker, "DockerClient"):
        raise EngineError(
            "the Docker SDK is not installed; a folder named 'docker' is imported in its place",
            hint="Install it (`pip install docker`), or start from another directory.",
        )
    if url.startswith("unix://"):
        # Asked by ourselves first: the SDK hides the operating system's reason, and leaves its socket open.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_LIMIT)
            probe.connect(url.removeprefix("unix://"))
    limits = {"timeout": int(CONNECT_LIMIT), "max_pool_size": _POOL}
    if tls:
        # Before the first request: requests prefers certificates that the environment names to the engine's own.
        client = docker.DockerClient(url, tls=tls, version=docker.constants.MINIMUM_DOCKER_API_VERSION, **limits)
        client.api.trust_env = False
        client.api._version = client.api._retrieve_server_version()
    else:
        client = docker.DockerClient(url, **limits)
    client.api.timeout = int(OPERATION_LIMIT)
    _note_connections(client.api)
    return client


def _connect_unix(connection: Any) -> None:
    """As the SDK's own, which leaves its socket open where nobody answers."""
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(connection.timeout)
        made.connect(connection.unix_socket)
    except BaseException:  # an interrupt, too: nobody else has the socket
        made.close()
        raise
    connection.sock = made


def _note_connections(api: Any) -> None:
    """Have every connection noted by the call that uses it, so that the call can be hung up on.

    The SDK has no way to end a call; the adapters and pools beneath it (requests, urllib3) hand out connections here.
    """
    adapter = api.get_adapter(api.base_url + "/")
    get_pool = adapter.get_connection_with_tls_context

    def get_noting_pool(*args: Any, **options: Any) -> Any:
        pool = get_pool(*args, **options)
        if "_get_conn" not in vars(pool):
            get, put = pool._get_conn, pool._put_conn

            def noting_get(*args: Any, **options: Any) -> Any:
                connection, call = get(*args, **options), _Call.current.get()
                if hasattr(connection, "unix_socket"):
                    connection.connect = partial(_connect_unix, connection)
                if call is not None:
                    call.uses(connection)
                return connection

            def noting_put(connection: Any) -> None:
                call = _Call.current.get()
                if call is not None:
                    call.uses(None)
                put(connection)

            pool._get_conn, pool._put_conn = noting_get, noting_put
        return pool

    adapter.get_connection_with_tls_context = get_noting_pool


def translate(error: Exception, address: str = "its address") -> EngineError | None:
    """The error of ours for one of Docker's or requests'; None: it is neither."""
    import docker.errors
    import requests.exceptions

    if not isinstance(error, docker.errors.APIError) and (refused := _refused(error, address)) is not None:
        return refused
    if isinstance(error, docker.errors.APIError):
        return _answered(error)
    # Where an answer has begun, requests calls the same by another name.
    if isinstance(error, requests.exceptions.ReadTimeout) or "Read timed out" in str(error):
        return EngineTimeout(f"the engine at {address} did not answer in time")
    if isinstance(error, requests.exceptions.RequestException | ConnectionError | FileNotFoundError):
        return EngineUnavailable(f"no engine answers at {address}")
    if isinstance(error, docker.errors.BuildError):
        return ImageBuildError(f"the image could not be built: {error}")
    if isinstance(error, docker.errors.DockerException):
        down = "Error while fetching server API version" in str(error)
        return EngineUnavailable(f"no engine answers at {address}") if down else EngineError(str(error))
    return None


def _answered(error: Any) -> EngineError:
    """What the engine has answered that is no success."""
    import docker.errors

    if isinstance(error, docker.errors.ImageNotFound):
        return ImageNotFound(_explain(error))
    if isinstance(error, docker.errors.NotFound):
        return _not_found(error)
    explained = _explain(error)
    if "no space left on device" in explained:
        return NoSpaceLeft(f"the engine's disk is full: {explained}")
    if "already in use" in explained and "name" in explained:  # Podman says it in other words
        return NameConflict(explained)
    if "is not running" in explained:  # 409, or 500 where it ended in the middle of the request
        return ContainerNotRunning(explained)
    return EngineError(f"the engine refused: {explained}")


def _refused(error: Exception, address: str) -> EngineError | None:
    """Permission or trust that was missing on the way to the engine; None: it was neither."""
    for link in _chain(error):
        if isinstance(link, PermissionError) or "Permission denied" in str(link):
            return EnginePermissionDenied(f"no permission to use the engine at {address}")
        if isinstance(link, ssl.SSLError):
            hint = "Check DOCKER_CERT_PATH: ca.pem, cert.pem and key.pem of the engine's."
            return EngineUnavailable(f"no trust between this machine and the engine at {address}: {link}", hint=hint)
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
