"""The connection to the engine; here its errors become ours.

The Docker SDK is blocking: every call runs in a worker thread, within a time limit. When a call is cancelled or times
out, its connection is shut down, so that the thread ends at once and the engine stops a build or a pull. The operation
may still have happened, as :class:`~cc_bridge.errors.EngineTimeout` says.
"""

from __future__ import annotations

import math
import os
import shlex
import socket
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
from .keepalive import look_after

if TYPE_CHECKING:
    import docker

    from .tunnel import Tunnel

__all__ = ["CONNECT_LIMIT", "OPERATION_LIMIT", "PAUSES", "Engine", "translate"]

T = TypeVar("T")

#: Seconds to connect, and for one operation.
CONNECT_LIMIT = 5.0
OPERATION_LIMIT = 30.0

#: Seconds before each retry of an idempotent call when the engine is unreachable.
PAUSES = (1.0, 2.0, 4.0)

#: Size of the connection pool, and most concurrent calls; streams and long waits do not count.
_POOL = 16


class _Call:
    """A call in a worker thread, and the connection it is using."""

    current: ContextVar[_Call | None] = ContextVar("call", default=None)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._over = False

    def run(self, function: Callable[[], T], *, keep: bool = False) -> T:
        """Run in this thread, so that :meth:`hang_up` can end it. ``keep``: the connection will be used again."""
        _Call.current.set(self)  # in this thread's own context
        try:
            return function()
        finally:
            if not keep:
                self.uses(None)

    def uses(self, connection: Any) -> None:
        with self._lock:
            if connection is not None and self._over:
                connection.close()  # nobody else would
                raise EngineError("the call was cancelled")
            self._connection = connection

    def hang_up(self) -> None:
        """Shut down the connection, whatever the thread is doing; does nothing after the call has ended."""
        with self._lock:
            self._over = True
            if (sock := getattr(self._connection, "sock", None)) is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class Engine:
    """A Docker engine, or one with a compatible API.

    Args:
        client: a Docker client to use, which the caller closes. Without one, the first use connects to the engine
            that :func:`~cc_bridge.engine.address.find_address` finds.

    Attributes:
        companion: what is closed with it, such as the engines of a swarm's nodes.
    """

    def __init__(self, client: docker.DockerClient | None = None) -> None:
        self._client = client
        self._own = client is None
        self._found: Address | None = None
        self._tunnel: Tunnel | None = None
        self._shares_kernel: bool | None = None
        self._connecting, self._unreachable = anyio.Lock(), False
        self._limiter: anyio.CapacityLimiter | None = None
        self._log = Log("", "engine")
        self.companion: anyio.abc.AsyncResource | None = None

    @property
    def address(self) -> str:
        """The engine's address, for messages."""
        if self._found is not None:
            return self._found.url
        api = self._client.api if self._client is not None else None
        address = str(getattr(api, "base_url", ""))
        if path := str(getattr(getattr(api, "_custom_adapter", None), "socket_path", "")):
            return f"unix://{path}"
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
            repeat: the call is idempotent: retry it after ``PAUSES`` when the engine is unreachable.
            shown: the equivalent words of the ``docker`` command, for the log.

        Raises:
            EngineError: of the kind that fits; no error of the SDK or of requests gets through.
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
        """Log the ``docker`` command that is equivalent to the next call."""
        self._log.debug("engine_call", command=shlex.join(["docker", *words]))

    async def _call_once(self, function: Callable[..., T], args: Any, options: Any, limit: float) -> T:
        call = _Call()
        try:
            return await self._in_thread(partial(call.run, partial(function, *args, **options)), limit)
        finally:
            call.hang_up()

    async def _in_thread(self, act: Callable[[], T], limit: float) -> T:
        if limit > OPERATION_LIMIT:
            limiter = anyio.CapacityLimiter(math.inf)  # long waits must not block other calls
        else:
            limiter = self._limiter = self._limiter or anyio.CapacityLimiter(_POOL)
        try:
            with anyio.fail_after(limit):
                return await anyio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=limiter)
        except TimeoutError:
            raise EngineTimeout(f"the engine at {self.address} did not answer within {limit:g} s") from None
        except BridgeError:
            raise
        except Exception as error:  # the border: foreign errors are translated; others are raised as they are
            translated = translate(error, self.address)
            if translated is None:
                raise
            raise translated from error

    async def stream(
        self, function: Callable[[], Generator[T]], *, shown: Sequence[str] = ()
    ) -> AsyncGenerator[T, None]:
        """Iterate a blocking generator in a thread, one item per request; leaving early closes its connection.

        Raises:
            EngineError: the kind that fits.
        """
        call, end = _Call(), object()
        items = function()
        if shown:
            self.log_command(*shown)
        try:
            while True:
                # No limit: a stream may be silent for days.
                act = partial(call.run, partial(next, items, end), keep=True)
                item = await self._in_thread(act, math.inf)
                if item is end:
                    return
                yield item
        finally:
            call.hang_up()
            with suppress(ValueError):  # still running in its thread, which is about to fail
                items.close()

    async def client(self) -> docker.DockerClient:
        """The SDK's client, connected.

        Raises:
            EngineUnavailable, EnginePermissionDenied, EngineTimeout: as they say.
            InvalidInput: the address has an unknown scheme.
        """
        if self._client is None or self._has_lost_tunnel:
            async with self._connecting:  # concurrent callers share one connection
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
        # Without a socket there is no engine to wait for. After a failed wait the next call does not wait again.
        found = self._found = await self._find()
        missing = found.scheme == "unix" and not os.path.exists(found.path)
        url = await self._tunnelled(found)
        repeat = not missing and not self._unreachable
        try:
            self._client = await self.call(_connect, url, found.tls, limit=2 * CONNECT_LIMIT, repeat=repeat)
        except EngineUnavailable:
            self._unreachable = True
            raise
        self._unreachable = False

    async def _find(self) -> Address:
        return await self.call(find_address)

    async def _tunnelled(self, address: Address) -> str:
        if address.scheme != "ssh":
            return address.url
        if self._tunnel is None:
            from .tunnel import Tunnel

            self._tunnel = await Tunnel.open(address.url, 3 * CONNECT_LIMIT)
        return f"unix://{self._tunnel.socket}"

    async def version(self) -> str:
        """The engine's version; also the health check."""
        client = await self.client()
        return str((await self.call(client.version, repeat=True, shown=["version"])).get("Version", "unknown"))

    @property
    def source(self) -> str:
        """Where the address came from."""
        return self._found.source if self._found else "given"

    async def data_root(self) -> str:
        """The directory of the engine's images and containers, on its machine."""
        client = await self.client()
        return str((await self.call(client.info, repeat=True)).get("DockerRootDir", ""))

    @property
    def is_local(self) -> bool:
        """Whether it is reached by a local socket; False until connected."""
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
        """Close the connections, unless the client is the caller's."""
        try:
            if self.companion is not None:
                await self.companion.aclose()
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
        # Probed first: the SDK hides the OS error and leaks the socket.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_LIMIT)
            probe.connect(url.removeprefix("unix://"))
    limits = {"timeout": int(CONNECT_LIMIT), "max_pool_size": _POOL}
    if tls:
        # Set before the first request: requests prefers certificates from the environment to the engine's own.
        client = docker.DockerClient(url, tls=tls, version=docker.constants.MINIMUM_DOCKER_API_VERSION, **limits)
        client.api.trust_env = False
        client.api._version = client.api._retrieve_server_version()
    else:
        client = docker.DockerClient(url, **limits)
    client.api.timeout = int(OPERATION_LIMIT)
    if not url.startswith("unix://"):
        look_after(client.api, _POOL)
    _note_connections(client.api)
    return client


