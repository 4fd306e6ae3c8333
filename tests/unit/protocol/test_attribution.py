"""Whose turn a line belongs to, by ids, by echoes, by order. covers: B14, C16"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol import remembered
from cc_bridge.protocol import stream_json as sj
from cc_bridge.protocol.attribution import Attribution

OURS = ("a", "b", "c")


def init(*named: str) -> sj.Init:
    return sj.Init("s", "m", named, "1")


@pytest.fixture
def attribution() -> Attribution:
    return Attribution()


def result(attribution: Attribution, *named: str, unclaimed_ends: bool = False) -> dict[str, bool]:
    return attribution.result(named, unclaimed_ends=unclaimed_ends)


def test_at_first_a_line_is_nobodys(attribution: Attribution) -> None:
    assert attribution.current == ""
    assert attribution.begins(init(), OURS) == ""
    assert result(attribution, unclaimed_ends=True) == {}


def test_what_names_no_turn_belongs_to_the_one_that_was_taken_first(attribution: Attribution) -> None:
    attribution.took("theirs")
    attribution.took("a")
    assert attribution.begins(init(), OURS) == "theirs"
    attribution.ended("theirs")
    assert attribution.current == "", "what follows its end is nobody's"
    assert attribution.begins(init(), OURS) == attribution.current == "a"


@pytest.mark.parametrize(
    ("named", "owner"), [(("theirs", "b"), "b"), (("b", "a"), "b"), (("x", "y"), "x"), (("a",), "a")]
)
def test_of_merged_turns_one_of_ours_has_the_lines(
    attribution: Attribution, named: tuple[str, ...], owner: str
) -> None:
    attribution.took("c")
    assert attribution.begins(init(*named), OURS) == attribution.current == owner


def test_a_turn_that_claude_code_begins_by_itself_is_nobodys_where_turns_are_named(attribution: Attribution) -> None:
    """When a background task has ended it answers that, also while a command of ours is on its way (2.1.329)."""
    attribution.took("a")
    assert attribution.begins(init("a"), OURS) == "a"
    assert result(attribution, "a") == {"a": True}
    attribution.took("b")
    assert attribution.begins(init(), OURS) == attribution.current == attribution.copy().current == ""
    assert result(attribution) == {}
    assert attribution.begins(init("b"), OURS) == "b"
    other = attribution.copy()
    attribution.reset()
    attribution.took("c")
    other.took("c")
    assert (attribution.begins(init(), OURS), other.begins(init(), OURS)) == ("c", ""), "another process may be older"


def test_an_echo_begins_its_turn_unless_one_of_ours_is_answered_already(attribution: Attribution) -> None:
    assert attribution.begins(sj.Echo("a"), OURS) == "a"
    assert attribution.begins(sj.Echo("b"), OURS) == "", "one result answers both, and the lines are the first one's"
    assert attribution.current == "a"
    assert result(attribution) == {"a": False, "b": False}


def test_an_echo_takes_over_from_whom_nothing_but_order_has_named(attribution: Attribution) -> None:
    attribution.took("a")
    attribution.begins(init(), OURS)
    assert attribution.begins(sj.Echo("b"), OURS) == attribution.current == "b"


def test_an_echo_takes_over_from_somebody_elses_turn(attribution: Attribution) -> None:
    attribution.begins(sj.Echo("theirs"), OURS)
    assert attribution.begins(sj.Echo("a"), OURS) == "a"


def test_an_echo_of_no_id_says_nothing(attribution: Attribution) -> None:
    assert attribution.begins(sj.Echo(""), OURS) == ""
    assert result(attribution, unclaimed_ends=True) == {}


def test_a_turn_that_has_started_is_current_and_has_not_begun(attribution: Attribution) -> None:
    assert attribution.begins(sj.Lifecycle("a", "started"), OURS) == ""
    assert attribution.current == "a"
    assert result(attribution) == {"a": False}


@pytest.mark.parametrize(("turn", "begins"), [("a", "a"), ("theirs", "")])
def test_only_a_turn_of_ours_is_held(attribution: Attribution, turn: str, begins: str) -> None:
    assert attribution.begins(sj.Lifecycle(turn, "held"), OURS) == attribution.current == begins
    assert result(attribution) == {}, "it may have to wait, and nothing has answered it"


@pytest.mark.parametrize("message", [sj.Lifecycle("a", "completed"), sj.Lifecycle("", "started")])
def test_other_news_of_a_turn_changes_nothing(attribution: Attribution, message: sj.Lifecycle) -> None:
    assert attribution.begins(message, OURS) == attribution.current == ""


def test_the_ids_in_a_result_are_trusted_most(attribution: Attribution) -> None:
    attribution.took("a")
    attribution.begins(sj.Echo("b"), OURS)
    assert result(attribution, "a", unclaimed_ends=True) == {"a": True}
    assert attribution.current == "b"
    assert result(attribution) == {"b": False}, "its own result is still to come"


def test_a_turn_that_is_named_twice_ends_once(attribution: Attribution) -> None:
    assert list(result(attribution, "a", "a")) == ["a"]


def test_a_result_without_ids_or_claims_ends_the_current_turn_where_that_is_enough(attribution: Attribution) -> None:
    attribution.took("a")
    attribution.begins(init(), OURS)
    assert result(attribution) == {}, "it was left over from an interrupted turn"
    assert attribution.current == "a"
    assert result(attribution, unclaimed_ends=True) == {"a": True}


def test_a_turn_that_waits_again_is_not_the_next_to_begin(attribution: Attribution) -> None:
    attribution.took("a")
    attribution.took("b")
    assert attribution.waits("a"), "Claude Code had it"
    assert not attribution.waits("a")
    assert attribution.begins(init(), OURS) == "b"


def test_a_new_process_knows_nothing(attribution: Attribution) -> None:
    attribution.took("a")
    attribution.begins(sj.Echo("b"), OURS)
    attribution.reset()
    assert attribution.current == attribution.begins(init(), OURS) == ""
    assert result(attribution) == {}


def test_what_was_taken_before_we_listened_takes_the_place_of_what_was_known(attribution: Attribution) -> None:
    attribution.took("a")
    attribution.found_open(["x", "y"])
    assert attribution.begins(init(), OURS) == "x"
    assert not attribution.waits("a")


def test_a_copy_goes_on_by_itself(attribution: Attribution) -> None:
    attribution.took("b")
    attribution.begins(sj.Echo("a"), OURS)
    other = attribution.copy()
    attribution.reset()
    assert other.current == "a"
    assert result(other) == {"a": False}
    assert other.begins(init(), OURS) == "b"
    assert attribution.current == ""


IDS = st.sampled_from([*OURS, "x", "y", ""])
MESSAGES = (
    st.builds(init, IDS)
    | st.just(init())
    | st.builds(sj.Echo, IDS)
    | st.builds(sj.Lifecycle, IDS, st.sampled_from(["held", "started", "completed"]))
)
RESULTS = st.tuples(st.lists(IDS, max_size=2), st.booleans())


@given(st.lists(MESSAGES | RESULTS | IDS, max_size=30))
def test_what_begins_is_current_and_what_has_ended_is_not(steps: list[object]) -> None:
    attribution = Attribution()
    for step in steps:
        if isinstance(step, str):
            attribution.took(step)
        elif isinstance(step, tuple):
            named, unclaimed = step
            current = attribution.current
            ended = attribution.result(named, unclaimed_ends=unclaimed)
            assert set(ended) == set(named) or not named, "what is named is ended, and nothing else"
            assert attribution.current == ("" if current in ended else current)
        else:
            begun = attribution.begins(step, OURS)  # type: ignore[arg-type]
            assert begun in (attribution.current, "")


def test_no_more_ids_are_remembered_than_the_agent_does(
    attribution: Attribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MOST_IDS", 3)
    for number in range(5):
        attribution.begins(sj.Lifecycle(f"id-{number}", "started"), OURS)
    assert list(result(attribution)) == ["id-2", "id-3", "id-4"]
