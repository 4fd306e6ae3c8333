"""A real browser signs in by an identity provider of another site. covers: B13"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal
from playwright.sync_api import Browser, expect

from tests.browser.conftest import DESKTOP, Visitor
from tests.identity_provider import CLIENT, SECRET, identity_provider
from tests.served import Served

_CONFIG = """
[service.oidc]
issuer = "{issuer}"
client_id = "{client}"
client_secret = "{secret}"
public_url = "{public}"
name = "our login"
people = [{{ email = ["ann@example.com"], scopes = ["read"] }}]
"""


@pytest.mark.thorough
def test_a_person_signs_in_reloads_and_signs_out(browser: Browser, portal: BlockingPortal, tmp_path: Path) -> None:
    with identity_provider() as provider:
        service = Served(tmp_path / "state", {"CC_BRIDGE_CONFIG": str(tmp_path / "cc-bridge.toml")})
        with socket.create_server(("127.0.0.1", 0)) as free:
            service.address = f"http://127.0.0.1:{free.getsockname()[1]}/"
        public = service.address.rstrip("/").replace("127.0.0.1", "localhost")  # another site than the provider's
        provider.redirect_uris.add(f"{public}/oidc/callback")
        config = _CONFIG.format(issuer=provider.issuer, client=CLIENT, secret=SECRET, public=public)
        (tmp_path / "cc-bridge.toml").write_text(config)
        visitor = Visitor(browser.new_context(**DESKTOP), public)
        visitor.forgiven = ("401", "403", "404")  # nobody made the conversation
        page = visitor.context.new_page()
        page.on("console", visitor._said)
        try:
            service.start()
            page.goto(f"{public}/c/work")
            places: list[str] = []
            page.on("framenavigated", lambda frame: places.append(frame.url))
            page.get_by_role("link", name="Sign in with our login").click()
            expect(page.locator("#who")).to_have_text("ann@example.com")
            assert places[:2] == [f"{public}/", f"{public}/c/work"]  # back where they wanted to be
            page.goto(service.address)  # by its other name nobody is signed in
            page.get_by_role("link", name="Sign in with our login").click()
            expect(page.locator("#who")).to_have_text("ann@example.com")
            assert page.url == f"{public}/"
            page.reload()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_label("Token")).to_be_visible()
            provider.person["email_verified"] = False
            page.get_by_role("link", name="Sign in with our login").click()
            expect(page.get_by_role("alert")).to_contain_text("nobody has allowed you anything here")
            page.get_by_role("link", name="Back").click()
            expect(page.get_by_label("Token")).to_be_visible()
            assert visitor.complaints == []
        finally:
            visitor.context.close()
            portal.call(service.clean)
