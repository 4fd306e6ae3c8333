"""How Claude Code is started: a session of its own, pipes that do not block, and an end with the agent."""

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from typing import Dict, List, Optional, Tuple

_PR_SET_PDEATHSIG = 1  # prctl(2)
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(Exception):
    """Claude Code could not be started."""

    def __init__(self, message: str, errno: Optional[int]) -> None:
        super().__init__(message)
        self.errno = errno


def spawn(argv: List[str], env: Dict[str, Optional[str]], cwd: str) -> "subprocess.Popen[bytes]":
    """Start a program with three pipes; ``env`` is added to the agent's own, and what is None there taken away.

    Raises:
        StartError: with the operating system's reason.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in {**os.environ, **env}.items() if value is not None},
            cwd=cwd,
            start_new_session=True,  # so that what it starts can be ended with it
            preexec_fn=die_with_parent,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise StartError(str(error), getattr(error, "errno", None)) from error
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            os.set_blocking(pipe.fileno(), False)
    return process


def spawn_on_terminal(
    argv: List[str], env: Dict[str, Optional[str]], cwd: str, size: Tuple[int, int]
) -> "subprocess.Popen[bytes]":
    """Start a program on a terminal of its own; both ``stdin`` and ``stdout`` are our end of it. See :func:`spawn`.

    Args:
        size: columns and rows.

    Raises:
        StartError: with the operating system's reason.
    """
    try:
        ours, its = os.openpty()
    except OSError as error:
        raise StartError(str(error), error.errno) from error
    try:
        set_size(ours, size)
        process = subprocess.Popen(
            argv,
            stdin=its,
            stdout=its,
            stderr=its,
            env={name: value for name, value in {**os.environ, **env}.items() if value is not None},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.set_blocking(ours, False)
        process.stdin, process.stdout = os.fdopen(os.dup(ours), "wb", 0), os.fdopen(ours, "rb", 0)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        os.close(ours)
        raise StartError(str(error), getattr(error, "errno", None)) from error
    finally:
        os.close(its)
    return process


def set_size(terminal: int, size: Tuple[int, int]) -> None:
    """Columns and rows of a terminal; its programs are told where they change."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))


def _take_terminal() -> None:
    """In the child, which leads a session: the terminal is its own, and tells it when it hangs up."""
    die_with_parent()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the agent ignores it
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def oom_kills() -> int:
    """How many processes of this container the kernel has killed for want of memory (cgroup v2, or v1)."""
    for path in _OOM_COUNTERS:
        try:
            with open(path) as file:
                return int(dict(line.split() for line in file)["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return 0


def has_ended(pid: int) -> bool:
    """A child of ours has ended, and was not waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def has_stopped(pid: int) -> bool:
    """A child of ours was suspended since this was asked last, and runs no more."""
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None
    except ChildProcessError:  # it has ended
        return False


def detached_children(pid: int) -> Optional[List[str]]:
    """Names of the processes that a process has started in sessions of their own; None: nobody can say, without /proc.

    Claude Code does so with shells, monitors and hooks that run in the background. MCP servers are in its own session.
    """
    found, seen = [], False
    try:
        names = os.listdir("/proc")
    except OSError:
        return None
    for name in filter(str.isdigit, names):
        try:
            with open("/proc/%s/stat" % name, errors="replace") as file:  # proc(5): pid (comm) state ppid pgrp session
                head, _, rest = file.read().rpartition(")")
        except OSError:
            continue  # it has ended
        state, parent, _, session = rest.split()[:4]
        seen = seen or int(name) == pid
        if int(parent) == pid and int(session) != pid and state not in "ZX":
            found.append(head.partition("(")[2])
    return found if seen else None


def waiting_bytes(fd: int) -> int:
    """How many bytes are in a pipe just now (FIONREAD, ioctl_tty(2))."""
    count = bytearray(4)
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def die_with_parent() -> None:
    """In the child: Claude Code must not outlive a killed agent, out of reach and still spending."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
