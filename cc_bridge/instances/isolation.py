"""Isolation proved, not claimed: attempts from inside a container at what each of its limits should stop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from ..engine.container_tools import ContainerTools
from ..record import ClaudeInstance

__all__ = ["Attempt", "Outcome", "attempts", "try_isolation", "try_one"]

#: What a script says when it got what it tried for; and when that was refused, if it can tell this from other failures.
_GOT, _HELD = b"GOT IT", b"HELD"

#: Bytes that the attempt at memory goes beyond the limit.
_BEYOND = 256 * 1024**2

_ROOT = "0"

_LOGIN = 'test -s "${CLAUDE_CONFIG_DIR:-$HOME/.claude}/.credentials.json" && echo GOT IT'

#: A proxy that answers 502 has tried to go there.
_TUNNEL = """python3 -c "
import os, socket
port = int(os.environ['HTTPS_PROXY'].rpartition(':')[2])
way = socket.create_connection(('127.0.0.1', port), 30)
way.sendall(b'CONNECT HOST HTTP/1.1\\r\\nHost: HOST\\r\\n\\r\\n')
line = way.makefile('rb').readline(99).split()
says = {b'200': 'GOT IT', b'502': 'GOT IT', b'400': 'HELD', b'403': 'HELD'}
print(says.get(line[1], ''))" 2>/dev/null"""

#: Nothing is sent: a datagram's connect needs a route, and that is all.
_ROUTE = """python3 -c "
import errno, socket
failed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 9))
print({0: 'GOT IT', errno.ENETUNREACH: 'HELD'}.get(failed, ''))" 2>/dev/null"""


@dataclass(frozen=True)
class Attempt:
    """Something to try. ``script`` says "GOT IT" where it succeeds.

    Attributes:
        user: as whom; root, where even that must not help.
        tells: it says "HELD" where it was refused; where it says neither, it has failed otherwise.
    """

    limit: str
    tries: str
    script: str
    user: str = ""
    tells: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt.

    Attributes:
        held: it did not succeed.
        tried: False: it could not be tried, and so nothing is known.
    """

    limit: str
    tries: str
    held: bool
    tried: bool = True


def attempts(record: ClaudeInstance) -> Sequence[Attempt]:
    """What is tried at an instance's container. Each is harmless where it succeeds, and cleans up after itself."""
    kilobytes = (record.memory + _BEYOND) // 1024
    found = [
        Attempt("user", "be root", 'test "$(id -u)" = 0 && echo GOT IT'),
        Attempt(
            "capabilities",
            "have one, as root",
            "grep -Eq '^Cap(Eff|Bnd|Prm):.*[1-9a-f]' /proc/self/status && echo GOT IT",
            _ROOT,
        ),
        Attempt(
            "no new privileges",
            "gain them by a set-user-ID program",
            "grep -q '^NoNewPrivs:.*1' /proc/self/status || echo GOT IT",
        ),
        Attempt(
            "read-only root",
            "write to the root file system, as root",
            "f=/cc-bridge-attempt; : 2>/dev/null >$f && rm -f $f && echo GOT IT",
            _ROOT,
        ),
        Attempt(
            "kernel settings",
            "change one, as root",
            "f=/proc/sys/kernel/sysrq; v=$(cat $f) && echo $v 2>/dev/null >$f && echo GOT IT",
            _ROOT,
        ),
        Attempt(
            "mounts",
            "mount a file system, as root",
            "mount -t tmpfs none /mnt 2>/dev/null && umount /mnt && echo GOT IT",
            _ROOT,
        ),
        Attempt(
            "devices",
            "make a disk's node, as root",
            "f=/tmp/cc-bridge-attempt; mknod $f b 8 0 2>/dev/null && rm -f $f && echo GOT IT",
            _ROOT,
        ),
        Attempt(
            "pipes",
            "put a file in the place of a pipe, as root",
            "f=/run/cc-bridge/attempt; : 2>/dev/null >$f && rm -f $f && echo GOT IT",
            _ROOT,
        ),
        Attempt("engine", "find the engine's socket", "test -S /var/run/docker.sock && echo GOT IT", _ROOT),
        Attempt(
            "processors",
            "have as many as there are",
            "q=$(cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null); "
            'case $q in max*|-1|"") echo GOT IT;; esac',
        ),
        Attempt(
            "memory",
            f"use {record.memory // 1024**2} MiB and {_BEYOND // 1024**2} more",
            # The hog asks to be the one that is killed. It is `tail` that keeps what has no line; beyond the bound,
            # it fails by itself, so that a container without a limit does no harm either.
            "sh -c 'echo 1000 >/proc/self/oom_score_adj; "
            f"ulimit -v {kilobytes} && exec tail /dev/zero' >/dev/null 2>&1; test $? -gt 128 || echo GOT IT",
        ),
        Attempt(
            "processes",
            f"start {record.pids + 20}",
            # Without a process of its own for anything but the attempt; ends all of its group, and so itself.
            f"trap 'kill -9 0' EXIT; i=0; while [ $i -lt {record.pids + 20} ]; "
            "do sleep 30 & i=$((i+1)); done 2>/dev/null; echo GOT IT",
        ),
    ]
    if record.network == "none" or record.sealed:
        script = 'test "$(grep -c : /proc/net/dev)" -gt 1 && echo GOT IT'
        found.append(Attempt("network", "find an interface but the loopback", script))
    if record.sealed:
        found.append(Attempt("network", "find a way to an address", _ROUTE, tells=True))
        found += [
            Attempt("way out", f"reach {host} by the proxy", _TUNNEL.replace("HOST", host), tells=True)
            for host in ("169.254.169.254:443", "127.0.0.1:443", "not-allowed.invalid:443")
        ]
    if record.key_is_outside:
        found.append(Attempt("key", "find Claude Code's login in a file", _LOGIN))
    return found


async def try_isolation(tools: ContainerTools, record: ClaudeInstance) -> AsyncGenerator[Outcome, None]:
    """Try everything, one after the other, in a container that runs; what held, and what did not.

    Raises:
        EngineError: of the kind that fits.
    """
    for attempt in attempts(record):
        yield await try_one(tools, attempt)


async def try_one(tools: ContainerTools, attempt: Attempt) -> Outcome:
    """Try something. Raises as :func:`try_isolation`."""
    done = await tools.exec(["sh", "-c", attempt.script], user=attempt.user, limit=120)
    tried = not attempt.tells or _GOT in done.stdout or _HELD in done.stdout
    return Outcome(attempt.limit, attempt.tries, held=tried and _GOT not in done.stdout, tried=tried)
