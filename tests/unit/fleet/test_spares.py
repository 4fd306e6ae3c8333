"""The table of a pool. covers: B18"""

from __future__ import annotations

from cc_bridge.fleet.spares import Spares


def test_one_is_taken_once_and_the_eldest_first() -> None:
    spares = Spares({"chat": 2})
    spares.add("chat", "spare-1")
    spares.add("chat", "spare-2")
    assert (spares.ready, spares.missing("chat")) == ({"chat": 2}, 0)
    assert [spares.take("chat") for _ in range(3)] == ["spare-1", "spare-2", None]
    assert spares.missing("chat") == 2


def test_what_is_nobodys_is_not_listed() -> None:
    spares = Spares({"chat": 1})
    spares.hide("spare-1")
    assert spares.listed(["own", "spare-1"]) == ["own"]
    spares.add("chat", "spare-1")
    assert spares.listed(["own", "spare-1"]) == ["own"]
    assert spares.take("chat") == "spare-1"
    assert spares.is_spare("spare-1"), "until it has a name"
    spares.call("spare-1", "ada")
    assert not spares.is_spare("spare-1")
    assert spares.listed(["own", "spare-1"]) == ["ada", "own"]


def test_an_alias_leads_both_ways_until_it_is_gone() -> None:
    spares = Spares({"chat": 1})
    spares.call("spare-1", "ada")
    assert (spares.name_of("ada"), spares.alias_of("spare-1")) == ("spare-1", "ada")
    assert (spares.name_of("own"), spares.alias_of("own")) == ("own", "own")
    spares.gone("spare-1")
    assert (spares.name_of("ada"), spares.alias_of("spare-1")) == ("ada", "spare-1")
    spares.gone("spare-1")  # harmless


def test_one_that_was_taken_cannot_be_withdrawn_and_the_other_way_round() -> None:
    spares = Spares({"chat": 1, "work": 1})
    spares.add("work", "spare-1")
    assert spares.withdraw("spare-1") == "work"
    assert spares.take("work") is None
    assert spares.withdraw("spare-1") == ""
    spares.add("work", "spare-1")
    spares.take("work")
    assert spares.withdraw("spare-1") == ""
    spares.gone("spare-1")
    assert not spares.is_spare("spare-1")
