"""Every order of events in a small case: two ends, a connection that may break, and crashes of either end.

The two ends are the real ones, :class:`Link` and :class:`Conversation` on one side, the agent's :class:`Ledger` on the
other, with what is between them (docs/protocol.md) modelled in a page: a connection delivers frames in order or
loses all of them, a crash of the agent loses its memory and Claude Code but not the journal, and a host that comes
back follows the turn by its id. Other programs' turns may be before ours in the agent's queue, and ours may be given up
at any moment. An idle Claude Code may fall asleep. All states that can be reached are visited. covers: B1, B7, C16
"""

from __future__ import annotations

import json
import pickle
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from cc_bridge.events import TextDelta, TurnResult, Verdict
from cc_bridge.protocol.commands import DeclareDone, ReadTranscript, SendInput, Withdraw
from cc_bridge.protocol.conversation import Conversation
from cc_bridge.protocol.link import (
    AgentRefused,
    Done,
    Exited,
    Hello,
    Link,
    LinkState,
    Output,
    Position,
    Queued,
    Started,
    Took,
    Violated,
    Withdrawn,
)
from cc_bridge_agent import ledger as ledger_module
from cc_bridge_agent import wire
from cc_bridge_agent.ledger import Ledger

TURN = "70239f12-b8a6-4331-8634-823542f95e3f"
WHOLE = "one two"


def delta(text: str) -> dict[str, Any]:
    piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    return {"type": "stream_event", "event": piece}


#: What Claude Code says to the one command; newer releases name it in the result.
ANSWER: list[dict[str, Any]] = [
    {"type": "system", "subtype": "init", "session_id": "s"},
    {"type": "user", "isReplay": True, "uuid": TURN, "message": {"role": "user", "content": "x"}},
    delta("one "),
    delta("two"),
    {"type": "result", "subtype": "success", "is_error": False, "result": WHOLE, "session_id": "s"},
]
INTERRUPTED = {"type": "result", "subtype": "error_during_execution", "is_error": True, "session_id": "s"}


def others_answer(turn: str) -> list[dict[str, Any]]:
    """What Claude Code says to another program's command."""
    return [
        {"type": "user", "isReplay": True, "uuid": turn, "message": {"role": "user", "content": "y"}},
        {"type": "result", "subtype": "success", "is_error": False, "result": "theirs", "session_id": "s"},
    ]


class MemoryJournal:
    """The contract of the agent's journal, without a disk."""

    disk: list[bytes]

    def __init__(self, disk: Any, _limit: int, on_record: Any) -> None:
        self.disk, self.id, self.first, self.full = disk, "j", 1, False
        for number, frame in enumerate(disk, 1):
            on_record(number, frame)

    @property
    def last(self) -> int:
        return len(self.disk)

    def append(self, frames: list[bytes]) -> None:
        self.disk += frames

    def trim(self, up_to: int) -> None:
        pass


