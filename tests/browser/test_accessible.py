"""The page: by keyboard alone, and for axe-core, in light, dark and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Served, Visitor
from tests.browser.test_conversing import answers, end_of, say

Visit = Callable[..., Visitor]

_LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", **PHONE},
    "phone in the dark": {"color_scheme": "dark", **PHONE},
}


def violations(page: Page, axe: str) -> list[str]:
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    "look",
    ["light", "phone in the dark", *(pytest.param(look, marks=pytest.mark.thorough) for look in ("dark", "phone"))],
)
def test_axe_finds_nothing_in_any_state(visit: Visit, served: Served, axe: str, look: str) -> None:
    visitor = visit(**_LOOKS[look], reduced_motion="reduce", bypass_csp=True)
    page = visitor.open()
    for number, word in enumerate(["rich", "tools", "hostile"]):
        page.locator("#prompt").fill(word)
        page.locator("#send").click()
        end_of(page, number + 1)
    for fold in page.locator(".fold > summary").all():
        fold.click()
    assert violations(page, axe) == []
    for word in ("permission make", "waits"):
        page.locator("#prompt").fill(word)
        page.locator("#send").click()
        page.locator(".request" if word != "waits" else ".queued").wait_for()
    page.get_by_text("Remember a rule").click()
    page.locator("#prompt").fill("/")
    page.locator("#offers").wait_for()
    assert violations(page, axe) == []
    page.locator("#prompt").fill("")
    page.keyboard.press("Control+k")
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More").click()
    assert violations(page, axe) == []
    page.locator("#menu-usage").click()
    page.get_by_role("dialog").wait_for()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    if look.startswith("phone"):
        page.get_by_role("button", name="Conversations").click()
        page.locator("#search").wait_for()
        assert violations(page, axe) == []
    visitor.context.clear_cookies()
    page.reload()
    page.get_by_label("Token").wait_for()
    assert violations(page, axe) == []


def test_everything_is_reached_by_keyboard_and_nothing_holds_the_focus(page: Page) -> None:
    say(page, "tools")
    end_of(page, 1)
    page.evaluate("document.activeElement.blur()")
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name = page.evaluate("() => document.activeElement.id || document.activeElement.className || 'body'")
        if seen and name == seen[0]:
            break
        seen.append(name)
    for needed in (
        "skip",
        "new",
        "search",
        "conversation",
        "theme",
        "bell",
        "more",
        "scroller",
        "prompt",
        "attach",
        "model",
        "mode",
    ):
        assert needed in seen, needed
    assert len(seen) < 80


def test_a_permission_is_answered_by_keyboard_alone(page: Page) -> None:
    page.keyboard.type("permission make")
    page.keyboard.press("Enter")
    page.locator(".request").wait_for()
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("() => document.activeElement.textContent") == "Allow once":
            break
    expect(page.get_by_role("button", name="Allow once")).to_have_attribute("aria-disabled", "false")
    page.keyboard.press("Enter")
    end_of(page, 1)
    assert answers(page) == ["Answered with allow."]
    assert page.evaluate("() => document.activeElement.id") == "prompt"


def test_after_an_answer_a_second_enter_sends_no_draft(page: Page) -> None:
    page.keyboard.type("permission make")
    page.keyboard.press("Enter")
    allow = page.get_by_role("button", name="Allow once")
    expect(allow).to_have_attribute("aria-disabled", "false")
    page.keyboard.type("not finished")
    allow.focus()
    page.keyboard.press("Enter")
    end_of(page, 1)
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "scroller"
    expect(page.locator("#prompt")).to_have_value("not finished")


def test_on_a_phone_targets_are_large_and_the_page_may_be_zoomed(visit: Visit) -> None:
    page = visit(**PHONE).open()
    page.locator("#prompt").fill("tools")
    page.locator("#send").click()
    end_of(page, 1)
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, select, summary, a, input, textarea')]
            .filter(one => one.checkVisibility({visibilityProperty: true}))
            .map(one => [one, one.getBoundingClientRect()])
            .filter(([, box]) => box.width > 1 && box.right > 0 && box.height < 44)
            .map(([one, box]) => `${one.id || one.className} ${Math.round(box.height)}`)"""
    )
    assert small == []
    assert "user-scalable" not in (page.locator("meta[name=viewport]").get_attribute("content") or "")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_theme_can_be_chosen_and_stays(page: Page) -> None:
    page.get_by_role("button", name="Change the theme").click()
    page.get_by_role("button", name="Change the theme").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