def _connect_unix(connection: Any) -> None:
    """As the SDK's own, which leaks its socket when the connection fails."""
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(connection.timeout)
        made.connect(connection.unix_socket)
    except BaseException:  # KeyboardInterrupt, too: nobody else has the socket
        made.close()
        raise
    connection.sock = made


def _note_connections(api: Any) -> None:
    """Record for each call which connection it uses, so that the call can be ended.

    The SDK cannot cancel a call; the pools beneath it (requests, urllib3) hand out connections here.
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
    """Our error for one of the SDK or of requests; None: it is neither."""
    import docker.errors
    import requests.exceptions

    if not isinstance(error, docker.errors.APIError) and (refused := _refused(error, address)) is not None:
        return refused
    if isinstance(error, docker.errors.APIError):
        return _answered(error)
    # After the response has begun, requests raises another type.
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
    """Our error for an error response of the engine."""
    import docker.errors

    if isinstance(error, docker.errors.ImageNotFound):
        return ImageNotFound(_explain(error))
    if isinstance(error, docker.errors.NotFound):
        return _not_found(error)
    explained = _explain(error)
    if "no space left on device" in explained:
        return NoSpaceLeft(f"the engine's disk is full: {explained}")
    if "already in use" in explained and "name" in explained:  # Podman's wording differs
        return NameConflict(explained)
    if "is not running" in explained:  # 409, or 500 if it ended during the request
        return ContainerNotRunning(explained)
    return EngineError(f"the engine refused: {explained}")


def _refused(error: Exception, address: str) -> EngineError | None:
    """Our error for missing permission or TLS trust; None: it is neither."""
    import ssl

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
    """The error, its causes, and the errors that urllib3 and requests carry as arguments."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo and len(found) < 20:
        link = todo.pop()
        if isinstance(link, BaseException) and link not in found:
            found.append(link)
            todo += [link.__cause__, link.__context__, *link.args, getattr(link, "reason", None)]
    return found
