"""Permission requests that wait, and whose decision a control message is. covers: B4"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cc_bridge.protocol.commands import control_id, safe_name
from cc_bridge.protocol.permission_requests import PermissionRequests
from cc_bridge_agent import wire

#: What a request may be called: anything at all.
NAMES = st.text(min_size=1, max_size=80) | st.from_regex(r"[a-z0-9_-]{1,80}", fullmatch=True)


@given(st.lists(NAMES, max_size=4, unique_by=safe_name), st.integers(0, 10**9), st.data())
def test_an_answer_is_found_by_its_name_whatever_the_request_is_called(
    names: list[str], number: int, data: st.DataObject
) -> None:
    requests = PermissionRequests()
    for name in names:
        requests.ask(name)
    for name in names:
        answer = control_id(number, name)
        assert wire.ID.match(answer), "the agent takes it"
        assert answer.startswith(wire.CONTROL)
        assert requests.answered_by(answer) == name


def test_a_request_is_open_until_it_is_closed() -> None:
    requests = PermissionRequests()
    assert not requests
    requests.ask("r-1")
    requests.ask("r-2")
    assert "r-1" in requests
    assert requests.close("r-1")
    assert not requests.close("r-1"), "it was closed already"
    assert requests
    requests.close_all()
    assert not requests
    assert "r-2" not in requests


def test_what_answers_nothing_that_is_open() -> None:
    requests = PermissionRequests()
    requests.ask("r-1")
    assert requests.answered_by(control_id(1, "r-2")) == ""