class System:
    """Both ends and what is between them."""

    def __init__(
        self, drops: int, agent_crashes: int, host_crashes: int, others: int = 0, give_ups: int = 0, sleeps: int = 0
    ) -> None:
        self.drops, self.agent_crashes, self.host_crashes = drops, agent_crashes, host_crashes
        self.give_ups, self.given_up = give_ups, False
        self.sleeps = sleeps
        self.disk: list[bytes] = []
        self.written: list[str] = []  # what Claude Code was given
        self.crashed = False
        self.start_agent()
        if others or sleeps:
            self.to_say = deque()
            self.ledger.number([{"started": 1}])
            self.tell()
            for number in range(others):
                self.agent_takes(f"other{number}", "", b"{}")
        self.conversation = Conversation()
        self.conversation.submit(TURN, "x", 0.0)
        self.start_host()

    # The agent, as session.py and server.py have it

    def start_agent(self) -> None:
        self.ledger = Ledger(self.disk, 0)
        self.to_say: deque[dict[str, Any]] | None = None  # None: Claude Code does not run
        self.falls_asleep = self.starts_then = self.asleep = False
        self.cut()

    def cut(self) -> None:
        self.to_host: deque[bytes] = deque()
        self.to_agent: deque[bytes] = deque()
        self.attached = False

    def tell(self) -> None:
        frames = self.ledger.keep()
        if self.attached:
            self.to_host.extend(frames)

    def agent_receives(self, line: bytes) -> None:
        carried = wire.split_input(line.rstrip(b"\n"))
        if carried is not None:
            self.agent_takes(*carried)
            return
        frame = wire.decode(line.rstrip(b"\n"))
        if "hello" in frame:
            after = self.ledger.position(frame.get("have"), frame.get("turn"))
            if after is None:
                self.to_host.append(wire.encode({"error": "gone", "message": "not kept"}))
                return
            hello = {"hello": 1, "agent": "a", "epoch": "e", "session": "main", "journal": "j", "from": after + 1}
            asleep = self.falls_asleep or self.asleep
            state = "asleep" if asleep else "running" if self.to_say is not None else "exited"
            hello |= {"state": state, "seq": self.ledger.seq, "open": list(self.ledger.open_ids)}
            hello |= {"queue": self.ledger.queue.waiting}
            self.to_host.append(wire.encode(hello))
            self.to_host.extend(self.disk[after:])
            self.attached = True
        elif "start" in frame and self.falls_asleep:
            self.starts_then = True
        elif "start" in frame and self.to_say is None:
            self.start_claude()
        elif "withdraw" in frame and not self.ledger.withdraw(frame["withdraw"]):
            self.to_host.append(wire.encode({"withdrawn": frame["withdraw"], "late": True}))
        elif "done" in frame and not self.ledger.done(frame["done"], self.ledger.seq):
            self.to_host.append(wire.encode({"done": frame["done"]}))
        self.tell()

    def start_claude(self) -> None:
        self.to_say = deque()
        self.asleep = False
        self.ledger.open_ids.clear()
        self.ledger.queue.current = ""
        self.ledger.number([{"started": 1}])
        self.give_next()

    def claude_has_slept(self) -> None:
        assert not self.to_say, "it was put to sleep in mid-turn"
        starts, self.falls_asleep, self.starts_then = self.starts_then, False, False
        self.to_say, self.asleep = None, True
        self.ledger.open_ids.clear()
        self.ledger.number([{"exit": 0, "asleep": True}])
        if starts:
            self.start_claude()
        self.tell()

    def agent_takes(self, input_id: str, turn: str, line: bytes) -> None:
        queue = self.ledger.queue
        if self.ledger.has_taken(input_id):
            self.to_host.append(wire.encode({"took": input_id, "again": True}))
        elif self.to_say is None or (self.falls_asleep and input_id.startswith(wire.CONTROL)):
            self.to_host.append(wire.encode({"error": "not_running", "message": "x", "id": input_id}))
        elif turn and turn != queue.current:
            self.to_host.append(wire.encode({"took": input_id, "late": True}))
        elif input_id.startswith(wire.CONTROL):
            self.ledger.give(input_id)
            assert queue.current == TURN, "another program's turn was interrupted"
            self.to_say = deque([ANSWER[1], INTERRUPTED])
        elif queue.is_free and not self.falls_asleep:
            self.give(input_id)
        else:
            self.ledger.hold(input_id, line)
        self.tell()

    def give(self, input_id: str) -> None:
        assert not self.to_say, "a command was given in mid-turn"
        self.ledger.give(input_id)
        self.written.append(input_id)
        self.to_say = deque(ANSWER if input_id == TURN else others_answer(input_id))

    def give_next(self) -> None:
        waiting = None if self.falls_asleep else self.ledger.queue.next()
        if waiting is not None:
            self.give(waiting[0])
        self.tell()

    # The host, as driver.py and agent_events.py have it

    def start_host(self) -> None:
        self.said = ""
        self.result: TurnResult | None = None
        self.link: Link | None = None
        self.position: Position | None = None
        self.claude_runs = False
        self.newest = 0

    def connect(self) -> None:
        resumable = self.position is not None and self.conversation.can_go_on
        follow = TURN if self.following else None
        self.link = Link(after=self.position) if resumable else Link(turn=follow)
        self.link.greet()
        self.write()

    @property
    def following(self) -> bool:
        turn = self.conversation._turns.get(TURN)
        return turn is not None and turn.followed

    def write(self) -> None:
        assert self.link is not None
        self.to_agent.extend(line + b"\n" for line in self.link.data_to_send().splitlines())

    def host_receives(self, line: bytes) -> None:
        assert self.link is not None
        for event in self.link.receive_data(line):
            assert not isinstance(event, Violated), event.reason
            self.host_handles(event)
        if self.link is not None and self.following and self.link.last_seq >= self.newest:
            self.conversation.replayed()
        if self.link is None:
            return
        wanted = not self.following or self.conversation.waits_in_agent
        if not self.claude_runs and wanted and not self.link.closed and not self.conversation.settling:
            self.link.start_claude(["claude"], {}, "/")
        self.carry_out()

    def carry_out(self) -> None:
        assert self.link is not None
        while commands := self.conversation.commands():
            for command in commands:
                match command:
                    case SendInput(input_id, message, turn):
                        self.link.send_input(input_id, message, turn)
                    case Withdraw(input_id):
                        self.link.withdraw_input(input_id)
                    case DeclareDone(turn_id):
                        self.link.declare_done(turn_id)
                    case ReadTranscript(turn_id):
                        self.conversation.receive_transcript(turn_id, None, 0.0)  # which is not there
        self.write()
        self.take_events()

    def take_events(self) -> None:
        for happened in self.conversation.take_events(TURN):
            if isinstance(happened, TextDelta):
                self.said += happened.text
            elif isinstance(happened, TurnResult):
                self.result = happened

    def host_handles(self, event: object) -> None:
        conversation = self.conversation
        match event:
            case Hello():
                conversation.greeted(event.queue, resumed=event.resumed and self.position is not None)
                if self.following or not event.resumed:
                    self.claude_runs = event.state == "running"
                if event.resumed:
                    conversation.connection_resumed(0.0)
                elif self.claude_runs:
                    conversation.process_ready(event.open_ids, 0.0)
                self.newest = event.seq
            case Queued(input_id):
                conversation.accepted(input_id, 0.0)
            case Withdrawn(input_id, late):
                conversation.withdrawn(input_id, 0.0, late=late)
            case Output(message):
                conversation.receive_message(message, 0.0)
            case Took(input_id, again):
                assert not (again and conversation.is_sent(input_id)) or self.position is not None
                conversation.took(input_id, 0.0, again=again)
            case Done(input_id):
                conversation.declared(input_id)
            case Started():
                self.claude_runs = True
                conversation.process_started()
                conversation.process_ready((), 0.0)
            case Exited(code):
                self.claude_runs = False
                conversation.process_exited(code, 0.0)
            case AgentRefused("not_running", _, _, refused):
                self.claude_runs = False
                conversation.inputs_refused(0.0, refused)
            case AgentRefused("gone"):
                self.lose()
                self.position = None
                if self.following:  # it was never accepted: the command is sent anew, under the same id
                    self.conversation = Conversation()
                    self.conversation.submit(TURN, "x", 0.0)
                else:
                    conversation.connection_lost("gone", 0.0)

    def lose(self) -> None:
        if self.link is not None and self.link.position is not None:
            self.position = self.link.position
        self.link = None
        self.cut()

    # What can happen next

    def steps(self) -> Iterator[str]:
        if self.link is None and self.result is None:
            yield "connect"
        if self.to_agent:
            yield "agent receives"
        if self.to_host and self.link is not None:
            yield "host receives"
        if self.to_say:
            yield "claude says"
        if self.link is not None and self.drops:
            yield "connection breaks"
        if self.agent_crashes:
            yield "agent crashes"
        if self.host_crashes and self.result is None:
            yield "host crashes"
        if self.give_ups and self.result is None:
            yield "gives up"
        idle = self.to_say is not None and not self.to_say and self.ledger.queue.is_free
        if self.sleeps and idle and not self.falls_asleep:
            yield "falls asleep"
        if self.falls_asleep:
            yield "has slept"

    def take(self, step: str) -> None:
        match step:
            case "connect":
                self.connect()
            case "agent receives":
                self.agent_receives(self.to_agent.popleft())
            case "host receives":
                self.host_receives(self.to_host.popleft())
            case "claude says":
                assert self.to_say
                line = json.dumps(self.to_say.popleft()).encode()
                self.ledger.number_output([line])
                self.tell()
                if self.ledger.queue.ends_turn(line):
                    self.give_next()
            case "gives up":
                self.give_ups -= 1
                self.given_up = True
                self.conversation.interrupt(TURN, 0.0)
                if self.link is not None and self.link.state is LinkState.OPEN:
                    self.carry_out()
                self.take_events()
            case "falls asleep":
                self.sleeps -= 1
                self.falls_asleep = True
            case "has slept":
                self.claude_has_slept()
            case "connection breaks":
                self.drops -= 1
                self.lose()
            case "agent crashes":
                self.agent_crashes -= 1
                self.crashed = True
                self.lose()
                self.start_agent()
            case "host crashes":
                self.host_crashes -= 1
                self.cut()
                self.conversation = Conversation()
                self.conversation.follow(TURN, 0.0)
                self.start_host()
        self.check()

    def check(self) -> None:
        """What holds always, and what holds at the end."""
        if self.result is not None and not self.to_agent and not self.to_host and self.link is not None:
            turns = self.ledger.kept()
            read = all(turn["read"] for turn in turns if turn["id"] == TURN)
            assert self.conversation.delivery.outbox.undeclared or read, "its end was not told"
        assert len(self.written) == len(set(self.written)), "a command was given to Claude Code twice"
        assert WHOLE.startswith(self.said), f"{self.said!r} is no beginning of the answer"
        if self.result is not None and self.result.verdict is Verdict.COMPLETED:
            assert self.said == self.result.text == WHOLE
        elif self.result is not None:
            assert self.crashed or self.given_up, f"{self.result.verdict} although nothing crashed but the host"
            assert self.said == self.result.text
        last = ("agent crashes", "host crashes", "connection breaks", "gives up", "falls asleep")
        if not any(step not in last for step in self.steps()):
            assert self.result is not None, "nothing more can happen, and the host still waits"


