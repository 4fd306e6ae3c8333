"""A test that hangs, in its fixtures too, ends its process and says where everything in it waits.

Nothing gentler is sure: an exception raised in an event loop leaves the test's task as it is, and the fixtures of the
test then wait for that task without end. Among several processes, the run goes on with a new one in its place.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["pytest_configure"]

#: How a process ends whose test has hung.
STATUS = 70

#: Of a thread, the innermost.
_FRAMES = 15


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Limits(config))


class _Limits:
    """For pytest-timeout, which knows each test's limit.

    Args:
        config: of this process: the run's only one, the one that shows the results, or one that has its tests.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._stderr = os.dup(2)  # later, it is a test's
        self._shown_at_the_end = hasattr(config, "workerinput")
        self._timer: threading.Timer | None = None

    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
        self._timer = threading.Timer(settings.timeout, self._end, (item, settings.timeout))
        self._timer.daemon = True
        self._timer.start()
        return True

    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool:
        """Not here: it is asked for when a test fails, and the fixtures of that one can hang, too."""
        return True

    def pytest_enter_pdb(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        try:
            return (yield)
        finally:
            self._stop()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
        yield
        for path in sorted(_directory(config).glob("hung-*")):
            terminalreporter.write_line(path.read_text())

    def _end(self, item: pytest.Item, limit: float) -> None:
        try:
            text = f"{item.nodeid} has not ended within {limit:g} s. What waits in its process:\n{_what_waits()}"
            if self._shown_at_the_end:
                (_directory(item.config).parent / f"hung-{os.getpid()}").write_text(text)
            else:
                os.write(self._stderr, text.encode())
        finally:
            os._exit(STATUS)


def _directory(config: pytest.Config) -> Path:
    return Path(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]


def _what_waits() -> str:
    lines = []
    for task in (found for found in gc.get_objects() if issubclass(type(found), asyncio.Task)):
        if not task.done():
            lines.append(f"task {task.get_name()}")
            lines += _stack(task.get_coro())
    for number, frame in sys._current_frames().items():
        if number != threading.get_ident():
            lines.append(f"thread {number}")
            stack = traceback.extract_stack(frame)[-_FRAMES:]
            lines += [f"  {found.filename}:{found.lineno} in {found.name}" for found in stack]
    return "\n".join(lines)


def _stack(waits: Any) -> Iterator[str]:
    """A line for each coroutine, and what the innermost one waits for."""
    while True:
        if type(waits).__name__ in ("async_generator_asend", "async_generator_athrow"):  # a step says not of what it is
            waits = next((found for found in gc.get_referents(waits) if inspect.isasyncgen(found)), waits)
        for kind, inner in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            if (frame := getattr(waits, f"{kind}_frame", None)) is not None:
                yield f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
                waits = getattr(waits, inner)
                break
        else:
            yield f"  {waits!r:.200}"
            return
