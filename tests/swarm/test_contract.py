"""The suite that every kind of instance passes, in a swarm. covers: C1, C4, C5, C6, C7, C8, C16, B4, B9, B11"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cc_bridge import InstanceInterface, SwarmService
from cc_bridge.testing import ScriptedModel
from cc_bridge.testing.instance_contract import InstanceContract
from tests.swarm.cluster import Cluster


@pytest.mark.docker
@pytest.mark.swarm
@pytest.mark.thorough  # five minutes: Swarm takes three seconds to end a container
class TestSwarmService(InstanceContract):
    meanwhile = 3.0  # it asks the manager, and then the node

    @pytest.fixture
    def scripted_model(self, node_model: ScriptedModel) -> ScriptedModel:
        return node_model

    @pytest.fixture
    async def make_instance(
        self, swarm_node: Cluster, node_model: ScriptedModel, make_record: Callable[..., Any], images: Any
    ) -> AsyncIterator[Callable[..., Any]]:
        made: list[InstanceInterface] = []

        async def make(
            login: bool = True, again: Any = None, sleep_after: float | None = None, **options: Any
        ) -> InstanceInterface:
            env = node_model.claude_env() if login else {**node_model.claude_env(), "ANTHROPIC_API_KEY": ""}
            fields = {"kind": "swarm", "image": images.claude, "workspace": None, "sleep_after": sleep_after}
            record = again.record if again else make_record(env=env, **fields)
            made.append(SwarmService(record, swarm_node.manager.client, **options))
            return made[-1]

        yield make
        for instance in made:
            await instance.cleanup()
