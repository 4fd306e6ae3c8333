"""One Claude Code process: started, numbered, listened to, ended. Its lines are never interpreted."""

import os
import signal
import subprocess
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional

from . import wire
from .client import Client
from .loop import Loop
from .outbox import Outbox
from .spawn import spawn

_CHUNK = 65536

#: Ids of inputs remembered to answer a repeat, and bytes of input that Claude Code has not read yet
#: beyond which no more is taken from the hosts.
_REMEMBERED_IDS = 4096
_STDIN_HIGH_WATER = 1024 * 1024


class Session:
    """A named place for one ``claude`` process at a time, and the clients that listen to it.

    Args:
        on_exit: called when the process has ended and all its output has been passed on.
    """

    def __init__(self, loop: Loop, name: str, log: Callable[..., None], on_exit: Callable[[], None]) -> None:
        self.name = name
        self.seq = 0
        self.clients: List[Client] = []
        self._loop = loop
        self._log = log
        self._on_exit = on_exit
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._exit_code: Optional[int] = None
        self._stdin = Outbox()
        self._splitters: Dict[str, wire.LineSplitter] = {}
        self._open_ids: "OrderedDict[str, None]" = OrderedDict()
        self._seen_ids: "OrderedDict[str, None]" = OrderedDict()

    @property
    def running(self) -> bool:
        return self._process is not None

    def describe(self) -> wire.Frame:
        """What a hello or a status says about this session."""
        state = "running" if self._process else "new" if self._exit_code is None else "exited"
        described: wire.Frame = {"session": self.name, "state": state, "seq": self.seq, "open": list(self._open_ids)}
        if self._process:
            described["pid"] = self._process.pid
        if self._exit_code is not None:
            described["exit"] = self._exit_code
        return described

    # Clients

    def attach(self, client: Client) -> None:
        client.session = self.name
        self.clients.append(client)
        self._watch_output()

    def detach(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
        self._watch_output()

    def drained(self, _client: Client) -> None:
        self._watch_output()

    # Input

    def start(self, argv: List[str], env: Dict[str, str], cwd: str) -> None:
        """Start Claude Code; does nothing where it runs already, so that two hosts may both try.

        Raises:
            StartError: with the operating system's reason.
        """
        if self._process:
            return
        self._process = process = spawn(argv, env, cwd)
        self._exit_code = None
        self._splitters = {"out": wire.LineSplitter(), "err": wire.LineSplitter(65536)}
        self._open_ids.clear()
        self._log("claude_started", session=self.name, pid=process.pid, program=argv[0])
        self._broadcast([{"started": process.pid}])
        self._watch_output()

    def take(self, input_id: str, line: bytes) -> Optional[wire.Frame]:
        """Pass a line to Claude Code once; the answer for a repeat or a refusal, else None."""
        if input_id in self._seen_ids:
            return {"took": input_id, "again": True}
        if not self._process:
            return {"error": "not_running", "message": "Claude Code is not running", "id": input_id}
        self._seen_ids[input_id] = None
        if len(self._seen_ids) > _REMEMBERED_IDS:
            self._seen_ids.popitem(last=False)
        if not input_id.startswith(wire.CONTROL):
            self._open_ids[input_id] = None
        self._broadcast([{"took": input_id}])
        self._stdin.add(line + b"\n")
        self._write_stdin()
        return None

    def done(self, input_id: str) -> None:
        """A client has seen the end of this input's turn."""
        self._open_ids.pop(input_id, None)

    def signal(self, number: int) -> None:
        """Signal the process; SIGKILL goes to all that it has started too."""
        if not self._process:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)
        except ProcessLookupError:
            pass  # it has just ended: the exit is on its way

    def _write_stdin(self) -> None:
        if not self._process or not self._process.stdin:
            return
        try:
            self._stdin.write(self._process.stdin.fileno())
        except OSError as error:  # EPIPE: it is ending; its exit tells the clients
            self._log("stdin_closed", session=self.name, reason=str(error))
            self._stdin.clear()
        self._loop.watch(self._process.stdin.fileno(), None, self._write_stdin if self._stdin.size else None)
        for client in self.clients:
            client.pause_reading(self._stdin.size > _STDIN_HIGH_WATER)

    # Output

    def _watch_output(self) -> None:
        """Read Claude Code only while somebody keeps up; with nobody there, output is numbered and dropped."""
        if not self._process:
            return
        stalled = bool(self.clients) and all(client.clogged for client in self.clients)
        for kind, pipe in (("out", self._process.stdout), ("err", self._process.stderr)):
            if pipe and not pipe.closed:
                self._loop.watch(pipe.fileno(), None if stalled else self._reader(kind))

    def _reader(self, kind: str) -> Callable[[], None]:
        return self._read_stdout if kind == "out" else self._read_stderr

    def _read_stdout(self) -> None:
        self._read("out")

    def _read_stderr(self) -> None:
        self._read("err")

    def _read(self, kind: str) -> bool:
        """Pass on one chunk; False when there is none now or none will come."""
        pipe = self._process and (self._process.stdout if kind == "out" else self._process.stderr)
        if not pipe or pipe.closed:
            return False
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.watch(pipe.fileno())
            pipe.close()
            return False
        self._pass_on(kind, data)
        return True

    def _pass_on(self, kind: str, data: bytes) -> None:
        frames = []
        try:
            for line in self._splitters[kind].feed(data):
                self.seq += 1
                if kind == "out":
                    frames.append(wire.encode_output(self.seq, line))
                else:
                    frames.append(wire.encode({"seq": self.seq, "err": line.decode("utf-8", "replace")}))
        except wire.FrameError as error:
            # Nothing can be trusted after a line without an end: say so, and end the process.
            self.seq += 1
            frames.append(wire.encode({"seq": self.seq, "err": "cc-bridge refused the output: %s" % error}))
            self._splitters[kind] = wire.LineSplitter(self._splitters[kind].limit)
            self.signal(signal.SIGKILL)
        self._send(b"".join(frames))

    def _broadcast(self, frames: List[Dict[str, Any]]) -> None:
        encoded = []
        for frame in frames:
            self.seq += 1
            encoded.append(wire.encode({"seq": self.seq, **frame}))
        self._send(b"".join(encoded))

    def _send(self, data: bytes) -> None:
        """To every client. One that lags while another keeps up is let go: it must not stall the rest."""
        if not data:
            return
        for client in list(self.clients):
            client.send(data)
        lagging = [client for client in self.clients if client.clogged]
        if len(lagging) < len(self.clients):
            for client in lagging:
                client.close("lagging behind another client")
        elif lagging:
            self._watch_output()

    # The end

    def reap(self) -> None:
        """After SIGCHLD: pass on what the ended process has left, then its exit code.

        Only what is there now is read: something that it started may hold its pipes open for ever.
        """
        process = self._process
        if not process or process.poll() is None:
            return
        for kind in ("out", "err"):
            while self._read(kind):
                pass
            rest = self._splitters[kind].flush()
            if rest:
                self._pass_on(kind, rest + b"\n")
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe and not pipe.closed:
                self._loop.watch(pipe.fileno())
                pipe.close()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing of its group is left
        self._process = None
        self._exit_code = process.returncode
        self._stdin.clear()
        self._open_ids.clear()
        for client in self.clients:
            client.pause_reading(False)
        self._log("claude_exited", session=self.name, code=self._exit_code)
        self._broadcast([{"exit": self._exit_code}])
        self._on_exit()
