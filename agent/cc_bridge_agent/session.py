"""One Claude Code process: started, numbered, listened to, put to sleep, ended."""

import functools
import os
import re
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import wire
from .audience import Audience
from .background import Background
from .ledger import Ledger
from .loop import Loop
from .outbox import Outbox
from .sleep import Sleeper
from .spawn import detached_children, has_ended, oom_kills, spawn, waiting_bytes

_CHUNK = 65536

#: A request that changes how Claude Code works, such as what it asks permission for.
_SETS = re.compile(rb'"subtype": ?"set_')

#: In the words that start Claude Code again: the conversation that it had.
CONVERSATION = "{session_id}"

#: Bytes of input that Claude Code has not read yet beyond which no more is taken from the hosts.
_STDIN_HIGH_WATER = 1024 * 1024


class Session:
    """A named place for one ``claude`` process at a time, and the clients that listen to it.

    Args:
        on_exit: called when the process has ended and all its output has been passed on.
    """

    #: It has no turns, see raw.py.
    raw = False

    def __init__(
        self, loop: Loop, name: str, log: Callable[..., None], on_exit: Callable[[], None], ledger: Ledger
    ) -> None:
        self.name = name
        self.ledger = ledger
        self.audience = Audience(ledger, functools.partial(log, session=name), self._watch_output)
        self._loop = loop
        self._log = log
        self._on_exit = on_exit
        self._spawn, self._left_in = spawn, waiting_bytes  # the latter: of what has ended
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._exit_code: Optional[int] = None
        self.is_stopped = False  # the agent ends, and Claude Code with it
        self._stdin = Outbox()
        self._stdin_watched = False  # for room to write
        self.turn_began = self.last_output = time.monotonic()  # of the last turn; of what was said last, or the start
        self._given = b""  # the line that began the turn that the process has
        self._written = 0  # bytes of it and of all that was written after it
        self._unwritten = 0  # bytes that could not be written, because nobody reads
        self._has_worked = False  # the process has ended a turn
        self._splitters: Dict[str, wire.LineSplitter] = {}
        self._output_stopped = False
        self._is_ending = False  # it was told to end, and is given no more turns
        self._oom_kills = 0
        self._background = Background()
        self._conversation = ""  # that the process before has had
        self.sleeper = Sleeper(loop, self.why_awake, self._close_stdin, self.signal)
        self.asleep = False
        self._then: List[Callable[[], None]] = []  # when it has ended
        self._launch: Optional[Tuple[Any, ...]] = None  # arguments of its start, while it may be started again

    @property
    def running(self) -> bool:
        """Claude Code runs, or has ended and was not waited for yet."""
        return self._process is not None

    def describe(self) -> wire.Frame:
        """What a hello or a status says about this session."""
        asleep = self.asleep or self.sleeper.is_under_way
        state = "asleep" if asleep else "running" if self._process else "new" if self._exit_code is None else "exited"
        described: wire.Frame = {"session": self.name, "state": state, "seq": self.ledger.seq}
        described.update({"journal": self.ledger.journal.id, "open": list(self.ledger.open_ids)})
        described.update({"queue": self.ledger.queue.waiting, "sleep": self.sleeper.after})
        if self._process:
            described["pid"] = self._process.pid
        if self._exit_code is not None:
            described["exit"] = self._exit_code
        return described

    def hosts_changed(self, *, for_good: bool = False) -> None:
        """A host came or went; Claude Code goes on."""

    # Input

    def start(
        self, argv: List[str], env: Dict[str, Optional[str]], cwd: str, sleep: float = 0.0, again: Sequence[str] = ()
    ) -> None:
        """Start Claude Code; where it runs already, only ``sleep`` is taken over, so that two hosts may both try.

        Args:
            sleep: seconds of idleness after which it goes to sleep; 0: never.
            again: the words for one that goes on with the conversation, which :data:`CONVERSATION` stands for in them.

        Raises:
            StartError: with the operating system's reason.
        """
        if self._process:
            if sleep != self.sleeper.after:
                self.sleeper.begin(sleep)
            return
        self._process = process = self._spawn(argv, env, cwd)
        self._launch = (argv, env, cwd, sleep, again)
        self._exit_code = None
        self._is_ending = self.asleep = False
        self.last_output = time.monotonic()
        self._given, self._written, self._unwritten, self._has_worked = b"", 0, 0, False
        self._splitters = {"out": wire.LineSplitter(), "err": wire.LineSplitter(65536)}
        self._oom_kills = oom_kills()
        self.ledger.open_ids.clear()
        self.ledger.queue.begin()
        self._background.begin()
        self.sleeper.begin(sleep)
        self._log("claude_started", session=self.name, pid=process.pid, program=argv[0])
        self._add_frame({"started": process.pid})
        self._output_stopped = True  # as it is, until somebody looks
        self._watch_output()
        self._give_next()

    def take(self, input_id: str, turn: str, line: bytes) -> Optional[wire.Frame]:
        """Pass a line to Claude Code once, a turn's when the turns before it have ended.

        Args:
            turn: nothing is passed on unless Claude Code has this turn; empty: whatever it has.

        Returns: the answer for a repeat, a refusal, or what comes too late; else None, and all hosts are told.
        """
        ledger = self.ledger
        if ledger.has_taken(input_id):
            return {"took": input_id, "again": True}
        if not self._process or (self.sleeper.is_under_way and input_id.startswith(wire.CONTROL)):
            return {"error": "not_running", "message": "Claude Code is not running", "id": input_id}
        if turn and turn != ledger.queue.current:
            return {"took": input_id, "late": True}
        if input_id.startswith(wire.CONTROL):
            if _SETS.search(line):
                self._launch = None  # another start has to set it, too: a host's
            ledger.give(input_id)
            self._pass_on(line)
        elif ledger.queue.is_free and not self._is_ending:
            self._begin_turn(input_id, line)
        elif ledger.queue.has_room(len(line)):
            ledger.hold(input_id, line)
            self.audience.tell()
        else:
            return {"error": "full", "message": "too many commands wait", "id": input_id}
        return None

    def withdraw(self, input_id: str) -> Optional[wire.Frame]:
        """An input that waits is not to be passed on; the answer where it does not wait (any more), else None."""
        if not self.ledger.withdraw(input_id):
            return {"withdrawn": input_id, "late": True}
        self.audience.tell()
        return None

    def _give_next(self) -> None:
        """The turn before has ended, or there is a new Claude Code: what has waited longest is next."""
        if self._process is None or self._is_ending or self.ledger.waiting or has_ended(self._process.pid):
            return  # or there is no room to keep that it was given: then when there is
        waiting = self.ledger.queue.next()
        if waiting is not None:
            self._begin_turn(*waiting)

    def _begin_turn(self, input_id: str, line: bytes) -> None:
        self._given, self._written = line, 0
        self.turn_began = time.monotonic()
        self._log("turn_began", session=self.name, turn=input_id)
        self.ledger.give(input_id)
        self._pass_on(line)

    def _take_back(self, process: "subprocess.Popen[bytes]") -> None:
        """A turn whose line the process has not read waits again, before all others: nothing of it has happened.

        Not where the process has ended no turn: one that cannot start would be started for ever.
        """
        unread = self._unwritten + self._stdin.size
        if process.stdin and not process.stdin.closed:
            unread += waiting_bytes(process.stdin.fileno())
        current = self.ledger.queue.current
        if current and self._has_worked and unread >= self._written:
            self.ledger.hold(current, self._given, first=True)

    def _pass_on(self, line: bytes) -> None:
        kept = self.audience.keep()  # first, for nobody else knows that it must not be passed on again
        self.sleeper.touch()
        self._written += len(line) + 1
        self._stdin.add(line + b"\n")
        self._write_stdin()
        self.audience.give(*kept)

    def done(self, input_id: str) -> Optional[wire.Frame]:
        """A client has seen the end of this input's turn; the answer for a repeat, else None."""
        if not self.ledger.done(input_id, self.audience.given):
            return {"done": input_id}
        self.audience.tell()
        return None

    def signal(self, number: int) -> None:
        """Have the process end, by this signal; SIGKILL goes to all that it has started too."""
        if not self._process:
            return
        self._is_ending = True
        try:
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)
        except ProcessLookupError:
            pass  # it has just ended: the exit is on its way

    # Sleep

    def why_awake(self) -> str:
        """Why Claude Code must not be ended now, for a person; empty: it has nothing to do."""
        queue, process = self.ledger.queue, self._process
        if process is None or self._is_ending:
            return "it is ending"
        if queue.current or queue.waiting:
            return "it has a turn" if queue.current else "commands wait"
        unread = process.stdout and not process.stdout.closed and waiting_bytes(process.stdout.fileno())
        if self._stdin.size or self.ledger.waiting or self._output_stopped or unread:
            return "what was said has not been passed on yet"
        working = detached_children(process.pid)
        if working is None:
            return "nobody can see whether it works in the background: there is no /proc"
        running = "it runs in the background: " + ", ".join(working[:3]) if working else ""
        return self._background.reason(time.time()) or running

    def sleep(self) -> Optional[wire.Frame]:
        """Put Claude Code to sleep now; the answer where it sleeps already or must not, else None: its exit tells."""
        if self._process is None:
            return {"asleep": True}
        if self.sleeper.is_under_way:
            return None
        if reason := self.why_awake():
            return {"error": "busy", "message": reason}
        self.sleeper.fall_asleep()
        return None

    def wake(self) -> None:
        """Start Claude Code again if something has come while it fell asleep; raises as :meth:`start`."""
        if self._launch is None or self._process:
            return
        (argv, env, cwd, sleep, again), self._launch = self._launch, None  # it has secrets
        if self.asleep and self.ledger.queue.waiting and (again or not self._conversation):
            if self._conversation:
                argv = [self._conversation if word == CONVERSATION else word for word in again]
            self._log("claude_woken", session=self.name)
            self.start(argv, env, cwd, sleep, again)

    def once_ended(self, then: Callable[[], None]) -> None:
        """Call this when Claude Code, which is falling asleep, has ended."""
        self._then.append(then)

    def _close_stdin(self) -> None:
        self._is_ending = True
        self._log("claude_falls_asleep", session=self.name)
        if self._process and self._process.stdin:
            self._loop.watch(self._process.stdin.fileno())
            self._process.stdin.close()

    def _write_stdin(self) -> None:
        if not self._process or not self._process.stdin or self._process.stdin.closed:
            return
        try:
            self._stdin.write(self._process.stdin.fileno())
        except OSError as error:  # EPIPE: it is ending; its exit tells the clients
            self._log("stdin_closed", session=self.name, reason=str(error))
            self._unwritten += self._stdin.size
            self._stdin.clear()
        if self._stdin.size or self._stdin_watched:
            self._stdin_watched = bool(self._stdin.size)
            self._loop.watch(self._process.stdin.fileno(), None, self._write_stdin if self._stdin.size else None)
            for client in self.audience.clients:
                client.pause_reading(self._stdin.size > _STDIN_HIGH_WATER)

    # Output

    def _watch_output(self) -> None:
        """Read Claude Code only while there is room to keep what it says."""
        stopped = not self.audience.has_room()
        if self._process and stopped != self._output_stopped:
            self._output_stopped = stopped
            for kind, pipe in (("out", self._process.stdout), ("err", self._process.stderr)):
                if pipe and not pipe.closed:
                    self._loop.watch(pipe.fileno(), None if stopped else self._reader(kind))
        self._give_next()

    def _reader(self, kind: str) -> Callable[[], None]:
        return self._read_stdout if kind == "out" else self._read_stderr

    def _read_stdout(self) -> None:
        self._read("out")

    def _read_stderr(self) -> None:
        self._read("err")

    def _read(self, kind: str, most: int = _CHUNK) -> int:
        """Pass on one chunk; how many bytes it had. 0: there is none now, or none will come."""
        pipe = self._process and (self._process.stdout if kind == "out" else self._process.stderr)
        if not pipe or pipe.closed:
            return 0
        try:
            data = os.read(pipe.fileno(), min(most, _CHUNK))
        except BlockingIOError:
            return 0
        except OSError:  # EIO: a terminal whose programs have gone
            data = b""
        if not data:
            self._loop.watch(pipe.fileno())
            pipe.close()
            return 0
        self.last_output = time.monotonic()
        self.sleeper.touch()
        ended = self._number(kind, data)
        self.audience.tell()
        if ended:
            self._give_next()
        return len(data)

    def _number(self, kind: str, data: bytes) -> bool:
        """Number what has come; whether the turn that Claude Code had has ended with it."""
        lines: List[bytes] = []
        try:
            lines.extend(self._splitters[kind].feed(data))
        except wire.FrameError as error:
            # Nothing can be trusted after a line without an end: say so, and end the process.
            self.ledger.number([{"err": "cc-bridge refused the output: %s" % error}])
            self._splitters[kind] = wire.LineSplitter(self._splitters[kind].limit)
            self.signal(signal.SIGKILL)
        if kind == "err":
            self.ledger.number([{"err": line.decode("utf-8", "replace")} for line in lines])
            return False
        self.ledger.number_output(lines)
        for line in lines:
            self._background.hear(line, time.time())
        ended = sum(map(self.ledger.queue.ends_turn, lines)) > 0  # all are to be looked at
        self._has_worked = self._has_worked or ended
        return ended

    def _add_frame(self, frame: Dict[str, Any]) -> None:
        self.ledger.number([frame])
        self.audience.tell()

    # The end

    def reap(self) -> None:
        """After SIGCHLD: end what the process has started, pass on what it has left in its pipes, then its exit code.

        In this order, and no more than what is there at that moment: something that it started may go on writing for
        ever, and may have left its group.
        """
        process = self._process
        if not process or process.poll() is None:
            return
        self._is_ending = True
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing of its group is left
        for kind, pipe in (("out", process.stdout), ("err", process.stderr)):
            left = self._left_in(pipe.fileno()) if pipe and not pipe.closed else 0
            while left > 0 and (got := self._read(kind, left)):
                left -= got
            rest = self._splitters[kind].flush()
            if rest:
                self._number(kind, rest + b"\n")
        self._take_back(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe and not pipe.closed:
                self._loop.watch(pipe.fileno())
                pipe.close()
        self._process = None
        self._exit_code = process.returncode
        self.ledger.queue.current = ""
        self._stdin.clear()
        self._stdin_watched = False
        self.ledger.open_ids.clear()
        for client in self.audience.clients:
            client.pause_reading(False)
        out_of_memory = self._exit_code == -signal.SIGKILL and oom_kills() > self._oom_kills
        self.asleep = self.sleeper.end()
        self._conversation = self._background.conversation
        self._log("claude_exited", session=self.name, code=self._exit_code, oom=out_of_memory, asleep=self.asleep)
        why = {"oom": out_of_memory, "asleep": self.asleep and not out_of_memory, "stopped": self.is_stopped}
        self._add_frame({"exit": self._exit_code, **{name: True for name, holds in why.items() if holds}})
        waiting, self._then = self._then, []
        for then in waiting:
            then()
        self._on_exit()
