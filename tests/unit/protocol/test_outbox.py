"""What is to be carried out, and carried out again over another connection. covers: B1"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol import remembered
from cc_bridge.protocol import stream_json as sj
from cc_bridge.protocol.commands import DeclareDone, EndProcess, SendInput, Withdraw
from cc_bridge.protocol.outbox import Outbox


def send(name: str) -> SendInput:
    return SendInput(name, {})


def test_commands_are_given_out_once_and_in_order() -> None:
    outbox = Outbox()
    outbox.add(send("a"), Withdraw("b"))
    outbox.add(EndProcess("why"))
    assert outbox.inputs == ["a"]
    assert outbox.take() == [send("a"), Withdraw("b"), EndProcess("why")]
    assert outbox.take() == outbox.inputs == []


def test_what_could_not_be_carried_out_is_the_next() -> None:
    outbox = Outbox()
    outbox.add(Withdraw("later"))
    outbox.put_back([Withdraw("a"), Withdraw("b")])
    assert outbox.take() == [Withdraw("a"), Withdraw("b"), Withdraw("later")]


STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "answer", "end", "confirm", "reconnect"]), st.sampled_from("abcd")), max_size=40
)


@given(STEPS)
def test_everything_is_said_until_it_is_answered_and_nothing_after(steps: list[tuple[str, str]]) -> None:
    outbox = Outbox()
    unanswered: dict[str, SendInput] = {}
    unconfirmed: dict[str, DeclareDone] = {}
    for step, name in steps:
        match step:
            case "send":
                unanswered[name] = send(name)
                outbox.add(send(name))
            case "end":
                unconfirmed[name] = DeclareDone(name)
                outbox.add(DeclareDone(name))
            case "answer":
                outbox.answered(name)
                unanswered.pop(name, None)
            case "confirm":
                outbox.declared(name)
                unconfirmed.pop(name, None)
            case "reconnect":
                outbox.declare_again()
                assert outbox.send_again(()) == list(unanswered)
                assert outbox.take() == [*unanswered.values(), *unconfirmed.values()], "inputs first"
        outbox.take()
        assert outbox.undeclared == tuple(unconfirmed)


def test_what_is_about_to_be_said_again_is_said_once() -> None:
    outbox = Outbox()
    outbox.add(send("a"), DeclareDone("b"))
    outbox.take()
    for _ in range(2):
        outbox.declare_again()
        outbox.send_again(())
    assert outbox.take() == [send("a"), DeclareDone("b")]


def test_what_was_given_up_is_not_sent_again() -> None:
    outbox = Outbox()
    outbox.add(send("a"), send("b"))
    outbox.take()
    assert outbox.send_again(("a",)) == ["b"]
    assert outbox.take() == [send("b")]


def test_of_a_process_that_has_ended_only_the_turns_are_kept() -> None:
    outbox = Outbox()
    outbox.add(send("turn"), send("c-1"))
    outbox.take()
    outbox.keep_only(["turn"])
    assert outbox.send_again(()) == ["turn"]


def test_no_two_control_messages_have_one_name() -> None:
    assert Outbox().next_control() == 1
    outbox = Outbox(controls=4)
    outbox.add_control(sj.deny("r", "no"))
    outbox.add_control(sj.deny("r", "no"), "turn")
    number = outbox.next_control()
    outbox.add_control(sj.interrupt_request("i"))
    sent = [command for command in outbox.take() if isinstance(command, SendInput)]
    assert [command.input_id for command in sent] == ["c-5-r", "c-6-r", "c-8-i"]
    assert [command.turn for command in sent] == ["", "turn", ""]
    assert number == 7


def test_an_agent_that_never_answers_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_IDS", 2)
    outbox = Outbox()
    for number in range(4):
        outbox.add(send(f"a{number}"), DeclareDone(f"d{number}"))
        outbox.take()
    assert outbox.undeclared == ("d2", "d3")
    assert outbox.send_again(()) == ["a2", "a3"]
