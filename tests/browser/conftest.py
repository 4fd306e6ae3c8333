"""A real Chromium before the page, and behind it the fake service."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.conftest import lacking

try:
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

    # Where many tests share a processor, Claude Code alone takes seconds to begin: how long a thing takes is the
    # bench's question, and a test's only whether it comes.
    expect.set_options(timeout=60_000)
except ModuleNotFoundError:
    sync_playwright = None  # type: ignore[assignment]

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
DESKTOP = {"viewport": {"width": 1280, "height": 860}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Of one module: playwright's loop may not go on under tests that have one themselves."""
    program = os.environ.get("CC_BRIDGE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if sync_playwright is None or program is None:
        lacking("browser", "there is no Chromium, or no playwright")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=program, args=arguments) as found:
            yield found


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    spec = importlib.util.find_spec("axe_playwright_python")
    found = Path(spec.origin).parent / "axe.min.js" if spec and spec.origin else None
    if found is None:
        lacking("axe", "axe-core is not there")
    return found.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """Where the fakes run."""
    with start_blocking_portal("asyncio") as found:
        yield found


class Served:
    """The fake service on a port, which can go away and come back."""

    def __init__(self, portal: BlockingPortal) -> None:
        from tests.browser.fake import Fake

        self._portal = portal
        self.fake = portal.call(Fake)
        self.port = 0
        self._server: Any = None
        self._ended: Any = None
        self.begin()

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    def begin(self) -> None:
        """Come back, on the same port."""
        self._server = self._portal.call(self._make)
        self._ended = self._portal.start_task_soon(self._server.serve)
        self.port = self._portal.call(self._begun)

    def end(self) -> None:
        """Go away as a killed service does: nobody is told anything."""
        self._server.should_exit = True
        self._ended.result(timeout=10)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Something of the fake's, where it runs."""

        async def called() -> Any:
            return function(*arguments)

        return self._portal.call(called)

    def open_gate(self, name: str) -> None:
        """Let the model's `hold NAME` go on."""
        self.call(lambda: self.fake.gates[name].set())

    async def _make(self) -> Any:
        import uvicorn

        self.fake.stopping = anyio.Event()
        server = uvicorn.Server(
            uvicorn.Config(
                self.fake.app, port=self.port, log_level="critical", timeout_graceful_shutdown=0, lifespan="off"
            )
        )
        server.capture_signals = ExitStack  # type: ignore[method-assign]  # they are the main thread's business
        return server

    async def _begun(self) -> int:
        with anyio.fail_after(10):
            while not self._server.started:
                await anyio.sleep(0.01)  # uvicorn tells nobody
        return int(self._server.servers[0].sockets[0].getsockname()[1])


@pytest.fixture
def served(portal: BlockingPortal) -> Iterator[Served]:
    found = Served(portal)
    yield found
    found.end()


class Visitor:
    """A person with a browser. What the page asks for elsewhere, and what it complains about, is remembered."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.address = address
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.forgiven: tuple[str, ...] = ("401",)
        context.on("request", self._asked)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.foreign.append(request.url)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(word in message.text for word in self.forgiven):
            self.complaints.append(message.text)

    def sign_in(self) -> None:
        headers = {"X-CC-Bridge": "1"}
        self.context.request.post(f"{self.address}/v1/session", data={"token": "ccb_test"}, headers=headers)

    def open(self, path: str = "/c/main") -> Page:
        """A new tab, ready to be used."""
        page = self.context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", self._said)
        page.goto(self.address + path)
        page.locator("#app").wait_for()
        if path != "/":
            page.locator("#loading").wait_for(state="hidden")
        return page


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors, who are signed in; at the end, nobody may have been asked but the service."""
    with ExitStack() as stack:
        visitors: list[Visitor] = []

        def make(**options: Any) -> Visitor:
            context = stack.enter_context(browser.new_context(**{**DESKTOP, **options}))
            visitors.append(Visitor(context, served.address))
            visitors[-1].sign_in()
            return visitors[-1]

        yield make
        for visitor in visitors:
            assert visitor.foreign == []
            assert visitor.complaints == []


@pytest.fixture
def page(visit: Callable[..., Visitor]) -> Page:
    """The conversation `main`, on a desktop."""
    return visit().open()
