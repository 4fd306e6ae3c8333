"""The agent's queue as a host sees it: places, withdrawing, and what a lost connection leaves. covers: C2, C8, C16"""

from __future__ import annotations

from cc_bridge import TurnResult, Verdict
from cc_bridge.events import PermissionRequest, TextDelta, Waiting
from cc_bridge.protocol import agent_queue
from cc_bridge.protocol.commands import EndProcess, SendInput, Withdraw

from .test_conversation import Player


class Queueing(Player):
    """Of whose agent it is known that it has a queue."""

    def __init__(self, *waiting: str) -> None:
        super().__init__()
        self.conversation.greeted(waiting)

    def accepted(self, turn: str) -> None:
        self.conversation.accepted(turn, self.now)
        self.step()

    def withdrawn(self, turn: str, *, late: bool = False) -> None:
        self.conversation.withdrawn(turn, self.now, late=late)
        self.step()

    def results(self, turn: str) -> list[TurnResult]:
        return [event for event in self.conversation.take_events(turn) if isinstance(event, TurnResult)]

    def positions(self, turn: str) -> list[int]:
        return [event.position for event in self.conversation.take_events(turn) if isinstance(event, Waiting)]


def test_all_are_sent_at_once_and_answered_to_whom_they_belong() -> None:
    player = Queueing()
    turns = [player.submit(str(number)) for number in range(3)]
    assert player.sent == turns
    player.took(turns[0])
    player.accepted(turns[1])
    player.accepted(turns[2])
    for turn in turns:
        if turn != turns[0]:
            player.took(turn)
        player.answer(turn, turn)
        (result,) = player.results(turn)
        assert (result.verdict, result.text) == (Verdict.COMPLETED, turn)


def test_who_waits_is_told_its_place_whoever_is_before_it() -> None:
    player = Queueing("theirs")
    one, two = player.submit(), player.submit()
    player.accepted(one)
    player.accepted("another's")
    player.accepted(two)
    assert (player.positions(one), player.positions(two)) == ([2], [4])
    player.took("theirs")
    player.withdrawn("another's")
    assert (player.positions(one), player.positions(two)) == ([1], [3, 2])
    player.took(one)
    assert (player.positions(one), player.positions(two)) == ([], [1])


def test_giving_up_what_waits_costs_the_running_turn_nothing() -> None:
    player = Queueing()
    first, second = player.submit(), player.submit()
    player.begin(first)
    player.say(
        {
            "type": "control_request",
            "request_id": "r",
            "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}},
        }
    )
    player.accepted(second)
    player.conversation.interrupt(second, player.now)
    player.step()
    assert player.others == [Withdraw(second)]
    assert not player.controls
    player.withdrawn(second)
    (result,) = player.results(second)
    assert result.verdict is Verdict.INTERRUPTED
    assert player.conversation.is_open("r"), "the running turn's question is still asked"
    assert any(isinstance(event, PermissionRequest) for event in player.conversation.take_events(first))
    assert not player.conversation.is_done(first)


def test_what_was_given_meanwhile_is_interrupted_when_it_begins_and_by_its_name() -> None:
    player = Queueing()
    turn = player.submit()
    player.conversation.interrupt(turn, player.now)
    player.step()
    assert player.others == [Withdraw(turn)]
    player.took(turn)
    player.withdrawn(turn, late=True)
    assert not player.controls
    player.init(turn)
    assert [message["request"]["subtype"] for message in player.controls] == ["interrupt"]


def test_an_interrupt_names_its_turn() -> None:
    player = Queueing()
    turn = player.submit()
    player.begin(turn)
    player.conversation.interrupt(turn, player.now)
    (command,) = player.conversation.commands()
    assert isinstance(command, SendInput)
    assert command.turn == turn


def test_an_agent_that_does_not_answer_ends_no_process_of_others() -> None:
    player = Queueing()
    turn = player.submit()
    player.accepted(turn)
    player.conversation.interrupt(turn, player.now)
    when = player.conversation.next_timer()
    assert when is not None
    player.conversation.handle_timer(when)
    player.step()
    assert not any(isinstance(command, EndProcess) for command in player.others)
    assert player.results(turn)[0].verdict is Verdict.INTERRUPTED


def test_another_programs_withdrawal_is_told() -> None:
    player = Queueing()
    turn = player.submit()
    player.accepted(turn)
    player.withdrawn(turn)
    assert player.results(turn)[0].error == "withdrawn while it waited in the queue"


