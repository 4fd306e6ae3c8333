"""What is read of a manager's answers, and where the engines of nodes are. covers: B11"""

from __future__ import annotations

from typing import Any

import pytest

from cc_bridge.engine.client import Engine
from cc_bridge.engine.node_engines import ENGINE_LABEL, NodeEngines, address_of_node
from cc_bridge.engine.nodes import NodeInfo, Nodes
from cc_bridge.engine.services import Services
from cc_bridge.errors import EngineError, EngineUnavailable, NotASwarm, PlacementFailed, SwarmConflict

pytestmark = pytest.mark.anyio


class FakeApi:
    """A manager's API, as far as it is asked; ``answers`` are errors, or what is answered, one after the other."""

    base_url = "http://manager"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def tasks(self, filters: dict[str, str]) -> Any:
        return self._answer()

    def inspect_service(self, name: str) -> Any:
        return self._answer()

    def nodes(self) -> Any:
        return self._answer()

    def _answer(self) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeEngine(Engine):
    """An engine with that API."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self._client = type("Client", (), {"api": FakeApi(*answers)})()

    async def call(self, function: Any, *args: Any, **options: Any) -> Any:
        ours = ("limit", "repeat", "shown")
        return function(*args, **{name: value for name, value in options.items() if name not in ours})


def task(number: int, state: str, desired: str = "running", **fields: Any) -> dict[str, Any]:
    status = {"State": state, "ContainerStatus": {"ContainerID": f"c{number}", "ExitCode": 0}, **fields}
    created = f"2026-01-01T00:00:{number:02}Z"
    return {"ID": f"t{number}", "ServiceID": "s", "NodeID": "n", "DesiredState": desired, "CreatedAt": created} | {
        "Status": status
    }


async def test_tasks_newest_first_and_what_they_say() -> None:
    failed = task(1, "failed", "shutdown", Err="task: non-zero exit (137)")
    failed["Status"]["ContainerStatus"]["ExitCode"] = 137
    new, old = await Services(FakeEngine([failed, task(2, "running")])).tasks("s")
    assert (new.id, new.is_running, new.why, new.exit_code) == ("t2", True, "", None)
    assert (old.is_over, old.is_wanted, old.why, old.exit_code) == (True, False, "task: non-zero exit (137)", 137)


async def test_where_no_node_has_room_it_is_told_earlier() -> None:
    pending: dict[str, Any] = {"ID": "t", "DesiredState": "running", "CreatedAt": "1"}
    pending["Status"] = {"State": "pending", "Err": "no suitable node (insufficient resources on 1 node)"}
    with pytest.raises(PlacementFailed) as caught:
        await Services(FakeEngine([pending])).until_running("s", 600, full_limit=0)
    assert (caught.value.pending, caught.value.full) == (True, True)


async def test_a_task_that_is_to_end_does_not_count_as_running() -> None:
    engine = FakeEngine([task(1, "running", "shutdown")], [task(1, "running", "shutdown"), task(2, "running")])
    assert (await Services(engine).until_running("s", 10)).id == "t2"


async def test_swarms_own_reason_is_told() -> None:
    pending = {"ID": "t", "DesiredState": "running", "CreatedAt": "1", "Status": {"State": "pending", "Err": "no room"}}
    with pytest.raises(PlacementFailed, match="no room") as caught:
        await Services(FakeEngine([pending])).until_running("s", 0.01)
    assert caught.value.pending


async def test_what_fails_again_and_again_is_given_up() -> None:
    """And what has failed long before does not count."""
    old = [task(number, "rejected", "shutdown", Err="long ago") for number in range(4)]
    new = [task(number, "rejected", "shutdown", Err="No such image: x") for number in range(10, 13)]
    services = Services(FakeEngine([*old, task(9, "ready", "ready")], [*old, *new]))
    with pytest.raises(PlacementFailed, match="No such image") as caught:
        await services.until_running("s", 10)
    assert not caught.value.pending


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("rpc error: code = Unknown desc = update out of sequence", SwarmConflict),
        ("This node is not a swarm manager. Use docker swarm init", NotASwarm),
        ("rpc error: The swarm does not have a leader", EngineUnavailable),
        ("something else", EngineError),
    ],
)
async def test_errors(said: str, kind: type[EngineError]) -> None:
    with pytest.raises(EngineError) as caught:
        await Services(FakeEngine(EngineError(said))).inspect("s")
    assert type(caught.value) is kind


async def test_nodes() -> None:
    raw = {
        "ID": "n1",
        "Version": {"Index": 7},
        "Spec": {"Role": "worker", "Availability": "drain", "Labels": {"disk": "ssd"}},
        "Description": {
            "Hostname": "one",
            "Resources": {"NanoCPUs": 2_500_000_000, "MemoryBytes": 99},
            "Engine": {"EngineVersion": "20.10"},
        },
        "Status": {"State": "down", "Addr": "10.0.0.2"},
    }
    (node,) = await Nodes(FakeEngine([raw])).list()
    assert (node.hostname, node.address, node.version, node.cpus, node.memory) == ("one", "10.0.0.2", 7, 2.5, 99)
    assert not node.is_ready


def node(**labels: str) -> NodeInfo:
    return NodeInfo("id", "no-such-context", "10.0.0.2", "ready", "active", "worker", 1, labels, 1, 1.0, "", {})


RULE = {"CC_BRIDGE_NODE_ENGINE": "ssh://me@{hostname}"}


def test_the_label_of_a_node_comes_first() -> None:
    assert address_of_node(node(**{ENGINE_LABEL: "unix:///run/it"}), RULE).url == "unix:///run/it"


def test_the_rule_for_all_nodes() -> None:
    assert address_of_node(node(), RULE).url == "ssh://me@no-such-context"
    assert address_of_node(node(), {"CC_BRIDGE_NODE_ENGINE": "tcp://{address}:1"}).url == "tcp://10.0.0.2:1"


@pytest.mark.parametrize("label", ["", "gopher://x", "ssh://-oProxyCommand=x"])
def test_a_node_whose_engine_nobody_knows(label: str) -> None:
    with pytest.raises(EngineUnavailable):
        address_of_node(node(**({ENGINE_LABEL: label} if label else {})), {})


async def test_instances_that_share_a_manager_share_the_engines_of_nodes() -> None:
    """And these are closed with it."""
    manager = FakeEngine()
    nodes = NodeEngines.by(manager)
    assert NodeEngines.by(manager) is nodes
    assert NodeEngines.by(FakeEngine()) is not nodes
