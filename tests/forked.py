"""The command in processes of its own that are forked from one which has imported it: Python and its imports, once.

A run calls the command some five hundred times, and most of what a call takes is the start of Python.
"""

from __future__ import annotations

import array
import atexit
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

_LARGEST = 1 << 20


class Process:
    """The command, which goes on while others do something else.

    Args:
        words: its arguments.
        out, err: descriptors that it writes to; nothing is on its stdin.
        imported: what the process has imported that is forked: ``command``, or ``service`` for `cc-bridge serve`.

    Attributes:
        pid: of the process.
    """

    def __init__(
        self, words: Sequence[str], *, env: dict[str, str], cwd: str, out: int, err: int, imported: str = "command"
    ) -> None:
        self._words = list(words)
        self._code: int | None = None
        status, write = os.pipe()
        self._ended = open(status, "rb", buffering=0)
        with open(os.devnull, "rb") as null:
            descriptors = array.array("i", [null.fileno(), out, err, write])
            request = json.dumps([self._words, env, cwd]).encode()
            _template(imported).sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        os.close(write)
        self.pid = int(self._ended.readline())

    def send_signal(self, number: int) -> None:
        """Nothing, if it has ended."""
        if self._code is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # it has, and nobody has waited for it

    def wait(self, timeout: float) -> int:
        """Its exit code; below zero the signal that it died of.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if self._code is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["cc-bridge", *self._words], timeout)
            self._code = int(self._ended.readline())
            self._ended.close()
        return self._code


def run(words: Sequence[str], *, timeout: float, env: dict[str, str], cwd: str) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` has it, with nothing on stdin, and output that is captured.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Process(words, env=env, cwd=cwd, out=out.fileno(), err=err.fileno())
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout)
            raise
        shown = []
        for file in (out, err):
            file.seek(0)
            shown.append(file.read().decode().replace("\r\n", "\n"))
    return subprocess.CompletedProcess(["cc-bridge", *words], code, *shown)


@functools.cache
def _template(imported: str) -> socket.socket:
    """The process that is forked; it ends when this one closes its end, or ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argument = f"{theirs.fileno()}, {imported!r}"
    code = f"from tests.forked import serve; serve({argument}); from cc_bridge.cli.main import run; run()"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], cwd=_PROJECT)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


_PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def serve(fd: int, imported: str) -> None:
    """Import the command, and fork for each request: returns in the process that is to be the command."""
    _import()
    if imported == "service":
        from cc_bridge.service import server  # noqa: F401
    gc.freeze()  # what is here for good is neither looked at nor copied by those that are forked
    requests = socket.socket(fileno=fd)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for a command need not be waited for
    while True:
        data, given, _, _ = socket.recv_fds(requests, _LARGEST, 4)
        if not data:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _wait_for_command(*json.loads(data), given)
            return
        for descriptor in given:
            os.close(descriptor)


def _import() -> None:
    from cc_bridge.cli import app, quick, without_tls  # noqa: F401
    from cc_bridge.cli.verbs import VERBS

    without_tls.import_anyio()
    for name, verb in VERBS.items():
        verb.load(name)
    import docker  # noqa: F401
    from cc_bridge.cli import asking, display  # noqa: F401
    from cc_bridge.instances import docker_container, factory, local_process, tmux_instance  # noqa: F401
    from cc_bridge.manager import manager  # noqa: F401


def _wait_for_command(words: list[str], env: dict[str, str], cwd: str, given: list[int]) -> None:
    """Fork once more: one is the command, and returns; the other tells how it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, status = given
    if pid := os.fork():
        for descriptor in standard:
            os.close(descriptor)
        os.write(status, b"%d\n" % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, b"%d\n" % code)
        os._exit(0)
    os.close(status)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c", *words]
    streams: Any = sys
    streams.stdin, streams.stdout, streams.stderr = (
        open(number, mode, encoding="utf-8", closefd=False, buffering=1, errors=errors)
        for number, mode, errors in ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
