"""One suite over every kind of instance. covers: C1, C4, C5, C6, C7, C8, C16, B4, B9"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cc_bridge import DockerContainer, InstanceInterface, LocalProcess, TmuxInstance
from cc_bridge.fleet import Fleet
from cc_bridge.testing import ScriptedModel
from cc_bridge.testing.instance_contract import InstanceContract


def _env(scripted_model: ScriptedModel, home: Path | None, login: bool) -> dict[str, str]:
    env = scripted_model.claude_env(home)
    return env if login else {**env, "ANTHROPIC_API_KEY": ""}


class TestLocalProcess(InstanceContract):
    @pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.thorough)])  # within a fleet always
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    async def make_instance(
        self, scripted_model: ScriptedModel, make_record: Callable[..., Any], claude: str, tmp_path: Path
    ) -> AsyncIterator[Callable[..., Any]]:
        made: list[InstanceInterface] = []
        (tmp_path / "home").mkdir()

        async def make(
            login: bool = True, again: Any = None, sleep_after: float | None = None, **options: Any
        ) -> InstanceInterface:
            record = (
                again.record
                if again
                else make_record(env=_env(scripted_model, tmp_path / "home", login), sleep_after=sleep_after)
            )
            made.append(LocalProcess(record, **options))
            return made[-1]

        yield make
        for instance in made:
            await instance.cleanup()


class TestTmuxInstance(InstanceContract):
    """With the real tmux, and the interactive Claude Code. covers: C17"""

    sleeps = False
    pauses = (0.2,)  # it is started as a process without a pane is

    @pytest.fixture
    async def make_instance(
        self, scripted_model: ScriptedModel, make_record: Callable[..., Any], claude: str, tmux: None
    ) -> AsyncIterator[Callable[..., Any]]:
        made: list[InstanceInterface] = []

        async def make(
            login: bool = True, again: Any = None, sleep_after: float | None = None, **options: Any
        ) -> InstanceInterface:
            record = (
                again.record
                if again
                else make_record(kind="tmux", env=_env(scripted_model, None, login), sleep_after=sleep_after)
            )
            made.append(TmuxInstance(record, **options))
            return made[-1]

        yield make
        for instance in made:
            await instance.cleanup()


@pytest.mark.thorough
class TestLocalProcessInFleet(InstanceContract):
    """Attended by a fleet, with another fleet as the other program. covers: B21"""

    pauses = (0.0,)

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"  # the fleet contract and the process's own have asyncio

    @pytest.fixture
    async def make_instance(
        self, scripted_model: ScriptedModel, make_record: Callable[..., Any], claude: str, tmp_path: Path
    ) -> AsyncIterator[Callable[..., Any]]:
        made: list[InstanceInterface] = []
        (tmp_path / "home").mkdir()
        async with AsyncExitStack() as stack:

            async def make(
                login: bool = True, again: Any = None, sleep_after: float | None = None, **options: Any
            ) -> InstanceInterface:
                record = (
                    again.record
                    if again
                    else make_record(env=_env(scripted_model, tmp_path / "home", login), sleep_after=sleep_after)
                )
                fleet = await stack.enter_async_context(Fleet(name=f"fleet-{len(made)}", permission_wait=0.0))
                made.append(fleet.adopt(record, **options))
                return made[-1]

            yield make
            for instance in made:
                await instance.cleanup()


@pytest.mark.docker
class TestDockerContainer(InstanceContract):
    @pytest.fixture
    async def make_instance(
        self, scripted_model: ScriptedModel, make_record: Callable[..., Any], images: Any
    ) -> AsyncIterator[Callable[..., Any]]:
        made: list[InstanceInterface] = []

        async def make(
            login: bool = True, again: Any = None, sleep_after: float | None = None, **options: Any
        ) -> InstanceInterface:
            env = _env(scripted_model, None, login)
            fields = {
                "kind": "docker",
                "image": images.claude,
                "network": "host",
                "env": env,
                "sleep_after": sleep_after,
            }
            record = again.record if again else make_record(**fields)
            made.append(DockerContainer(record, **options))
            return made[-1]

        yield make
        for instance in made:
            await instance.cleanup()
