"""A run whose test hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS = """
import anyio, pytest, weakref

class Something: ...

dead = weakref.proxy(Something())  # whoever looks at it gets an error

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(2)]

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def hangs():
    yield
    await anyio.Event().wait()

async def test_that_fails(hangs):
    raise AssertionError("the reason")

async def test_that_passes():
    pass
"""


def test_fixtures_that_hang_after_a_failure_end_their_process_and_not_the_run(tmp_path: Path) -> None:
    """pytest-timeout's own limit ends with the failure, and the run would wait for ever."""
    (tmp_path / "conftest.py").write_text("from tests.limits import pytest_configure as pytest_configure\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--maxschedchunk", "1", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1, ran.stderr
    for said in ("AssertionError: the reason", "has not ended within 2 s", "in hangs", "1 passed"):
        assert said in ran.stdout, ran.stdout
