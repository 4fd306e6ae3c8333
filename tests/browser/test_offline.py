"""The page: the network goes, the service goes, and both come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Served, Visitor
from tests.browser.test_conversing import answers, end_of, prompts, say

pytestmark = pytest.mark.thorough

Visit = Callable[..., Visitor]

_CUT = ("ERR_INTERNET_DISCONNECTED", "ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_NETWORK", "ERR_EMPTY", "401")


# covers: B13
def test_a_message_written_without_network_is_sent_once_when_it_is_back(visit: Visit, served: Served) -> None:
    visitor = visit()
    visitor.forgiven = _CUT
    page = visitor.open()
    visitor.context.set_offline(True)
    expect(page.get_by_text("No connection")).to_be_visible()
    say(page, "sent later")
    expect(page.locator(".queued")).to_contain_text("Sent when the service is back")
    assert served.fake.posted == []
    visitor.context.set_offline(False)
    end_of(page, 1)
    expect(page.get_by_text("No connection")).to_be_hidden()
    expect(page.locator(".queued")).to_have_count(0)
    assert prompts(page) == ["sent later"]
    assert len(served.fake.posted) == 1


def test_a_message_survives_a_reload_while_the_service_is_away(visit: Visit, served: Served) -> None:
    visitor = visit()
    visitor.forgiven = _CUT
    page = visitor.open()
    served.end()
    expect(page.get_by_text("No connection")).to_be_visible()
    say(page, "kept")
    expect(page.locator(".queued")).to_have_count(1)
    page.goto("about:blank")
    served.begin()
    page.goto(f"{served.address}/c/main")
    end_of(page, 1)
    assert prompts(page) == ["kept"]
    assert len(served.fake.posted) == 1


def test_a_message_whose_acknowledgement_was_lost_counts_once(visit: Visit, served: Served) -> None:
    visitor = visit()
    visitor.forgiven = ("ERR_FAILED", *_CUT)
    page = visitor.open()
    lost: list[str] = []

    def lose(route: Route) -> None:
        if lost:
            route.continue_()
            return
        route.fetch()
        lost.append(route.request.headers["idempotency-key"])
        route.abort()

    page.route("**/commands", lose)
    say(page, "only once")
    end_of(page, 1)
    expect(page.locator(".queued")).to_have_count(0)
    expect(page.locator(".turn")).to_have_count(1)
    assert len(served.fake.posted) == 1
    assert prompts(page) == ["only once"]


def test_a_message_that_is_taken_back_on_its_way_is_not_answered(visit: Visit, served: Served) -> None:
    page = visit().open()
    say(page, "hold door")
    expect(page.locator(".text")).to_have_text("The first half,")
    held: list[Route] = []
    page.route("**/commands", lambda route: held.append(route))
    say(page, "never mind")
    page.get_by_role("button", name="Take this message back").click()
    expect(page.locator(".queued")).to_have_count(0)
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        held[0].continue_()
    served.open_gate("door")
    end_of(page, 1)
    assert prompts(page) == ["hold door"]
    assert [turn["prompt"] for turn in served.fake.talks["main"].turns] == ["hold door"]


def test_an_answer_goes_on_after_the_service_was_away_with_each_word_once(visit: Visit, served: Served) -> None:
    visitor = visit()
    visitor.forgiven = _CUT
    page = visitor.open()
    say(page, "hold door")
    expect(page.locator(".text")).to_have_text("The first half,")
    served.end()
    expect(page.get_by_text("No connection")).to_be_visible()
    expect(page.locator(".text")).to_have_text("The first half,")
    served.open_gate("door")  # the turn goes on without a page
    served.begin()
    end_of(page, 1)
    assert answers(page) == ["The first half, and the second half."]
    assert prompts(page) == ["hold door"]


def test_turns_that_others_had_meanwhile_are_there_in_order(visit: Visit, served: Served) -> None:
    visitor = visit()
    visitor.forgiven = _CUT
    page = visitor.open()
    say(page, "first")
    end_of(page, 1)
    visitor.context.set_offline(True)
    expect(page.get_by_text("No connection")).to_be_visible()
    served.call(served.fake.accept, served.fake.talks["main"], "by somebody else", "")
    visitor.context.set_offline(False)
    end_of(page, 2)
    say(page, "third")
    end_of(page, 3)
    assert prompts(page) == ["first", "by somebody else", "third"]


def test_who_is_signed_out_elsewhere_is_asked_to_sign_in(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open()
    visitor.context.clear_cookies()
    say(page, "not lost")
    expect(page.get_by_label("Token")).to_be_visible()
    page.get_by_label("Token").fill("ccb_test")
    page.keyboard.press("Enter")
    end_of(page, 1)
    assert prompts(page) == ["not lost"]
