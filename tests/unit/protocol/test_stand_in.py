"""An agent for where none can run speaks as the agent does: a real link listens to it. covers: C13"""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge.errors import ProtocolError
from cc_bridge.protocol.link import AgentRefused, Done, ErrorOutput, Exited, Hello, Link, Output, Started, Took
from cc_bridge.protocol.stand_in import Signal, StandIn, StartProcess, Write

PROMPT = {"type": "user"}
INIT = b'{"type":"system","subtype":"init"}\n'


class Pair:
    """A host's link, and the stand-in at its other end."""

    def __init__(self, *, running: bool = True) -> None:
        self.link, self.stand_in = Link(), StandIn()
        self.link.greet()
        self.hello = self.exchange()
        if running:
            self.link.start_claude(["claude", "-p"], {"KEY": "x"}, "/w")
            self.exchange()
            self.started = self.stand_in.actions()
            self.stand_in.launched(42)
            assert self.exchange() == [Started(42)]

    def exchange(self) -> list[Any]:
        """Both ways, byte by byte; what the host hears."""
        for byte in self.link.data_to_send():
            self.stand_in.receive_frames(bytes([byte]))
        return [event for byte in self.stand_in.frames_to_host() for event in self.link.receive_data(bytes([byte]))]

    def send(self, name: str) -> list[Any]:
        self.link.send_input(name, PROMPT)
        return self.exchange()

    def says(self, data: bytes) -> list[Any]:
        self.stand_in.receive_output(data)
        return self.exchange()


def test_it_greets_as_an_agent_that_keeps_nothing() -> None:
    pair = Pair(running=False)
    (hello,) = pair.hello
    assert hello == Hello("none", hello.epoch, "new", 0, (), resumed=False)
    assert hello.epoch != Pair(running=False).hello[0].epoch
    assert pair.link.position is None


def test_the_process_is_started_as_it_was_asked_for_and_once() -> None:
    pair = Pair()
    assert pair.started == [StartProcess(("claude", "-p"), {"KEY": "x"}, "/w")]
    pair.link.start_claude(["claude"], {}, None)
    assert pair.exchange() == []
    assert pair.stand_in.actions() == []


def test_a_process_that_cannot_be_started() -> None:
    pair = Pair(running=False)
    pair.stand_in.not_launched("no such file", 2)
    assert pair.exchange() == [AgentRefused("start", "no such file", 2)]
    assert pair.send("a") == [AgentRefused("not_running", "Claude Code is not running")]


def test_lines_go_in_and_out() -> None:
    pair = Pair()
    pair.send("prompt")
    assert pair.stand_in.actions() == [Write(b'{"type": "user"}\n')]
    assert pair.stand_in.actions() == []
    assert pair.says(b'{"a":1}\nno JSON\n{"b"') == [Output({"a": 1}), Output("no JSON")]
    assert pair.says(b":2}\n") == [Output({"b": 2})]
    pair.stand_in.receive_stderr("one\ntwo\n")
    assert pair.exchange() == [ErrorOutput("one"), ErrorOutput("two")]


def test_an_input_is_taken_when_a_turn_begins_or_names_it() -> None:
    """That it was written says little: a process that ends at once has not read it."""
    pair = Pair()
    assert pair.send("a") == []
    assert pair.says(b'{"type":"other"}\n') == [Output({"type": "other"})]
    assert pair.says(INIT)[0] == Took("a", again=False)
    assert pair.says(INIT) == [Output({"type": "system", "subtype": "init"})], "once"
    pair.send("b")
    assert pair.says(b'{"uuid":"b"}\n') == [Took("b", again=False), Output({"uuid": "b"})]


def test_a_control_message_is_taken_at_once_and_so_is_what_came_before() -> None:
    pair = Pair()
    pair.send("a")
    assert pair.send("c-1") == [Took("a", again=False), Took("c-1", again=False)]


@pytest.mark.parametrize("code", [0, 1, 128])
def test_what_ends_by_itself_has_read_its_input(code: int) -> None:
    pair = Pair()
    pair.send("a")
    pair.stand_in.exited(code)
    assert pair.exchange() == [Took("a", again=False), Exited(code)]


@pytest.mark.parametrize("code", [-9, -1, 129, 137])
def test_what_was_killed_has_not_and_it_may_be_sent_again(code: int) -> None:
    pair = Pair()
    pair.send("a")
    pair.send("b")
    pair.stand_in.exited(code)
    refused = AgentRefused("not_running", "Claude Code is not running")
    assert pair.exchange() == [Exited(code), refused, refused]


def test_after_its_end_nothing_is_written_and_another_can_be_started() -> None:
    pair = Pair()
    pair.stand_in.exited(0)
    pair.stand_in.exited(0)
    assert pair.exchange() == [Exited(0)], "it ends once"
    assert pair.send("a") == [AgentRefused("not_running", "Claude Code is not running")]
    assert pair.stand_in.actions() == []
    pair.link.start_claude(["claude"], {}, None)
    pair.exchange()
    assert pair.stand_in.actions() == [StartProcess(("claude",), {}, None)]


def test_signals_and_done() -> None:
    pair = Pair()
    pair.link.signal_claude("INT")
    pair.link.declare_done("a")
    assert pair.exchange() == [Done("a")]
    assert pair.stand_in.actions() == [Signal("INT")]


def test_what_it_does_not_know_is_passed_over() -> None:
    pair = Pair()
    pair.link.ask_status()
    pair.link.acknowledge()
    assert pair.exchange() == []
    assert pair.stand_in.actions() == []


def test_the_host_s_own_mistake_is_named() -> None:
    with pytest.raises(ProtocolError, match="not JSON"):
        StandIn().receive_frames(b"nonsense\n")


def test_a_line_without_an_end_is_refused() -> None:
    stand_in = StandIn()
    with pytest.raises(ProtocolError, match="the limit is 67108864"):
        stand_in.receive_output(b"x" * (64 * 2**20 + 1))
