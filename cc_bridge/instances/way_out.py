"""Asks the proxy, which holds keys, to attend to an instance. Starts it where none runs."""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import AgentUnavailable, BridgeError, InvalidInput
from ..login import PARTS
from ..state import make_private, runtime_directory

__all__ = ["Asking", "ask_proxy", "attend", "attend_blocking", "leave", "placeholder", "proxy_now", "proxy_socket"]

#: Seconds for the proxy to start, and to answer; it waits less for an agent.
_START_LIMIT, _ANSWER_LIMIT = 20.0, 60.0

#: Bytes of an answer.
_LONGEST = 1 << 22

#: A proxy that ends at the moment is asked in vain, and the next one then.
_TRIES = 4

#: What the proxy says of errors, and is believed.
_KINDS = ("InvalidInput", "InstanceNotFound", "AgentUnavailable", "EngineError", "EngineUnavailable")


async def attend(root: Path, name: str, source: Mapping[str, Any]) -> None:
    """Have the proxy attend to an instance whose agent runs; return when it is connected to that agent.

    A cancelled call leaves the proxy attending, which :func:`leave` ends.

    Args:
        root: the state directory.
        source: the login, as ``cc_bridge.proxy.keys`` has it; it takes the place of the one before.

    Raises:
        AgentUnavailable, EngineError: it cannot be.
        InvalidInput: the proxy cannot be started, or ``source`` is none.
    """
    await _in_thread(lambda asking: attend_blocking(root, name, source, asking))


def attend_blocking(root: Path, name: str, source: Mapping[str, Any], asking: Asking | None = None) -> None:
    """The same without an event loop."""
    request = {"attend": name, "source": dict(source)}
    for _ in range(_TRIES):
        if ask_proxy(root, request, name, asking) is not None:
            _keep_watch(root)
            return
        _start(root, name)
    raise AgentUnavailable("the proxy that holds its key ends again and again", instance=name, hint=_HINT)


async def leave(root: Path, name: str) -> None:
    """Have the proxy forget an instance and its login; harmless where none runs.

    Raises:
        AgentUnavailable: it does not answer.
        InvalidInput: what is in its place is another user's.
    """
    await _in_thread(lambda asking: ask_proxy(root, {"leave": name}, name, asking))


def proxy_now(root: Path) -> int:
    """Which proxy this program asked last, as a number that no other gets; 0: it has gone. Waits for nobody."""
    number, connection = _watched.get(root, (0, -1))
    if connection == -1:
        return 0
    try:
        os.read(connection, 1)  # it does not block, and nothing is said there
    except BlockingIOError:
        return number
    except OSError:
        pass  # it has gone
    _watched.pop(root, None)
    os.close(connection)
    return 0


def _keep_watch(root: Path) -> None:
    """Have a connection to the proxy whose end is its end."""
    if proxy_now(root):
        return
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_ANSWER_LIMIT)
        connection.connect(str(proxy_socket(root)))
        connection.sendall(b'{"watch":true}\n')
        answered = _line(connection)
    except OSError:
        answered = b""
    if not answered:  # it has just ended; the next command finds that out
        connection.close()
        return
    connection.setblocking(False)
    _, before = _watched.pop(root, (0, -1))
    if before != -1:
        os.close(before)
    _watched[root] = next(_numbers), connection.detach()


#: Connections whose end is a proxy's, by the state directory, with their numbers.
_watched: dict[Path, tuple[int, int]] = {}
_numbers = itertools.count(1)


