"""A process beside the main one, whose standard streams are passed on as bytes: no lines, no turns, no sleep.

It is one process, which is started once. It belongs to one host: when that has gone for good, it is ended.
"""

import os
import signal
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple

from . import wire
from .ledger import Ledger
from .loop import Loop
from .session import Session
from .spawn import has_stopped, set_size, spawn, spawn_on_terminal, waiting_bytes

if TYPE_CHECKING:
    import subprocess

#: Seconds without a host before the process is ended, and after its end before it is forgotten; unless said otherwise.
LINGER = 30.0

#: Seconds to end after the end of its stdin, and after SIGTERM.
_END_LIMIT = 5.0

#: Bytes that the process has not read yet beyond which it is given no more: what is not given is not answered, and a
#: host sends only so much that was not answered. So its signals never wait behind what nobody reads.
_ROOM = 64 * 1024

#: Bytes that are read of a terminal whose process has ended: what it has started may hold it, and write for ever.
_LEFT_ON_TERMINAL = 1024 * 1024

#: Columns, and rows, of a terminal: as many as the kernel counts.
_WIDEST = 0xFFFF

#: Seconds after which what an earlier agent has left is removed: no host will come back for it.
_LEFT = 3600.0


class RawSession(Session):
    """A place for one process, and its host.

    Args:
        forget: called with its name when nobody will ask for it again.

    Attributes:
        linger: seconds without a host before the process is ended.
        size: columns and rows of the process's terminal; None: it has none, and three pipes.
    """

    raw = True

    def __init__(
        self,
        loop: Loop,
        name: str,
        log: Callable[..., None],
        on_exit: Callable[[], None],
        ledger: Ledger,
        forget: Callable[[str], None],
    ) -> None:
        super().__init__(loop, name, log, on_exit, ledger)
        self._spawn, self._left_in = self._start_process, self._left
        self.linger = LINGER
        self.size: Optional[Tuple[int, int]] = None
        self._forget = forget
        self._pending: "OrderedDict[str, Optional[bytes]]" = OrderedDict()  # None: the end of its input
        self._input_ended = False  # as soon as what was given is written
        self._cancel: Callable[[], None] = lambda: None

    def describe(self) -> wire.Frame:
        """The same, and that the agent knows such sessions."""
        return {**super().describe(), "raw": True, "tty": True}

    def start(
        self, argv: List[str], env: Dict[str, Optional[str]], cwd: str, sleep: float = 0.0, again: Sequence[str] = ()
    ) -> None:
        """Start the process, once: one that has ended, also with an earlier agent, is not started again.

        Raises:
            StartError: with the operating system's reason.
        """
        if not self.ledger.seq:
            super().start(argv, env, cwd)

    def _start_process(self, argv: List[str], env: Dict[str, Optional[str]], cwd: str) -> "subprocess.Popen[bytes]":
        return spawn_on_terminal(argv, env, cwd, self.size) if self.size else spawn(argv, env, cwd)

    def resize(self, size: Tuple[int, int]) -> None:
        """The host's terminal has this size, columns and rows, or shows something else and is to be drawn anew.

        Raises:
            ValueError: the process has no terminal.
        """
        if self.size is None:
            raise ValueError("there is no terminal to resize")
        process = self._process
        if not process or not process.stdin or process.stdin.closed:
            return
        if size == self.size:
            os.kill(process.pid, signal.SIGCONT)  # no size has changed, so nobody would be told
        self.size = size
        set_size(process.stdin.fileno(), size)

    def take(self, input_id: str, turn: str, line: bytes) -> Optional[wire.Frame]:
        """Raises: ValueError: there are no turns here."""
        raise ValueError("a raw session takes bytes, not lines")

    def take_bytes(self, input_id: str, data: Optional[bytes]) -> Optional[wire.Frame]:
        """Pass bytes on to its stdin, once and in order; None: the end of its input.

        Returns: the answer for a repeat or a refusal; else None, and the host is told when they are passed on.

        Raises:
            ValueError: what has such an id begins a turn.
        """
        if not wire.ID.match(input_id) or not input_id.startswith(wire.CONTROL):
            raise ValueError("not a control message's id: %.80r" % input_id)
        if self.ledger.has_taken(input_id):
            return {"took": input_id, "again": True}
        if not self._process:
            return {"error": "not_running", "message": "the process is not running", "id": input_id}
        self._pending.setdefault(input_id, data)
        self._give_next()
        return None

    def hosts_changed(self, *, for_good: bool = False) -> None:
        """A host came or went: without one it is ended after a while, and then forgotten.

        Args:
            for_good: it is forgotten now.
        """
        self._cancel()
        if not for_good and not self._has_host():
            self._wait(self.linger, self._end_alone)

    def reap(self) -> None:
        """The same; where no host is there to be told, it is forgotten after a while."""
        process = self._process
        if self.size and process and has_stopped(process.pid):
            os.kill(process.pid, signal.SIGCONT)  # it has suspended itself, and no shell is there to wait for
        super().reap()
        if not self._process and not self._has_host():
            self._wait(self.linger, self._end_alone)

    def _has_host(self) -> bool:
        return any(not client.looks for client in self.audience.clients)

    def _wait(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel()
        self._cancel = self._loop.call_later(seconds, callback)

    def _end_alone(self) -> None:
        """Its host has gone for good: the end of its stdin, then SIGTERM, then SIGKILL, to it alone."""
        if not self._process:
            self._forget(self.name)
            return
        self._log("host_gone", session=self.name)
        self._pending.clear()
        self._stdin.clear()
        self._input_ended = True
        self._give_next()
        self._wait(_END_LIMIT, lambda: self._press(signal.SIGTERM))

    def _press(self, number: int) -> None:
        self.signal(number)
        if number != signal.SIGKILL:
            self._wait(_END_LIMIT, lambda: self._press(signal.SIGKILL))

    # Its streams

    def _give_next(self) -> None:
        """Pass on what waits, as far as the process reads."""
        self._write_stdin()
        while self._process and self._pending and self._stdin.size <= _ROOM and not self.ledger.waiting:
            input_id, data = self._pending.popitem(last=False)
            self.ledger.give(input_id)
            kept = self.audience.keep()  # first, for nobody else knows that it must not be passed on again
            if data is None:
                self._input_ended = True
            elif not self._input_ended:
                self._stdin.add(data)
            self._write_stdin()
            self.audience.give(*kept)

    def _write_stdin(self) -> None:
        stdin = self._process.stdin if self._process else None
        if not stdin or stdin.closed:
            self._stdin.clear()
            return
        try:
            self._stdin.write(stdin.fileno())
        except OSError as error:  # EPIPE: it reads no more; its exit tells the host
            self._log("stdin_closed", session=self.name, reason=str(error))
            self._stdin.clear()
            self._input_ended = True
        waits = bool(self._stdin.size)
        if waits != self._stdin_watched:
            self._stdin_watched = waits
            self._loop.watch(stdin.fileno(), None, self._give_next if waits else None)
        if self._input_ended and not waits:
            stdin.close()
            if self.size:  # a terminal has no end of input: whoever sat at it has gone
                self.signal(signal.SIGHUP)

    def _left(self, fd: int) -> int:
        return _LEFT_ON_TERMINAL if self.size else waiting_bytes(fd)

    def _watch_output(self) -> None:
        """The same; what its only host has is not kept."""
        self.ledger.journal.forget(max((client.acknowledged for client in self.audience.clients), default=0))
        super()._watch_output()

    def _number(self, kind: str, data: bytes) -> bool:
        self.ledger.number_bytes("stdout" if kind == "out" else "stderr", data)
        return False

    def _take_back(self, process: object) -> None:
        self._pending.clear()


def size_of(value: object) -> Tuple[int, int]:
    """Columns and rows of what a host has sent. Raises: ValueError: they are none."""
    if not isinstance(value, list) or len(value) != len(("columns", "rows")):
        raise ValueError("a terminal's size is columns and rows")
    if not all(type(number) is int and 0 < number <= _WIDEST for number in value):
        raise ValueError("columns and rows are numbers from 1 to %d" % _WIDEST)
    return value[0], value[1]


def sweep(state: str) -> None:
    """Remove the journals of raw sessions that earlier agents have left, once nobody can come back for them."""
    try:
        names = [name for name in os.listdir(state) if name.startswith(wire.RAW)]
    except OSError:
        return
    for name in names:
        directory = os.path.join(state, name)
        try:
            if os.stat(directory).st_mtime < time.time() - _LEFT:
                for file in os.listdir(directory):
                    os.unlink(os.path.join(directory, file))
                os.rmdir(directory)
        except OSError:
            pass  # what cannot be removed now may be at the next start
