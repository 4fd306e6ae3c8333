"""What the store says of addresses and values, without a database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_bridge import BridgeError, InvalidInput
from cc_bridge.service.store import KeyReused, Store, StoreUnavailable
from cc_bridge.service.store.types import checked_text


@pytest.mark.parametrize(
    "url",
    ["", "service.db", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory", "mysql://me@host/x", "x://y"],
)
def test_an_address_of_no_such_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Store.open(url)


def test_a_refusal_does_not_tell_the_password() -> None:
    with pytest.raises(InvalidInput) as refused:
        Store.open("postgresql//me:geheim@host/x")
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////srv/service.db", "sqlite:////srv/service.db"),
        ("postgresql://me:geheim@host:5433/x", "postgresql://host:5433/x"),
        ("postgres://me:geheim@host/x?password=geheim", "postgresql://host/x"),
        ("postgresql+asyncpg://me@/x?host=/run/pg", "postgresql:///run/pg/x"),
    ],
)
def test_a_store_says_where_it_is_and_no_password(url: str, told: str) -> None:
    assert str(Store.open(url)) == told


@given(st.text(max_size=30))
def test_what_is_text_is_kept(text: str) -> None:
    is_text = "\0" not in text and text.encode("utf-8", "replace").decode() == text
    if is_text:
        assert checked_text("it", text) == text
    else:
        with pytest.raises(InvalidInput, match="it has characters"):
            checked_text("it", text)


def test_what_is_too_long_is_refused() -> None:
    assert checked_text("it", "x" * 200) == "x" * 200
    with pytest.raises(InvalidInput, match="201"):
        checked_text("it", "x" * 201)
    assert checked_text("it", "x" * 201, 201)


def test_errors_are_told_apart_by_what_a_caller_does() -> None:
    assert issubclass(StoreUnavailable, BridgeError)
    assert not issubclass(StoreUnavailable, InvalidInput)
    assert issubclass(KeyReused, InvalidInput)
    assert StoreUnavailable("away").retry_after > 0