@pytest.mark.long
@pytest.mark.parametrize(
    ("drops", "agent_crashes", "host_crashes", "others", "give_ups", "sleeps", "least"),
    [
        (0, 0, 0, 0, 0, 0, 30),
        (2, 0, 0, 0, 0, 0, 800),
        (0, 1, 0, 0, 0, 0, 450),
        (0, 0, 1, 0, 0, 0, 130),
        (1, 1, 0, 0, 0, 0, 2000),
        (1, 0, 1, 0, 0, 0, 1_000),
        pytest.param(2, 1, 1, 0, 0, 0, 10_000, marks=pytest.mark.thorough),
        (0, 0, 0, 1, 1, 0, 2_000),
        (0, 0, 1, 1, 0, 0, 1_000),
        (1, 0, 0, 0, 1, 0, 5_000),
        (0, 1, 0, 1, 0, 0, 2_000),
        (0, 1, 0, 0, 1, 0, 2_000),
        (0, 0, 0, 0, 0, 2, 100),
        (1, 0, 0, 0, 0, 1, 500),
        pytest.param(1, 0, 0, 0, 0, 2, 1_000, marks=pytest.mark.thorough),
        (0, 1, 0, 0, 0, 1, 500),
        (0, 0, 1, 0, 0, 2, 500),
        (0, 0, 0, 1, 1, 1, 1_000),
        pytest.param(0, 0, 0, 1, 1, 2, 1_000, marks=pytest.mark.thorough),
    ],
)
def test_every_order_of_events(
    monkeypatch: pytest.MonkeyPatch,
    drops: int,
    agent_crashes: int,
    host_crashes: int,
    others: int,
    give_ups: int,
    sleeps: int,
    least: int,
) -> None:
    monkeypatch.setattr(ledger_module, "Journal", MemoryJournal)
    first = pickle.dumps(System(drops, agent_crashes, host_crashes, others, give_ups, sleeps))
    seen, todo = {first}, [(first, ())]
    while todo:
        state, path = todo.pop()
        system: System = pickle.loads(state)
        for number, step in enumerate(list(system.steps())):
            system = pickle.loads(state) if number else system  # the first step may have the one that is here
            try:
                system.take(step)
            except Exception as error:
                raise AssertionError(f"{error!r} after {[*path, step]}") from error
            reached = pickle.dumps(system)
            if reached not in seen:
                seen.add(reached)
                todo.append((reached, (*path, step)))
    assert len(seen) >= least, f"only {len(seen)} states: something was not explored"
