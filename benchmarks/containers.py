"""Containers of projects: made, found, measured and removed, and what one costs while there are many."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import anyio

from .figures import Sheet
from .stage import default_image

TITLE = "fifty containers made, listed, measured and removed"
MANY = 50


async def reported_exit(manager: Any, name: str) -> None:
    """Kill a container's main process, and wait until the manager tells of it."""
    told = anyio.Event()

    async def on_exit(event: Any) -> None:
        told.set()

    pid = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.Pid}}", name], capture_output=True, text=True, check=True
    ).stdout
    async with anyio.create_task_group() as group:
        group.start_soon(manager.report_exits, on_exit)
        await manager.list()  # by then it watches
        os.kill(int(pid), 9)
        await told.wait()
        group.cancel_scope.cancel()


async def run(sheet: Sheet) -> None:
    import requests

    from cc_bridge.errors import EngineError
    from cc_bridge.manager.manager import ContainerManager
    from cc_bridge.manager.options import ContainerOptions

    calls = 0
    send = requests.Session.send

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return send(self, *args, **options)

    requests.Session.send = counting
    project = f"bench-{os.getpid()}"
    options = ContainerOptions(project=project)

    async def measure(what: str, act: Any, count: int = 1) -> None:
        nonlocal calls
        calls, began = 0, time.perf_counter()
        await act()
        passed = time.perf_counter() - began
        sheet.add(f"{what}{' (each)' if count > 1 else ''}", passed / count * 1e3, "ms")
        sheet.add(f"{what}: calls of the engine", calls / count, "calls")

    async with ContainerManager() as manager:
        try:
            async with default_image():  # its base chosen as everywhere
                await manager.ensure_image(options.image)
        except EngineError as error:
            sheet.note(f"not measured: {error.what}")
            return

        async def each(act: Any) -> None:
            limiter = anyio.CapacityLimiter(4)

            async def one(number: int) -> None:
                async with limiter:
                    await act(f"kind-{number}")

            async with anyio.create_task_group() as group:
                for number in range(MANY):
                    group.start_soon(one, number)

        try:
            await measure("the first: create and start", lambda: manager.get_or_create(options, kind="first"))
            (first,) = await manager.list(project)
            await measure("the first: find again", lambda: manager.get_or_create(options, kind="first"))
            await measure("the first: measure", lambda: manager.stats(first.name))
            await measure("the first: exec", lambda: manager.exec(first.name, ["true"]))
            await measure(
                "create and start", lambda: each(lambda kind: manager.get_or_create(options, kind=kind)), MANY
            )
            await measure(f"one among {MANY}: find again", lambda: manager.get_or_create(options, kind="first"))
            await measure(f"one among {MANY}: measure", lambda: manager.stats(first.name))
            await measure(f"one among {MANY}: exec", lambda: manager.exec(first.name, ["true"]))
            await measure("list", lambda: manager.list(project))
            await measure("kill -9 of one: until it is reported", lambda: reported_exit(manager, first.name))
            names = {item.labels["cc-bridge.type"]: item.name for item in await manager.list(project)}
            await measure("measure", lambda: each(lambda kind: manager.stats(names[kind])), MANY)
            await measure("remove", lambda: each(lambda kind: manager.remove(names[kind])), MANY)
        finally:
            for item in await manager.list(project):
                await manager.remove(item.id)
            requests.Session.send = send
