"""What `doctor --swarm` says of a node. covers: B11"""

from __future__ import annotations

import pytest

from cc_bridge.cli.swarm_checks import check_of_node
from cc_bridge.engine.nodes import NodeInfo


@pytest.mark.parametrize(
    ("of_node", "said", "state", "words"),
    [
        ({}, {"way": "w", "has_image": True}, "ok", "w; has the default image"),
        ({}, {"way": "w"}, "note", "docker load"),
        ({"availability": "drain"}, {"way": "w", "has_image": True}, "note", "cc-bridge node activate b"),
        ({}, {"trouble": "nobody says where", "advice": "Say so."}, "fail", "nobody says where Say so."),
        ({"state": "down"}, {"trouble": "it is down"}, "fail", "docker node rm --force id"),
        (
            {"state": "down"},
            {"trouble": "it is down", "answers": True},
            "fail",
            "it is down for the managers, but its engine answers If the node reaches a manager's port 2377, restart",
        ),
    ],
)
def test_what_is_said_and_advised(of_node: dict[str, str], said: dict[str, str | bool], state: str, words: str) -> None:
    fields = {"id": "id", "hostname": "b", "address": "", "state": "ready", "availability": "active", "role": "worker"}
    node = NodeInfo(**{**fields, **of_node}, version=1, labels={}, memory=0, cpus=1, engine="", spec={})
    check = check_of_node(node, **said)
    assert (check.name, check.state) == ("node b", state)
    assert words in f"{check.found} {check.advice}"
