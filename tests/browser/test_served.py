"""The page before the real service: a process of its own, the real Claude Code, the scripted model.

covers: B13
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal
from playwright.sync_api import Browser, Page, expect

from cc_bridge.testing import ScriptedModel
from tests.browser.conftest import DESKTOP, PHONE, Visitor
from tests.browser.test_conversing import answers, end_of, prompts, say
from tests.served import Served

_AWAY = ("ERR_", "401", "503")


@pytest.fixture
def service(tmp_path: Path, portal: BlockingPortal, scripted_model: ScriptedModel, claude: str) -> Iterator[Served]:
    (tmp_path / "home").mkdir()
    found = Served(tmp_path / "state", scripted_model.claude_env(tmp_path / "home"))
    try:
        yield found.start()
    finally:
        portal.call(found.clean)


@pytest.fixture
def enter(browser: Browser, service: Served) -> Iterator[Callable[..., Page]]:
    """Signs in by the page and makes a conversation, or comes to the one that there is."""
    visitors: list[Visitor] = []

    def make(path: str = "/", **options: object) -> Page:
        context = browser.new_context(**{**DESKTOP, **options})
        visitors.append(Visitor(context, service.address.rstrip("/")))
        visitors[-1].forgiven = _AWAY
        page = context.new_page()
        page.on("console", visitors[-1]._said)
        page.set_default_timeout(60_000)
        page.goto(service.address.rstrip("/") + path)
        page.get_by_label("Token").fill(service.token)
        page.keyboard.press("Enter")
        page.locator("#app").wait_for()
        return page

    yield make
    for visitor in visitors:
        assert visitor.foreign == []
        assert visitor.complaints == []
        visitor.context.close()


@pytest.fixture
def page(enter: Callable[..., Page]) -> Page:
    made = enter()
    made.get_by_role("button", name="New conversation").first.click()
    made.get_by_label("Title").fill("Work")
    made.get_by_role("button", name="Create").click()
    made.get_by_role("heading", name="Work").wait_for()
    return made


def test_a_person_makes_a_conversation_and_is_answered(page: Page) -> None:
    say(page, "[[say **Hello**, world.]]")
    end_of(page, 1)
    expect(page.locator(".text strong")).to_have_text("Hello")
    say(page, "[[say Again.]]")
    end_of(page, 2)
    page.reload()
    end_of(page, 2)
    assert answers(page) == ["Hello, world.", "Again."]
    assert prompts(page) == ["[[say **Hello**, world.]]", "[[say Again.]]"]


def test_a_reload_in_mid_answer_and_a_phone_beside_it(page: Page, enter: Callable[..., Page]) -> None:
    say(page, "[[pace 0.1]][[repeat 40 word ]]")
    expect(page.locator(".text")).to_contain_text("word word word")
    page.reload()
    phone = enter("/c/work", **PHONE)
    for tab in (page, phone):
        expect(tab.locator(".text")).to_contain_text("word word word word")
    for tab in (page, phone):
        end_of(tab, 1)
        assert answers(tab) == [("word " * 40).strip()]
        assert prompts(tab) == ["[[pace 0.1]][[repeat 40 word ]]"]


def test_a_service_that_is_killed_in_mid_answer_loses_nothing(page: Page, service: Served) -> None:
    say(page, "[[pace 0.1]][[repeat 40 word ]]")
    expect(page.locator(".text")).to_contain_text("word word word")
    service.kill()
    expect(page.get_by_text("No connection")).to_be_visible()
    say(page, "[[say Afterwards.]]")
    service.start()
    end_of(page, 2)
    assert answers(page) == [("word " * 40).strip(), "Afterwards."]
    assert prompts(page) == ["[[pace 0.1]][[repeat 40 word ]]", "[[say Afterwards.]]"]


def test_a_permission_is_answered_and_the_tool_s_result_is_shown(page: Page) -> None:
    say(page, '[[tool Bash {"command": "echo one > two.txt && cat two.txt"}]][[say Done.]]')
    expect(page.locator(".command")).to_have_text("echo one > two.txt && cat two.txt")
    page.reload()
    page.get_by_role("button", name="Allow once").click()
    end_of(page, 1)
    page.locator(".tool summary").click()
    expect(page.locator(".result pre")).to_have_text("one")


def test_stop_ends_the_answer_and_the_next_message_is_answered(page: Page) -> None:
    say(page, "[[pace 0.1]][[repeat 600 word ]]")
    expect(page.locator(".text")).to_contain_text("word word")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".verdict")).to_have_text("Stopped")
    say(page, "[[say Next.]]")
    end_of(page, 2)
    assert answers(page)[1] == "Next."


def test_messages_wait_their_turn_and_can_be_taken_back(page: Page) -> None:
    say(page, "[[say word]] [[hang]]")  # until it is stopped: the others wait as long as this takes
    expect(page.locator(".text")).to_contain_text("word")
    for text in ("[[say one]]", "[[say two]]", "[[say three]]"):
        say(page, text)
    expect(page.locator(".queued")).to_have_count(3)
    page.locator(".queued").nth(1).get_by_role("button", name="Take this message back").click()
    expect(page.locator(".queued")).to_have_count(2)
    page.get_by_role("button", name="Stop").click()
    end_of(page, 3)
    assert answers(page)[1:] == ["one", "three"]
