"""The working process: who asks it for what, and when it ends."""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..errors import BridgeError, InvalidInput
from ..instances.way_out import proxy_socket
from ..names import NAME
from .api_client import ApiClient
from .attended import Attended
from .keys import check_source
from .supervisor import OVER, Shared

__all__ = ["Proxy", "work"]

#: Seconds without any instance after which it ends.
_IDLE = 10.0

#: Seconds for who is connected to say what it wants, for an agent to answer, and for its streams to be cut.
_REQUEST_LIMIT, _ATTACH_LIMIT, _LEAVE_LIMIT = 10.0, 30.0, 10.0

#: Bytes of a request, and requests at once.
_LONGEST, _MOST_ASKING = 1 << 20, 64

#: Descriptors, where as many may be had: two of each instance, and three of each connection of its programs.
_MOST_DESCRIPTORS = 65536


def work(shared: Shared, watcher: int) -> None:
    """Serve until there is nothing left to do.

    Args:
        watcher: the pidfd of the process that starts this one again.
    """
    logging.getLogger("cc_bridge").addHandler(shared.log)
    logging.getLogger("cc_bridge").propagate = False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _MOST_DESCRIPTORS)), hard))
    gc.freeze()  # what was imported stays, and need not be looked through again and again
    anyio.run(_work, shared, watcher)


async def _work(shared: Shared, watcher: int) -> None:
    async with ApiClient() as client:
        await Proxy(shared, client, watcher).run()


