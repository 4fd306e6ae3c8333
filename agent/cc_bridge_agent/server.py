"""The bridge itself: connections on one side, Claude Code's sessions on the other."""

import json
import os
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Union

from . import __version__, wire
from .client import Client
from .egress import Egress
from .fence import Fence
from .ledger import Ledger
from .loop import Loop
from .raw import LINGER, RawSession, size_of, sweep
from .rendezvous import PipeListener, SocketListener
from .session import Session
from .spawn import StartError
from .withdrawn import Withdrawn

#: Connections at once: far below any limit on descriptors.
_MOST_CLIENTS = 200

#: Characters of what a host calls itself.
_LONGEST_HOST = 100

#: Seconds, some 300 years; and what counts where less is said: so often it is looked whether a long turn is over.
_LONGEST, _LEAST = 1e10, 1.0

_SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}


def log(event: str, **fields: Any) -> None:
    """One JSON object a line to stderr. Never a prompt, an answer or an environment variable's value."""
    record = {"time": round(time.time(), 3), "event": event, **fields}
    try:
        sys.stderr.write(json.dumps(record) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # whoever read the log has gone; that must not end the bridge


class Server:
    """Joins clients and sessions; ends by a signal, or when nobody has been there for long enough.

    Args:
        state: directory for the sessions' journals.
        journal_limit: bytes of a session's journal beyond which Claude Code waits until somebody has read.
        grace: seconds that Claude Code has, after SIGTERM to the agent, to end its turn and itself.
        linger: end after this many seconds without a client; None: stay.
    """

    def __init__(self, loop: Loop, state: str, journal_limit: int, grace: float, linger: Optional[float]) -> None:
        self._loop = loop
        self._state = state
        self._journal_limit = journal_limit
        self._grace = grace
        self._linger = linger
        self._cancel_linger: Callable[[], None] = lambda: None
        self._cancel_stop: Callable[[], None] = lambda: None
        self._stop_after: Dict[str, float] = {}  # a session, and seconds asleep after which the agent ends; 0: never
        self._sessions: Dict[str, Session] = {}
        self._clients: List[Client] = []
        self._accepted = 0
        self._fence = Fence(state)
        self._withdrawn = Withdrawn()
        self._asked_by: Dict[str, str] = {}  # what has come while Claude Code fell asleep, and the host's name
        self._listeners: List[Union[PipeListener, SocketListener]] = []
        self._stopping = False
        self.egress: Optional[Egress] = None  # set by who makes it, where there is one
        # A new one each time: a host that comes back sees that the agent is not the one it knew.
        self.epoch = os.urandom(8).hex()
        sweep(state)
        loop.on_signal(signal.SIGTERM, lambda: self.stop("SIGTERM"))
        loop.on_signal(signal.SIGINT, lambda: self.stop("SIGINT"))
        loop.on_signal(signal.SIGCHLD, self._reap)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._wait_for_clients()

    def listen(self, listener: Union[PipeListener, SocketListener]) -> None:
        """Take this listener, and close it with the server."""
        self._listeners.append(listener)

    def accept(self, name: str, read_fd: int, write_fd: int) -> None:
        """Take a connection; it has no session until its hello."""
        if len(self._clients) >= _MOST_CLIENTS:
            for fd in {read_fd, write_fd}:
                os.close(fd)
            return
        client = Client(self._loop, name, read_fd, write_fd, self._line, self._closed, self._drained)
        self._accepted += 1
        client.number = self._accepted
        self._clients.append(client)

    def stop(self, why: str) -> None:
        """Interrupt running turns, let Claude Code end within the grace time, then end."""
        if self._stopping:
            return
        self._stopping = True
        log("stopping", reason=why)
        for session in self._sessions.values():
            session.is_stopped = True
            session.signal(signal.SIGINT)  # an orderly interrupt: a result, the transcript saved, exit 0
        self._loop.call_later(self._grace / 2, lambda: self._signal_all(signal.SIGTERM))
        self._loop.call_later(self._grace, lambda: self._signal_all(signal.SIGKILL))
        self._loop.call_later(self._grace + 1, self._finish)  # a process that even SIGKILL does not end
        self._finish_if_done()

    def close(self) -> None:
        """Close listeners, connections and journals."""
        for listener in self._listeners:
            listener.close()
        for client in list(self._clients):
            client.close("the agent ends")
        if self.egress:
            self.egress.close()
        for session in self._sessions.values():
            session.ledger.journal.close()
        log("stopped")

    # Frames

    def _line(self, client: Client, line: bytes) -> None:
        try:
            carried = wire.split_input(line)
            if carried is not None:
                self._input(client, *carried)
            else:
                self._frame(client, wire.decode(line))
        except wire.FrameError as error:
            log("protocol_error", client=client.name, reason=str(error))
            client.refuse("protocol", str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # A frame with the wrong fields. The hosts are trusted, but they have versions.
            log("protocol_error", client=client.name, reason=repr(error))
            client.refuse("protocol", "a frame that cannot be understood: %r" % error)

    def _frame(self, client: Client, frame: wire.Frame) -> None:
        if "hello" in frame:
            self._hello(client, frame)
        elif not client.session:
            client.refuse("protocol", "the first frame must be a hello")
        elif "start" in frame:
            self._start(client, frame["start"])
        elif "shutdown" in frame:
            self.stop("asked by " + client.name)
        elif "bye" in frame:
            client.close("bye")
        else:
            self._frame_of_session(client, self._sessions[client.session], frame)

    def _frame_of_session(self, client: Client, session: Session, frame: wire.Frame) -> None:
        if isinstance(session, RawSession) and self._frame_of_raw(client, session, frame):
            return
        if "signal" in frame:
            if frame.get("for") in (None, session.ledger.queue.current):
                session.signal(_SIGNALS[frame["signal"]])
        elif "ack" in frame:
            session.audience.acknowledge(client, int(frame["ack"]))
        elif "done" in frame:
            self._answer(client, session.done(frame["done"]))
        elif "withdraw" in frame:
            answer = session.withdraw(frame["withdraw"])
            if not session.ledger.has_taken(frame["withdraw"]):
                self._withdrawn.add(frame["withdraw"], client.host, client.number)
            self._answer(client, answer)
        elif "sleep" in frame:
            self._answer(client, session.sleep())
        elif "status" in frame:
            status = {"status": session.describe(), "turns": session.ledger.kept(), "clients": len(self._clients)}
            client.send(wire.encode({**status, "now": self._now(client, session)}))
        # Others are a newer host's; one that it cannot do without it learns from the hello's version.

    def _frame_of_raw(self, client: Client, session: RawSession, frame: wire.Frame) -> bool:
        """A frame that only raw sessions have; False: it is none."""
        if "stdin" in frame:
            data = None if frame["stdin"] is None else wire.decode_bytes(frame["stdin"])
            self._answer(client, session.take_bytes(frame["id"], data))
        elif "forget" in frame:
            if session.running:
                self._answer(client, {"error": "busy", "message": "the process has not ended"})
            else:
                self._forget(session.name)
        elif "resize" in frame:
            session.resize(size_of(frame["resize"]))
        elif "done" in frame or "withdraw" in frame or "sleep" in frame:
            raise ValueError("a raw session has no turns")
        else:
            return False
        return True

    def _forget(self, name: str) -> None:
        """A raw session has ended, and nobody will ask for it again."""
        session = self._sessions[name]
        session.ledger.journal.remove()
        for client in list(session.audience.clients):
            client.close("the session is forgotten")
        session.hosts_changed(for_good=True)
        del self._sessions[name]
        log("session_forgotten", session=name)

    def _now(self, client: Client, session: Session) -> wire.Frame:
        """What Claude Code does now, and who else listens. Ages and not times: the host may have another clock."""
        turn = session.ledger.queue.current
        others = [other for other in session.audience.clients if other != client and not other.looks]
        now: wire.Frame = {"turn": turn, "hosts": [other.host for other in others]}
        if turn:
            now["seconds"] = round(time.monotonic() - session.turn_began, 3)
        if session.running:
            now["silent"] = round(time.monotonic() - session.last_output, 3)
        return now

    def _hello(self, client: Client, frame: wire.Frame) -> None:
        if frame["hello"] != wire.VERSION:
            client.refuse("version", "the agent speaks version %d, the host %.20r" % (wire.VERSION, frame["hello"]))
            return
        name = frame.get("session", "main")
        if name == wire.EGRESS and not client.session:  # no host's: it keeps nothing alive
            if self.egress:
                self.egress.attach(client, frame)
            else:
                client.refuse("egress", "the agent has no way out: it was not told to have one, or could not")
            return
        if client.session or not wire.ID.match(name):
            client.refuse("protocol", "a second hello, or not a session's name: %.80r" % name)
            return
        try:
            if not self._fence.admit(client, frame.get("fence", 0)):
                return
            try:
                self._attach(client, self._session(name), frame)
            finally:  # last: with nobody there, what waits would start a Claude Code
                self._fence.end_overtaken(self._clients)
        except OSError as error:
            log("journal_unusable", session=name, reason=str(error))
            client.refuse("state", "the journal in %s cannot be used: %s" % (self._state, error))

    def _attach(self, client: Client, session: Session, frame: wire.Frame) -> None:
        after = session.ledger.position(frame.get("have"), frame.get("turn"), frame.get("whole") is True)
        if after is None:
            client.refuse("gone", "the frames that were asked for are not kept here, or not any more")
            return
        hello = {"hello": wire.VERSION, "agent": __version__, "epoch": self.epoch, "from": after + 1}
        client.send(wire.encode({**hello, **session.describe()}))
        client.session = session.name
        client.host = str(frame.get("host", ""))[:_LONGEST_HOST]
        client.looks = frame.get("look") is True
        session.audience.attach(client, after)
        session.hosts_changed()
        if not client.looks:
            self._cancel_linger()
            self._cancel_stop()
            log("client_attached", client=client.name, session=session.name)

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            ledger = Ledger(os.path.join(self._state, name), self._journal_limit)
            if name.startswith(wire.RAW):
                self._sessions[name] = RawSession(self._loop, name, log, self._exited, ledger, self._forget)
            else:
                self._sessions[name] = Session(self._loop, name, log, self._exited, ledger)
        return self._sessions[name]

    def _start(self, client: Client, start: wire.Frame) -> None:
        argv, env, cwd = start["argv"], start.get("env", {}), start.get("cwd") or os.getcwd()
        again = start.get("again", [])
        values = [value for value in env.values() if value is not None]  # null: it is taken away
        words = [*argv, *env, *values, cwd, *again]
        if not (argv and all(isinstance(word, str) for word in words)):
            raise ValueError("argv, env, cwd and again must be text")
        sleep, stop = (_seconds(start.get(name, 0)) for name in ("sleep", "stop"))
        if self._stopping:
            client.send(wire.encode({"error": "stopping", "message": "the agent is ending"}))
            return
        session = self._sessions[client.session]
        if session.sleeper.is_under_way:
            session.once_ended(lambda: self._start_again(client, session, start))
            return
        if isinstance(session, RawSession):
            session.linger = _seconds(start.get("linger", LINGER))
            if not session.running:
                session.size = size_of(start["tty"]) if "tty" in start else None
        else:
            self._stop_after[session.name] = stop
        try:
            session.start(argv, env, cwd, sleep, again)
        except StartError as error:
            log("claude_not_started", session=client.session, program=argv[0], reason=str(error))
            client.send(wire.encode({"error": "start", "message": str(error), "errno": error.errno}))

    def _start_again(self, client: Client, session: Session, start: wire.Frame) -> None:
        """Not for a host that has gone meanwhile, unless somebody's input waits for it."""
        if not client.gone or session.ledger.queue.waiting:
            self._start(client, start)

    def _wake(self) -> None:
        """Start what an input waits for whose host has gone.

        Others need not know of it, and one that is there may wait itself until it may have another Claude Code.
        """
        for session in self._sessions.values():
            there = [client.host for client in session.audience.clients if not client.looks]
            waiting = session.ledger.queue.waiting
            if self._stopping or (waiting and all(self._asked_by.get(input_id) in there for input_id in waiting)):
                continue
            try:
                session.wake()
            except StartError as error:
                log("claude_not_started", session=session.name, reason=str(error))

    def _input(self, client: Client, input_id: str, turn: str, line: bytes) -> None:
        if not client.session:
            client.refuse("protocol", "the first frame must be a hello")
            return
        if self._withdrawn.is_late(input_id, client.host, client.number):
            self._answer(client, {"withdrawn": input_id, "late": True})
            return
        session = self._sessions[client.session]
        self._answer(client, session.take(input_id, turn, line))
        if session.sleeper.is_under_way:
            self._asked_by[input_id] = client.host

    def _answer(self, client: Client, answer: Optional[wire.Frame]) -> None:
        if answer is not None:
            client.send(wire.encode(answer))

    # What happens by itself

    def _closed(self, client: Client, why: str) -> None:
        self._clients.remove(client)
        if client.session:
            session = self._sessions[client.session]
            session.audience.detach(client)
            session.hosts_changed()
        if client.session and not client.looks:
            log("client_gone", client=client.name, reason=why)
            self._wake()
            if not self._has_hosts():
                self._wait_for_clients()
                self._wait_to_stop()

    def _drained(self, client: Client) -> None:
        if client.session:
            self._sessions[client.session].audience.feed(client)

    def _has_hosts(self) -> bool:
        return any(client.session and not client.looks for client in self._clients)

    def _exited(self) -> None:
        self._wake()
        if not any(session.ledger.queue.waiting for session in self._sessions.values()):
            self._asked_by.clear()
        self._finish_if_done()
        self._wait_to_stop()

    def _wait_to_stop(self) -> None:
        """End after a while in which all sleeps, no host is connected and no input waits for the next Claude Code."""
        self._cancel_stop()
        after = [self._stop_after[name] for name, session in self._sessions.items() if session.asleep]
        if after and all(after) and not self._has_hosts():
            self._cancel_stop = self._loop.call_later(max(after), self._stop_if_asleep)

    def _stop_if_asleep(self) -> None:
        sessions = self._sessions.values()
        if any(session.ledger.queue.waiting for session in sessions):
            self._wait_to_stop()  # it may be withdrawn
        elif not any(session.running for session in sessions):
            self.stop("asleep")

    def _wait_for_clients(self) -> None:
        if self._linger is not None:
            self._cancel_linger = self._loop.call_later(self._linger, lambda: self.stop("no client"))

    def _reap(self) -> None:
        for session in list(self._sessions.values()):
            session.reap()

    def _signal_all(self, number: int) -> None:
        for session in self._sessions.values():
            session.signal(number)

    def _finish_if_done(self) -> None:
        if self._stopping and not any(session.running for session in self._sessions.values()):
            self._finish()

    def _finish(self) -> None:
        self._loop.stop()


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LONGEST:
        raise ValueError("sleep and stop must be seconds")
    return max(value, _LEAST) if value else 0