def test_a_full_queue_fails_the_command_and_no_other() -> None:
    player = Queueing()
    one, two = player.submit(), player.submit()
    player.took(one)
    player.conversation.refused(two, "too many commands wait", player.now)
    assert player.results(two)[0].error == "too many commands wait"
    assert not player.conversation.is_done(one)


def test_claude_codes_end_leaves_what_waits() -> None:
    player = Queueing()
    first, second = player.submit(), player.submit()
    player.took(first)
    player.accepted(second)
    player.conversation.process_exited(-9, player.now)
    assert player.results(first)[0].verdict is Verdict.INTERRUPTED
    assert not player.conversation.is_done(second)
    player.conversation.process_started()
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == [first, second], "the agent has it, and gives it"
    player.answer(second, "later")
    assert player.results(second)[0].text == "later"


def test_what_waited_is_sent_anew_under_its_id_over_another_connection() -> None:
    """The agent answers that it has it, and it is followed from there."""
    player = Queueing()
    first, second, third = player.submit(), player.submit(), player.submit()
    player.begin(first)
    player.accepted(second)
    player.conversation.connection_lost("gone", player.now)
    assert player.results(first)[0].verdict is Verdict.INTERRUPTED
    player.conversation.greeted([second])
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == [first, second, third, second, third]


def test_what_was_sent_and_not_answered_may_run_where_all_is_given_up() -> None:
    """Whoever gives it again must know."""
    player = Queueing()
    player.conversation.greeted([], journal="one")
    player.conversation.process_ready((), player.now)
    sent = player.submit()
    player.step()
    assert player.sent == [sent]
    player.conversation.connection_lost("gone", player.now)
    never_sent = player.submit()
    player.conversation.fail_queued("no way", player.now)
    (result,) = player.results(sent)
    assert result.verdict is Verdict.INTERRUPTED
    assert "may have run, or will" in result.error
    assert player.results(never_sent)[0].verdict is Verdict.FAILED


def test_what_an_agent_had_that_is_gone_with_its_disks_is_not_sent_again() -> None:
    """It may have run there, answered or not; what it never had is sent."""
    player = Queueing()
    player.conversation.greeted([], journal="one")
    first, second, third = player.submit(), player.submit(), player.submit()
    player.begin(first)
    player.accepted(second)
    player.conversation.connection_lost("gone", player.now)
    fourth = player.submit()
    assert player.results(first)[0].verdict is Verdict.INTERRUPTED
    player.conversation.greeted([], journal="another")
    for turn in (second, third):
        (result,) = player.results(turn)
        assert result.verdict is Verdict.INTERRUPTED
        assert "may have run there" in result.error
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == [first, second, third, fourth]
    player.conversation.connection_lost("gone", player.now)
    player.conversation.greeted([], journal="another")
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == [first, second, third, fourth, fourth], "who had it knows it by its id"


def test_a_followed_turn_is_never_sent() -> None:
    player = Queueing()
    turn = "70239f12-b8a6-4331-8634-823542f95e3f"
    player.conversation.follow(turn, player.now)
    player.conversation.inputs_refused(player.now)
    player.conversation.process_ready((), player.now)
    player.step()
    assert player.sent == []
    player.conversation.connection_lost("gone", player.now)
    assert player.results(turn)[0].verdict is Verdict.INTERRUPTED


def test_a_repeats_answer_says_nothing_of_what_waits() -> None:
    player = Queueing()
    first, second = player.submit(), player.submit()
    player.begin(first)
    player.accepted(second)
    player.conversation.took(second, player.now, again=True)
    player.delta("mine")
    assert [event.text for event in player.conversation.take_events(first) if isinstance(event, TextDelta)] == ["mine"]
    assert player.positions(second) == [1]


def test_no_more_than_so_many_are_with_the_agent() -> None:
    player = Queueing()
    turns = [player.submit() for _ in range(agent_queue._MOST_AHEAD + 2)]
    assert player.sent == turns[:-2]
    player.took(turns[0])
    assert player.sent == turns[:-2], "what runs counts as well"
    player.answer(turns[0], "x")
    assert player.sent == turns[:-1]


def test_without_a_queue_in_the_agent_they_wait_here() -> None:
    player = Player()
    player.conversation.greeted(None)
    one, two = player.submit(), player.submit()
    assert player.sent == [one]
    player.answer(one, "x")
    assert player.sent == [one, two]
