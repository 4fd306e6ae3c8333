"""A name for any text, and never one for two. covers: C2"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cc_bridge import name_for
from cc_bridge.names import NAME

#: Texts that are, or nearly are, names and what is made of them.
NAMELIKE = st.from_regex(r"[a-zA-Z0-9_.\- ]{1,70}", fullmatch=True)
MADE = st.builds(name_for, st.text())
TEXTS = st.one_of(st.text(), NAMELIKE, MADE, MADE.map(name_for), MADE.map(lambda name: name[-26:]))


@given(TEXTS)
@example("")
@example("\ud800")
@example("..")
@example("Ёлка")
def test_any_text_has_a_valid_name_and_always_the_same(text: str) -> None:
    assert NAME.match(name_for(text))
    assert name_for(text) == name_for(text)


@given(TEXTS, TEXTS)
@example("Ёлка", "Щука")
@example("Bob", "bob")
@example("x" * 64, "x" * 65)
@example("a b", "a-b")
@example("a\n", "a")
@example("Bob", name_for("Bob"))
@example("Ёлка", name_for("Ёлка"))
def test_two_texts_have_two_names(one: str, other: str) -> None:
    assert (name_for(one) == name_for(other)) == (one == other)


@given(st.lists(TEXTS, unique=True, max_size=50))
def test_nor_do_many_share_one(texts: list[str]) -> None:
    assert len(set(map(name_for, texts))) == len(texts)


@given(st.text(min_size=1), st.text())
def test_what_is_made_is_nobody_elses(text: str, suffix: str) -> None:
    """Whoever learns another's name cannot ask for it."""
    made = name_for(text)
    if made != text:
        assert name_for(made) != made
    if suffix:
        assert name_for(made + suffix) != made


@pytest.mark.parametrize("name", ["bob", "chat-17", "a.b_c-d", "x" * 63, "0"])
def test_a_valid_name_is_its_own(name: str) -> None:
    assert name_for(name) == name


@pytest.mark.parametrize(
    ("text", "begins"),
    [("Bob", "bob-"), ("Émile Zola", "emile-zola-"), ("@team/Chat #7", "team-chat-7-"), ("Y" * 99, "y" * 36 + "-")],
)
def test_what_is_readable_is_kept(text: str, begins: str) -> None:
    assert name_for(text).startswith(begins)
