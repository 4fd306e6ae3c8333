"""Clusters for tests: one machine for the run, or three for a test that has something befall them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from cc_bridge.testing import ScriptedModel
from tests.conftest import lacking
from tests.swarm.cluster import Cluster
from tests.swarm.machine import PROGRAMS


@pytest.fixture(scope="session")
def machines() -> None:
    """This machine can make machines."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        lacking("swarm", f"{missing[0]} is not installed" if missing else "only root can make network namespaces")


@pytest.fixture(scope="session")
def one_node(machines: None, images: Any) -> Iterator[Cluster]:
    """A swarm of one machine, which all tests of this process share."""
    with Cluster(1, [images.claude]) as cluster:
        yield cluster


@pytest.fixture
def swarm_node(one_node: Cluster) -> Iterator[Cluster]:
    """A swarm of one machine, with nothing in it; what a test leaves there fails it."""
    yield one_node
    _check(one_node)


@pytest.fixture
def swarm(machines: None, images: Any) -> Iterator[Cluster]:
    """A swarm of three machines, of this test's own; what is left on those that have power fails it."""
    with Cluster(3, [images.claude]) as cluster:
        yield cluster
        _check(cluster)


@pytest.fixture
def node_model(request: pytest.FixtureRequest) -> Iterator[ScriptedModel]:
    """A scripted model, which is reached from containers in the cluster that the test has."""
    names = [name for name in ("swarm", "swarm_node") if name in request.fixturenames]
    with ScriptedModel(request.getfixturevalue(names[0]).gateway) as model:
        yield model


def _check(cluster: Cluster) -> None:
    left = cluster.left()
    cluster.clear()
    assert not left, f"left behind: {left}"