class Proxy:
    """The instances that are attended, and the socket at which they are named."""

    def __init__(self, shared: Shared, client: ApiClient, watcher: int) -> None:
        self._shared, self._client, self._watcher = shared, client, watcher
        self._root, self._log = shared.root, shared.log
        self._attended: dict[str, Attended] = {}
        self._unrestored: dict[str, Any] = {}  # sources of those that the next process may have more luck with
        self._watching: set[socket.socket] = set()
        self._changed = anyio.Event()
        self._asking = anyio.CapacityLimiter(_MOST_ASKING)
        self._since = time.time()

    async def run(self) -> None:
        """Serve until it is told to stop, or no instance was there for ten seconds."""
        async with anyio.create_task_group() as group:
            self._log.info("proxy_started", pid=os.getpid())
            self._restore(group)
            for task in (self._accept, self._watch_the_watcher):
                group.start_soon(task, group)
            group.start_soon(self._until_signalled)
            await self._until_idle()
            self._end()
            group.cancel_scope.cancel()

    def _restore(self, group: TaskGroup) -> None:
        """Attend those of the process before, which was killed."""
        for name, source in (self._shared.notes.load() or {}).items():
            try:
                self._begin(name, source, group)
            except (BridgeError, ValueError, OSError) as error:
                self._unrestored[name] = source
                self._log.warning("not_restored", instance=name, reason=str(error))
        self._save()

    def _end(self) -> None:
        """Nobody is to be heard any more; whoever comes now starts the next one."""
        for watching in self._watching:  # first of all: who finds nobody at the socket knows that this one has gone
            watching.shutdown(socket.SHUT_RDWR)
        proxy_socket(self._root).unlink(missing_ok=True)
        self._shared.listener.shutdown(socket.SHUT_RDWR)  # for the other process, too
        self._shared.notes.save(OVER)
        self._log.info("proxy_stopped")

    async def _until_idle(self) -> None:
        self._stopping = False
        while not self._stopping:
            changed = self._changed
            with anyio.move_on_after(None if self._attended else _IDLE) as waited:
                await changed.wait()
            if waited.cancelled_caught:
                return

    async def _until_signalled(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self._stop()
                return

    def _stop(self) -> None:
        self._stopping = True
        self._change()

    async def _watch_the_watcher(self, group: TaskGroup) -> None:
        watcher = self._watcher
        while True:
            await anyio.wait_readable(watcher)
            os.close(watcher)
            self._log.warning("supervisor_ended")
            process = self._shared.start("watch")
            watcher = os.pidfd_open(process.pid)
            await anyio.sleep(0.5)  # back-off: one that dies as soon as it is started is not started without a pause
            process.poll()

    # Who is attended

    def _begin(self, name: str, source: Any, group: TaskGroup) -> Attended:
        if not isinstance(name, str) or not NAME.match(name):
            raise InvalidInput(f"{str(name)[:100]!r} is no name of an instance")
        try:
            check_source(source)
        except ValueError as error:
            raise InvalidInput(f"the login cannot be used: {error}", instance=name) from None
        found = self._attended.get(name)
        if found is None or found.is_over:
            found = self._attended[name] = Attended(self._root, name, source, self._client, self._log)
            group.start_soon(self._attend, found)
        else:
            found.use(source)
        self._unrestored.pop(name, None)
        return found

    async def _attend(self, attended: Attended) -> None:
        await attended.run()
        if self._attended.get(attended.name) is attended:
            del self._attended[attended.name]
            self._save()

    def _save(self) -> None:
        sources = {name: item.source for name, item in self._attended.items()}
        self._shared.notes.save({**self._unrestored, **sources})
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # Who asks

    async def _accept(self, group: TaskGroup) -> None:
        listener = self._shared.listener
        listener.setblocking(False)
        while True:
            await anyio.wait_readable(listener)
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:  # too many descriptors, say: those who wait are heard later
                self._log.error("not_accepted", reason=error.strerror)
                await anyio.sleep(1)  # back-off
                continue
            connection.setblocking(False)
            group.start_soon(self._hear, connection, group)

    async def _hear(self, connection: socket.socket, group: TaskGroup) -> None:
        with connection:
            _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.geteuid():
                self._log.warning("refused_user", user=uid)
                return
            try:
                async with self._asking:
                    with anyio.fail_after(_REQUEST_LIMIT):
                        line = await _line(connection)
                answer = await self._answered(line, group)
                with anyio.fail_after(_REQUEST_LIMIT):
                    await _send(connection, json.dumps(answer).encode() + b"\n")
                if "watching" in answer:
                    with self._watched_by(connection):
                        await anyio.wait_readable(connection)  # until it has gone; our end is what it waits for
            except (TimeoutError, OSError):
                return  # who asked has gone, or does not read
        if "stopped" in answer:
            self._stop()

    @contextmanager
    def _watched_by(self, connection: socket.socket) -> Iterator[None]:
        self._watching.add(connection)
        try:
            yield
        finally:
            self._watching.discard(connection)

    async def _answered(self, line: bytes, group: TaskGroup) -> dict[str, Any]:
        try:
            return await self._understood(json.loads(line), group)
        except BridgeError as error:
            return {"error": {"kind": type(error).__name__, "what": error.what, "hint": error.hint}}
        except (ValueError, RecursionError):
            return {"error": {"kind": "InvalidInput", "what": "this is no request"}}
        except Exception as error:  # of this request only
            self._log.fault("request_failed", error)
            return {"error": {"kind": "AgentUnavailable", "what": "the proxy failed at it"}}

    async def _understood(self, request: Any, group: TaskGroup) -> dict[str, Any]:
        match request:
            case {"attend": name, "source": source}:
                attended = self._begin(name, source, group)
                self._save()
                await attended.until_attached(_ATTACH_LIMIT)
                return {"attached": name}
            case {"leave": name}:
                if isinstance(name, str):
                    self._unrestored.pop(name, None)
                    found = self._attended.pop(name) if name in self._attended else None
                    self._save()
                    if found is not None:
                        found.end()
                        await found.until_over(_LEAVE_LIMIT)  # who removes the instance removes what is noted
                return {"left": name}
            case {"watch": True}:
                return {"watching": True}
            case {"status": True}:
                return {"status": self._status()}
            case {"stop": True}:
                return {"stopped": True}
        raise InvalidInput("this is no request of a proxy's")

    def _status(self) -> dict[str, Any]:
        instances = [item.status() for _, item in sorted(self._attended.items())]
        return {"pid": os.getpid(), "since": self._since, "instances": instances}


async def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) <= _LONGEST:
        await anyio.wait_readable(connection)
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


async def _send(connection: socket.socket, data: bytes) -> None:
    while data:
        await anyio.wait_writable(connection)
        data = data[connection.send(data) :]
