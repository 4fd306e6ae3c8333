"""The page: what a model writes can do nothing there."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, Visitor
from tests.browser.test_conversing import end_of, say

_REACHED = """() => ({
    hacked: window.hacked ?? null,
    tags: [...document.querySelectorAll('#turns *')].map(one => one.localName),
    ids: [...document.querySelectorAll('#turns [id]')].length,
    attributes: [...document.querySelectorAll('.block *, .piece *, .rows *')].flatMap(one => one.getAttributeNames()),
    links: [...document.querySelectorAll('.text a')].map(one => [one.getAttribute('href'), one.target, one.rel]),
})"""


# covers: B13
def test_no_script_style_form_frame_picture_or_overlay_of_an_answer_comes_through(page: Page) -> None:
    say(page, "hostile")
    end_of(page, 1)
    for _ in range(2):  # as it was streamed, and as the history has it
        found = page.evaluate(_REACHED)
        assert found["hacked"] is None
        assert found["ids"] == 0
        forbidden = {"script", "style", "iframe", "form", "input", "img", "object", "embed", "link", "meta"}
        assert not forbidden & set(found["tags"])
        assert not {"style", "onclick", "onerror", "onload", "id", "name"} & set(found["attributes"])
        assert {"https://other.example/pixel.png", "https://fine.example/page"} <= {one[0] for one in found["links"]}
        assert all(href is None or href.startswith("https://") for href, _, _ in found["links"])
        assert all((target, rel) == ("_blank", "noopener noreferrer nofollow") for _, target, rel in found["links"])
        expect(page.get_by_text("After.")).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        page.reload()
        end_of(page, 1)


def test_the_policy_lets_no_markup_in_but_by_one_function(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.forgiven = ("TrustedHTML",)
    page = visitor.open()
    made = page.evaluate(
        """() => {
            try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hacked=1">'); }
            catch (error) { return error.name; }
            return 'made';
        }"""
    )
    assert made == "TypeError"


def test_titles_and_names_are_text(page: Page, served: Served) -> None:
    served.fake.talks["other"].title = "<img src=x onerror=window.hacked=1><b>bold</b>"
    page.reload()
    expect(page.get_by_text("<img src=x")).to_be_visible()
    assert page.evaluate("window.hacked ?? null") is None


def test_the_page_is_light(page: Page) -> None:
    sizes = page.evaluate(
        """() => performance.getEntriesByType('resource').filter(one => one.name.includes('/static/'))
            .reduce((sum, one) => sum + one.decodedBodySize, 0)"""
    )
    assert 0 < sizes < 300_000
