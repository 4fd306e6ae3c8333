"""Two processes that look after each other: one works, the other starts it again, and is started again by it.

Both have the lock that says which proxy is the installation's, the socket, and what the working one was told
(:mod:`.notes`): so of either that is killed nothing is lost, and who connects meanwhile waits for the next one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..instances.way_out import proxy_socket
from ..state import make_private
from .journal import Journal, ProxyLog, log_file
from .notes import Notes

__all__ = ["OVER", "Shared", "main"]

#: The note of a working process that has ended because there was nothing left to do.
OVER = {"over": True}

#: Seconds for a proxy that ends to have ended, and after which one that died is no quick death.
_LOCK_LIMIT, _QUICK = 10.0, 10.0

#: Quick deaths one after the other, after which it is given up.
_MOST_DEATHS = 8

#: prctl(2)
_PR_SET_DUMPABLE = 4


class Shared:
    """The descriptors that both processes have.

    Attributes:
        root: the state directory.
        lock: held as long as one of both lives.
        listener: where requests come.
    """

    def __init__(self, root: Path, lock: int, listener: int, notes: int) -> None:
        self.root = root
        self.lock = lock
        self.listener = socket.socket(fileno=listener)
        self.notes = Notes(notes)
        self.log = ProxyLog(Journal(log_file(root)))

    def start(self, what: str) -> subprocess.Popen[bytes]:
        """Start the other process, which is told of this one."""
        me = os.pidfd_open(os.getpid())
        fds = [self.lock, self.listener.fileno(), self.notes.fd, me]
        try:
            argv = [sys.executable, "-P", "-m", "cc_bridge.proxy", what, str(self.root), *map(str, fds)]
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=fds, cwd="/")
        finally:
            os.close(me)


def main(words: Sequence[str]) -> None:
    """Be one of both: ``begin``, ``watch`` or ``work``."""
    # What it has in memory are keys: no core file has them, and no other process of this user's may look.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    what, root, *numbers = words
    if what == "begin":
        _begin(Path(root), int(numbers[0]))
        return
    lock, listener, notes, other = map(int, numbers)
    for fd in (lock, listener, notes, other):
        os.set_inheritable(fd, False)
    shared = Shared(Path(root), lock, listener, notes)
    if what == "watch":
        _watch(shared, other)
        return
    try:
        from .process import work

        work(shared, other)
    except BaseException as error:
        shared.log.fault("proxy_failed", error)
        raise
    os._exit(0)  # a look-up of a name may still hang in a thread


def _begin(root: Path, ready: int) -> None:
    """Become the installation's proxy, unless there is one."""
    os.set_inheritable(ready, False)
    try:
        for directory in (root, root / "proxy", root / "proxy/network", root / "proxy/usage"):
            make_private(directory)
        make_private(proxy_socket(root).parent)
        starting = _locked(root / "proxy" / "starting")
        if _somebody_listens(root):
            os.write(ready, b"ready\n")
            return
        _end_unreachable(root)
        shared = Shared(root, _locked(root / "proxy" / "lock"), _listen(root).detach(), Notes.make().fd)
        if os.fork():
            os._exit(0)  # who began it is not its parent, which would have to wait for its end
    except Exception as error:
        os.write(ready, f"{error or type(error).__name__}\n".encode()[:4000])
        raise
    os.write(ready, b"ready\n")
    os.close(ready)
    os.close(starting)
    _watch(shared)


def _locked(path: Path) -> int:
    """A descriptor that holds a lock, which is waited for within bounds."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if os.fstat(fd).st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {os.fstat(fd).st_uid}: remove it")

    def give_up(*_: object) -> None:
        raise TimeoutError(f"another proxy of this installation has not ended; it holds {path}")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _LOCK_LIMIT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return fd


def _end_unreachable(root: Path) -> None:
    """Nobody listens: who has the lock is about to end, or its socket's file was removed, and it cannot be reached."""
    with suppress(OSError, ValueError), (root / "proxy" / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = int(lock.read(20))
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[2:6] in ([b"-m", b"cc_bridge.proxy", what, os.fsencode(root)] for what in (b"begin", b"watch")):
                os.kill(pid, signal.SIGTERM)


def _somebody_listens(root: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        trial.settimeout(_LOCK_LIMIT)
        try:
            trial.connect(str(proxy_socket(root)))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _listen(root: Path) -> socket.socket:
    path = proxy_socket(root)
    path.unlink(missing_ok=True)  # of one that was killed; we have the lock
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _watch(shared: Shared, worker: int | None = None) -> None:
    """Start the working process whenever there is none; return when it has ended for good.

    Args:
        worker: of one that runs, its pidfd.
    """
    stopped: list[int] = []
    current: list[int] = [] if worker is None else [worker]

    def pass_on(number: int, _: object) -> None:
        stopped.append(number)
        if current:
            signal.pidfd_send_signal(current[0], signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    os.pwrite(shared.lock, b"%-20d" % os.getpid(), 0)
    deaths = 0
    while True:
        begun, process = time.monotonic(), None
        if not current:
            process = shared.start("work")
            current.append(os.pidfd_open(process.pid))
        select.select(current, [], [])
        os.close(current.pop())
        code = process.wait() if process is not None else None
        if shared.notes.load() == OVER or stopped:
            return
        deaths = deaths + 1 if time.monotonic() - begun < _QUICK else 1
        if deaths >= _MOST_DEATHS:
            shared.log.error("proxy_given_up", deaths=deaths)
            return
        shared.log.warning("proxy_ended", exit_code=code)
        if deaths > 1:
            time.sleep(min(0.1 * 2**deaths, 5.0))  # back-off: it died as soon as it was started
