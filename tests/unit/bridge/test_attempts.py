"""How often inputs are tried. covers: C12"""

from __future__ import annotations

from cc_bridge.bridge.attempts import Attempts


def test_the_fourth_failure_is_one_too_many_and_counting_begins_anew() -> None:
    attempts = Attempts()
    assert [attempts.fail(["a"]) for _ in range(8)] == [False, False, False, True] * 2


def test_each_input_has_its_own_tries() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.fail(["a"])
    assert not attempts.fail(["b"])
    assert attempts.fail(["b", "a"])
    assert not attempts.fail([])


def test_an_input_that_was_accepted_or_taken_has_not_failed_before() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.fail(["a", "b"])
    attempts.accept("a")
    attempts.take("b")
    assert not attempts.fail(["a", "b"])
    attempts.accept("unknown")


def test_an_input_that_was_sent_again_is_known_as_such_once() -> None:
    attempts = Attempts()
    attempts.repeat(["a"])
    attempts.repeat(["b"])
    assert [attempts.take(input_id) for input_id in ("a", "a", "b", "c")] == [True, False, True, False]
