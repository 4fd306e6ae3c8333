"""Who may do, see and ask for how much; no clock, no network, no database."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import BridgeError, InvalidInput
from cc_bridge.service import identities as module
from cc_bridge.service.identities import (
    ALL_SCOPES,
    NO_LIMITS,
    Identity,
    Limits,
    Meters,
    MoreThanOwn,
    NotAllowed,
    Scope,
    Strikes,
    TokenBucket,
    TooMany,
)

LATER = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = ["chat-1", "chat-2", "desk", "a[1]", ""]
PATTERNS = st.sampled_from(["chat-*", "chat-1", "*", "d?sk", "[cd]*", "none", "Chat-*"])
patterns = st.lists(PATTERNS, max_size=3).map(tuple)
limits = st.builds(Limits, *[st.none() | st.integers(1, 5)] * 2)
identities = st.builds(
    Identity,
    st.just("t"),
    st.just("phone"),
    st.frozensets(st.sampled_from(sorted(ALL_SCOPES))),
    patterns,
    patterns,
    limits,
    st.none() | st.sampled_from([LATER, LATER + timedelta(days=1)]),
)


def identity(**fields: Any) -> Identity:
    return Identity(**{"id": "t", "name": "phone", "scopes": frozenset({"read"}), **fields})


class TestScopes:
    def test_what_lacks_is_named(self) -> None:
        reader = identity()
        reader.need("read")
        with pytest.raises(NotAllowed, match="manage") as refused:
            reader.need("manage")
        assert refused.value.scope == "manage"
        assert isinstance(refused.value, BridgeError)

    def test_there_are_four(self) -> None:
        assert ALL_SCOPES == set(get_args(Scope)) == {"read", "command", "permissions", "manage"}

    def test_who_would_hand_out_more_is_told_so(self) -> None:
        refused = MoreThanOwn()
        assert isinstance(refused, NotAllowed)
        assert refused.scope == "manage"
        assert "more than their own" in str(refused)
        assert "Ask for less" in str(refused)

    def test_no_scope_brings_another(self) -> None:
        for scope in ALL_SCOPES:
            assert {other for other in ALL_SCOPES if identity(scopes=frozenset({scope})).may(other)} == {scope}


class TestView:
    def test_without_patterns_it_sees_everything(self) -> None:
        assert identity().sees("anything", "")
        assert identity().sees_all

    @given(identities, st.sampled_from(NAMES), st.sampled_from(NAMES))
    def test_a_name_or_a_project_that_matches_is_enough(self, who: Identity, name: str, project: str) -> None:
        by_name = any(fnmatchcase(name, pattern) for pattern in who.instances)
        by_project = any(fnmatchcase(project, pattern) for pattern in who.projects)
        assert who.sees(name, project) == (by_name or by_project or not (who.instances or who.projects))

    def test_patterns_of_projects_do_not_match_names(self) -> None:
        assert not identity(projects=("shop",)).sees("shop", "other")
        assert not identity(instances=("shop",)).sees("other", "shop")


class TestHandingOut:
    @given(identities, identities)
    def test_nobody_hands_out_more_than_they_have(self, who: Identity, other: Identity) -> None:
        if not who.covers(other):
            return
        assert other.scopes <= who.scopes
        for name, project in itertools.product(NAMES, NAMES):
            assert who.sees(name, project) or not other.sees(name, project)
        for limit in ("commands_per_minute", "at_once"):
            own, handed_out = getattr(who.limits, limit), getattr(other.limits, limit)
            assert own is None or (handed_out is not None and handed_out <= own)
        if who.expires:
            assert other.expires is not None
            assert other.expires <= who.expires

    @given(identities)
    def test_everybody_may_hand_out_what_they_have(self, who: Identity) -> None:
        assert who.covers(who)
        assert identity(scopes=ALL_SCOPES).covers(who)

    def test_a_token_without_patterns_takes_one_without_patterns(self) -> None:
        assert not identity(instances=("a",)).covers(identity())
        assert not identity(instances=("a",)).covers_view(())
        assert not identity(instances=("a",)).covers_view(("a", "b"))
        assert identity(instances=("a", "b")).covers_view(("b",))
        assert identity().covers_view(())


class TestLimits:
    @pytest.mark.parametrize("bad", [Limits(0), Limits(None, -1), Limits(1_000_001)])
    def test_impossible_ones_are_refused(self, bad: Limits) -> None:
        with pytest.raises(InvalidInput):
            bad.checked()

    def test_possible_ones_are_not(self) -> None:
        for good in (NO_LIMITS, Limits(1, 1), Limits(1_000_000)):
            assert good.checked() == good


#: Moments of a clock, in order.
moments = st.lists(st.floats(0, 30), min_size=1, max_size=60).map(lambda steps: list(itertools.accumulate(steps)))


class TestBucket:
    @given(st.integers(1, 20), moments)
    def test_in_no_time_are_more_taken_than_it_holds_and_gets(self, per_minute: int, times: list[float]) -> None:
        bucket = TokenBucket(per_minute, 0.0)
        taken = [moment for moment in times if bucket.take(moment)]
        for first, last in itertools.combinations(range(len(taken)), 2):
            most = per_minute * (1 + (taken[last] - taken[first]) / 60)
            assert last - first + 1 <= most + 1e-6

    @given(st.integers(1, 20), moments)
    def test_it_says_honestly_how_long_to_wait(self, per_minute: int, times: list[float]) -> None:
        bucket = TokenBucket(per_minute, 0.0)
        for moment in times:
            wait = bucket.wait(moment)
            assert bucket.take(moment) == (wait == 0)
        end = times[-1]
        while bucket.take(end):
            pass
        wait = bucket.wait(end)
        assert 0 < wait <= 60 / per_minute + 1e-6
        if wait > 1e-6:  # else it is less than numbers of seconds can tell
            assert not bucket.take(end + wait * 0.99)
        assert bucket.take(end + wait + 1e-6)

    def test_a_clock_that_goes_back_takes_nothing(self) -> None:
        bucket = TokenBucket(2, 100.0)
        assert bucket.take(100)
        assert bucket.take(99.5)

    def test_a_clock_that_goes_back_brings_nothing(self) -> None:
        bucket = TokenBucket(2, 100.0)
        assert [bucket.take(now) for now in (100, 100, 0, 100, 0, 100.1)] == [True, True, False, False, False, False]

    def test_after_a_minute_it_is_as_good_as_new(self) -> None:
        bucket = TokenBucket(2, 0.0)
        assert bucket.is_full(0)
        bucket.take(0)
        assert not bucket.is_full(29)
        assert bucket.is_full(30)


class TestMeters:
    def test_as_many_at_once_as_may(self) -> None:
        meters, who = Meters(), identity(limits=Limits(at_once=2))
        meters.admit(who, "a", 0)
        meters.admit(who, "b", 0)
        with pytest.raises(TooMany, match="at once") as refused:
            meters.admit(who, "c", 0)
        assert refused.value.retry_after > 0
        meters.admit(who, "a", 0)  # the same one, by its key
        meters.ended(who.id, "a")
        meters.admit(who, "c", 0)
        assert meters.going(who.id) == 2

    def test_as_many_a_minute_as_may(self) -> None:
        meters, who = Meters(), identity(limits=Limits(commands_per_minute=2))
        meters.admit(who, "a", 0)
        meters.admit(who, "b", 0)
        with pytest.raises(TooMany, match="a minute") as refused:
            meters.admit(who, "c", 0)
        assert refused.value.retry_after == pytest.approx(30)
        assert "30 s" in str(refused.value)
        assert meters.going(who.id) == 2
        meters.admit(who, "c", 30.01)

    def test_what_is_refused_counts_for_nothing(self) -> None:
        meters, who = Meters(), identity(limits=Limits(commands_per_minute=2, at_once=1))
        meters.admit(who, "a", 0)
        for _ in range(5):
            with pytest.raises(TooMany, match="at once"):
                meters.admit(who, "b", 0)
        meters.ended(who.id, "a")
        meters.admit(who, "b", 0)

    def test_each_has_limits_of_their_own(self) -> None:
        meters = Meters()
        for name in ("t1", "t2"):
            meters.admit(identity(id=name, limits=Limits(1, 1)), "a", 0)

    def test_without_limits_nothing_is_refused(self) -> None:
        meters = Meters()
        for number in range(1000):
            meters.admit(identity(), str(number), 0)

    def test_what_the_service_before_has_admitted_counts(self) -> None:
        meters, who = Meters(), identity(limits=Limits(at_once=1))
        meters.goes_on(who.id, "a")
        with pytest.raises(TooMany):
            meters.admit(who, "b", 0)
        meters.ended("nobody", "a")
        meters.ended(who.id, "never")
        meters.ended(who.id, "a")
        meters.ended(who.id, "a")
        meters.admit(who, "b", 0)

    def test_who_is_quiet_leaves_nothing_behind(self) -> None:
        meters = Meters()
        for number in range(100):
            meters.admit(identity(id=str(number), limits=Limits(60, 1)), "a", float(number * 60))
            meters.ended(str(number), "a")
        assert len(meters._buckets) <= 2
        assert not meters._going

    def test_limits_that_change_hold_at_once(self) -> None:
        meters = Meters()
        meters.admit(identity(limits=Limits(1)), "a", 0)
        meters.admit(identity(limits=Limits(5)), "b", 0)

    @given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.sampled_from("abcde")), max_size=40))
    def test_never_more_at_once(self, most: int, steps: list[tuple[bool, str]]) -> None:
        meters, who, going = Meters(), identity(limits=Limits(at_once=most)), set[str]()
        for begins, command in steps:
            if not begins:
                meters.ended(who.id, command)
                going.discard(command)
                continue
            try:
                meters.admit(who, command, 0)
                going.add(command)
            except TooMany:
                assert len(going) == most
                assert command not in going
        assert meters.going(who.id) == len(going) <= most


class TestStrikes:
    def test_after_some_wrong_ones_an_address_must_wait(self) -> None:
        strikes = Strikes(per_minute=3)
        for _ in range(3):
            strikes.check("192.0.2.1", "x", 0)
            strikes.wrong("192.0.2.1", "x", 0)
        with pytest.raises(TooMany, match="wrong tokens") as refused:
            strikes.check("192.0.2.1", "y", 0)
        assert refused.value.retry_after == pytest.approx(20)
        strikes.check("192.0.2.2", "y", 0)
        strikes.check("192.0.2.1", "y", 20.01)

    def test_whose_token_was_right_is_not_held_up_by_others(self) -> None:
        strikes = Strikes(per_minute=1)
        strikes.right("good")
        strikes.wrong("::1", "x", 0)
        strikes.check("::1", "good", 0)
        with pytest.raises(TooMany):
            strikes.check("::1", "bad", 0)

    def test_what_is_not_right_any_more_is_held_up(self) -> None:
        strikes = Strikes(per_minute=1)
        strikes.right("good")
        strikes.wrong("::1", "good", 0)
        with pytest.raises(TooMany):
            strikes.check("::1", "good", 0)

    @pytest.mark.parametrize(
        ("one", "other", "is_same"),
        [
            ("2001:db8::1", "2001:db8::ffff:2", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::8000:0:0:1", "2001:db8::1", True),
            ("2001:db8:0:1::1", "2001:db8:0:0::1", False),
            ("2001:db8:8000::1", "2001:db8::1", False),
            ("testclient", "testclient", True),
            ("testclient", "another", False),
            ("x" * 100 + "y", "x" * 100 + "z", True),
            ("x" * 99 + "y", "x" * 99 + "z", False),
            ("unix:", "192.0.2.1", False),
        ],
    )
    def test_who_shares_a_network_shares_the_wait(self, one: str, other: str, is_same: bool) -> None:
        strikes = Strikes(per_minute=1)
        strikes.wrong(one, "x", 0)
        assert (strikes.wait(other, "y", 0) > 0) == is_same

    def test_who_has_done_nothing_wrong_waits_for_nothing(self) -> None:
        assert Strikes().wait("192.0.2.1", "x", 0) == 0

    def test_ten_a_minute_are_enough_for_who_mistypes(self) -> None:
        strikes = Strikes()
        for _ in range(9):
            strikes.wrong("192.0.2.1", "x", 0)
        assert strikes.wait("192.0.2.1", "x", 0) == 0
        strikes.wrong("192.0.2.1", "x", 0)
        assert strikes.wait("192.0.2.1", "x", 0) > 0

    def test_many_addresses_and_tokens_take_no_more_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_MOST_ADDRESSES", 10)
        monkeypatch.setattr(module, "_MOST_KNOWN", 10)
        strikes = Strikes(per_minute=1)
        for number in range(100):
            strikes.wrong(f"192.0.2.{number}", "x", 0)
            strikes.right(str(number))
        assert len(strikes._buckets) == len(strikes._known) == 10
        assert strikes.wait("192.0.2.99", "y", 0) > 0
        assert strikes.wait("192.0.2.99", "99", 0) == 0
