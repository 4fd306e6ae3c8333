"""The pictures of the documentation: made anew with CC_BRIDGE_PICTURES=docs/how-to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.conftest import PHONE, Served, Visitor
from tests.browser.test_conversing import end_of, say

pytestmark = pytest.mark.thorough


def test_pictures_for_the_documentation(visit: Callable[..., Visitor], served: Served, tmp_path: Path) -> None:
    into = Path(os.environ.get("CC_BRIDGE_PICTURES", tmp_path))
    visitor = visit(viewport={"width": 1280, "height": 860}, color_scheme="light")
    page = visitor.open()
    say(page, "rich")
    end_of(page, 1)
    served.call(served.fake.accept, served.fake.talks["other"], "permission npm publish", "")
    page.locator(".dot.ask").wait_for()
    page.screenshot(path=into / "page-desktop.png")
    phone = visit(color_scheme="dark", **PHONE).open("/c/other")
    phone.locator(".request").wait_for()
    phone.screenshot(path=into / "page-phone.png")
    assert (into / "page-desktop.png").stat().st_size > 20_000
