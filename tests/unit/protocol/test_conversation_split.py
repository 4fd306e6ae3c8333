"""A turn whose reader is slow goes on by itself, and the end of listening ends all. covers: B14, C16"""

from __future__ import annotations

from cc_bridge import TextDelta, TurnResult, Verdict
from cc_bridge.protocol.commands import EndProcess, ReadTranscript, Withdraw

from .test_conversation import Player, ask, begun
from .test_conversation_queue import Queueing


def test_a_turn_of_its_own_goes_on_with_the_next_line_and_is_forgotten_here() -> None:
    player, turn = begun(silence=20, interrupt_limit=5)
    player.conversation.receive_stderr("a line")
    player.delta("one")
    other = player.conversation.split_off(turn, 100)
    assert player.events(turn) == []
    assert player.conversation.is_done(turn)
    assert (other.session_id, other.stderr, other.next_timer()) == ("s", "a line", 120)
    piece = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " two"}}
    other.receive_message({"type": "stream_event", "event": piece}, 101)
    assert [event.text for event in other.take_events(turn) if isinstance(event, TextDelta)] == ["one", " two"]
    other.interrupt(turn, 110)
    other.handle_timer(115)
    assert EndProcess("an interrupted turn did not end", turn) in other.commands()


def test_a_turn_of_its_own_is_not_sent_again_and_knows_its_place() -> None:
    player = Queueing("theirs")
    turn = player.submit()
    player.accepted(turn)
    other = player.conversation.split_off(turn, 0)
    other.take_events(turn)
    other.took("theirs", 0)
    assert [getattr(event, "position", 0) for event in other.take_events(turn)] == [1]
    other.connection_lost("gone", 0)
    assert isinstance(other.take_events(turn)[-1], TurnResult)
    assert other.queued == ()


def test_a_turn_whose_end_or_permission_somebody_waits_for_stays() -> None:
    player, turn = begun()
    waiting = player.submit()
    assert player.conversation.can_be_split_off(turn) is True
    ask(player, "r")
    assert player.conversation.can_be_split_off(turn) is False
    assert player.conversation.can_be_split_off(waiting) is True, "it is not the one that asks"
    assert player.conversation.can_be_split_off("unknown") is False
    player.conversation.allow("r", {})
    player.conversation.interrupt(turn, 0)
    assert player.conversation.can_be_split_off(turn) is False


def test_a_turn_whose_process_has_ended_stays() -> None:
    player, turn = begun()
    player.conversation.process_exited(1, 0)
    assert player.conversation.commands() == [ReadTranscript(turn, "s")]
    assert player.conversation.can_be_split_off(turn) is False


def test_when_nobody_listens_any_more_all_turns_end_and_what_waits_in_the_agent_says_so() -> None:
    player = Queueing()
    running, waiting, sent = (player.submit() for _ in range(3))
    player.begin(running)
    player.accepted(waiting)
    player.conversation.close("the program ends", 0)
    ends = [player.results(turn)[0] for turn in (running, waiting, sent)]
    assert [end.verdict for end in ends] == [Verdict.INTERRUPTED, Verdict.INTERRUPTED, Verdict.FAILED]
    assert [end.error for end in ends] == [
        "the program ends",
        "the program ends; it still waits, and will be answered",
        "the program ends",
    ]


def test_what_was_lost_and_given_up_makes_room_for_the_next() -> None:
    player = Player()
    first, second = player.submit(), player.submit()
    player.conversation.greeted([])
    player.conversation.interrupt(first, 0)
    assert player.conversation.commands() == [Withdraw(first)]
    player.conversation.withdrawn(first, 0, late=True)
    player.step()
    assert player.sent == [first, second]
