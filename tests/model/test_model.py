"""Every order of events in a small case: two ends, a connection that may break, and crashes of either end.

The two ends are the real ones, :class:`Link` and :class:`Conversation` on one side, the agent's :class:`Ledger` on the
other, with what is between them (docs/protocol.md) modelled in a page: a connection delivers frames in order or
loses all of them, a crash of the agent loses its memory and Claude Code but not the journal, and a host that comes
back follows the turn by its id. All states that can be reached are visited. covers: B1, C16
"""

from __future__ import annotations

import json
import pickle
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from cc_bridge.events import TextDelta, TurnResult, Verdict
from cc_bridge.protocol.conversation import Conversation, DeclareDone, ReadTranscript, SendInput
from cc_bridge.protocol.link import AgentRefused, Done, Exited, Hello, Link, Output, Position, Started, Took, Violated
from cc_bridge_agent import ledger as ledger_module
from cc_bridge_agent import wire
from cc_bridge_agent.ledger import Ledger

TURN = "70239f12-b8a6-4331-8634-823542f95e3f"
WHOLE = "one two"


def delta(text: str) -> dict[str, Any]:
    piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    return {"type": "stream_event", "event": piece}


#: What Claude Code says to the one command.
ANSWER: list[dict[str, Any]] = [
    {"type": "system", "subtype": "init", "session_id": "s"},
    {"type": "user", "isReplay": True, "uuid": TURN, "message": {"role": "user", "content": "x"}},
    delta("one "),
    delta("two"),
    {"type": "result", "subtype": "success", "is_error": False, "result": WHOLE, "session_id": "s"},
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

    def __init__(self, drops: int, agent_crashes: int, host_crashes: int) -> None:
        self.drops, self.agent_crashes, self.host_crashes = drops, agent_crashes, host_crashes
        self.disk: list[bytes] = []
        self.written = 0  # how often Claude Code was given the command
        self.crashed = False
        self.start_agent()
        self.conversation = Conversation()
        self.conversation.submit(TURN, "x", 0.0)
        self.start_host()

    # The agent, as session.py and server.py have it

    def start_agent(self) -> None:
        self.ledger = Ledger(self.disk, 0)
        self.to_say: deque[dict[str, Any]] | None = None  # None: Claude Code does not run
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
            state = "running" if self.to_say is not None else "exited"
            hello |= {"state": state, "seq": self.ledger.seq, "open": list(self.ledger.open_ids)}
            self.to_host.append(wire.encode(hello))
            self.to_host.extend(self.disk[after:])
            self.attached = True
        elif "start" in frame and self.to_say is None:
            self.to_say = deque()
            self.ledger.open_ids.clear()
            self.ledger.number([{"started": 1}])
        elif "done" in frame and not self.ledger.done(frame["done"], self.ledger.seq):
            self.to_host.append(wire.encode({"done": frame["done"]}))
        self.tell()

    def agent_takes(self, input_id: str, line: bytes) -> None:
        if self.to_say is None and not self.ledger.has_taken(input_id):
            self.to_host.append(wire.encode({"error": "not_running", "message": "x"}))
        elif not self.ledger.take(input_id):
            self.to_host.append(wire.encode({"took": input_id, "again": True}))
        else:
            assert self.to_say is not None
            self.written += 1
            self.to_say.extend(ANSWER)
            self.tell()

    # The host, as bridge.py has it

    def start_host(self) -> None:
        self.said = ""
        self.result: TurnResult | None = None
        self.link: Link | None = None
        self.position: Position | None = None
        self.claude_runs = False

    def connect(self) -> None:
        resumable = self.position is not None and self.conversation.active is not None
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
        if self.link is None:
            return
        if not self.claude_runs and not self.following and not self.link.closed and not self.conversation.settling:
            self.link.start_claude(["claude"], {}, "/")
        while commands := self.conversation.commands():
            for command in commands:
                match command:
                    case SendInput(input_id, message):
                        self.link.send_input(input_id, message)
                    case DeclareDone(turn_id):
                        self.link.declare_done(turn_id)
                    case ReadTranscript(turn_id):
                        self.conversation.receive_transcript(turn_id, None, 0.0)  # which is not there
        self.write()
        for happened in self.conversation.take_events(TURN):
            if isinstance(happened, TextDelta):
                self.said += happened.text
            elif isinstance(happened, TurnResult):
                self.result = happened

    def host_handles(self, event: object) -> None:
        conversation = self.conversation
        match event:
            case Hello(resumed=True):
                conversation.connection_resumed()
            case Hello():
                self.claude_runs = event.state == "running"
                if self.claude_runs:
                    conversation.process_ready(event.open_ids, 0.0)
            case Output(message):
                conversation.receive_message(message, 0.0)
            case Took(input_id, again):
                assert not (again and conversation.is_sent(input_id)) or self.position is not None
                conversation.took(input_id, 0.0)
            case Done(input_id):
                conversation.declared(input_id)
            case Started():
                self.claude_runs = True
                conversation.process_started()
                conversation.process_ready((), 0.0)
            case Exited(code):
                self.claude_runs = False
                conversation.process_exited(code, 0.0)
            case AgentRefused("not_running"):
                self.claude_runs = False
                conversation.inputs_refused()
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
                self.ledger.number_output([json.dumps(self.to_say.popleft()).encode()])
                self.tell()
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
            assert self.conversation._undeclared or all(turn["read"] for turn in turns), "its end was not told"
        assert self.written <= 1, "the command was given to Claude Code twice"
        assert WHOLE.startswith(self.said), f"{self.said!r} is no beginning of the answer"
        if self.result is not None and self.result.verdict is Verdict.COMPLETED:
            assert self.said == self.result.text == WHOLE
        elif self.result is not None:
            assert self.crashed, f"{self.result.verdict} although nothing crashed but the host"
            assert self.said == self.result.text
        if not any(step not in ("agent crashes", "host crashes", "connection breaks") for step in self.steps()):
            assert self.result is not None, "nothing more can happen, and the host still waits"


@pytest.mark.long
@pytest.mark.parametrize(
    ("drops", "agent_crashes", "host_crashes", "least"),
    [(0, 0, 0, 30), (2, 0, 0, 800), (0, 1, 0, 450), (0, 0, 1, 130), (1, 1, 0, 2000), (2, 1, 1, 10_000)],
)
def test_every_order_of_events(
    monkeypatch: pytest.MonkeyPatch, drops: int, agent_crashes: int, host_crashes: int, least: int
) -> None:
    monkeypatch.setattr(ledger_module, "Journal", MemoryJournal)
    first = pickle.dumps(System(drops, agent_crashes, host_crashes))
    seen, todo = {first}, [(first, ())]
    while todo:
        state, path = todo.pop()
        for step in list(pickle.loads(state).steps()):
            system: System = pickle.loads(state)
            try:
                system.take(step)
            except Exception as error:
                raise AssertionError(f"{error!r} after {[*path, step]}") from error
            reached = pickle.dumps(system)
            if reached not in seen:
                seen.add(reached)
                todo.append((reached, (*path, step)))
    assert len(seen) >= least, f"only {len(seen)} states: something was not explored"
