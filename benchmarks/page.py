"""The page in a real Chromium: how long a person waits for the first word, a reload, and through a large answer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cc_bridge import LocalProcess
from cc_bridge.instances.registry import Registry

from .figures import Sheet
from .stage import scripted_model

TITLE = "the page in Chromium, before the real service and the real Claude Code"
ROUNDS = 20

#: Milliseconds since 1970, for the page.
_NOW = "performance.timeOrigin + performance.now()"

#: The model's answer to `now` is when it gave it: milliseconds since 1970.
_MODEL = """
import sys, time
from cc_bridge.testing import ScriptedModel
from cc_bridge.testing.script import Reply, Say
class Model(ScriptedModel):
    def take(self, body):
        request, reply = super().take(body)
        return request, Reply([Say(f"{time.time() * 1000:.3f}")]) if request.prompt == "now" else reply
with Model() as model:
    print(model.url, flush=True)
    sys.stdin.read()
"""

#: Remembers when Enter was pressed, and when the answer's first text was there: milliseconds since 1970.
_WATCH = """() => {
    const now = () => performance.timeOrigin + performance.now();
    window.seen = { enter: 0, first: 0, turns: 0 };
    addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        Object.assign(seen, { enter: now(), first: 0, turns: document.querySelectorAll(".turn").length });
    }, true);
    new MutationObserver(() => {
        if (seen.first || !seen.enter) return;
        const turns = [...document.querySelectorAll(".turn")];
        if (turns.length > seen.turns && turns.at(-1).querySelector(".text")?.textContent.trim()) seen.first = now();
    }).observe(document.getElementById("turns"), { childList: true, subtree: true, characterData: true });
}"""

#: Remembers the longest time, in milliseconds, in which no task of the page had its turn.
_GAPS = """() => {
    window.seen = { gap: 0, last: 0 };
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
        const at = performance.now();
        if (seen.last) seen.gap = Math.max(seen.gap, at - seen.last);
        seen.last = at;
        setTimeout(() => channel.port2.postMessage(0), 5);
    };
    channel.port2.postMessage(0);
}"""

_ROW = "|" + " cell 1 |" * 40 + "\n"
_LARGE = {
    "500 rows of 40 columns": f"[[say |{' head |' * 40}\n|{'---|' * 40}\n]][[repeat 500 {_ROW}]]",
    "1 MB of prose": "[[repeat 2200 Lorem ipsum dolor sit amet, *consectetur* adipiscing `elit` sed do eiusmod.\n"
    + "Lorem ipsum dolor sit amet, *consectetur* adipiscing `elit` sed do eiusmod.\n" * 5
    + "\n]]",
    "12,000 lines of code": "[[say ```python\n]][[repeat 1200 "
    + "def f(a: int, b: str = 'x') -> str: return a * b  # a comment\n" * 10
    + "]][[say ```\n]]",
}


async def run(sheet: Sheet) -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.async_api import async_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        sheet.note("there is no Chromium, or no playwright")
        return
    busy = os.getloadavg()[0]
    if busy > len(os.sched_getaffinity(0)) / 2:
        sheet.note(f"others use the processors: load {busy:.1f}")
    with scripted_model(_MODEL) as env:
        async with _served(env) as (address, token), async_playwright() as playwright:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = await playwright.chromium.launch(executable_path=program, args=arguments)
            try:
                page = await browser.new_page()
                page.set_default_timeout(60_000)
                await page.goto(address)
                await page.get_by_label("Token").fill(token)
                await page.keyboard.press("Enter")
                await _first_words(sheet, page)
                await _reload(sheet, page)
                for what, prompt in _LARGE.items():
                    await _large(sheet, page, what, prompt)
            finally:
                await browser.close()


@asynccontextmanager
async def _served(env: dict[str, str]) -> AsyncIterator[tuple[str, str]]:
    """A service of its own; its address, and a token."""
    with tempfile.TemporaryDirectory() as home:
        argv = [str(Path(sys.executable).with_name("cc-bridge")), "serve", "--on", "local", "--port", "0", "--json"]
        env = {**os.environ, **env, "HOME": home, "CC_BRIDGE_HOME": str(Path(home, "state")), "CC_BRIDGE_CONFIG": ""}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as served:
            try:
                assert served.stdout
                said = json.loads(served.stdout.readline())
                yield said["address"], Path(said["token_file"]).read_text().strip()
            finally:
                served.send_signal(signal.SIGTERM)
                served.wait(30)
                registry = Registry(Path(home, "state"))
                for name in registry.names():
                    await LocalProcess(registry.load(name), registry=registry).remove(conversation=True)


async def _made(page: Any, title: str) -> None:
    await page.get_by_role("button", name="New conversation").first.click()
    await page.get_by_label("Title").fill(title)
    await page.get_by_role("button", name="Create").click()
    await page.get_by_role("heading", name=title).wait_for()


async def _ends(page: Any, turns: int) -> None:
    await page.locator(".turn .foot:not([hidden])").nth(turns - 1).wait_for(state="attached")


async def _say(page: Any, prompt: str) -> None:
    await page.locator("#prompt").fill(prompt)
    await page.locator("#prompt").press("Enter")


#: The text of the last turn, so far.
_TEXT = "[...document.querySelectorAll('.turn')].at(-1)?.querySelector('.text')?.textContent ?? ''"


async def _first_words(sheet: Sheet, page: Any) -> None:
    await _made(page, "First words")
    await page.evaluate(_WATCH)
    waits, way = [], []
    for number in range(ROUNDS + 2):
        await _say(page, "now")
        await _ends(page, number + 1)
        seen = await page.evaluate("seen")
        waits.append(seen["first"] - seen["enter"])
        way.append(seen["first"] - float(await page.evaluate(_TEXT)))
    sheet.add("from Enter to the first word in the page, warm", waits[2:], "ms", most=300)
    sheet.add("of this, from the model's first byte to the page", way[2:], "ms", most=30)


async def _reload(sheet: Sheet, page: Any) -> None:
    await _say(page, "[[pace 0.1]][[repeat 200 word ]]")
    await page.wait_for_function(f"() => ({_TEXT}).includes('word')")
    took = []
    for _ in range(5):
        began = await page.evaluate(_NOW)
        await page.reload(wait_until="commit")
        await page.wait_for_function(f"() => ({_TEXT}).includes('word')")
        took.append(await page.evaluate(_NOW) - began)
    sheet.add("a reload in mid-answer, until its text is there", took, "ms", most=1000)
    await page.get_by_role("button", name="Stop").click()


async def _large(sheet: Sheet, page: Any, what: str, prompt: str) -> None:
    await _made(page, what)
    await page.evaluate(_GAPS)
    await _say(page, prompt)
    await page.evaluate("seen.gap = 0")
    await _ends(page, 1)
    seen = await page.evaluate("seen")
    sheet.add(f"{what}: the longest freeze while it comes", seen["gap"], "ms", most=200)
    took = []
    for _ in range(3):
        began = await page.evaluate(_NOW)
        await page.reload(wait_until="commit")
        await _ends(page, 1)
        took.append(await page.evaluate(_NOW) - began)
    sheet.add(f"{what}: a reload until all of it is there", took, "ms", most=2000)
