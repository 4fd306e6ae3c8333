"""The agent's queue as a host knows it: places, room, what is given up. covers: C16"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol import agent_queue as module
from cc_bridge.protocol.agent_queue import AgentQueue

STEPS = st.lists(st.tuples(st.sampled_from(["join", "join first", "leave"]), st.sampled_from("abcdefg")), max_size=40)


@given(st.lists(st.sampled_from("abcdefg"), unique=True), STEPS)
def test_places_are_those_of_a_queue(found: list[str], steps: list[tuple[str, str]]) -> None:
    queue, expected = AgentQueue(), list(found)
    queue.found(found)
    for step, name in steps:
        if step == "leave":
            place = [queue.place(name)[0]] if name in expected else []
            assert queue.leave(name) == place
            expected = [other for other in expected if other != name]
        else:
            assert queue.join(name, first=step == "join first") == []
            if name not in expected:
                expected.insert(0 if step == "join first" else len(expected), name)
        assert [queue.place(waiting)[1] for waiting in expected] == list(range(len(expected)))
        assert [other for other in "abcdefg" if other in queue] == sorted(expected)


def test_what_is_found_in_a_hello_takes_the_place_of_what_was_known() -> None:
    queue = AgentQueue()
    queue.join("a")
    queue.found(["b", "c"])
    assert queue.leave("a") == []
    assert queue.place("c")[1] == 1


def test_of_too_many_that_wait_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IDS", 2)
    queue = AgentQueue()
    assert queue.join("a") == queue.join("b") == []
    (first, _), (second, _) = queue.place("a"), queue.place("b")
    assert queue.join("c") == [first]
    assert queue.place("b") == (second, 0)


def test_without_a_queue_one_is_with_the_agent_and_with_one_as_many_as_leave_room_for_others() -> None:
    queue = AgentQueue()
    assert (queue.has_room(0), queue.has_room(1)) == (True, False)
    queue.exists = True
    assert (queue.has_room(63), queue.has_room(64)) == (True, False)


def test_a_full_queue_has_room_when_something_has_left_it() -> None:
    queue = AgentQueue()
    queue.exists = True
    queue.join("theirs")
    assert queue.refused()
    assert not queue.has_room(0)
    queue.answered("theirs")
    assert queue.has_room(0)


def test_an_empty_queue_that_refuses_is_not_waited_for() -> None:
    queue = AgentQueue()
    assert not queue.refused()
    assert queue.has_room(0)


def test_what_is_given_up_is_known_until_the_agent_has_answered() -> None:
    queue = AgentQueue()
    queue.withdraw("a")
    queue.withdraw("b")
    queue.withdraw("a")
    queue.answered("other")
    assert queue.withdrawing == ("a", "b")
    queue.answered("a")
    assert queue.withdrawing == ("b",)


def test_after_a_lost_connection_nobody_is_known_to_wait_and_what_was_given_up_is() -> None:
    queue = AgentQueue()
    queue.join("a")
    queue.withdraw("a")
    queue.lose()
    assert queue.leave("a") == []
    assert queue.withdrawing == ("a",)


def test_a_copy_has_the_places_and_has_withdrawn_nothing() -> None:
    queue = AgentQueue()
    queue.exists = True
    queue.join("a")
    queue.withdraw("a")
    queue.refused()
    other = queue.copy()
    queue.lose()
    other.join("b")
    assert (other.exists, other.place("b")[1], other.withdrawing, other.has_room(0)) == (True, 1, (), True)
    assert queue.join("c") == []
    assert queue.place("c")[1] == 0