class Asking:
    """What a thread waits for, so that whoever gives up can end the wait: a program that ends waits for its threads."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._given_up = False

    def on(self, connection: socket.socket) -> None:
        """The thread waits for this one from now on."""
        self._connection = connection
        if self._given_up:
            raise AgentUnavailable("whoever asked has given up")

    def give_up(self) -> None:
        """End the wait."""
        self._given_up = True
        if self._connection is not None:
            with suppress(OSError):  # it has ended by itself
                self._connection.shutdown(socket.SHUT_RDWR)


async def _in_thread(ask: Callable[[Asking], object]) -> None:
    import anyio.to_thread  # on demand: `cc-bridge claude` does without

    asking = Asking()
    try:
        await anyio.to_thread.run_sync(ask, asking, abandon_on_cancel=True)
    except BaseException:  # cancelled, too: the thread must not go on waiting for nobody
        asking.give_up()
        raise


def placeholder(home: Path) -> str:
    """What stands in the key's place in an instance: random, made once, and kept in its directory."""
    path = home / "placeholder"
    with suppress(FileExistsError):
        from ..state import write_whole

        if not path.exists():
            make_private(home)  # the first thing that is kept of it, where a program comes in Claude Code's place
            write_whole(path, os.urandom(20).hex().encode(), new=True)
    return path.read_text()


_HINT = "`cc-bridge proxy logs` may say why."


def proxy_socket(root: Path) -> Path:
    """Where the proxy listens."""
    import hashlib

    root = root.resolve()  # one directory has one proxy, by whatever name it is known
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return runtime_directory(root) / f"{digest}.proxy"


def ask_proxy(
    root: Path, request: Mapping[str, Any], name: str = "", asking: Asking | None = None
) -> dict[str, Any] | None:
    """Ask the proxy; its answer, or None: none runs, or it has ended meanwhile.

    Raises:
        BridgeError: it answers with an error.
        AgentUnavailable: it does not answer in time.
        InvalidInput: what is in its place is another user's.
    """
    path = proxy_socket(root)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_LIMIT)
        try:
            make_private(path.parent)
            connection.connect(str(path))
            if asking is not None:
                asking.on(connection)
            _check_peer(connection, path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = _line(connection)
        except TimeoutError:
            raise AgentUnavailable("the proxy does not answer", instance=name, hint=_HINT) from None
        except (FileNotFoundError, ConnectionError):
            return None
        except OSError as error:
            what = f"the proxy cannot be reached at {path}: {error.strerror}"
            raise AgentUnavailable(what, instance=name, hint=_HINT) from error
    return _understood(answer, name) if answer else None


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece or len(data) > _LONGEST:
            return b""
        data += piece
    return data


def _understood(line: bytes, name: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        fault = answer.get("error")
    except (ValueError, AttributeError, RecursionError):
        raise AgentUnavailable("the proxy does not answer as it should", instance=name, hint=_HINT) from None
    if fault is None:
        return dict(answer)
    kind = fault.get("kind") if fault.get("kind") in _KINDS else "AgentUnavailable"
    error: BridgeError = getattr(errors, kind)(str(fault.get("what")), instance=name, hint=str(fault.get("hint", "")))
    raise error


def _check_peer(connection: socket.socket, path: Path) -> None:
    """Refuse to tell a login to another user's process."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.geteuid():
        raise InvalidInput(f"user {uid} listens at {path}, and not this one", hint="Remove it.")


def _start(root: Path, name: str) -> None:
    """Start the proxy, in a session of its own, and wait until it or another one listens."""
    if not sys.platform.startswith("linux"):
        raise InvalidInput("a key can be outside on Linux only", instance=name, hint="Leave it inside.")
    heard, said = os.pipe()
    try:
        try:
            words = ["-P", "-m", "cc_bridge.proxy", "begin", str(root.absolute()), str(said)]
            process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[said],
                start_new_session=True,
                cwd="/",
                env={key: value for key, value in os.environ.items() if key not in PARTS},  # a login goes in whole
            )
        finally:
            os.close(said)
        waiting = select.poll()  # select(2) knows no descriptors above 1023
        waiting.register(heard, select.POLLIN)
        answer = os.read(heard, 4096) if waiting.poll(_START_LIMIT * 1000) else b""
        if not answer:
            process.kill()
        process.wait()  # what goes on is its child, which is nobody's here
    finally:
        os.close(heard)
    if answer != b"ready\n":
        why = answer.decode("utf-8", "replace").strip() or "it ended, or took too long"
        raise AgentUnavailable(f"the proxy that holds its key could not be started: {why}", instance=name, hint=_HINT)
