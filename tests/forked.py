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


def run(words: Sequence[str], *, timeout: float, env: dict[str, str], cwd: str) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` has it, with nothing on stdin, and output that is captured.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    status, write = os.pipe()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as null:
        descriptors = array.array("i", [null.fileno(), out.fileno(), err.fileno(), write])
        request = json.dumps([list(words), env, cwd]).encode()
        _template().sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        os.close(write)
        with open(status, "rb", buffering=0) as ended:
            pid = int(ended.readline())
            if not select.select([ended], [], [], timeout)[0]:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["cc-bridge", *words], timeout)
            code = int(ended.readline())
        shown = []
        for file in (out, err):
            file.seek(0)
            shown.append(file.read().decode().replace("\r\n", "\n"))
    return subprocess.CompletedProcess(["cc-bridge", *words], code, *shown)


@functools.cache
def _template() -> socket.socket:
    """The process that is forked; it ends when this one closes its end, or ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"from tests.forked import serve; serve({theirs.fileno()}); from cc_bridge.cli.main import run; run()"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], cwd=_PROJECT)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


_PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def serve(fd: int) -> None:
    """Import the command, and fork for each request: returns in the process that is to be the command."""
    _import()
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

    gc.freeze()  # what is here for good is neither looked at nor copied by those that are forked


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
